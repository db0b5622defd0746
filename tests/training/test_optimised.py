"""All that makes training quick and small changes nothing of what is learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorakit.demo.run import TAGGING, TRAINING
from lorakit.demo.sample import good_picture
from lorakit.project import Project, find
from lorakit.tagging.likeness import scorer
from lorakit.training import lora_layers, run
from lorakit.training.config import PreviewSettings, TrainingSettings
from lorakit.training.optim import making

STEPS = 50
SETTINGS = replace(
    TRAINING,
    batch_size=4,
    repeats=50,
    epochs=1,
    max_steps=STEPS,
    text_encoder_lr=0.0,  # so that what the encoders make of the captions can be kept
    text_encoder_2_lr=0.0,
    tag_dropout=0.0,
    prior_weight=0.0,
    shuffle_tags=False,  # a kept caption is one of several; an encoded one may be any
    resume="never",
)
PREVIEW = PreviewSettings(count=4, steps=12, width=128, height=128)
SMALL = {"checkpointing": "full", "at_once": 1}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = find(str(tmp_path / "astrid")).create()
    for i in range(4):
        good_picture(i).resize((160, 160) if i % 2 else (128, 192)).save(made.dataset / f"{i}.png")
        (made.dataset / f"{i}.txt").write_text("astrid, smile\n")
    return made


def trained(project: Project, settings: TrainingSettings) -> tuple[list[float], float, np.ndarray]:
    """The loss of every step, the likeness at the end and the last previews."""
    losses: list[float] = []
    score = scorer(TAGGING)
    for event in run.train_project(project, settings, PREVIEW, "astrid", score=score):
        if isinstance(event, run.StepDone):
            losses.append(event.loss)
        if isinstance(event, run.Previews):
            shown = event
    pixels = np.stack([np.asarray(picture, np.float32) for picture in shown.pictures])
    return losses, shown.likeness or 0.0, pixels


def make_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft's own layers, and an AdamW that takes one weight after the other."""
    monkeypatch.setattr(lora_layers, "plain", lambda layer: False)
    make: Callable[..., Any] = making.make_optimizer

    def one_by_one(*arguments: Any) -> torch.optim.Optimizer:
        optimizer = make(*arguments)
        for group in optimizer.param_groups:
            group.update(fused=False, foreach=False)
        return optimizer

    monkeypatch.setattr("lorakit.training.optim.make_optimizer", one_by_one)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, SMALL], ids=["quickest", "smallest"])
def test_the_optimised_path_learns_what_the_plain_path_learns(
    project: Project, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    losses, likeness, drawn = trained(project, replace(SETTINGS, **changes))
    make_plain(monkeypatch)
    wanted, same, pictures = trained(project, replace(SETTINGS, caption_variants=0))
    assert len(losses) == len(wanted) == STEPS
    assert losses == pytest.approx(wanted, rel=1e-4)
    assert likeness > 0
    assert likeness == pytest.approx(same, abs=1e-6)
    assert np.abs(drawn - pictures).mean() < 1, "of 255"
    print(max(abs(a / b - 1) for a, b in zip(losses, wanted, strict=True)), likeness)
