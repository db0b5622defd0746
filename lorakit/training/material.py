"""All that is trained on, made once before the first step: latents, masks and, where the encoders
are not trained, what they make of the captions.

Each part of the base model is in memory only while it is needed for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..progress import Progress
from ..project import Project
from . import cache
from .base import Base
from .config import AdapterSettings, TrainingSettings
from .examples import Example
from .text import TextCache


@dataclass(frozen=True)
class Material:
    """All that is trained on, one entry a picture: latents as posterior mean and deviation.

    `texts` is what the encoders make of the captions where they are not trained.
    """

    examples: Sequence[Example]
    latents: Sequence[torch.Tensor]
    mirrored: Sequence[torch.Tensor | None]
    masks: Sequence[torch.Tensor | None]
    scaling: float
    texts: TextCache | None = None


def trains_text(settings: AdapterSettings) -> bool:
    """Whether any text encoder gets a LoRA."""
    return bool(settings.text_encoder_lr or settings.text_encoder_2_lr)


def keeps_texts(settings: TrainingSettings) -> bool:
    """Whether captions are encoded once, so that the text encoders can be put down."""
    return bool(settings.caption_variants) and not trains_text(settings)


def gather(
    project: Project,
    base: Base,
    settings: TrainingSettings,
    examples: Sequence[Example],
    texts: TextCache | None,
    progress: Progress,
) -> Material:
    """Latents and masks of every picture, with what the encoders made of the captions."""
    place = hashlib.sha256(str(project.dataset.resolve()).encode()).hexdigest()[:8]
    store = cache.folder() / "latents" / f"{project.name}-{place}.bin"
    pictures = [example.picture for example in examples]
    places = [example.placement for example in examples]
    flips = [i for i, example in enumerate(examples) if example.flip]
    with base.present("vae", progress=progress):
        latents, turned = cache.latents(pictures, places, base.vae, store, progress, flips)
    mirrored = [turned.get(i) for i in range(len(examples))]
    masks = cache.masks(pictures, places, settings.mask, settings.unmasked_weight, progress)
    return Material(examples, latents, mirrored, masks, base.vae.config.scaling_factor, texts)
