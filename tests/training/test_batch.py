"""One batch: its random choices, and the loss of the pictures in it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lorakit.dataset import Picture
from lorakit.training import adapter, chance, objective
from lorakit.training.base import Base
from lorakit.training.batch import Batch, Material, make_batch, picture_losses
from lorakit.training.config import TrainingSettings
from lorakit.training.examples import Example
from lorakit.training.plan import Placement
from lorakit.training.text import cache_texts, encode_captions

from .adapters import shaken

SETTINGS = TrainingSettings(unet_lr=1e-3, text_encoder_lr=1e-3, text_encoder_2_lr=1e-3)
LONG = ", ".join(["striped thighhighs"] * 30)  # two chunks of tokens beside priors of one


def example(caption: str, flip: bool = False, regularisation: bool = False) -> Example:
    place = Placement((100, 64), (100, 64), 7, 0, (64, 64))  # not in the middle: sides can be told
    return Example(Picture(Path("a.png")), caption, place, 1, 1, flip, regularisation)


def material(*examples: Example, masks: list[torch.Tensor | None] | None = None) -> Material:
    generator = torch.Generator().manual_seed(3)
    latents = [torch.randn(2, 4, 8, 8, generator=generator).abs() for _ in examples]
    turned = [latent.flip(-1) for latent in latents]
    return Material(examples, latents, turned, masks or [None] * len(examples), 0.13)


def batch_of(base: Base, made: Material, settings: TrainingSettings, step: int = 1) -> Batch:
    place = (settings.seed, "step", step)
    rows = range(len(made.examples))
    return make_batch(made, rows, base, settings, chance.generator(*place), chance.dice(*place))


def losses(base: Base, batch: Batch, settings: TrainingSettings) -> torch.Tensor:
    with torch.no_grad():
        kept = objective.kept_signal(base.scheduler)
        return picture_losses(base, batch, kept, settings, "cpu")


def test_before_the_first_step_the_base_is_its_own_prior(base: Base) -> None:
    adapter.add_adapter(base.parts, SETTINGS, seed=1)
    made = material(example("astrid, " + LONG), example("astrid"))
    settings = replace(SETTINGS, prior_weight=5.0)
    each = losses(base, batch_of(base, made, settings), settings)
    assert (each[2:] < 1e-9).all()
    alone = losses(base, batch_of(base, made, SETTINGS), SETTINGS)
    assert torch.allclose(each[:2], alone, rtol=1e-4)


def test_a_lora_that_changes_prompts_without_the_activation_tag_pays_for_it(base: Base) -> None:
    shaken(base)
    made = material(example("astrid, smile"), example("astrid, horns"))
    once, twice = (
        losses(base, batch_of(base, made, settings), settings)[2:]
        for settings in (replace(SETTINGS, prior_weight=1.0), replace(SETTINGS, prior_weight=2.0))
    )
    assert (once > 0.001).all()
    assert torch.allclose(2 * once, twice, rtol=1e-4)
    for module in base.parts.values():
        assert {layer.scaling[adapter.NAME] for _, layer in adapter.lora_modules(module)} == {0.5}


def test_a_share_of_a_batch_has_the_losses_that_its_pictures_have_in_the_whole(base: Base) -> None:
    shaken(base)
    made = material(example("astrid, " + LONG), example("astrid"), example("astrid, smile"))
    settings = replace(SETTINGS, prior_weight=1.0)
    batch = batch_of(base, made, settings)
    whole = losses(base, batch, settings)
    parts = [losses(base, batch.part(slice(*ends)), settings) for ends in ((0, 1), (1, 3))]
    assert torch.allclose(whole[:3], torch.cat([parts[0][:1], parts[1][:2]]), rtol=1e-4)
    assert torch.allclose(whole[3:], torch.cat([parts[0][1:], parts[1][2:]]), rtol=1e-4)


def test_a_mirrored_picture_comes_with_the_crop_of_the_mirrored_picture(base: Base) -> None:
    settings = replace(SETTINGS, noise_offset=0.0)
    made = material(example("astrid", flip=True))
    made = replace(made, latents=[made.latents[0] * torch.tensor([1.0, 0]).view(2, 1, 1, 1)])
    made = replace(made, mirrored=[made.latents[0].flip(-1)])
    straight, turned = made.latents[0][0] * 0.13, made.mirrored[0][0] * 0.13
    seen = set()
    for step in range(20):
        batch = batch_of(base, made, settings, step)
        flipped = torch.allclose(batch.x[0], turned)
        assert flipped or torch.allclose(batch.x[0], straight)
        place = example("").placement
        wanted = place.mirrored if flipped else place
        assert batch.time_ids[0].tolist() == list(wanted.time_ids)
        seen.add((flipped, wanted.left))
    assert seen == {(False, 7), (True, 29)}


def test_a_mirrored_picture_comes_with_its_mask_mirrored(base: Base) -> None:
    mask = torch.rand(1, 8, 8)
    made = material(example("astrid", flip=True), masks=[mask])
    made = replace(made, latents=[made.latents[0] * torch.tensor([1.0, 0]).view(2, 1, 1, 1)])
    made = replace(made, mirrored=[made.latents[0].flip(-1)])
    seen = set()
    for step in range(20):
        batch = batch_of(base, made, SETTINGS, step)
        flipped = not torch.allclose(batch.x[0], made.latents[0][0] * 0.13)
        assert batch.mask is not None
        assert torch.equal(batch.mask[0], mask.flip(-1) if flipped else mask)
        seen.add(flipped)
    assert seen == {True, False}


def test_regularisation_pictures_weigh_what_the_setting_says(base: Base) -> None:
    made = material(example("astrid"), example("1girl", regularisation=True))
    settings = replace(SETTINGS, regularisation_weight=0.25)
    batch = batch_of(base, made, settings)
    assert batch.weight.tolist() == [1.0, 0.25]
    heavy = losses(base, replace(batch, weight=torch.ones(2)), settings)
    assert torch.allclose(losses(base, batch, settings), heavy * batch.weight)


def test_regularisation_pictures_have_no_prior_they_are_one(base: Base) -> None:
    shaken(base)
    settings = replace(SETTINGS, prior_weight=1.0)
    made = material(example("astrid, smile"), example("1girl, smile", regularisation=True))
    each = losses(base, batch_of(base, made, settings), settings)
    assert each[2] > 0 and each[3] == 0


def test_what_the_mask_hides_does_not_change_the_loss(base: Base) -> None:
    """The mask's hidden half is only seen through the U-Net, not asked about."""
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    made = material(example("astrid"), example("astrid"), masks=[mask, None])
    batch = batch_of(base, made, SETTINGS)
    assert batch.mask is not None and torch.equal(batch.mask[1], torch.ones(1, 8, 8))
    kept = objective.kept_signal(base.scheduler)
    noise = batch.noise.clone()
    noise[0, :, :, 4:] += 3  # another answer is wanted there
    signal = replace(batch, noise=noise, input_noise=batch.noise)
    with torch.no_grad():
        first = picture_losses(base, replace(batch, input_noise=batch.noise), kept, SETTINGS, "cpu")
        other = picture_losses(base, signal, kept, SETTINGS, "cpu")
    assert torch.allclose(first, other)


