"""The loss against independent float64 references."""

import numpy as np
import pytest
import torch

from lorakit.training import objective
from lorakit.training.single_file import sdxl_configs

SCHEDULER = sdxl_configs()["scheduler"]


def reference_kept() -> np.ndarray:
    betas = np.linspace(np.sqrt(0.00085), np.sqrt(0.012), 1000, dtype=np.float64) ** 2
    return np.cumprod(1 - betas)


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


@pytest.mark.parametrize("gamma", [1.0, 5.0, 8.0])
def test_min_snr_weights_of_noise_and_velocity(gamma: float) -> None:
    kept = reference_kept()
    ratio = kept / (1 - kept)
    ours = torch.from_numpy(ratio)
    assert np.allclose(
        objective.min_snr_weight(ours, gamma, "epsilon").numpy(), np.minimum(ratio, gamma) / ratio
    )
    assert np.allclose(
        objective.min_snr_weight(ours, gamma, "v_prediction").numpy(),
        np.minimum(ratio, gamma) / (ratio + 1),
    )


def test_gamma_zero_turns_the_weights_off() -> None:
    assert objective.min_snr_weight(torch.tensor([0.1, 900.0]), 0, "epsilon").tolist() == [1, 1]


def test_noise_and_velocity_give_the_picture_back() -> None:
    x, noise = (
        torch.randn(3, 4, 8, 8, dtype=torch.float64),
        torch.randn(3, 4, 8, 8, dtype=torch.float64),
    )
    kept = torch.tensor([0.99, 0.5, 0.01], dtype=torch.float64)
    noisy = objective.add_noise(x, noise, kept)
    velocity = objective.target(x, noise, kept, "v_prediction")
    a, b = kept.view(-1, 1, 1, 1).sqrt(), (1 - kept).view(-1, 1, 1, 1).sqrt()
    assert torch.allclose(a * noisy - b * velocity, x)
    assert objective.target(x, noise, kept, "epsilon") is noise


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="'sample'; it must be 'epsilon' or 'v_prediction'"):
        objective.target(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.ones(1), "sample")


def test_the_loss_is_computed_in_float32_whatever_comes_in() -> None:
    guess, wanted = (
        torch.full((2, 4, 8, 8), 300.0, dtype=torch.float16),
        torch.zeros(2, 4, 8, 8, dtype=torch.float16),
    )
    assert objective.loss(guess, wanted, torch.tensor([1.0, 0.5])).item() == pytest.approx(
        90000 * 0.75
    )
