"""The loss against independent float64 references, and against diffusers' own schedulers."""

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

from lorakit.errors import BaseModelError, SettingsError
from lorakit.training import objective
from lorakit.training.config import ObjectiveSettings, TrainingSettings
from lorakit.training.single_file import sdxl_configs

SCHEDULER = sdxl_configs()["scheduler"]
DEFAULTS = ObjectiveSettings()
TIMESTEPS = [100, 300, 500, 700, 900, 999]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reference_betas() -> np.ndarray:
    return np.linspace(np.sqrt(0.00085), np.sqrt(0.012), 1000, dtype=np.float64) ** 2


def reference_kept(zero_terminal: bool = False) -> np.ndarray:
    kept = np.cumprod(1 - reference_betas())
    if zero_terminal:
        root = np.sqrt(kept)
        first, last = root[0], root[-1]
        kept = ((root - last) * (first / (first - last))) ** 2
    return kept


def reference_snr(zero_terminal: bool = False) -> np.ndarray:
    kept = reference_kept(zero_terminal)
    return kept / (1 - kept)


# The schedule


def test_the_schedule_is_sdxls() -> None:
    assert np.allclose(objective.kept_signal(SCHEDULER).numpy(), reference_kept(), rtol=1e-12)


@pytest.mark.parametrize(
    ("t", "ratio"),
    [(0, 1175), (10, 103.5), (100, 8.45), (250, 2.07), (500, 0.382), (750, 0.0595), (999, 0.00468)],
)
def test_signal_to_noise_ratios_at_known_timesteps(t: int, ratio: float) -> None:
    assert objective.snr(objective.kept_signal(SCHEDULER))[t].item() == pytest.approx(
        ratio, rel=5e-3
    )


def test_a_zero_terminal_base_ends_in_pure_noise_and_begins_as_before() -> None:
    kept = objective.kept_signal({**SCHEDULER, "rescale_betas_zero_snr": True})
    assert np.allclose(kept.numpy(), reference_kept(zero_terminal=True), rtol=1e-12, atol=0)
    assert kept[-1].item() == 0
    assert kept[0].item() == pytest.approx(reference_kept()[0], rel=1e-14)
    assert (kept.diff() < 0).all()


def test_the_zero_terminal_schedule_is_the_one_diffusers_samples_with() -> None:
    betas = rescale_zero_terminal_snr(torch.from_numpy(reference_betas()))
    theirs = torch.cumprod(1 - betas, 0)
    ours = objective.kept_signal({**SCHEDULER, "rescale_betas_zero_snr": True})
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"beta_schedule": "linear"}, "1000 steps of 'linear'"),
        ({"trained_betas": [0.1, 0.2]}, "1000 steps of 'trained'"),
        ({"_class_name": "EDMDPMSolverMultistepScheduler"}, "1000 steps of 'EDM'"),
        ({"num_train_timesteps": 500}, "500 steps of 'scaled_linear'"),
    ],
)
def test_a_base_with_another_schedule_is_refused(changed: dict[str, Any], kind: str) -> None:
    with pytest.raises(BaseModelError, match=f"has {kind} noise; SDXL's has 1000 of 'scaled_lin"):
        objective.kept_signal({**SCHEDULER, **changed})


def test_a_schedule_that_does_not_say_its_kind_is_what_diffusers_takes_it_for() -> None:
    unsaid = {key: value for key, value in SCHEDULER.items() if key != "beta_schedule"}
    with pytest.raises(BaseModelError, match="'linear' noise"):
        objective.kept_signal(unsaid)


# Noise and velocity


def test_noise_and_velocity_give_the_picture_back() -> None:
    x, noise = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64, generator=seeded())
    kept = torch.tensor([0.99, 0.5, 0.01], dtype=torch.float64)
    noisy = objective.add_noise(x, noise, kept)
    velocity = objective.target(x, noise, kept, "v_prediction")
    a, b = kept.view(-1, 1, 1, 1).sqrt(), (1 - kept).view(-1, 1, 1, 1).sqrt()
    assert torch.allclose(a * noisy - b * velocity, x)
    assert objective.target(x, noise, kept, "epsilon") is noise


