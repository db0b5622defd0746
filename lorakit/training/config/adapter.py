"""What kind of LoRA is trained, on which parts, and how fast each part learns."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import SettingsError
from ...settings import setting
from .subject import SubjectSettings

KINDS = ("lora", "locon")


@dataclass(frozen=True)
class AdapterSettings(SubjectSettings):
    """The LoRA."""

    unet_lr: float = setting(
        3e-4, "Learning rate of the U-Net's adapter; 0 leaves the U-Net alone", low=0, high=10
    )
    text_encoder_lr: float = setting(
        6e-5,
        "Learning rate of the first text encoder's adapter (CLIP-L); 0 leaves it alone",
        low=0,
        high=10,
    )
    text_encoder_2_lr: float = setting(
        6e-5,
        "Learning rate of the second text encoder's adapter (bigG); 0 leaves it alone",
        low=0,
        high=10,
    )
    rank: int = setting(
        8, "Size of the LoRA: more learns finer detail and makes a larger file", low=1, high=256
    )
    alpha: float = setting(
        4.0, "Strength of the LoRA is alpha / rank; half the rank is usual", low=0.001, high=1024
    )
    kind: str = setting(
        "lora",
        "lora trains attention and feed-forward layers, locon the convolutions too (styles, finer "
        "texture; a larger file)",
        choices=KINDS,
        advanced=True,
    )
    conv_rank: int = setting(
        16, "Rank of 3x3 convolutions, for locon", low=1, high=256, advanced=True
    )
    conv_alpha: float = setting(
        8.0, "Alpha of 3x3 convolutions, for locon", low=0.001, high=1024, advanced=True
    )
    text_rank: int = setting(
        0, "Rank in the text encoders; 0 takes rank", low=0, high=256, advanced=True
    )
    text_alpha: float = setting(
        0.0, "Alpha in the text encoders; 0 takes alpha", low=0, high=1024, advanced=True
    )
    text_2_rank: int = setting(
        0,
        "Rank in the second text encoder alone (bigG); 0 is as in the first",
        low=0,
        high=256,
        advanced=True,
    )
    text_2_alpha: float = setting(
        0.0,
        "Alpha in the second text encoder alone (bigG); 0 is as in the first",
        low=0,
        high=1024,
        advanced=True,
    )
    text_encoder_share: float = setting(
        1.0,
        "Share of all steps after which the text encoders stop learning",
        low=0,
        high=1,
        advanced=True,
    )
    continue_from: str = setting(
        "",
        "A LoRA file of any trainer to go on from instead of starting from nothing; kind, ranks, "
        "alphas and DoRA are read from it",
        advanced=True,
    )
    dropout: float = setting(
        0.0,
        "Share of values set to zero between the LoRA's two halves in a step",
        low=0,
        high=0.9,
        advanced=True,
    )
    rank_dropout: float = setting(
        0.0, "Share of the LoRA's ranks left out in a step", low=0, high=0.9, advanced=True
    )
    module_dropout: float = setting(
        0.0, "Share of the LoRA's modules left out in a step", low=0, high=0.9, advanced=True
    )
    rank_stabilized: bool = setting(
        False,
        "Strength is alpha / sqrt(rank) (rsLoRA): high ranks learn as fast as low ones; the file's "
        "alpha says so to every reader",
        advanced=True,
    )
    lora_plus: float = setting(
        1.0,
        "The second half of the LoRA learns so many times faster (LoRA+; 16 is the paper's)",
        unit="times",
        low=1,
        high=100,
        advanced=True,
    )
    dora: bool = setting(
        False,
        "Train direction and size of weights apart (DoRA, a size a column); slower. A1111, Forge, "
        "ComfyUI and InvokeAI read such files, diffusers does not",
        advanced=True,
    )
    ema: float = setting(
        0.0,
        "Save a running average of the LoRA instead of its last state: share kept of the average "
        "in each step (less in the first ones), 0.99 is usual; 0 turns it off",
        low=0,
        high=0.9999,
        advanced=True,
    )
    max_norm: float = setting(
        0.0,
        "Largest norm of what a module adds to its weight; larger ones are scaled down; 1 is "
        "usual, 0 turns it off",
        low=0,
        high=100,
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.unet_lr or self.text_encoder_lr or self.text_encoder_2_lr):
            raise SettingsError(
                "training: unet_lr, text_encoder_lr and text_encoder_2_lr are all 0, so there is "
                "nothing to train. Set at least one above 0."
            )
        if not self.unet_lr and self.text_encoder_share < 1:
            raise SettingsError(
                f"training: text_encoder_share is {self.text_encoder_share:g}, but unet_lr is 0, "
                "so nothing is left to train after that share of the steps. Set "
                "text_encoder_share to 1, or unet_lr above 0."
            )
