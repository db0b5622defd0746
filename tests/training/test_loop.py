"""The loss of one batch, with and without holding the base in place."""

from dataclasses import replace

import pytest
import torch

from lorakit.errors import SettingsError
from lorakit.training import adapter, loop, objective
from lorakit.training.base import Base
from lorakit.training.config import TrainingSettings

SETTINGS = TrainingSettings(unet_lr=1e-3, text_encoder_lr=1e-3, text_encoder_2_lr=1e-3)
LONG = ", ".join(["striped thighhighs"] * 30)  # two chunks of tokens beside priors of one


def one_loss(base: Base, prior_weight: float) -> float:
    settings = replace(SETTINGS, prior_weight=prior_weight)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    priors = ["smile, outdoors", "1girl"] if prior_weight else []
    with torch.no_grad():
        loss = loop.batch_loss(
            base,
            x,
            ["astrid, " + LONG, "astrid", *priors],
            torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2),
            objective.kept_signal(base.scheduler),
            settings,
            generator,
            "cpu",
        )
    return loss.item()


def test_the_prior_weighs_nothing_before_the_lora_changes_anything_and_its_share_afterwards(
    base: Base,
) -> None:
    parts = loop.trained_parts(base, SETTINGS)
    adapter.add_adapter(parts, rank=2, alpha=2.0, seed=0)
    assert abs(one_loss(base, 1.0) - one_loss(base, 0.0)) < 1e-5
    for weight in adapter.trainable(base.unet)[1::2]:
        torch.nn.init.normal_(weight, std=0.3)
    plain, held, held_twice = (one_loss(base, weight) for weight in (0.0, 1.0, 2.0))
    assert held > plain + 0.01
    assert abs((held_twice - plain) - 2 * (held - plain)) < 1e-4


def test_the_base_is_back_at_full_strength_after_the_prior(base: Base) -> None:
    parts = loop.trained_parts(base, SETTINGS)
    adapter.add_adapter(parts, rank=2, alpha=2.0, seed=0)
    one_loss(base, 1.0)
    strengths = {
        layer.scaling[adapter.NAME]
        for module in parts.values()
        for _, layer in adapter.lora_modules(module)
    }
    assert strengths == {1.0}


def test_a_prior_without_kept_tags_is_refused_because_it_would_forbid_all_learning() -> None:
    with pytest.raises(SettingsError, match="prior_weight needs keep_tags of at least 1"):
        TrainingSettings(prior_weight=1.0, keep_tags=0)