@pytest.mark.parametrize("zero_terminal", [False, True])
def test_noisy_latents_and_velocities_are_those_of_diffusers(zero_terminal: bool) -> None:
    options = {**SCHEDULER, "rescale_betas_zero_snr": zero_terminal}
    names = ("beta_start", "beta_end", "beta_schedule", "rescale_betas_zero_snr")
    theirs = DDPMScheduler(1000, **{name: options[name] for name in names})
    x, noise = torch.randn(2, 6, 4, 8, 8, generator=seeded())
    t = torch.tensor(TIMESTEPS)
    kept = objective.kept_signal(options)[t]
    noisy = theirs.add_noise(x, noise, t)  # diffusers multiplies a thousand float32 numbers
    velocity = theirs.get_velocity(x, noise, t)
    assert torch.allclose(objective.add_noise(x, noise, kept), noisy, atol=1e-4)
    assert torch.allclose(objective.target(x, noise, kept, "v_prediction"), velocity, atol=1e-4)


def test_at_the_last_zero_terminal_timestep_only_noise_is_seen_and_the_picture_is_asked_for() -> (
    None
):
    kept = objective.kept_signal({**SCHEDULER, "rescale_betas_zero_snr": True})[-1:]
    x, noise = torch.randn(2, 1, 4, 8, 8, generator=seeded())
    assert torch.equal(objective.add_noise(x, noise, kept), noise)
    assert torch.equal(objective.target(x, noise, kept, "v_prediction"), -x)


def test_the_cleanest_timestep_gets_its_noise_to_the_last_digit_of_float32() -> None:
    kept = objective.kept_signal(SCHEDULER)[:1]
    zero, one = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    exact = np.float32(np.sqrt(1 - reference_kept()[0]))
    assert (objective.add_noise(zero, one, kept).numpy() == exact).all()


def test_an_unknown_prediction_is_refused() -> None:
    x = torch.zeros(1, 4, 2, 2)
    with pytest.raises(ValueError, match="'sample'; it must be 'epsilon' or 'v_prediction'"):
        objective.target(x, x, torch.ones(1), "sample")
    with pytest.raises(ValueError, match="'sample'; it must be 'epsilon' or 'v_prediction'"):
        objective.weights(torch.ones(1), DEFAULTS, "sample")


# Weights

BASES = [
    ("epsilon", False, [0.5914, 1, 1, 1, 1, 1]),
    ("epsilon", True, [0.6385, 1, 1, 1, 1, 1]),
    ("v_prediction", False, [0.6347, 1, 1, 1, 1, 1]),
    ("v_prediction", True, [0.6794, 1, 1, 1, 1, 1]),
]


@pytest.mark.parametrize(("prediction", "zero_terminal", "stated"), BASES)
def test_the_default_settings_weigh_timesteps_as_stated(
    prediction: str, zero_terminal: bool, stated: list[float]
) -> None:
    kept = objective.kept_signal({**SCHEDULER, "rescale_betas_zero_snr": zero_terminal})
    table = objective.weights(objective.snr(kept), TrainingSettings(), prediction)
    assert table[TIMESTEPS].tolist() == pytest.approx(stated, abs=1e-4)
    assert table[500:].tolist() == [1.0] * 500


@pytest.mark.parametrize("zero_terminal", [False, True])
@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("form", ["hard", "soft"])
@pytest.mark.parametrize("gamma", [0.0, 0.01, 1.0, 5.0, 8.0, 100.0])
def test_no_setting_but_the_papers_form_starves_the_noisy_half_of_a_v_prediction_base(
    gamma: float, form: str, debiased: bool, zero_terminal: bool
) -> None:
    settings = ObjectiveSettings(min_snr_gamma=gamma, min_snr_form=form, debiased=debiased)
    ratio = torch.from_numpy(reference_snr(zero_terminal))
    noisy = objective.weights(ratio, settings, "v_prediction")[500:]
    assert 0.72 < noisy.min() <= noisy.max() <= 1


def test_the_papers_form_starves_it_as_its_help_says() -> None:
    settings = ObjectiveSettings(min_snr_gamma=8, min_snr_form="paper")
    for zero_terminal, last in ((False, 0.0047), (True, 0)):
        ratio = torch.from_numpy(reference_snr(zero_terminal))
        table = objective.weights(ratio, settings, "v_prediction")[TIMESTEPS]
        assert table[-1].item() == pytest.approx(last, abs=5e-5)
    table = objective.weights(torch.from_numpy(reference_snr()), settings, "v_prediction")
    stated = [0.846, 0.591, 0.276, 0.083, 0.014, 0.0047]
    assert table[TIMESTEPS].tolist() == pytest.approx(stated, abs=6e-4)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 8.0])
