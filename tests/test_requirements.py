"""Installing lorakit on Colab changes nothing that Colab ships and adds little: every image, with
and without GPU.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from colab_image import IMAGES, WouldChange, read_image, resolve

from lorakit.install import ONNXRUNTIME_GPU

NAMES = sorted(path.stem for path in IMAGES.glob("*.txt"))
MOST_ADDED = 10


@pytest.fixture(scope="module")
def index() -> None:
    try:
        socket.create_connection(("pypi.org", 443), timeout=20).close()
    except OSError as error:
        pytest.skip(
            "only the package index knows what lorakit's requirements require, and it cannot be "
            f"reached: {error}"
        )


@pytest.fixture(scope="module")
def resolved(index):
    """(image, gpu) -> what a resolver came to. All at once, because each mostly waits for the
    index.
    """
    cases = [(name, gpu) for name in NAMES for gpu in (False, True)]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(cases, pool.map(resolved_or_error, cases), strict=True))


def resolved_or_error(case):
    name, gpu = case
    try:
        return resolve(ours(gpu), read_image(name))
    except WouldChange as error:
        return error


def ours(gpu: bool) -> list[str]:
    """As on a bare image: the onnxruntime that happens to be installed beside the tests does not
    count.
    """
    return [
        ONNXRUNTIME_GPU if gpu and line.startswith("onnxruntime") else line
        for line in (IMAGES.parent.parent / "requirements.txt").read_text().splitlines()
    ]


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", NAMES)
def test_image_keeps_its_packages_and_gets_few(resolved, name, gpu):
    outcome, shipped = resolved[name, gpu], read_image(name).packages
    assert isinstance(outcome, dict), f"image {name} cannot take lorakit as it is: {outcome}"
    changed = {
        package: f"{shipped[package].partition('+')[0]} -> {version}"
        for package, version in outcome.items()
        if package in shipped and version != shipped[package].partition("+")[0]
    }
    added = sorted(outcome.keys() - shipped.keys())
    assert not changed
    assert len(added) <= MOST_ADDED, added
    assert ("onnxruntime-gpu" in added) == gpu and ("onnxruntime" in added) != gpu


def test_a_requirement_beyond_an_image_is_noticed(index):
    with pytest.raises(WouldChange, match="ipywidgets"):
        resolve(["ipywidgets>=8"], read_image("2026.08"))


def test_every_image_is_read_whole():
    assert len(NAMES) == 6
    for name in NAMES:
        packages = read_image(name).packages
        assert (
            len(packages) > 500
            and {"torch", "diffusers", "ipywidgets", "torchao"} <= packages.keys()
        )
