"""The loss on pictures that are held out of training, always asked in the same way: two epochs
differ only by what was learnt in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from . import chance, objective
from .artist import evaluating
from .base import Base
from .batch import make_batch, picture_losses
from .config import TrainingSettings
from .material import Material

TIMESTEPS = (100, 300, 500, 700, 900)


@torch.no_grad()
def validation_loss(
    base: Base,
    material: Material,
    rows: Sequence[int],
    settings: TrainingSettings,
    device: str,
) -> float:
    """The mean loss of the pictures `rows` over five timesteps, with the same noise each time, the
    whole caption in its own order, and every timestep weighing the same.
    """
    plain = replace(
        settings,
        prior_weight=0.0,
        caption_dropout=0.0,
        tag_dropout=0.0,
        shuffle_tags=False,
        min_snr_gamma=0.0,
        debiased=False,
        loss="l2",
    )
    kept = objective.kept_signal(base.scheduler).to(device)
    losses = []
    with evaluating(base):
        for i in rows:
            place = (settings.seed, "validation", material.examples[i].picture.name)
            generator, dice = chance.generator(*place), chance.dice(*place)
            batch = make_batch(material, [i] * len(TIMESTEPS), base, plain, generator, dice)
            batch = replace(batch, t=torch.tensor(TIMESTEPS)).moved(lambda each: each.to(device))
            losses.append(picture_losses(base, batch, kept, plain).cpu())
    return float(torch.cat(losses).mean())