def test_min_snr_weights_of_noise_and_velocity(gamma: float) -> None:
    ratio = reference_snr()
    limits = {
        "hard": np.minimum(ratio, gamma),
        "paper": np.minimum(ratio, gamma),
        "soft": 1 / (1 / ratio + 1 / gamma),
    }
    for form, limit in limits.items():
        noise, velocity = (
            objective.min_snr_weight(torch.from_numpy(ratio), gamma, prediction, form).numpy()
            for prediction in ("epsilon", "v_prediction")
        )
        assert np.allclose(noise, limit / ratio, rtol=1e-12)
        kept_one = 0 if form == "paper" else 1
        assert np.allclose(velocity, (limit + kept_one) / (ratio + 1), rtol=1e-12)


def test_min_snr_of_a_velocity_adds_one_to_what_that_of_noise_weighs_the_picture_by() -> None:
    ratio = torch.from_numpy(reference_snr())
    noise = objective.min_snr_weight(ratio, 5, "epsilon") * ratio
    velocity = objective.min_snr_weight(ratio, 5, "v_prediction") * (ratio + 1)
    assert torch.allclose(velocity, noise + 1, rtol=1e-12)


def test_debiased_weights_of_noise_and_velocity() -> None:
    ratio = reference_snr()
    settings = ObjectiveSettings(debiased=True)
    noise, velocity = (
        objective.weights(torch.from_numpy(ratio), settings, prediction).numpy()
        for prediction in ("epsilon", "v_prediction")
    )
    assert np.allclose(noise, 1 / np.sqrt(np.minimum(ratio, 1000)), rtol=1e-12)
    assert np.allclose(velocity, 1 / np.sqrt(ratio + 1), rtol=1e-12)
    assert np.allclose(noise[:50], velocity[:50], rtol=0.1)  # alike where the picture is clean


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("form", ["hard", "soft", "paper"])
@pytest.mark.parametrize("debiased", [False, True])
def test_weights_are_numbers_where_no_signal_is_left(
    prediction: str, form: str, debiased: bool
) -> None:
    settings = ObjectiveSettings(min_snr_form=form, debiased=debiased)
    ratio = torch.tensor([0.0, 1e-12, 1.0], dtype=torch.float64)
    table = objective.weights(ratio, settings, prediction)
    assert table.isfinite().all() and (table >= 0).all() and table.max() < 32
    assert table[0].item() == pytest.approx(table[1].item(), rel=1e-9, abs=1e-9)


def test_gamma_zero_turns_the_weights_off() -> None:
    ratio = torch.tensor([0.0, 0.1, 900.0])
    for prediction in ("epsilon", "v_prediction"):
        for form in ("hard", "soft", "paper"):
            settings = ObjectiveSettings(min_snr_gamma=0, min_snr_form=form)
            assert objective.weights(ratio, settings, prediction).tolist() == [1, 1, 1]


# Distances


def pseudo_huber(error: np.ndarray, c: Any) -> np.ndarray:
    return 2 * c * (np.sqrt(error**2 + c**2) - c)


@pytest.mark.parametrize("schedule", ["snr", "exponential", "constant"])
@pytest.mark.parametrize("c", [0.001, 0.1, 1.0])
@pytest.mark.parametrize("zero_terminal", [False, True])
def test_huber_thresholds_follow_their_schedules(
    schedule: str, c: float, zero_terminal: bool
) -> None:
    kept = reference_kept(zero_terminal)
    with np.errstate(divide="ignore"):
        sigma = np.sqrt((1 - kept) / kept)
    expected = {
        "snr": (1 - c) / (1 + sigma) ** 2 + c,
        "exponential": np.exp(np.log(c) * np.arange(1000) / 1000),
        "constant": np.full(1000, c),
    }[schedule]
    settings = ObjectiveSettings(huber_threshold=c, huber_schedule=schedule)
    table = objective.huber_thresholds(torch.from_numpy(kept), settings)
    assert np.allclose(table.numpy(), expected, rtol=1e-12)
    if schedule == "exponential":
        assert table[0] == 1


