#!/usr/bin/env bash
# Runs the browser tests on the page that Colab's grew out of: the classic notebook, with Colab's versions of what
# widgets are made of, put in front of .venv. Needs chromium (apt-get install chromium). Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
front=$PWD/.venv-colab-browser
# widgetsnbextension 3.6.6, not Colab's 3.6.10: with that one a real notebook 6.5.7 renders no widget at all.
# setuptools, because notebook 6 still asks for pkg_resources.
pins="ipywidgets==7.7.1 widgetsnbextension==3.6.6 ipykernel==6.17.1 ipython==7.34.0 notebook==6.5.7
jupyter_client==7.4.9 traitlets==5.7.1 tornado==6.5.7 nbformat==5.10.4 jupyter-ui-poll==1.1.0 setuptools<81 playwright"
if [ "$(cat "$front/ready" 2>/dev/null)" != "$pins" ]; then
    rm -rf "$front"
    # shellcheck disable=SC2086  # one argument a package
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --target "$front" $pins
    echo "$pins" > "$front/ready"
fi
export PYTHONPATH=$front JUPYTER_PATH=$front/share/jupyter JUPYTER_CONFIG_PATH=$front/etc/jupyter
.venv/bin/python -m pytest -n 0 -m browser "$@"
