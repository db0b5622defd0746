#!/usr/bin/env bash
# Runs the tests among a Colab image's own packages: colab_test.sh IMAGE [pytest arguments].
# lorakit comes in exactly as the notebooks' first cell brings it, and must leave every package as it was.
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1
shift
venv=.venv-colab-$image
list=tests/colab_images/$image.txt

made_from="$PWD $(cat "$list" requirements.txt pyproject.toml scripts/*colab* scripts/setup.py lorakit/install.py | cksum)"
if [ "$(cat "$venv/ready" 2>/dev/null)" != "$made_from" ]; then
    wanted=$(.venv/bin/python scripts/colab_image.py "$image" python)
    # CPU builds of torch may not exist for the image's Python. Then .venv's Python, for which one was found, stands in.
    for python in "python${wanted%.*}" .venv/bin/python; do
        if "$python" -m venv --clear "$venv" 2>/dev/null && "$venv/bin/python" scripts/setup.py torch; then break; fi
        if [ "$python" = .venv/bin/python ]; then exit 1; fi
    done
    here=$("$venv/bin/python" -c 'import platform; print(platform.python_version())')
    echo "colab-test: image $image has Python $wanted; running its packages on Python $here"

    .venv/bin/python scripts/colab_image.py "$image" pins "$here" > "$venv/pins.txt"
    .venv/bin/uv pip install --quiet --python "$venv/bin/python" --no-deps -r "$venv/pins.txt"

    before=$("$venv/bin/python" -m pip freeze)
    "$venv/bin/python" -m pip install --quiet --no-deps --editable .
    "$venv/bin/python" -c 'from lorakit.install import complete; print("colab-test: lorakit added", *complete())'
    changed=$(comm -23 <(sort <<< "$before") <("$venv/bin/python" -m pip freeze | sort))
    if [ -n "$changed" ]; then
        echo "colab-test: installing lorakit changed what image $image ships:" $changed >&2
        exit 1
    fi
    # What only the tests need, likewise without touching the rest.
    .venv/bin/uv pip install --quiet --python "$venv/bin/python" -c "$venv/pins.txt" \
        pytest-timeout pytest-xdist nbmake onnx av f3d gallery-dl pillow-heif pillow-jxl-plugin pyarrow
    echo "$made_from" > "$venv/ready"
fi

# test_requirements asks what would happen on every image, whichever packages are installed: `make test` has done that.
LORAKIT_FAKE_COLAB=1 "$venv/bin/python" -m pytest -m "not browser" --ignore=tests/test_requirements.py "$@"
