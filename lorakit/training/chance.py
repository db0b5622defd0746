"""Randomness that is a function of the seed and the place it is used at.

Nothing remembers how often a die was thrown, so a run that was cut off goes on with the same
throws, and several processes agree on them without a word.
"""

from __future__ import annotations

import hashlib
import random

import torch


def number(seed: int, *place: int | str) -> int:
    """A whole number of 63 bits that only `seed` and `place` decide."""
    text = "/".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *place: int | str) -> torch.Generator:
    """torch's dice (on the CPU) for one place."""
    return torch.Generator().manual_seed(number(seed, *place))


def dice(seed: int, *place: int | str) -> random.Random:
    """Python's dice for one place."""
    return random.Random(number(seed, *place))
