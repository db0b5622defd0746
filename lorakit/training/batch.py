"""From pictures and captions to what the U-Net is shown in one batch, and the loss of its guess."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace

import torch

from . import adapter, cache, objective
from .base import Base
from .config import TrainingSettings
from .material import Material, trains_text
from .text import encode, token_chunks

Tokens = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """One batch: `x` (n, 4, h, w) scaled latents, `noise` alike, `t` (n,) timesteps, `time_ids`
    (n, 6), `weight` (n,) of each picture, `prior` (n,) of its prior, `mask` (n, 1, h, w) or None.

    Captions are `tokens` of both encoders, or `states`, what these made of them; with a prior there
    are 2 n of them: all captions, then all priors.
    """

    x: torch.Tensor
    noise: torch.Tensor
    input_noise: torch.Tensor
    t: torch.Tensor
    time_ids: torch.Tensor
    weight: torch.Tensor
    prior: torch.Tensor
    mask: torch.Tensor | None
    tokens: Tokens | None
    states: Tokens | None

    def __len__(self) -> int:
        return len(self.x)

    def moved(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """The batch with every tensor changed: pinned, or on a device."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return Batch(
            **{
                name: tuple(map(change, value))
                if isinstance(value, tuple)
                else value
                if value is None
                else change(value)
                for name, value in values.items()
            }
        )

    def part(self, rows: slice) -> Batch:
        """The batch of some of its pictures."""

        def cut(pair: Tokens | None) -> Tokens | None:
            """Those pictures' captions and, if there are any, their priors."""
            if pair is None:
                return None
            return tuple(  # type: ignore[return-value]
                torch.cat([half[rows] for half in each.split(len(self))]) for each in pair
            )

        values = ("x", "noise", "input_noise", "t", "time_ids", "weight", "prior")
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in values},
            mask=None if self.mask is None else self.mask[rows],
            tokens=cut(self.tokens),
            states=cut(self.states),
        )


def make_batch(
    material: Material,
    rows: Sequence[int],
    base: Base,
    settings: TrainingSettings,
    generator: torch.Generator,
    dice: random.Random,
) -> Batch:
    """The batch of the pictures `rows`, with every random choice made."""
    examples = [material.examples[i] for i in rows]
    turned = [example.flip and dice.random() < 0.5 for example in examples]
    latents = [
        material.mirrored[i] if flip else material.latents[i]
        for i, flip in zip(rows, turned, strict=True)
    ]
    x = torch.stack([cache.sample(each, material.scaling, generator) for each in latents])
    places = [
        example.placement.mirrored if flip else example.placement
        for example, flip in zip(examples, turned, strict=True)
    ]
    noise = objective.draw_noise(x.shape, settings, generator)
    tokens, states = _texts(material, rows, base, settings, dice)
    return Batch(
        x,
        noise,
        objective.input_noise(noise, settings, generator),
        objective.draw_timesteps(len(rows), settings, generator),
        torch.tensor([place.time_ids for place in places], dtype=torch.float32),
        torch.tensor(
            [settings.regularisation_weight if e.regularisation else 1.0 for e in examples]
        ),
        torch.tensor([0.0 if e.regularisation else settings.prior_weight for e in examples]),
        _masks([material.masks[i] for i in rows], turned, x),
        tokens,
        states,
    )


def _texts(
    material: Material,
    rows: Sequence[int],
    base: Base,
    settings: TrainingSettings,
    dice: random.Random,
) -> tuple[Tokens | None, Tokens | None]:
    """Tokens of the captions, or their states where these are kept ready."""
    if material.texts:
        return None, material.texts.batch(rows, settings, dice)
    examples = [material.examples[i] for i in rows]
    texts = [example.shown(settings, dice) for example in examples]
    if settings.prior_weight:
        texts += [example.prior(settings, dice) for example in examples]
    first, second = token_chunks(base.tokenizers, texts)
    return (first, second), None


def _masks(
    masks: Sequence[torch.Tensor | None], turned: Sequence[bool], x: torch.Tensor
) -> torch.Tensor | None:
    """The masks of a batch, all ones where a picture has none; None if no picture has one."""
    if all(mask is None for mask in masks):
        return None
    whole = torch.ones(1, *x.shape[2:])
    filled = [whole if mask is None else mask for mask in masks]
    return torch.stack(
        [mask.flip(-1) if flip else mask for mask, flip in zip(filled, turned, strict=True)]
    )


def picture_losses(
    base: Base, batch: Batch, kept: torch.Tensor, settings: TrainingSettings
) -> torch.Tensor:
    """The weighted loss of each picture, (n,) or, with a prior, (2 n,). The batch and `kept`, the
    signal kept at each timestep, are where the base is.

    With a prior the batch is shown again under captions without the activation tag: prior
    preservation (Ruiz et al. 2022, section 3.3), only that the target is not a picture drawn before
    but what the base itself guesses here.
    """
    signal = kept[batch.t]
    wanted = objective.target(batch.x, batch.noise, signal, base.prediction)
    noisy = objective.add_noise(batch.x, batch.input_noise, signal).to(base.dtype)
    table = objective.weights(objective.snr(kept), settings, base.prediction)
    each = table[batch.t].to(batch.weight)
    weight = each * batch.weight
    threshold = objective.huber_thresholds(kept, settings)[batch.t]
    mask, count, t, time_ids = batch.mask, len(batch), batch.t, batch.time_ids
    if settings.prior_weight:
        with torch.no_grad(), adapter.without(base.parts):
            held = _guess(base, noisy, t, _later(batch, count), time_ids, settings)
        noisy, t, time_ids = noisy.repeat(2, 1, 1, 1), t.repeat(2), time_ids.repeat(2, 1)
        wanted = torch.cat([wanted, held.to(wanted)])
        weight = torch.cat([weight, each * batch.prior])
        threshold = threshold.repeat(2)
        mask = None if mask is None else torch.cat([mask, torch.ones_like(mask)])
    guess = _guess(base, noisy, t, batch, time_ids, settings)
    return objective.losses(guess, wanted, settings, threshold, mask) * weight


def _later(batch: Batch, count: int) -> Batch:
    """The batch with its priors' captions only."""

    def cut(pair: Tokens | None) -> Tokens | None:
        return None if pair is None else (pair[0][count:], pair[1][count:])

    return replace(batch, tokens=cut(batch.tokens), states=cut(batch.states))


def _guess(
    base: Base,
    noisy: torch.Tensor,
    t: torch.Tensor,
    batch: Batch,
    time_ids: torch.Tensor,
    settings: TrainingSettings,
) -> torch.Tensor:
    """What the U-Net, as it is, makes of noisy latents under the batch's captions."""
    with nullcontext() if trains_text(settings) else torch.no_grad():
        hidden, pooled = _states(base, batch)
    conditions = {"text_embeds": pooled, "time_ids": time_ids}
    return base.unet(noisy, t, hidden, added_cond_kwargs=conditions).sample


def _states(base: Base, batch: Batch) -> Tokens:
    """Hidden states and pooled output of the batch's captions."""
    if batch.states:
        hidden, pooled = (each.to(base.dtype) for each in batch.states)
        return hidden, pooled
    assert batch.tokens is not None
    (first, _), (second, pooled) = (
        encode(encoder, ids) for encoder, ids in zip(base.encoders, batch.tokens, strict=True)
    )
    return torch.cat([first, second], dim=-1), pooled