def test_a_prior_looks_at_the_whole_picture_whatever_the_mask(base: Base) -> None:
    shaken(base)
    settings = replace(SETTINGS, prior_weight=1.0)
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    masked, whole = (
        losses(
            base, batch_of(base, material(example("astrid, smile"), masks=[m]), settings), settings
        )
        for m in (mask, None)
    )
    assert masked[1] == whole[1] and masked[0] != whole[0]


PREDICTIONS = {
    "eps": ("epsilon", False),
    "v": ("v_prediction", False),
    "v, zero-terminal": ("v_prediction", True),
}


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("changes", [{}, {"debiased": True}, {"min_snr_gamma": 1.0}])
def test_a_pictures_loss_is_its_error_times_the_weight_of_its_timestep(
    base: Base, kind: str, changes: dict[str, object]
) -> None:
    """Everything reckoned anew in float64, but for what the U-Net guesses."""
    prediction, zero = PREDICTIONS[kind]
    base.scheduler |= {"prediction_type": prediction, "rescale_betas_zero_snr": zero}
    settings = replace(SETTINGS, **{"min_snr_gamma": 5.0, **changes})  # type: ignore[arg-type]
    made = material(*[example("astrid, smile")] * 5)
    t = torch.tensor([10, 100, 500, 900, 999])
    batch = replace(batch_of(base, made, settings), t=t)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    if zero:
        root = np.sqrt(kept)
        kept = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    kept = kept[t.numpy()]
    snr = kept / (1 - kept)
    gamma = settings.min_snr_gamma
    if settings.debiased:
        weight = np.sqrt(1 / (snr + (prediction != "epsilon")))
    elif prediction == "epsilon":
        weight = np.minimum(snr, gamma) / snr
    else:
        weight = (np.minimum(snr, gamma) + 1) / (snr + 1)
    signal, rest = (torch.tensor(np.sqrt(v)).view(-1, 1, 1, 1) for v in (kept, 1 - kept))
    x, noise = batch.x.double(), batch.noise.double()
    wanted = noise if prediction == "epsilon" else signal * noise - rest * x
    hidden, pooled = encode_captions(base.tokenizers, base.encoders, ["astrid, smile"] * 5)
    with torch.no_grad():
        guess = base.unet(
            (signal * x + rest * noise).float(),
            t,
            hidden,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": batch.time_ids},
        ).sample.double()
    expected = (guess - wanted).square().mean(dim=(1, 2, 3)) * torch.tensor(weight)
    found = losses(base, batch, settings)
    assert torch.allclose(found.double(), expected, rtol=1e-3)


