"""The settings of a run: every form field, option, TOML key and docs row about training comes from
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import SettingsError
from ..settings import check, setting

OPTIMIZERS = ("AdamW8bit", "AdamW")
SCHEDULES = ("constant", "cosine", "linear")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TrainingSettings:
    """What is trained on, how long, and how."""

    SECTION: ClassVar[str] = "training"

    base_model: str = setting(
        "demo",
        "Base model: 'demo' (the embedded one), a diffusers folder, or a .safetensors checkpoint "
        "of SDXL",
    )
    repeats: int = setting(
        4, "How often each picture is shown in an epoch", unit="times", low=1, high=1000
    )
    batch_size: int = setting(4, "Pictures looked at in one step", unit="pictures", low=1, high=64)
    epochs: int = setting(
        10, "How often the whole dataset is gone through", unit="epochs", low=1, high=1000
    )
    resolution: int = setting(
        1024,
        "Side of a square training picture; others get about the same area",
        unit="pixels",
        low=64,
        high=2048,
    )
    unet_lr: float = setting(
        3e-4, "Learning rate of the U-Net's adapter; 0 leaves the U-Net alone", low=0, high=10
    )
    text_encoder_lr: float = setting(
        6e-5, "Learning rate of both text encoders' adapters; 0 leaves them alone", low=0, high=10
    )
    rank: int = setting(
        8, "Size of the LoRA: more learns finer detail and makes a larger file", low=1, high=256
    )
    alpha: float = setting(
        4.0, "Strength of the LoRA is alpha / rank; half the rank is usual", low=0.001, high=1024
    )
    save_every: int = setting(
        1,
        "Epochs between saved LoRA files; the last epoch is always saved",
        unit="epochs",
        low=1,
        high=1000,
        advanced=True,
    )
    bucket_step: int = setting(
        64,
        "Sides of training pictures are multiples of this",
        unit="pixels",
        low=32,
        high=256,
        advanced=True,
    )
    shuffle_tags: bool = setting(
        True, "Shuffle a caption's tags each time, behind the kept ones", advanced=True
    )
    keep_tags: int = setting(
        1,
        "Tags at the start of a caption that are never shuffled or dropped",
        unit="tags",
        low=0,
        high=20,
        advanced=True,
    )
    tag_dropout: float = setting(
        0.0, "Share of the other tags left out each time", low=0, high=1, advanced=True
    )
    caption_dropout: float = setting(
        0.0, "Share of pictures shown without any caption", low=0, high=1, advanced=True
    )
    optimizer: str = setting(
        "AdamW8bit",
        "Optimiser; AdamW8bit needs bitsandbytes and a GPU, else AdamW takes its place and says so",
        choices=OPTIMIZERS,
        advanced=True,
    )
    weight_decay: float = setting(
        0.01, "Pull of the adapter's weights towards zero", low=0, high=1, advanced=True
    )
    schedule: str = setting(
        "cosine",
        "How the learning rate goes on after the warm-up",
        choices=SCHEDULES,
        advanced=True,
    )
    warmup: float = setting(
        0.05,
        "Share of all steps in which the learning rate rises from zero",
        low=0,
        high=0.9,
        advanced=True,
    )
    min_snr_gamma: float = setting(
        5.0,
        "Evens out how much noisy and clean steps weigh (min-SNR); 0 turns it off",
        low=0,
        high=100,
        advanced=True,
    )
    prior_weight: float = setting(
        0.0,
        "How strongly the LoRA is held back where the activation tag is missing: each picture is "
        "also shown without it, and must give what the base gives (takes about twice as long); "
        "0 turns it off",
        low=0,
        high=10,
        advanced=True,
    )
    gradient_clip: float = setting(
        1.0,
        "Largest norm of the gradient in one step; 0 turns it off",
        low=0,
        high=1000,
        advanced=True,
    )
    checkpointing: bool = setting(
        True, "Save GPU memory by computing parts of each step twice", advanced=True
    )
    precision: str = setting(
        "auto",
        "Number format of the frozen base; the LoRA itself always trains in fp32",
        choices=PRECISIONS,
        advanced=True,
    )
    seed: int = setting(
        42,
        "Start of every random choice; the same seed gives the same LoRA",
        low=0,
        high=2**31 - 1,
        advanced=True,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.bucket_step % 32:
            raise SettingsError(
                f"training: bucket_step is {self.bucket_step}; SDXL needs a multiple of 32."
            )
        if self.prior_weight and not self.keep_tags:
            raise SettingsError(
                "training: prior_weight needs keep_tags of at least 1: the kept tags, the "
                "activation tag first, are what it leaves out. Set keep_tags to 1, or "
                "prior_weight to 0."
            )
        if self.resolution < 2 * self.bucket_step:
            raise SettingsError(
                f"training: resolution {self.resolution} is less than twice bucket_step "
                f"{self.bucket_step}; raise the one or lower the other."
            )


@dataclass(frozen=True)
class PreviewSettings:
    """The pictures drawn before the first step and after each epoch."""

    SECTION: ClassVar[str] = "preview"

    prompts: tuple[str, ...] = setting(
        (), "Further prompts, one a line, beside the activation tag alone", separator="\n"
    )
    count: int = setting(
        4,
        "Pictures of the activation tag alone, each with its own seed",
        unit="pictures",
        low=0,
        high=64,
    )
    every: int = setting(
        1,
        "Epochs between previews; step 0 and the last epoch always have them; 0 means only those",
        unit="epochs",
        low=0,
        high=1000,
    )
    width: int = setting(
        0,
        "Width of a preview; 0 takes the training resolution",
        unit="pixels",
        low=0,
        high=2048,
        advanced=True,
    )
    height: int = setting(
        0,
        "Height of a preview; 0 takes the training resolution",
        unit="pixels",
        low=0,
        high=2048,
        advanced=True,
    )
    steps: int = setting(20, "Sampling steps", low=1, high=150, advanced=True)
    cfg: float = setting(
        5.0,
        "How strongly the prompt is followed (classifier-free guidance)",
        low=1,
        high=30,
        advanced=True,
    )
    negative: str = setting("", "What the previews should not show", advanced=True)
    seed: int = setting(
        1000,
        "Seed of the first preview; the next has the next number",
        low=0,
        high=2**31 - 1,
        advanced=True,
    )

    def __post_init__(self) -> None:
        check(self)
        for name in ("width", "height"):
            if getattr(self, name) % 32:
                raise SettingsError(
                    f"preview: {name} is {getattr(self, name)}; it must be a multiple of 32."
                )
