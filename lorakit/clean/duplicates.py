"""Near-duplicates without a network: the same picture saved again, smaller, cropped by a hair, or a
shade lighter.

Each picture becomes a fingerprint of 128 bits (dHash: is a point of the reduced grey picture
brighter than its right neighbour, and than the one below;
http://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html). Fingerprints find
the candidates, fast. Then two small colour copies are laid over each other and compared patch by
patch: where pictures differ by compression, size or light they differ a little everywhere, where
only the expression changed they differ much in one place. Such pictures are no copies: they are
what a character is learnt from.

Measured on drawings: of 96 copies (JPEG of quality 20 and 40, halved, halved and JPEG, blurred,
lighter, darker, cropped by 2 to 5 %, turned by 1 degree) 93 were found at 512 x 640, 88 at 256 x
320, 77 at 128 x 128. Taken for copies were of 36 pairs that differ in the expression alone none,
none and 1; of 204 pairs of other drawings of one character none.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from .. import dataset
from ..dataset import Picture
from ..errors import DatasetError
from ..images import open_image
from ..progress import Progress, silent, track
from ..project import Project

DISTANCE = 24  # differing bits of 128
ASPECT = 0.05  # width / height may differ by this share
# grey levels of 255 by which a neighbour must be darker: flat ground is not to be judged by its
# noise
MARGIN = 3
BLOCK = 512  # rows of the table of distances held in memory at once
# the small copies are compared in 16 x 16 patches. For copies, of the brightness from 0 to 1, ...
PATCHES = 16
WORST, MEAN = (
    0.08,
    0.035,
)  # ... the three worst patches differ by no more than this, all together by no more than that,
UNEVEN = (
    8  # and the worst by no more than this many times the mean of the patches with edges in them;
)
EDGES = 0.02  # edges are there when neighbouring pixels differ by this much on average
SAME = 0.012  # so small a difference is none, however uneven


@dataclass(frozen=True)
class Group:
    """Pictures that are copies of one another; `best` is the one to keep."""

    best: Picture
    others: tuple[Picture, ...]


@dataclass(frozen=True)
class Look:
    """What is known of a picture: 2 x 64 bits of fingerprint, and what tells which copy is best."""

    bits: tuple[int, int]
    size: tuple[int, int]
    sharpness: float
    file_size: int
    sha256: str


def near_duplicates(
    pictures: Sequence[Picture], distance: int = DISTANCE, progress: Progress = silent
) -> list[Group]:
    """Groups of copies, in the order of `pictures`; each of `others` is a copy of `best` itself,
    not of a neighbour.

    `distance` is from 0 (equal fingerprints only) to 128 (compare all pairs closely, slow). Files
    that are equal byte for byte always match. Pictures that cannot be read are left out
    (`dataset.broken` finds them).
    """
    looks = {
        p: look
        for p in track(pictures, "Looking for duplicates", progress)
        if (look := look_at(p.path))
    }
    ranked = sorted(looks, key=lambda picture: quality(looks[picture]), reverse=True)
    small = lru_cache(maxsize=512)(lambda row, side: small_copy(open_image(ranked[row].path), side))
    groups: dict[int, list[int]] = {}
    copies: set[int] = set()
    for row, other, equal in _candidates([looks[picture] for picture in ranked], distance):
        if row in copies or other in copies:
            continue
        side = comparing_side(looks[ranked[row]].size, looks[ranked[other]].size)
        if equal or alike(small(row, side), small(other, side)):
            groups.setdefault(row, []).append(other)
            copies.add(other)
    place = {picture: i for i, picture in enumerate(pictures)}
    named = [(ranked[row], [ranked[other] for other in others]) for row, others in groups.items()]
    found = [Group(best, tuple(sorted(others, key=place.__getitem__))) for best, others in named]
    return sorted(found, key=lambda group: place[group.best])


def remove_duplicates(project: Project, groups: Sequence[Group]) -> list[Path]:
    """Moves all but the best of each group to `removed/`, with the reason; returns where they
    went.
    """
    moved = []
    for group in groups:
        best = group.best.path.relative_to(project.dataset)
        moved += [
            dataset.remove(project, other, f"near-duplicate of {best}") for other in group.others
        ]
    return moved


# --- one picture ----------------------------------------------------------------------------------


def look_at(path: Path) -> Look | None:
    """What is compared of a picture, or None if it cannot be read."""
    try:
        image = open_image(path)
    except DatasetError:
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Look(dhash(image), image.size, sharpness(image), path.stat().st_size, digest)


def dhash(image: Image.Image) -> tuple[int, int]:
    """64 bits of "brighter than the right neighbour" and 64 of "brighter than the one below", on a
    9 x 9 picture.
    """
    grey = np.asarray(image.convert("L").resize((9, 9), Image.Resampling.BOX), np.int16)
    right, below = grey[:8, :8] > grey[:8, 1:] + MARGIN, grey[:8, :8] > grey[1:, :8] + MARGIN
    return int.from_bytes(np.packbits(right).tobytes(), "big"), int.from_bytes(
        np.packbits(below).tobytes(), "big"
    )


def sharpness(image: Image.Image, side: int = 256) -> float:
    """Variance of the Laplacian of the grey picture, reduced to at most `side`; for ranking copies
    only.
    """
    grey = image.convert("L")
    grey.thumbnail((side, side), Image.Resampling.BOX)
    g = np.asarray(grey, np.float32)
    if min(g.shape) < 3:
        return 0.0
    return float(
        (4 * g[1:-1, 1:-1] - g[:-2, 1:-1] - g[2:, 1:-1] - g[1:-1, :-2] - g[1:-1, 2:]).var()
    )


def quality(look: Look) -> tuple[int, int, int]:
    """What the best copy has most of: pixels, then sharpness (steps of a quarter), then bytes
    (least compressed).
    """
    return look.size[0] * look.size[1], round(math.log(look.sharpness + 1, 1.25)), look.file_size


# --- two pictures ---------------------------------------------------------------------------------


def comparing_side(one: tuple[int, int], other: tuple[int, int]) -> int:
    """The side of the small copies of two pictures of these sizes: enough to see a mouth, no more
    than there is.
    """
    return 128 if min(*one, *other) >= 192 else 64


def small_copy(image: Image.Image, side: int) -> np.ndarray:
    """The picture as (side, side, 3) of 0..1 for `alike`."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32) / 255


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two small copies of one side show the same picture; the head of this file says what
    that means.
    """
    return _only_resaved(one, other) or _only_resaved(other, one)


def _only_resaved(one: np.ndarray, other: np.ndarray) -> bool:
    one = (one - one.mean((0, 1))) * ((other.std() + 1e-3) / (one.std() + 1e-3)) + other.mean(
        (0, 1)
    )  # same light
    if (
        np.abs(_patch_means(one) - _patch_means(other)).mean() > MEAN
    ):  # most candidates end here, at little cost
        return False
    patches = _shifted_differences(one, _laid_over(one, other), 1).min(0)
    busy = _edges(one, 0) + _edges(one, 1) > EDGES
    worst, mean = float(np.sort(patches.ravel())[-3:].mean()), float(patches.mean())
    usual = float(patches[busy].mean()) if busy.any() else mean
    return worst <= SAME or (worst <= WORST and mean <= MEAN and worst <= UNEVEN * usual)


def _edges(image: np.ndarray, axis: int) -> np.ndarray:
    """How much neighbouring pixels differ along `axis`, for each patch."""
    return _patch_means(np.abs(np.diff(image, axis=axis, append=np.take(image, [-1], axis))))


def _shifted_differences(one: np.ndarray, other: np.ndarray, reach: int) -> np.ndarray:
    """(shifts, PATCHES, PATCHES): mean difference of each patch of `one` from `other` moved by up
    to `reach`.
    """
    side, steps = len(one), 2 * reach + 1
    padded = np.pad(other, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    windows = (padded[y : y + side, x : x + side] for y, x in np.ndindex(steps, steps))
    return np.stack([_patch_means(np.abs(one - window)) for window in windows])


def _patch_means(values: np.ndarray) -> np.ndarray:
    size = len(values) // PATCHES
    return values.reshape(PATCHES, size, PATCHES, -1).mean((1, 3))


def _laid_over(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`other` stretched and moved, by up to 3 % at any edge, so that it lies over `one`: takes back
    a crop.

    Each patch of `one` is looked for in `other`; a line through what the patches with edges say
    gives the stretch.
    """
    reach = len(one) // 32
    shifts = np.array(list(np.ndindex(2 * reach + 1, 2 * reach + 1))) - reach
    grey, other_grey = (image.mean(2, keepdims=True) for image in (one, other))
    cost = _shifted_differences(grey, other_grey, reach) + 1e-4 * (shifts**2).sum(1)[:, None, None]
    best = shifts[cost.argmin(0)]
    place = (np.arange(PATCHES) + 0.5) / PATCHES - 0.5
    for axis in (0, 1):
        where = np.broadcast_to(place[:, None] if axis == 0 else place, (PATCHES, PATCHES))
        move, stretch = _line(
            where.ravel(), best[..., axis].ravel(), _edges(one, axis).ravel() + 1e-6
        )
        other = _resampled(other, axis, move, stretch)
    return other


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Offset and slope of the weighted least squares line, fitted again without the points far from
    it.
    """
    columns = np.stack([np.ones_like(x), x], 1)
    for _ in range(3):
        root = np.sqrt(weight)
        line = np.linalg.lstsq(columns * root[:, None], y * root, rcond=None)[0]
        far = np.abs(y - columns @ line)
        weight = weight * (far <= max(1.0, 2 * float(np.median(far))))
    return float(line[0]), float(line[1])


def _resampled(image: np.ndarray, axis: int, move: float, stretch: float) -> np.ndarray:
    """`image` read at `i + move + stretch * (place of i, -0.5 to 0.5)` along `axis`, linear between
    pixels.
    """
    side = len(image)
    at = np.arange(side) + move + stretch * ((np.arange(side) + 0.5) / side - 0.5)
    at = np.clip(at, 0, side - 1)
    low = np.floor(at).astype(int)
    part = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return (
        np.take(image, low, axis) * (1 - part)
        + np.take(image, np.minimum(low + 1, side - 1), axis) * part
    )


# --- all pairs ------------------------------------------------------------------------------------


def _candidates(looks: Sequence[Look], distance: int) -> Iterator[tuple[int, int, bool]]:
    """Pairs (i, j, whether byte for byte equal), i < j, in order of i: XOR and count over packed
    bits, in blocks.
    """
    bits = np.array([look.bits for look in looks], np.uint64).reshape(-1, 2)
    aspect = np.log([look.size[0] / look.size[1] for look in looks])
    digests = np.array([look.sha256 for look in looks])
    for start in range(0, len(looks), BLOCK):
        rows = slice(start, start + BLOCK)
        differing = sum(
            np.bitwise_count(bits[rows, None, h] ^ bits[None, start:, h]).astype(np.int16)
            for h in (0, 1)
        )
        near = (differing <= distance) & (
            np.abs(aspect[rows, None] - aspect[None, start:]) <= math.log1p(ASPECT)
        )
        equal = digests[rows, None] == digests[None, start:]
        for i, j in np.argwhere(np.triu(near | equal, 1)):
            yield start + int(i), start + int(j), bool(equal[i, j])
