"""What the loss is."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import SettingsError
from ...settings import setting
from .subject import SubjectSettings

MIN_SNR_FORMS = ("hard", "soft", "paper")
LOSSES = ("l2", "l1", "huber", "smooth_l1")
HUBER_SCHEDULES = ("snr", "exponential", "constant")
TIMESTEPS = ("uniform", "logit_normal", "biased")


@dataclass(frozen=True)
class ObjectiveSettings(SubjectSettings):
    """The loss."""

    min_snr_gamma: float = setting(
        5.0,
        "Timesteps with more signal to noise than this weigh less, so that nearly clean ones do "
        "not take over (min-SNR); 0 weighs all alike",
        low=0,
        high=100,
        advanced=True,
    )
    min_snr_form: str = setting(
        "hard",
        "How min-SNR lowers them: hard at once, soft gradually; with a v-prediction base both "
        "leave noisy timesteps their full weight. paper is as published, which hardly trains the "
        "noisy half of a v-prediction base",
        choices=MIN_SNR_FORMS,
        advanced=True,
    )
    debiased: bool = setting(
        False,
        "Weigh noisy timesteps more and clean ones less (debiased estimation); takes the place of "
        "min-SNR",
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
        "From which error on huber and smooth_l1 count linearly (Huber's c), at the noisiest "
        "timestep",
        low=0.001,
        high=10,
        advanced=True,
    )
    huber_schedule: str = setting(
        "snr",
        "How that threshold gets there from about 1 at the cleanest timestep: with the noise "
        "(snr) or with the timestep (exponential); constant is the same everywhere",
        choices=HUBER_SCHEDULES,
        advanced=True,
    )
    noise_offset: float = setting(
        0.0,
        "Shifts the noise of a whole picture at random by about so much, for darker darks and "
        "brighter brights; 0.03 to 0.1 is usual, 0 turns it off",
        low=0,
        high=1,
        advanced=True,
    )
    multires_iterations: int = setting(
        0,
        "Noise of so many sizes is added, the first as fine as the picture, each other two to four "
        "times coarser (pyramid noise); 6 is usual, 0 turns it off",
        unit="sizes",
        low=0,
        high=10,
        advanced=True,
    )
    multires_discount: float = setting(
        0.3, "How strong each size is beside the next finer one", low=0.01, high=1, advanced=True
    )
    input_noise: float = setting(
        0.0,
        "Extra noise on what the U-Net sees but is not asked about (input perturbation, "
        "ip_noise_gamma); 0.05 to 0.1 is usual, 0 turns it off",
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
        "clean ones (detail); with biased the noisiest is e^bias times as frequent as the cleanest",
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
        if self.timesteps == "biased" and not self.timestep_bias:
            raise SettingsError(
                "training: timesteps is biased, but timestep_bias is 0, which leans to neither "
                "side. Set timestep_bias above or below 0, or timesteps to uniform."
            )
        if self.multires_iterations == 1:
            raise SettingsError(
                "training: multires_iterations is 1, which adds noise as fine as there is already "
                "and so changes nothing. Set at least 2 (6 is usual), or 0 to turn it off."
            )
