"""The pictures drawn while a LoRA learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import SettingsError
from ...settings import check, setting

SAMPLERS = ("euler_a", "euler", "dpmpp_2m", "dpmpp_2m_karras", "ddim")


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
    every_steps: int = setting(
        0,
        "Steps between further previews; 0 draws none",
        unit="steps",
        low=0,
        high=100_000,
        advanced=True,
    )
    prompts_file: str = setting(
        "",
        "A text file with further prompts, one a line; '--n' in a line begins its negative prompt",
        advanced=True,
    )
    from_captions: int = setting(
        0,
        "So many of the dataset's own captions, evenly chosen, are further prompts",
        unit="captions",
        low=0,
        high=64,
        advanced=True,
    )
    sampler: str = setting("euler_a", "How a preview is sampled", choices=SAMPLERS, advanced=True)
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
