"""Which files a run leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lorakit.training import keeper, run
from lorakit.training.config import PreviewSettings

from .test_run import SHORT, project  # noqa: F401  (a fixture)

NONE = PreviewSettings(count=0)


def files(project, **changes: object) -> list[str]:  # type: ignore[no-untyped-def]  # noqa: F811
    list(run.train_project(project, replace(SHORT, **changes), NONE, "astrid"))
    return sorted(p.name for p in project.output.glob("*.safetensors"))


def test_only_the_last_numbered_files_are_kept(project) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    own = project.output / "astrid-000009.safetensors"
    own.parent.mkdir(exist_ok=True)
    own.write_bytes(b"of an earlier run")
    assert files(project, epochs=4, keep_last=2) == [
        "astrid-000002.safetensors",
        "astrid-000003.safetensors",
        "astrid-000009.safetensors",
        "astrid.safetensors",
    ]


def test_files_are_saved_every_so_many_steps_too(project) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    assert files(project, save_every=9, save_every_steps=2, max_steps=5) == [
        "astrid-step00000002.safetensors",
        "astrid-step00000004.safetensors",
        "astrid.safetensors",
    ]


def test_files_of_epochs_can_be_left_out(project) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    assert files(project, save_every=0) == ["astrid.safetensors"]


def test_the_final_file_comes_under_diffusers_names_too_if_wanted(project) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    assert "astrid-diffusers.safetensors" in files(project, epochs=1, save_diffusers=True)


def test_what_is_deleted_is_emptied_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"x" * 1000)
    sizes = []
    real = Path.unlink
    monkeypatch.setattr(
        Path, "unlink", lambda self: sizes.append(self.stat().st_size) or real(self)
    )
    keeper.delete(path)
    assert sizes == [0] and not path.exists()
