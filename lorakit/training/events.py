"""What a run tells whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from .artist import Previews
from .keeper import Saved
from .ledger import StepDone
from .loop import EpochDone
from .plan import Plan


@dataclass(frozen=True)
class Planned:
    """What will be done, before anything is loaded."""

    plan: Plan
    device: str
    dtype: torch.dtype
    reason: str  # why this device and number format


@dataclass(frozen=True)
class Note:
    """Something the user should know, in a sentence."""

    text: str


@dataclass(frozen=True)
class Validated:
    """The loss on the pictures held out, after `epoch` (0: before training)."""

    epoch: int
    step: int
    loss: float


@dataclass(frozen=True)
class Finished:
    """The run is over; `stopped` if the user ended it early."""

    lora_file: Path
    steps: int
    seconds: float
    stopped: bool


RunEvent = Planned | Note | Previews | StepDone | EpochDone | Validated | Saved | Finished
