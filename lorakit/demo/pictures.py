"""Thousands of random drawings in memory, grouped by size: what the embedded world is trained
on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from .draw import draw
from .world import random_character, random_shot, tags_of

SIZES = ((128, 128), (96, 160), (160, 96))  # width, height; all near 128 x 128 pixels


@dataclass(frozen=True)
class Drawings:
    """Pictures of one size: `pixels` (n, height, width, 3) uint8 and the tags each shows."""

    size: tuple[int, int]
    pixels: np.ndarray
    tags: list[list[str]]


def draw_one(seed: int, size: tuple[int, int], withheld: bool) -> tuple[np.ndarray, list[str]]:
    """The drawing number `seed`: always the same for the same arguments."""
    rng = random.Random(seed)
    look = random_character(rng, withheld)
    shot = random_shot(rng, size[0] / size[1])
    return np.asarray(draw(look, shot, size, rng)), tags_of(look, shot)


def _draw_chunk(job: tuple[int, int, tuple[int, int], bool]) -> tuple[np.ndarray, list[list[str]]]:
    seed, count, size, withheld = job
    drawn = [draw_one(seed + i, size, withheld) for i in range(count)]
    return np.stack([pixels for pixels, _ in drawn]), [tags for _, tags in drawn]


def draw_many(seed: int, count: int, withheld: bool, processes: int = 2) -> list[Drawings]:
    """`count` drawings shared evenly among `SIZES`; about 5 ms each on one core."""
    each, chunk = count // len(SIZES), 256
    sets = []
    with get_context("spawn").Pool(processes) as pool:
        for index, size in enumerate(SIZES):
            start = seed * 100_000_000 + index * 10_000_000
            jobs = [
                (start + i, min(chunk, each - i), size, withheld) for i in range(0, each, chunk)
            ]
            parts = pool.map(_draw_chunk, jobs)
            sets.append(
                Drawings(
                    size,
                    np.concatenate([p for p, _ in parts]),
                    [t for _, tags in parts for t in tags],
                )
            )
    return sets


def cached_drawings(folder: Path, seed: int, count: int, withheld: bool) -> list[Drawings]:
    """`draw_many`, kept in `folder` so that an interrupted build goes on at once."""
    path = folder / f"drawings-{seed}-{count}-{int(withheld)}.npz"
    if not path.exists():
        sets = draw_many(seed, count, withheld)
        arrays: dict[str, Any] = {f"pixels{i}": s.pixels for i, s in enumerate(sets)}
        arrays |= {f"tags{i}": np.array([", ".join(t) for t in s.tags]) for i, s in enumerate(sets)}
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, **arrays)
        temporary.rename(path)
    stored = np.load(path)
    return [
        Drawings(size, stored[f"pixels{i}"], [str(t).split(", ") for t in stored[f"tags{i}"]])
        for i, size in enumerate(SIZES)
    ]
