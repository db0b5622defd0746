"""A running average of the LoRA (EMA), which is often calmer than its last state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from ..errors import TrainingError
from .layers import Modules, named_weights

COUNT = "updates"


class Ema:
    """The running average of the LoRA weights of `parts`, in float32.

    After n updates the average keeps min(`decay`, (1 + n) / (10 + n)) of itself in the next one:
    it begins at the weights of the start, and would not get away from them in a short run
    otherwise.
    """

    def __init__(self, parts: Modules, decay: float) -> None:
        self.decay, self.count = decay, 0
        self.weights = dict(named_weights(parts))
        self.average = {name: p.detach().float().clone() for name, p in self.weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """To be called after every step of the optimiser."""
        kept = min(self.decay, (1 + self.count) / (10 + self.count))
        for name, parameter in self.weights.items():
            self.average[name].lerp_(parameter.detach().float(), 1.0 - kept)
        self.count += 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The average in the place of the LoRA while the context lasts: to save, to draw, not to
        train.
        """
        trained = {name: parameter.data for name, parameter in self.weights.items()}
        for name, parameter in self.weights.items():
            parameter.data = self.average[name].to(parameter.dtype)
        try:
            yield
        finally:
            for name, parameter in self.weights.items():
                parameter.data = trained[name]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The average by name and, as `updates`, how many there were; copies on the CPU."""
        copies = {name: value.to("cpu", copy=True) for name, value in self.average.items()}
        return {**copies, COUNT: torch.tensor(self.count)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Goes on from a `state_dict`. Raises TrainingError if it is another adapter's."""
        if set(state) != {*self.average, COUNT}:
            raise TrainingError(
                "The saved running average belongs to another adapter. Keep the settings of the "
                "run, or begin it anew."
            )
        self.count = int(state[COUNT])
        for name, value in self.average.items():
            value.copy_(state[name])