@pytest.mark.parametrize("size", [1e-4, 0.03, 1.0, 50.0])
def test_each_distance_is_its_formula_at_small_and_large_errors(size: float) -> None:
    guess, wanted = size * torch.randn(2, 3, 4, 8, 8, generator=seeded())
    threshold = torch.tensor([1.0, 0.1, 0.001], dtype=torch.float64)
    error = guess.double().numpy() - wanted.double().numpy()
    c = threshold.numpy().reshape(-1, 1, 1, 1)
    expected = {
        "l2": error**2,
        "l1": np.abs(error),
        "huber": pseudo_huber(error, c),
        "smooth_l1": pseudo_huber(error, c) / c,
    }
    for name, each in expected.items():
        settings = ObjectiveSettings(loss=name)
        found = objective.losses(guess, wanted, settings, threshold).double().numpy()
        assert np.allclose(found, each.mean(axis=(1, 2, 3)), rtol=1e-5, atol=0), name


def test_huber_is_the_square_near_and_a_slope_afar() -> None:
    settings, c = ObjectiveSettings(loss="huber"), torch.tensor([0.1])
    for error, expected in ((1e-4, 1e-8), (1000.0, 2 * 0.1 * (1000 - 0.1))):
        guess = torch.full((1, 4, 2, 2), error)
        found = objective.losses(guess, torch.zeros_like(guess), settings, c)
        assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["l2", "l1", "huber", "smooth_l1"])
def test_a_guess_that_is_right_has_no_loss_and_no_broken_gradient(name: str) -> None:
    guess = torch.ones(1, 4, 2, 2, requires_grad=True)
    settings = ObjectiveSettings(loss=name)
    found = objective.losses(guess, torch.ones(1, 4, 2, 2), settings, torch.tensor([0.001]))
    found.sum().backward()
    assert found.item() == 0 and guess.grad is not None and not guess.grad.any()


def test_the_loss_is_computed_in_float32_whatever_comes_in() -> None:
    guess = torch.full((2, 4, 8, 8), 300.0, dtype=torch.float16)
    wanted = torch.zeros(2, 4, 8, 8, dtype=torch.float16)
    found = objective.losses(guess, wanted, DEFAULTS, torch.ones(2, dtype=torch.float64))
    assert found.dtype == torch.float32
    assert found.tolist() == [90000, 90000]  # float16 ends at 65504


# Masks


def masked(guess: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    wanted, threshold = torch.zeros_like(guess), torch.ones(len(guess))
    return objective.losses(guess, wanted, DEFAULTS, threshold, mask)


def test_a_masked_loss_is_the_weighted_mean_of_what_the_mask_shows() -> None:
    guess = torch.randn(3, 4, 8, 8, generator=seeded())
    mask = torch.rand(3, 1, 8, 8, generator=seeded(1))
    expected = [
        np.average((picture.double() ** 2).mean(0).numpy(), weights=m[0].double().numpy())
        for picture, m in zip(guess, mask, strict=True)
    ]
    assert masked(guess, mask).tolist() == pytest.approx(expected, rel=1e-6)


def test_a_small_mask_does_not_make_a_small_loss() -> None:
    guess = torch.full((2, 4, 8, 8), 3.0)
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, 0, 2, 5] = 1
    mask[1, 0, :, :6] = 0.5
    assert masked(guess, mask).tolist() == [9, 9]


def test_what_a_mask_hides_is_not_learned() -> None:
    guess = torch.ones(1, 4, 8, 8, requires_grad=True)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    masked(guess, mask).sum().backward()
    assert guess.grad is not None
    assert not guess.grad[..., 4:].any() and guess.grad[..., :4].all()


def test_a_mask_that_shows_all_changes_nothing_and_one_that_shows_nothing_gives_no_loss() -> None:
    guess = torch.randn(2, 4, 8, 8, generator=seeded())
    plain = objective.losses(guess, torch.zeros_like(guess), DEFAULTS, torch.ones(2))
    assert torch.allclose(masked(guess, torch.ones(2, 1, 8, 8)), plain, rtol=1e-6)
    assert masked(guess, torch.zeros(2, 1, 8, 8)).tolist() == [0, 0]


# Timesteps

DISTRIBUTIONS = [
    ObjectiveSettings(),
    ObjectiveSettings(timesteps="logit_normal"),
    ObjectiveSettings(timesteps="logit_normal", timestep_bias=1.5),
    ObjectiveSettings(timesteps="logit_normal", timestep_bias=-1.0),
    ObjectiveSettings(timesteps="biased", timestep_bias=3.0),
    ObjectiveSettings(timesteps="biased", timestep_bias=-0.5),
]


