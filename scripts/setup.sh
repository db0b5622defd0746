#!/usr/bin/env bash
# Makes .venv ready for every make target. Runs once: its stamp is written last and names what it was made from, so an
# interrupted or outdated .venv is completed by the next call. PYTHON=/path/to/python chooses the Python.
set -euo pipefail
cd "$(dirname "$0")/.."

# The folder is part of it, because a virtual environment stops working when it is moved.
made_from="$PWD $(cat requirements.txt pyproject.toml scripts/setup.sh scripts/setup.py lorakit/install.py | cksum)"
if [ "$(cat .venv/lorakit-ready 2>/dev/null)" = "$made_from" ]; then exit 0; fi

works='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
if ! .venv/bin/python -c "$works; import pip" 2>/dev/null; then
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11} none; do
        if "$python" -c "$works" 2>/dev/null; then break; fi
    done
    if [ "$python" = none ]; then
        echo "lorakit needs Python 3.11 or newer with venv: install one (Debian, Ubuntu: apt install python3 python3-venv;" \
            "others: python.org) or name yours as in 'PYTHON=/path/to/python make demo'." >&2
        exit 2
    fi
    echo "set-up: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

rm -f .venv/lorakit-ready
echo "set-up: completing .venv (a few minutes the first time; can be interrupted and repeated)"
.venv/bin/python scripts/setup.py
echo "$made_from" > .venv/lorakit-ready
