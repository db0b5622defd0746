"""How long a run is, what it keeps, and what it writes down."""

from __future__ import annotations

from dataclasses import dataclass

from ...settings import setting
from .subject import SubjectSettings

SAVE_PRECISIONS = ("fp16", "bf16", "fp32")
RESUME = ("auto", "always", "never")


@dataclass(frozen=True)
class RunningSettings(SubjectSettings):
    """Length, saving, logs."""

    epochs: int = setting(
        10, "How often the whole dataset is gone through", unit="epochs", low=1, high=1000
    )
    max_steps: int = setting(
        0,
        "Train exactly so many steps, however many epochs that is; 0 goes by epochs",
        unit="steps",
        low=0,
        high=1_000_000,
        advanced=True,
    )
    most_steps: int = setting(
        10_000,
        "A run with more steps than this is not started: most often a knob was turned too far",
        unit="steps",
        low=1,
        high=10_000_000,
        advanced=True,
    )
    save_every: int = setting(
        1,
        "Epochs between saved LoRA files; the last epoch is always saved; 0 saves only that",
        unit="epochs",
        low=0,
        high=1000,
        advanced=True,
    )
    save_every_steps: int = setting(
        0,
        "Save a LoRA file after every so many steps too; 0 does not",
        unit="steps",
        low=0,
        high=100_000,
        advanced=True,
    )
    keep_last: int = setting(
        10,
        "How many of these LoRA files are kept, older ones are deleted; the final one always "
        "stays; 0 keeps all",
        unit="files",
        low=0,
        high=1000,
        advanced=True,
    )
    save_precision: str = setting(
        "fp16", "Number format of LoRA files", choices=SAVE_PRECISIONS, advanced=True
    )
    save_diffusers: bool = setting(
        False, "Save the final LoRA under diffusers' names too", advanced=True
    )
    state_every: int = setting(
        100,
        "Steps between saved states, from which a run that was cut off goes on exactly; 0 saves "
        "one only when it is stopped",
        unit="steps",
        low=0,
        high=100_000,
        advanced=True,
    )
    resume: str = setting(
        "auto",
        "Whether a run that was cut off is gone on with: auto, if nothing changed but its length; "
        "always, with changed settings or pictures too; never",
        choices=RESUME,
        advanced=True,
    )
    validation_share: float = setting(
        0.0,
        "Share of the pictures that is not trained on but asked about after each epoch, always "
        "with the same noise",
        low=0,
        high=0.5,
        advanced=True,
    )
    tensorboard: bool = setting(
        False, "Write TensorBoard's log files to output/logs", advanced=True
    )
    wandb: str = setting(
        "",
        "Weights & Biases project to log to; its key comes from the secret WANDB_API_KEY",
        advanced=True,
    )
    seed: int = setting(
        42,
        "Start of every random choice; the same seed gives the same LoRA",
        low=0,
        high=2**31 - 1,
        advanced=True,
    )