def share_below(settings: ObjectiveSettings, u: float) -> float:
    """How many timesteps should lie in the first share `u` of the range."""
    bias = settings.timestep_bias
    if settings.timesteps == "logit_normal":
        logit = math.log(u / (1 - u)) if u < 1 else math.inf
        return 0.5 * (1 + math.erf((logit - bias) / math.sqrt(2)))
    if settings.timesteps == "biased":
        return (math.exp(bias * u) - 1) / (math.exp(bias) - 1)
    return u


@pytest.mark.parametrize("settings", DISTRIBUTIONS)
@pytest.mark.parametrize(("low", "high"), [(0, 1000), (200, 700), (994, 1000)])
def test_timesteps_come_as_often_as_their_distribution_says(
    settings: ObjectiveSettings, low: int, high: int
) -> None:
    count, bins = 100_000, min(20, high - low)
    settings = replace(settings, timestep_low=low, timestep_high=high)
    t = objective.draw_timesteps(count, settings, seeded())
    assert t.dtype == torch.long and t.shape == (count,)
    found = torch.histc(t.double(), bins, min=low, max=high).numpy()
    edges = [0.0] + [share_below(settings, i / bins) for i in range(1, bins + 1)]
    expected = count * np.diff(edges)
    seen = expected > 1e-6
    chi_square = ((found - expected)[seen] ** 2 / expected[seen]).sum()
    assert chi_square < {19: 43.8, 5: 20.5}[bins - 1]  # one in a thousand
    assert found.sum() == count
    if settings.timesteps != "logit_normal":  # which all but never reaches the ends
        assert (t.min().item(), t.max().item()) == (low, high - 1)


@pytest.mark.parametrize("settings", DISTRIBUTIONS)
@pytest.mark.parametrize(("low", "high"), [(0, 3), (500, 501), (997, 1000)])
def test_all_timesteps_of_a_narrow_range_are_drawn_and_no_other(
    settings: ObjectiveSettings, low: int, high: int
) -> None:
    settings = replace(settings, timestep_low=low, timestep_high=high)
    drawn = objective.draw_timesteps(2000, settings, seeded())
    assert drawn.unique().tolist() == list(range(low, high))


