"""LoRAs made smaller (resize) or put together (merge), module by module.

A LoRA's change of a weight is never formed in full: the two factors are brought to triangular form
(QR), and the small core between them is what is cut down or compared.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..errors import LoraFileError
from ..progress import Progress, silent, track
from .factors import Factors

Network = Mapping[str, Factors]


@dataclass(frozen=True)
class Goal:
    """How small a LoRA is to be: the highest rank of linear layers and of 3x3 convolutions, and the
    share of each module's energy (its change's squared Frobenius norm) that is enough.
    """

    rank: int
    conv_rank: int
    energy: float = 1.0

    def of(self, factors: Factors) -> int:
        return self.conv_rank if factors.convolution else self.rank


@dataclass(frozen=True)
class Reduced:
    """A smaller network, and the share of energy that each of its modules kept."""

    network: dict[str, Factors]
    kept: dict[str, float]

    @property
    def least(self) -> float:
        return min(self.kept.values(), default=1.0)

    @property
    def mean(self) -> float:
        return sum(self.kept.values()) / len(self.kept) if self.kept else 1.0


def resize(network: Network, goal: Goal, progress: Progress = silent) -> Reduced:
    """Every module at the rank of the goal or below, the strength unchanged. What is small enough
    already stays as it is, to the bit.
    """
    modules = track(list(network.items()), "Making the LoRA smaller", progress)
    pairs = {name: reduce(f, goal.of(f), goal.energy) for name, f in modules}
    return Reduced({n: f for n, (f, _) in pairs.items()}, {n: k for n, (_, k) in pairs.items()})


@torch.no_grad()
def reduce(factors: Factors, rank: int, energy: float = 1.0) -> tuple[Factors, float]:
    """The nearest factors of a lower rank (Eckart and Young 1936), and the share of energy kept.

    The singular values of up @ down are those of R_up @ R_down', where up = Q_up R_up and down' =
    Q_down R_down. Computed in float32 at least; the result has the factors' own number format.
    """
    if factors.rank <= rank and energy >= 1:
        return factors, 1.0
    dtype = torch.promote_types(factors.down.dtype, torch.float32)
    q_up, r_up = torch.linalg.qr(factors.up.flatten(1).to(dtype))
    q_down, r_down = torch.linalg.qr(factors.down.flatten(1).to(dtype).T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T)
    size, kept = _enough(values, min(rank, factors.rank), energy)
    if size == factors.rank:
        return factors, 1.0
    root = values[:size].sqrt()  # half to each factor, so that neither leaves fp16's range
    up = (q_up @ left[:, :size]) * root
    down = root[:, None] * (right[:size] @ q_down.T)
    smaller = Factors(
        down.reshape(size, *factors.down.shape[1:]).to(factors.down.dtype),
        up.reshape(up.shape[0], size, *factors.up.shape[2:]).to(factors.up.dtype),
        factors.scale,
    )
    return smaller, kept


def _enough(values: torch.Tensor, rank: int, energy: float) -> tuple[int, float]:
    """How many of the singular values `values` to keep, and their share of all energy."""
    squares = values.double().square()
    total = float(squares.sum())
    if not total:  # a module that has learnt nothing
        return 1, 1.0
    shares = squares.cumsum(0) / total
    size = rank if energy >= 1 else min(rank, int((shares < energy).sum()) + 1)
    size = min(size, len(values))
    return size, float(shares[size - 1])


@torch.no_grad()
def merge(networks: Sequence[tuple[Network, float]]) -> dict[str, Factors]:
    """The weighted sum of several LoRAs, exactly: their factors side by side, so that the ranks add
    up. A module that only one of them has is taken with its weight.

    Raises LoraFileError if they are not for the same kind of base.
    """
    names = sorted({name for network, _ in networks for name in network})
    return {
        name: _side_by_side(name, [(n[name], weight) for n, weight in networks if name in n])
        for name in names
    }


def _side_by_side(name: str, parts: Sequence[tuple[Factors, float]]) -> Factors:
    """The strongest part's strength becomes the sum's, the others' go into their `up`: so nothing
    is multiplied by more than 1, and a LoRA merged with its like is not rounded at all.
    """
    if len({factors.added_shape for factors, _ in parts}) > 1:
        raise LoraFileError(
            f"These LoRA files are for different kinds of base model: {name} has another shape in "
            "one than in the other. Merge files for SDXL with each other only."
        )
    scales = [factors.scale * weight for factors, weight in parts]
    scale = max(map(abs, scales)) or 1.0
    kinds = [tensor.dtype for f, _ in parts for tensor in (f.down, f.up)]
    dtype = functools.reduce(torch.promote_types, kinds)
    wide = torch.promote_types(dtype, torch.float32)
    ups = [f.up.to(wide) * (s / scale) for (f, _), s in zip(parts, scales, strict=True)]
    return Factors(
        torch.cat([factors.down.to(dtype) for factors, _ in parts]),
        torch.cat(ups, dim=1).to(dtype),
        scale,
    )
