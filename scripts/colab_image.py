"""What a Colab image ships, and what a list of requirements would do to it.

The lists in tests/colab_images are Colab's own `pip freeze`, one for each runtime version that a
user can choose. `python scripts/colab_image.py IMAGE python` prints the image's Python; `... IMAGE
pins PYTHON` prints the packages of the image that lorakit touches, as pins that install with a
Python of version PYTHON and without torch.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lorakit.install import canonical

IMAGES = Path(__file__).resolve().parent.parent / "tests" / "colab_images"

# What a notebook on Colab runs in, beside what lorakit itself asks for. torchao, because peft
# stumbles over it.
AROUND_LORAKIT = ["ipykernel", "ipython", "nbclient", "nbformat", "notebook", "pytest", "torchao"]

# On the index torch asks for CUDA libraries that Colab has elsewhere: these are the rest of its
# needs. uv would try to download a Python of the image's version, which a resolver does not need,
# and would ask the index anew each time.
UV_SETTINGS = """
python-downloads = "never"

[[dependency-metadata]]
name = "torch"
requires-dist = ["filelock", "fsspec", "jinja2", "networkx", "sympy", "typing-extensions"]

[[index]]
url = "https://pypi.org/simple"
default = true
cache-control = { api = "max-age=600", files = "max-age=31536000" }
"""


class WouldChange(Exception):
    """The requirements cannot be met without changing a package that the image ships; the message
    is uv's reason.
    """


@dataclass(frozen=True)
class Image:
    name: str
    python: str  # "3.13.15"
    packages: dict[str, str]  # canonical name -> version


def read_image(name: str) -> Image:
    text = (IMAGES / f"{name}.txt").read_text()
    python = re.search(r"Python (\S+)", text)
    assert python, f"the first line of {name}.txt names the image's Python"
    # Lines that name an address instead of a version are Colab's own packages, which no index has.
    pins = re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    return Image(name, python[1], {canonical(package): version for package, version in pins})


def resolve(requirements: list[str], image: Image, python: str = "") -> dict[str, str]:
    """The packages and versions that meet `requirements` among the image's own; raises
    WouldChange.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings, held = Path(folder, "uv.toml"), Path(folder, "held.txt")
        settings.write_text(UV_SETTINGS)
        # The index has no builds named +cu128: the part before the plus is what ranges look at.
        held.write_text(
            "\n".join(
                f"{name}=={version.partition('+')[0]}" for name, version in image.packages.items()
            )
        )
        command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
        command += ["--config-file", str(settings), "--constraint", str(held), "-"]
        command += [
            "--python-version",
            python or image.python,
            "--python-platform",
            "x86_64-manylinux_2_35",
        ]
        answer = subprocess.run(
            [sys.executable, "-m", *command],
            input="\n".join(requirements),
            capture_output=True,
            text=True,
        )
    if answer.returncode:
        raise WouldChange(answer.stderr.strip())
    return {
        canonical(name): version
        for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", answer.stdout, re.M)
    }


def main() -> None:
    image = read_image(sys.argv[1])
    if sys.argv[2] == "python":
        return print(image.python)
    ours = (IMAGES.parent.parent / "requirements.txt").read_text().splitlines()
    touched = resolve(ours + AROUND_LORAKIT, image, sys.argv[3])
    for name, version in touched.items():
        if name in image.packages and name != "torch":
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
