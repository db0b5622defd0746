"""What is said of settings and input before anything is loaded."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorakit.errors import LorakitError
from lorakit.project import Project
from lorakit.training import export, run

from .lora_files import random_lora
from .test_run import PREVIEW, SHORT, project  # noqa: F401  (a fixture)


def test_what_the_settings_bring_with_them_is_said_before_the_base_is_loaded(
    project: Project,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(**changes: object) -> list[str]:
        notes = []
        with pytest.raises(InterruptedError):
            for event in run.train_project(project, replace(SHORT, **changes), PREVIEW, "astrid"):
                notes += [event.text] if isinstance(event, run.Note) else []
        return notes

    def nothing_more(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(run, "open_base", nothing_more)
    lora = export.save_lora(tmp_path / "old.safetensors", random_lora(0, rank=4), {})
    assert told(optimizer="Prodigy") == []  # the embedded base needs other rates
    assert (
        "Recommended for Prodigy: unet_lr 1 (now"
        in told(optimizer="Prodigy", base_model="SDXL 1.0")[0]
    )
    assert told(continue_from=str(lora)) == [
        "The LoRA goes on from old.safetensors, a LoCon of rank 4: these stay, whatever kind, "
        "dora, rank_stabilized and the settings of ranks and alphas say."
    ]


@pytest.mark.parametrize(
    ("training", "preview", "message"),
    [
        ({"continue_from": "no.safetensors"}, {}, "continue_from is no.safetensors, and there is"),
        ({"continue_from": "junk.safetensors"}, {}, "junk.safetensors is not a safetensors file"),
        ({"continue_from": "vae.safetensors"}, {}, "is vae.safetensors, which is not a LoRA file"),
        (
            {"continue_from": "dora.safetensors", "save_diffusers": True},
            {},
            r"continue_from \(dora.safetensors\) is a DoRA, for which diffusers' names have no",
        ),
        ({"wandb": "characters"}, {}, "wandb is 'characters', but the package is missing"),
        ({"tensorboard": True}, {}, "tensorboard is on, but the package is missing"),
        ({}, {"prompts_file": "no.txt"}, "prompts_file no.txt cannot be read"),
    ],
    ids=str,
)
def test_what_would_end_a_run_later_is_said_before_the_base_is_loaded(
    project: Project,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: dict[str, object],
    preview: dict[str, object],
    message: str,
) -> None:
    monkeypatch.setattr(run, "open_base", lambda *_: pytest.fail("the base was loaded"))
    for package in ("wandb", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    Path("junk.safetensors").write_bytes(b"<html>")
    save_file({"decoder.conv_in.weight": torch.zeros(2)}, "vae.safetensors")
    dora = random_lora(0) | {"lora_unet_x.dora_scale": torch.zeros(2)}
    save_file(dora, "dora.safetensors")
    with pytest.raises(LorakitError, match=message):
        list(
            run.train_project(
                project, replace(SHORT, **training), replace(PREVIEW, **preview), "astrid"
            )
        )
