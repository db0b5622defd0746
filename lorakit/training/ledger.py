"""What steps came to: read when it is time to, told, and checked."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..errors import TrainingError
from .learning import Learning
from .turns import Turn

ALARM = 20  # steps whose mean loss is compared with that of the first so many
EXPLODED = 10  # times the loss of the beginning
SKIPPED = 30  # steps in a row without a gradient: over fp16 its scale is a billionth by then


@dataclass(frozen=True)
class StepDone:
    """One step is done. `step` counts from 1 to `steps`; `seconds` is the time spent in steps of
    this run so far, `since` the step it began or was resumed at.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float
    gradient: float
    seconds: float
    since: int = 0


class Ledger:
    """Steps that are done, or on their way on a GPU, whose numbers have not been read yet: reading
    one waits for the GPU to have come so far.
    """

    def __init__(self, steps: int, since: int) -> None:
        self.steps, self.since, self.spent, self.began = steps, since, 0.0, 0.0
        self.rows: list[tuple[Turn, torch.Tensor, float, torch.Tensor]] = []

    def start(self) -> None:
        """A step begins."""
        if not self.rows:
            self.began = time.monotonic()

    def enter(self, turn: Turn, loss: torch.Tensor, rate: float, gradient: torch.Tensor) -> float:
        """Notes a step; returns for how many seconds nothing has been read."""
        self.rows.append((turn, loss, rate, gradient))
        return time.monotonic() - self.began

    def read(self, learning: Learning) -> Iterator[StepDone]:
        """What the steps came to. Raises TrainingError if that is no number, or too large."""
        rows = [(turn, float(loss), rate, float(norm)) for turn, loss, rate, norm in self.rows]
        each, self.rows = (time.monotonic() - self.began) / len(rows), []
        for turn, loss, _, norm in rows:  # all of them, before anybody can save what came of them
            _check(learning, loss, turn.step)
            _check_gradient(learning, norm, turn.step)
        for turn, loss, rate, norm in rows:
            self.spent += each
            yield StepDone(
                turn.step, self.steps, turn.epoch, loss, rate, norm, self.spent, self.since
            )


ADVICE = (
    "Lower unet_lr and the text encoders' learning rates, or choose another precision; the LoRA "
    "files saved before are good."
)


def _check(learning: Learning, loss: float, step: int) -> None:
    """Raises TrainingError if the loss is no number, or many times what it was at the beginning."""
    if not math.isfinite(loss):
        raise TrainingError(f"The loss is not a number any more at step {step}. {ADVICE}")
    first, last = learning.first_losses, learning.last_losses
    if len(first) < ALARM:
        first.append(loss)
    last.append(loss)
    del last[:-ALARM]
    if len(first) == ALARM and sum(last) > EXPLODED * sum(first):
        raise TrainingError(
            f"The loss has exploded: {sum(last) / ALARM:.3g} at step {step}, "
            f"{sum(first) / ALARM:.3g} at the beginning. {ADVICE}"
        )


def _check_gradient(learning: Learning, gradient: float, step: int) -> None:
    """Raises TrainingError if the gradient is no number. Over a base in fp16 that is no more than
    the sign for the scaler to skip the step, unless smaller and smaller scales do not help either.
    """
    learning.skipped = 0 if math.isfinite(gradient) else learning.skipped + 1
    if learning.skipped >= (SKIPPED if learning.scaler.is_enabled() else 1):
        raise TrainingError(f"The gradient is not a number any more at step {step}. {ADVICE}")
