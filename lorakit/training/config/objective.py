"""What the loss is."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import SettingsError
from ...settings import setting
from .subject import SubjectSettings

LOSSES = ("l2", "l1", "huber", "smooth_l1")
HUBER_SCHEDULES = ("snr", "exponential", "constant")
TIMESTEPS = ("uniform", "logit_normal", "biased")


@dataclass(frozen=True)
class ObjectiveSettings(SubjectSettings):
    """The loss."""

    min_snr_gamma: float = setting(
        5.0,
        "Evens out how much noisy and clean steps weigh (min-SNR); 0 turns it off",
        low=0,
        high=100,
        advanced=True,
    )
    debiased: bool = setting(
        False,
        "Weigh noisy steps more (debiased estimation); takes the place of min-SNR",
        advanced=True,
    )
    loss: str = setting(
        "l2",
        "How far from the target a guess is; huber and smooth_l1 mind single far-off values less",
        choices=LOSSES,
        advanced=True,
    )
    huber_threshold: float = setting(
        0.1,
        "From which error on huber and smooth_l1 count linearly (Huber's c)",
        low=0.001,
        high=10,
        advanced=True,
    )
    huber_schedule: str = setting(
        "snr",
        "How that threshold changes with the noise of a step",
        choices=HUBER_SCHEDULES,
        advanced=True,
    )
    noise_offset: float = setting(
        0.0,
        "Shifts the noise of a whole picture at random, for darker darks and brighter brights",
        low=0,
        high=1,
        advanced=True,
    )
    multires_iterations: int = setting(
        0,
        "Coarser and coarser noise is added so many times (pyramid noise); 6 is usual, 0 turns it "
        "off",
        unit="times",
        low=0,
        high=10,
        advanced=True,
    )
    multires_discount: float = setting(
        0.3, "How much weaker each coarser noise is", low=0, high=1, advanced=True
    )
    input_noise: float = setting(
        0.0,
        "Extra noise on what the U-Net sees but is not asked about (input perturbation, "
        "ip_noise_gamma); 0.05 to 0.1 is usual",
        low=0,
        high=1,
        advanced=True,
    )
    timestep_low: int = setting(0, "Least noisy timestep trained", low=0, high=999, advanced=True)
    timestep_high: int = setting(
        1000, "Timesteps trained end before this one", low=1, high=1000, advanced=True
    )
    timesteps: str = setting(
        "uniform",
        "How timesteps are chosen: all alike, mostly middle ones (logit_normal), or leaning to one "
        "side (biased)",
        choices=TIMESTEPS,
        advanced=True,
    )
    timestep_bias: float = setting(
        0.0,
        "For logit_normal and biased: above 0 more noisy timesteps (composition), below 0 more "
        "clean ones (detail)",
        low=-3,
        high=3,
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timestep_low >= self.timestep_high:
            raise SettingsError(
                f"training: timestep_low {self.timestep_low} is not below timestep_high "
                f"{self.timestep_high}; no timestep is left between them."
            )
