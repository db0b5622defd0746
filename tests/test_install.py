"""Completing an environment: what is asked of pip, what is left alone, what is said."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import setup

from lorakit import install
from lorakit.errors import LorakitError

ROOT = Path(__file__).resolve().parent.parent


def without_onnxruntime(monkeypatch):
    monkeypatch.setattr(install, "installed", lambda: {})


def listed() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_those_of_the_one_list(monkeypatch):
    without_onnxruntime(monkeypatch)
    assert install.requirements(gpu=False) == listed()
    tests_too = install.requirements(gpu=False, extra="test")
    assert any(line.startswith("pytest>") for line in tests_too) and len(tests_too) > len(listed())


def test_a_checkout_without_set_up_reads_the_list_itself(monkeypatch):
    def unknown(name):
        raise importlib.metadata.PackageNotFoundError(name)

    without_onnxruntime(monkeypatch)
    monkeypatch.setattr(importlib.metadata, "requires", unknown)
    assert install.requirements(gpu=False) == listed()


def test_a_gpu_gets_its_onnxruntime_in_place_of_the_other(monkeypatch):
    without_onnxruntime(monkeypatch)
    asked = [line for line in install.requirements(gpu=True) if line.startswith("onnxruntime")]
    assert asked == [install.ONNXRUNTIME_GPU]


@pytest.mark.parametrize("build", ["onnxruntime", "onnxruntime-gpu"])
@pytest.mark.parametrize("gpu", [False, True])
def test_an_installed_onnxruntime_stays(monkeypatch, build, gpu):
    monkeypatch.setattr(install, "installed", lambda: {build: "1.24.0"})
    assert [line for line in install.requirements(gpu) if line.startswith("onnxruntime")] == [build]


def test_unmet_names_what_is_absent_or_out_of_range_here(monkeypatch):
    monkeypatch.setattr(
        install, "installed", lambda: {"huggingface-hub": "0.33.4", "torch": "2.11.0+cu128"}
    )
    met = [
        "huggingface_hub>=0.33",
        "torch<3,>=2.6",
        "pyreadline3; sys_platform == 'nowhere'",
        "x; extra == 'cuda'",
    ]
    assert install.unmet([*met, "gdown>=5.2", "torch>=2.12"]) == ["gdown>=5.2", "torch>=2.12"]


class Pip:
    """Remembers what it was asked, and does as a pip for which every release exists in one
    version.
    """

    def __init__(self, monkeypatch, here, wanted, needs):
        self.here, self.asked = dict(here), []
        monkeypatch.setattr(install, "pip_install", self)
        monkeypatch.setattr(install, "installed", lambda: dict(self.here))
        monkeypatch.setattr(install, "requirements", lambda gpu: wanted)
        monkeypatch.setattr(install, "needs_of", lambda requirement: needs)

    def __call__(self, arguments, progress):
        if arguments[0] == "--constraint":
            arguments = [arguments[0], Path(arguments[1]).read_text().splitlines(), *arguments[2:]]
        self.asked.append(arguments)
        self.here |= {
            install.name_of(each): "9.0" for each in arguments[1:] if isinstance(each, str)
        }


def test_complete_adds_what_is_missing_and_nothing_else(monkeypatch):
    pip = Pip(
        monkeypatch, {"numpy": "2.1.3"}, ["numpy>=2.0", "bitsandbytes>=0.46"], needs=["numpy>=1.17"]
    )
    assert install.complete() == ["bitsandbytes>=0.46"]
    assert pip.asked == [["--no-deps", "bitsandbytes>=0.46"]]
    assert install.complete() == [] and len(pip.asked) == 1


def test_complete_looks_for_an_older_release_rather_than_change_what_is_here(monkeypatch):
    pip = Pip(
        monkeypatch, {"numpy": "2.1.3"}, ["numpy>=2.0", "onnxruntime>=1.23"], needs=["numpy>=2.3"]
    )
    assert install.complete() == ["onnxruntime>=1.23"]
    assert pip.asked[1:] == [["--constraint", ["numpy==2.1.3"], "onnxruntime>=1.23"]]


def test_complete_leaves_a_package_out_of_range_to_the_user(monkeypatch):
    pip = Pip(monkeypatch, {"peft": "0.10.0"}, ["peft>=0.16"], needs=[])
    with pytest.raises(
        LorakitError, match=r"lorakit needs peft>=0.16, but version 0.10.0 is installed: update it"
    ):
        install.complete()
    assert pip.asked == []


@pytest.mark.parametrize(
    "exists, code, answer, expected",
    [
        (False, 0, "", False),
        (
            True,
            9,
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
            False,
        ),
        (True, 0, "", False),
        (True, 0, "GPU 0: Tesla T4 (UUID: GPU-1)", True),
    ],
)
def test_nvidia_gpu_believes_the_driver_only(monkeypatch, tmp_path, exists, code, answer, expected):
    if exists:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f'#!/bin/sh\necho "{answer}"\nexit {code}\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.nvidia_gpu() is expected


def test_pip_install_says_pips_own_reason(tmp_path):
    with pytest.raises(LorakitError, match=r"could not install .*no-such-package.*run this again"):
        install.pip_install(["--no-index", "--find-links", str(tmp_path), "no-such-package"])


@pytest.mark.parametrize(
    "line, said",
    [
        ("Collecting numpy>=2.0 (from -r requirements.txt (line 6))", "collecting numpy"),
        (
            "  Downloading torch-2.13.0-cp311-manylinux_2_28_x86_64.whl (191.2 MB)",
            "downloading torch (191.2 MB)",
        ),
        ("Installing collected packages: a, b, c", "unpacking 3 packages"),
        ("Requirement already satisfied: pip in ./.venv", None),
    ],
)
def test_pips_report_is_shortened(line, said):
    assert install._doing(line) == said


def test_silence_is_reported_while_a_process_works():
    code = "import time; print('one', flush=True); time.sleep(0.5); print('two', flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        heard = list(install._spoken(process, silence=0.1))
    assert [line for line in heard if line] == ["one\n", "two\n"]
    assert None in heard[heard.index("one\n") : heard.index("two\n")]


@pytest.fixture
def site_packages(tmp_path):
    """Two small packages as pip itself installs them."""
    for name in ("whole", "half"):
        info = f"{name}-1.0.dist-info"
        with zipfile.ZipFile(tmp_path / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "")
            wheel.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
            )
            wheel.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(
                f"{info}/RECORD",
                f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
            )
    target = tmp_path / "site-packages"
    wheels = [str(path) for path in tmp_path.glob("*.whl")]
    install.pip_install(["--no-index", "--no-deps", "--target", str(target), *wheels])
    return target


@pytest.mark.parametrize(
    "lost", ["half.py", "half-1.0.dist-info/RECORD", "half-1.0.dist-info/INSTALLER"]
)
def test_a_package_installed_by_halves_is_forgotten(site_packages, lost):
    assert setup.forget_halves(site_packages) == []
    (site_packages / lost).unlink()
    (site_packages / "~alf").mkdir()
    assert setup.forget_halves(site_packages) == ["half"]
    left = sorted(path.name for path in site_packages.glob("*") if path.name != "__pycache__")
    assert left == sorted({"whole.py", "whole-1.0.dist-info", "half.py"} - {lost})


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_library(tmp_path):
    """The notebooks install lorakit from an archive, which lacks data that only an editable install
    finds.
    """
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "lorakit", source / "lorakit", ignore=shutil.ignore_patterns("__pycache__", ".*")
    )
    for name in ("pyproject.toml", "requirements.txt", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.glob("lorakit-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("lorakit/")}
    assert packed == {
        path.relative_to(source).as_posix()
        for path in source.glob("lorakit/**/*")
        if path.is_file()
    }


def test_what_one_part_needs_is_installed_alone_and_its_size_said_first(monkeypatch):
    asked, said = [], []
    monkeypatch.setattr(install, "pip_install", lambda words, progress: asked.append(words))
    monkeypatch.setattr(install, "installed", lambda: {"av": "14.0.0", "numpy": "2.1.3"})
    install.ensure("numpy>=2", "20 MB")
    assert asked == []
    install.ensure("av>=15", "35 MB", lambda what, done, total: said.append(what))
    assert asked == [["--no-deps", "av>=15"]] and said == ["Installing av (35 MB)"]
