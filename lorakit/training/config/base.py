"""Which base model a LoRA is trained on, and how it is held in memory."""

from __future__ import annotations

from dataclasses import dataclass

from ...settings import setting
from ..links import MENU, VAES
from .subject import SubjectSettings

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PREDICTIONS = ("auto", "epsilon", "v_prediction")
STORAGE = ("full", "8bit", "4bit")
CHECKPOINTING = ("auto", "none", "full")
SWITCH = ("auto", "on", "off")


@dataclass(frozen=True)
class BaseSettings(SubjectSettings):
    """The base model."""

    base_model: str = setting(
        "demo",
        "Base model: a name from the menu, a Hugging Face id (owner/name or "
        "owner/name/file.safetensors) or link, a Civitai link, a direct link, or the path of a "
        ".safetensors checkpoint or diffusers folder; 'demo' is the embedded one",
        suggestions=tuple(row.name for row in MENU),
    )
    models_folder: str = setting(
        "",
        "Where downloaded base models are kept; empty: the cache on this machine's own disk",
        advanced=True,
    )
    vae: str = setting(
        "",
        "Another VAE than the base model's own: fp16-fix, sdxl, or an id, link or path as for "
        "base_model; all work in fp32, but fp16-fix beside a half-precision base on a GPU in fp16",
        suggestions=tuple(row.name for row in VAES),
        advanced=True,
    )
    prediction: str = setting(
        "auto",
        "What the base model predicts; auto reads it from the checkpoint",
        choices=PREDICTIONS,
        advanced=True,
    )
    zero_terminal_snr: str = setting(
        "auto",
        "Whether the noisiest step is pure noise (Lin et al. 2023); auto reads it from the "
        "checkpoint",
        choices=SWITCH,
        advanced=True,
    )
    precision: str = setting(
        "auto",
        "Number format of the frozen base: auto takes bf16, on a GPU without it fp16, on a CPU "
        "fp32",
        choices=PRECISIONS,
        advanced=True,
    )
    storage: str = setting(
        "full",
        "How the U-Net's frozen matrices are kept in memory: 8bit takes half of what half "
        "precision takes, 4bit a quarter (needs bitsandbytes); a step takes longer, and the LoRA "
        "learns on a base that is a little off",
        choices=STORAGE,
        advanced=True,
    )
    checkpointing: str = setting(
        "auto",
        "Save memory by computing parts of each step twice: auto as much as the free memory asks "
        "for, none, or full",
        choices=CHECKPOINTING,
        advanced=True,
    )
    compile: bool = setting(
        False,
        "Compile the U-Net's transformer blocks: a minute or two before the first step, then "
        "quicker steps on a GPU",
        advanced=True,
    )
    at_once: int = setting(
        0,
        "Pictures of a batch that are computed at a time, the others after them with the same "
        "result; 0 as many as fit into memory",
        unit="pictures",
        low=0,
        high=64,
        advanced=True,
    )
