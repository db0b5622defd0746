"""Real pictures and films from Debian's and PyPI's packages, fetched once and kept in
~/.cache/lorakit-tests. A test that needs them is skipped where they cannot be had.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

STORE = Path.home() / ".cache" / "lorakit-tests"
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


def debian(package: str) -> Path:
    """The folder with a Debian package's files."""
    folder = STORE / package
    if not folder.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            pytest.skip(f"{package} comes from Debian, and this is no Debian")
        STORE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=STORE) as work:
            _run(["apt-get", "download", package], work)
            _run(["dpkg", "-x", str(next(Path(work).glob("*.deb"))), "files"], work)
            Path(work, "files").rename(folder)
    return folder


def photos() -> list[Image.Image]:
    """A few photographs that scikit-image ships."""
    wheels = list(STORE.glob("scikit_image-*.whl"))
    if not wheels:
        STORE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        _run([*pip, "scikit-image"], str(STORE))
        wheels = list(STORE.glob("scikit_image-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        files = [wheel.read(f"skimage/data/{name}") for name in PHOTOS]
    return [Image.open(io.BytesIO(file)).convert("RGB") for file in files]


def drawings() -> list[Image.Image]:
    """Backgrounds of two visual novels, and Sylvie before them: 2 clothes, 4 faces."""
    novel = debian("renpy-thequestion").rglob("game/images/*")
    paths = sorted(path for path in novel if path.suffix in (".jpg", ".png"))
    scenes = [Image.open(path).convert("RGB") for path in paths if path.name.startswith("bg")]
    others = debian("renpy-demo").rglob("game/images/*")
    scenes += [
        Image.open(path).convert("RGB")
        for path in sorted(others)
        if path.name.startswith(("bg", "concert")) and path.suffix in (".jpg", ".png")
    ]
    sprites = [Image.open(path) for path in paths if path.name.startswith("sylvie")]
    return scenes + [_before(scenes[i % 4], each, i) for i, each in enumerate(sprites)]


def _before(scene: Image.Image, sprite: Image.Image, number: int) -> Image.Image:
    image, person = scene.copy(), sprite.convert("RGBA")
    left = (image.width - person.width) // 2 + number * 97 % 300 - 150
    image.paste(person, (left, image.height - person.height), person)
    return image


def _run(command: list[str], folder: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{command[-1]} cannot be fetched: {done.stderr.strip()[-200:]}")