def test_a_draw_that_rounds_up_to_the_end_is_the_last_timestep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    almost_one = torch.tensor([1 - 2**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: almost_one)
    settings = ObjectiveSettings(timesteps="biased", timestep_bias=3.0, timestep_high=700)
    assert objective.draw_timesteps(1, settings, seeded()).tolist() == [699]


def test_the_noisiest_timestep_is_e_to_the_bias_times_as_frequent_as_the_cleanest() -> None:
    settings = ObjectiveSettings(timesteps="biased", timestep_bias=2.0)
    t = objective.draw_timesteps(400_000, settings, seeded())
    ratio = (t >= 980).sum() / (t < 20).sum()
    assert ratio.item() == pytest.approx(math.exp(2.0 * 0.98), rel=0.06)


# Noise


def test_noise_without_further_wishes_is_plain_noise() -> None:
    noise = objective.draw_noise((3, 4, 16, 8), DEFAULTS, seeded(7))
    assert torch.equal(noise, torch.randn(3, 4, 16, 8, generator=seeded(7)))
    assert objective.input_noise(noise, DEFAULTS, seeded()) is noise


def test_an_offset_shifts_each_channel_of_each_picture_by_so_much() -> None:
    settings = ObjectiveSettings(noise_offset=0.5)
    noise = objective.draw_noise((500, 4, 16, 16), settings, seeded()).double()
    means = noise.mean(dim=(2, 3))
    assert means.var().item() == pytest.approx(0.5**2 + 1 / 256, rel=0.08)
    assert means.mean().item() == pytest.approx(0, abs=0.04)
    assert (noise - means[..., None, None]).var().item() == pytest.approx(1 - 1 / 256, rel=0.01)
    assert torch.corrcoef(means.T)[0, 1:].abs().max() < 0.15  # channels are shifted apart


def test_an_offset_is_as_large_with_pyramid_noise() -> None:
    plain = ObjectiveSettings(multires_iterations=6)
    shape = (4, 4, 16, 16)
    shifted = objective.draw_noise(shape, replace(plain, noise_offset=0.5), seeded(3))
    shift = (shifted - objective.draw_noise(shape, plain, seeded(3)))[:, :, 0, 0]
    generator = seeded(3)
    objective.draw_noise(shape, plain, generator)
    assert torch.allclose(shift, 0.5 * torch.randn(4, 4, generator=generator), atol=1e-6)


def spread(size: int, coarse: int) -> np.ndarray:
    """Bilinear enlargement of `coarse` values to `size`, pixel centres on pixel centres, as a
    matrix.
    """
    place = np.clip((np.arange(size) + 0.5) * coarse / size - 0.5, 0, coarse - 1)
    below = np.minimum(place.astype(int), coarse - 1)
    above = np.minimum(below + 1, coarse - 1)
    matrix = np.zeros((size, coarse))
    matrix[np.arange(size), below] += 1 - (place - below)
    matrix[np.arange(size), above] += place - below
    return matrix


def reference_pyramid(
    size: tuple[int, int, int], iterations: int, discount: float, generator: torch.Generator
) -> np.ndarray:
    channels, height, width = size
    total = torch.randn(size, generator=generator).double().numpy()
    for i in range(iterations):
        r = 2 + 2 * torch.rand((), generator=generator).item()
        h, w = max(1, int(height / r**i)), max(1, int(width / r**i))
        coarse = torch.randn(1, channels, h, w, generator=generator)[0].double().numpy()
        total += discount**i * (spread(height, h) @ coarse @ spread(width, w).T)
        if h == 1 or w == 1:
            break
    return total / np.sqrt((total**2).mean())


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 24), (40, 8)])
@pytest.mark.parametrize(("iterations", "discount"), [(6, 0.3), (10, 0.9), (2, 1.0)])
def test_pyramid_noise_is_its_formula(
    height: int, width: int, iterations: int, discount: float
) -> None:
    settings = ObjectiveSettings(multires_iterations=iterations, multires_discount=discount)
    found = objective.draw_noise((2, 4, height, width), settings, seeded(11)).numpy()
    generator = seeded(11)
    for picture in found:
        expected = reference_pyramid((4, height, width), iterations, discount, generator)
        assert np.allclose(picture, expected, atol=2e-5)


