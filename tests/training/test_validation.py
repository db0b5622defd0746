"""The loss on pictures held out."""

from __future__ import annotations

from dataclasses import replace

import torch

from lorakit.training.base import Base
from lorakit.training.config import TrainingSettings
from lorakit.training.validation import validation_loss

from .adapters import shaken
from .test_batch import example, material

SETTINGS = TrainingSettings(tag_dropout=0.9, caption_dropout=0.5, prior_weight=1.0)


def test_it_is_the_same_each_time_and_whatever_is_dropped_in_training(base: Base) -> None:
    made = material(example("astrid, smile"), example("astrid, horns"))
    first = validation_loss(base, made, [0, 1], SETTINGS, "cpu")
    torch.rand(3)
    again = validation_loss(base, made, [0, 1], SETTINGS, "cpu")
    other = replace(SETTINGS, tag_dropout=0.0, loss="huber", min_snr_gamma=1.0)
    assert first == again == validation_loss(base, made, [0, 1], other, "cpu")


def test_it_depends_on_the_lora_and_leaves_the_base_as_it_was(base: Base) -> None:
    made = material(example("astrid, smile"))
    before = validation_loss(base, made, [0], SETTINGS, "cpu")
    shaken(base)
    base.unet.train()
    assert validation_loss(base, made, [0], SETTINGS, "cpu") != before
    assert base.unet.training and not base.encoders[0].training
