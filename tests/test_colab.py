"""Colab: Drive, secrets, the machine, and the notebooks' first cell, beside a google.colab that
behaves.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from lorakit import colab, install, project
from tests import fakes


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What /content is on Colab."""
    monkeypatch.setattr(colab, "MOUNT", tmp_path / "drive")
    monkeypatch.delenv("LORAKIT_HOME", raising=False)
    monkeypatch.setattr(install, "complete", lambda progress: [])
    return tmp_path


@pytest.fixture
def on_colab(content: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a fake google.colab in place; returns its modules."""

    def put(**options) -> dict:
        modules = fakes.google_colab(content / "drive", **options)
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, "google", type(sys)("google"))
        sys.modules["google"].colab = modules["google.colab"]  # type: ignore[attr-defined]
        return modules

    return put


def test_elsewhere_there_is_no_colab_and_no_drive(content, monkeypatch):
    (content / "drive" / "MyDrive").mkdir(parents=True)
    assert not colab.in_colab() and colab.drive_folder() is None
    assert project.root() == Path.home() / "Loras"


def test_colab_is_known_by_its_release_tag_too(content, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab-20260819")
    assert colab.in_colab()


def test_mounting_makes_drive_the_root_of_all_projects_and_happens_once(content, on_colab):
    drive = on_colab()["google.colab.drive"]
    assert colab.mount_drive() == ""
    assert colab.mount_drive() == ""
    assert drive.mounts == 1
    assert project.root() == content / "drive" / "MyDrive" / "Loras"


@pytest.mark.parametrize(
    "refusal, said",
    [
        (
            fakes.MessageError("Error: credential propagation was unsuccessful"),
            "access was refused",
        ),
        (ValueError("Mountpoint must not already contain files"), "already holds files"),
        (NotImplementedError("Mounting drive is unsupported in this environment."), "has no Drive"),
        (fakes.TimeoutException("mount timed out"), "nobody answered"),
        (ValueError("mount failed"), "Drive was not connected (mount failed)."),
        (KeyboardInterrupt(), "was stopped"),
    ],
)
def test_each_refusal_is_one_explanation_and_work_goes_on_without_drive(
    content, on_colab, refusal, said
):
    on_colab(refusal=refusal)
    sentence = colab.mount_drive()
    assert said in sentence and "Going on without Drive" in sentence
    assert project.root() == Path.home() / "Loras"


def test_a_secret_comes_from_argument_then_environment_then_colab(content, on_colab, monkeypatch):
    assert colab.secret("HF_TOKEN") is None
    on_colab(secrets={"HF_TOKEN": "from colab"})
    assert colab.secret("HF_TOKEN") == "from colab"
    monkeypatch.setenv("HF_TOKEN", "from the environment")
    assert colab.secret("HF_TOKEN") == "from the environment"
    assert colab.secret("HF_TOKEN", "given") == "given"


@pytest.mark.parametrize(
    "trouble",
    [fakes.SecretNotFoundError("x"), fakes.NotebookAccessError("x"), fakes.TimeoutException("x")],
)
def test_a_secret_that_cannot_be_had_is_none(content, on_colab, trouble):
    on_colab(secrets={"HF_TOKEN": trouble})
    assert colab.secret("HF_TOKEN") is None


def test_a_fault_that_is_not_about_the_secret_is_not_hidden(content, on_colab):
    on_colab(secrets={"HF_TOKEN": RuntimeError("bug")})
    with pytest.raises(RuntimeError, match="bug"):
        colab.secret("HF_TOKEN")


@pytest.mark.parametrize(
    "code, answer, gpu",
    [
        (0, "Tesla T4, 15360", "Tesla T4, 15 GB"),
        (0, "NVIDIA A100-SXM4-80GB, 81920", "NVIDIA A100-SXM4-80GB, 80 GB"),
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", ""),
        (0, "", ""),
    ],
)
def test_the_gpu_line_believes_the_driver(monkeypatch, code, answer, gpu):
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], code, answer + "\n", "")
    )
    assert colab.gpu() == gpu
    assert colab.gpu_line().startswith(
        f"GPU: {gpu} ·" if gpu else "No GPU, so a full-size base model is too slow"
    )


def test_without_a_driver_there_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert colab.gpu() == ""


def test_setup_mounts_on_colab_only_and_says_what_is_there(content, on_colab):
    here = colab.setup()
    assert "lorakit 0." in here and "disk free" in here and "Drive" not in here
    drive = on_colab()["google.colab.drive"]
    there = colab.setup()
    assert f"Drive: projects are in {content / 'drive' / 'MyDrive' / 'Loras'}" in there
    assert colab.setup() == there and drive.mounts == 1


def test_setup_says_what_it_added_and_why_there_is_no_drive(content, on_colab, monkeypatch):
    monkeypatch.setattr(install, "complete", lambda progress: ["bitsandbytes>=0.46"])
    on_colab(refusal=ValueError("mount failed"))
    said = colab.setup()
    assert "added: bitsandbytes>=0.46" in said and "Going on without Drive" in said


def test_setup_asks_for_a_restart_only_when_something_in_use_was_replaced(content, monkeypatch):
    assert "Restart" not in colab.setup()
    monkeypatch.setattr(numpy, "__version__", "1.0")
    said = colab.setup()
    assert said.splitlines()[-1].startswith(
        "Restart needed (Kernel > Restart, then run all again): numpy 1.0 -> "
    )


def test_setup_notices_that_lorakit_itself_was_replaced(content, monkeypatch):
    monkeypatch.setattr(sys.modules["lorakit"], "__version__", "0.0.9")
    assert "lorakit 0.0.9 -> " in colab.setup()