def coarse_share(noise: np.ndarray, block: int = 8) -> float:
    """Mean square of the means of blocks, over the mean square: 1 / block^2 for white noise."""
    batch, channels, height, width = noise.shape
    blocks = noise.reshape(batch, channels, height // block, block, width // block, block)
    return (blocks.mean(axis=(3, 5)) ** 2).mean() / (noise**2).mean()


def expected_coarse_share(side: int, iterations: int, discount: float, block: int = 8) -> float:
    """The same from the variances of each level, averaged over ratios drawn evenly from 2 to 4."""
    gather = np.kron(np.eye(side // block), np.full((1, block), 1 / block))
    ratios = np.linspace(2, 4, 402)[1:-1]
    coarse, whole = 1 / block**2, 1.0
    for i in range(iterations):
        sides = [max(1, int(side / r**i)) for r in ratios]
        alive = 1.0 if i < 2 else np.mean([int(side / r ** (i - 1)) > 1 for r in ratios])
        spreads = {n: spread(side, n) for n in set(sides)}
        power = {n: (m**2).sum(1).mean() ** 2 for n, m in spreads.items()}
        gathered = {n: ((gather @ m) ** 2).sum(1).mean() ** 2 for n, m in spreads.items()}
        whole += alive * discount ** (2 * i) * np.mean([power[n] for n in sides])
        coarse += alive * discount ** (2 * i) * np.mean([gathered[n] for n in sides])
    return coarse / whole


@pytest.mark.parametrize(("iterations", "discount"), [(6, 0.3), (4, 0.6)])
def test_pyramid_noise_has_unit_variance_and_the_expected_share_of_coarse_noise(
    iterations: int, discount: float
) -> None:
    settings = ObjectiveSettings(multires_iterations=iterations, multires_discount=discount)
    noise = objective.draw_noise((400, 4, 32, 32), settings, seeded()).double().numpy()
    assert np.allclose((noise**2).mean(axis=(1, 2, 3)), 1, atol=1e-5)  # of each picture
    assert abs(noise.mean()) < 0.02
    share = coarse_share(noise)
    assert share == pytest.approx(expected_coarse_share(32, iterations, discount), rel=0.05)
    white = objective.draw_noise((400, 4, 32, 32), DEFAULTS, seeded()).double().numpy()
    assert coarse_share(white) == pytest.approx(1 / 64, rel=0.03)
    assert share > 1.4 / 64


def test_pictures_of_a_batch_have_pyramid_noise_of_their_own() -> None:
    settings = ObjectiveSettings(multires_iterations=6, multires_discount=0.9)
    generator = seeded(2)
    batch = objective.draw_noise((3, 4, 16, 16), settings, generator)
    again = seeded(2)
    alone = [objective.draw_noise((1, 4, 16, 16), settings, again)[0] for _ in range(3)]
    assert torch.equal(batch, torch.stack(alone))
    pairs = torch.corrcoef(batch.flatten(1))
    assert pairs.fill_diagonal_(0).abs().max() < 0.5
    assert torch.equal(generator.get_state(), again.get_state())


def test_the_input_gets_a_little_more_noise_than_is_asked_about() -> None:
    settings = ObjectiveSettings(input_noise=0.1)
    noise = torch.randn(20, 4, 32, 32, generator=seeded())
    extra = objective.input_noise(noise, settings, seeded(1)) - noise
    assert extra.std().item() == pytest.approx(0.1, rel=0.01)
    assert abs(torch.corrcoef(torch.stack([extra.flatten(), noise.flatten()]))[0, 1]) < 0.01


# Settings


def everything(settings: ObjectiveSettings) -> dict[str, list[float]]:
    """What the settings of the loss decide about."""
    kept = torch.from_numpy(reference_kept())
    threshold = objective.huber_thresholds(kept, settings)[TIMESTEPS]
    noise = objective.draw_noise((6, 4, 16, 16), settings, seeded())
    guess = torch.zeros(6, 4, 16, 16)
    loss = objective.losses(
        guess, torch.randn(guess.shape, generator=seeded()), settings, threshold
    )
    return {
        "weights": objective.weights(objective.snr(kept), settings, "v_prediction").tolist(),
        "noise": noise.flatten().tolist(),
        "input": objective.input_noise(noise, settings, seeded(1)).sub(noise).flatten().tolist(),
        "timesteps": objective.draw_timesteps(50, settings, seeded()).tolist(),
        "loss": loss.tolist(),
    }


CHANGES: dict[str, tuple[dict[str, Any], Any, str]] = {
    "min_snr_gamma": ({}, 8.0, "weights"),
    "min_snr_form": ({}, "soft", "weights"),
    "debiased": ({}, True, "weights"),
    "loss": ({}, "l1", "loss"),
    "huber_threshold": ({"loss": "huber"}, 0.5, "loss"),
    "huber_schedule": ({"loss": "smooth_l1"}, "exponential", "loss"),
    "noise_offset": ({}, 0.1, "noise"),
    "multires_iterations": ({}, 6, "noise"),
    "multires_discount": ({"multires_iterations": 6}, 0.8, "noise"),
    "input_noise": ({}, 0.1, "input"),
    "timestep_low": ({}, 400, "timesteps"),
    "timestep_high": ({}, 600, "timesteps"),
    "timesteps": ({}, "logit_normal", "timesteps"),
    "timestep_bias": ({"timesteps": "logit_normal"}, 1.0, "timesteps"),
}


@pytest.mark.parametrize("name", [field.name for field in fields(ObjectiveSettings)])
def test_each_setting_of_the_loss_changes_what_it_says_and_nothing_else(name: str) -> None:
    others, value, subject = CHANGES[name]
    before = everything(ObjectiveSettings(**others))
    after = everything(ObjectiveSettings(**others, **{name: value}))
    assert {key for key in before if before[key] != after[key]} == {subject}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"timestep_low": 600, "timestep_high": 600}, "600 is not below timestep_high 600"),
        ({"timesteps": "biased"}, "timestep_bias is 0, which leans to neither side. Set"),
        ({"multires_iterations": 1}, "changes nothing. Set at least 2 .* or 0 to turn it off"),
        ({"min_snr_gamma": -1}, "min_snr_gamma is -1; it must be from 0 to 100"),
        ({"min_snr_form": "hart"}, "min_snr_form is 'hart'; did you mean 'hard'"),
        ({"timestep_high": 1001}, "timestep_high is 1001; it must be from 1 to 1000"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        ObjectiveSettings(**values)