def test_kept_states_of_frozen_encoders_give_the_loss_of_encoding_each_time(base: Base) -> None:
    settings = replace(
        SETTINGS, text_encoder_lr=0, text_encoder_2_lr=0, caption_variants=1, shuffle_tags=False
    )
    settings = replace(settings, prior_weight=1.0)
    made = material(example("astrid, smile, " + LONG), example("astrid, horns"))
    texts = cache_texts(base.tokenizers, base.encoders, made.examples, settings, seed=1)
    live = losses(base, batch_of(base, made, settings), settings)
    batch = batch_of(base, replace(made, texts=texts), settings)
    assert batch.tokens is None
    x = batch_of(base, made, settings)
    kept = losses(base, replace(x, tokens=None, states=batch.states), settings)
    assert torch.allclose(live, kept, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.7, 1.0])
def test_captions_are_left_out_as_often_as_asked(base: Base, rate: float) -> None:
    settings = replace(SETTINGS, caption_dropout=rate)
    made = material(*[example("astrid, smile")] * 40)
    batch = batch_of(base, made, settings)
    assert batch.tokens is not None
    empty = (batch.tokens[0][:, 0, 1] == base.tokenizers[0].eos_token_id).float().mean()
    assert abs(float(empty) - rate) <= 0.25 * (0 < rate < 1)


def test_dice_and_generator_decide_all(base: Base) -> None:
    settings = replace(SETTINGS, flip=True)
    made = material(example("astrid, a, b, c, d", flip=True), example("astrid, e, f, g", flip=True))
    one, same = (batch_of(base, made, settings, step=4) for _ in range(2))
    random.random(), torch.rand(1)
    other = batch_of(base, made, settings, step=5)
    assert torch.equal(one.x, same.x) and torch.equal(one.tokens[0], same.tokens[0])
    assert not torch.equal(one.noise, other.noise)
