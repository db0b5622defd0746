"""Where the camera stands: around the person, up and down, near enough for a framing, far enough
that nothing of it is cut off. Lengths are the model's own; y is up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FULL, UPPER, HEAD = "full body", "upper body", "head"
FRAMINGS = (FULL, UPPER, HEAD)
FRAMING_TAGS = {FULL: ("full body",), UPPER: ("upper body",), HEAD: ("portrait",)}
NARROWEST, WIDEST = 0.5, 2.0  # width over height; a trainer's buckets hold no more than that
STEP = 8  # sides are multiples of this many pixels
# Shares of the height of a person who stands, for models without a rig: drawn characters have
# larger heads than people.
HIP_SHARE, HEAD_SHARE = 0.5, 0.2


@dataclass(frozen=True)
class Camera:
    """Place, what it looks at, its upward direction, its vertical angle of view in degrees, and the
    picture's (width, height) in pixels.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    angle: float
    size: tuple[int, int]


@dataclass(frozen=True)
class Stand:
    """A person as they stand: points whose hull holds all that is seen, [n, 3]; where the humanoid
    bones begin, empty without a rig; and the 3x3 whose columns are their left, up and front.
    """

    points: np.ndarray
    places: Mapping[str, np.ndarray]
    frame: np.ndarray


def azimuths(count: int) -> list[int]:
    """Whole degrees around the person, the front first; positive ones show their left side."""
    angles = [round(360 * number / count) for number in range(count)]
    return [angle - 360 if angle > 180 else angle for angle in angles]


def view_tags(azimuth: float, elevation: float) -> tuple[str, ...]:
    """How Danbooru tags the direction of a view."""
    away = abs(azimuth)
    around = "from behind" if away > 120 else "from side" if away >= 60 else ""
    height = "from above" if elevation >= 15 else "from below" if elevation <= -15 else ""
    return tuple(tag for tag in (around, height) if tag)


def seen(stand: Stand, framing: str) -> np.ndarray:
    """Points that the picture must hold, [n, 3]. Raises ValueError."""
    if framing == FULL:
        return stand.points
    if framing == UPPER:
        return _upper_body(stand)
    if framing == HEAD:
        centre, radius = _head(stand)
        return centre + radius * directions(60)
    raise ValueError(f"there is no framing '{framing}'; there are: {', '.join(FRAMINGS)}")


def _upper_body(stand: Stand) -> np.ndarray:
    """The box from the hips to the top, and no wider to a side than that is high."""
    low, high = stand.points.min(0), stand.points.max(0)
    head, _ = _head(stand)
    hips = stand.places.get("hips", (low + high) / 2)
    bottom = hips[1] if stand.places else high[1] - (1 - HIP_SHARE) * (high[1] - low[1])
    middle, reach = (np.asarray(hips) + head) / 2, 0.55 * (high[1] - bottom)
    low = np.maximum(low, [middle[0] - reach, bottom, middle[2] - reach])
    high = np.minimum(high, [middle[0] + reach, high[1], middle[2] + reach])
    return corners(low, high)


def _head(stand: Stand) -> tuple[np.ndarray, float]:
    """Middle and radius of the head with hair and neck."""
    low, high = stand.points.min(0), stand.points.max(0)
    if "head" not in stand.places:
        radius = HEAD_SHARE * (high[1] - low[1]) / 2
        return np.array([(low[0] + high[0]) / 2, high[1] - radius, (low[2] + high[2]) / 2]), radius
    joint, body = stand.places["head"], stand.places["hips"]
    up = joint - body
    length = float(np.linalg.norm(up)) or 1.0
    up = up / length
    # What is above the joint and not far to the side is skull and hair; raised hands are not.
    around = stand.points - joint
    height = around @ up
    aside = np.linalg.norm(around - np.outer(height, up), axis=1)
    own = height[(height > 0) & (aside < 0.4 * length) & (height < length)]
    top = float(np.clip(own.max() if len(own) else 0, 0.3 * length, 0.75 * length))
    return joint + up * (0.42 * top), 0.72 * top


def corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The eight corners of a box, [8, 3]."""
    sides = np.stack([low, high])
    return np.array([[sides[i, 0], sides[j, 1], sides[k, 2]] for i, j, k in np.ndindex(2, 2, 2)])


def directions(count: int) -> np.ndarray:
    """Unit vectors spread evenly over a sphere, [count, 3] (Fibonacci's lattice)."""
    number = np.arange(count) + 0.5
    y, turn = 1 - 2 * number / count, number * math.pi * (3 - math.sqrt(5))
    aside = np.sqrt(1 - y * y)
    return np.stack([aside * np.cos(turn), y, aside * np.sin(turn)], axis=1)


def camera(
    points: np.ndarray,
    frame: np.ndarray,
    direction: tuple[float, float],
    *,
    side: int,
    angle: float = 30.0,
    margin: float = 0.06,
) -> Camera:
    """A camera at `direction` (azimuth, elevation in degrees) that holds all points and leaves
    `margin` (a share of the picture) free on every side. The longer side has `side` pixels.
    """
    axes = _axes(frame, *direction)
    flat = points @ axes.T  # right, up, towards the camera
    low, high = flat.min(0), flat.max(0)
    middle = (low + high) / 2
    width, height = (high - low)[:2]
    size = _size(float(width), float(height), side)
    tangent = math.tan(math.radians(angle) / 2)
    reach = tangent * (1 - 2 * margin)
    wide = reach * size[0] / size[1]
    around = flat - middle
    need = np.maximum(np.abs(around[:, 0]) / wide, np.abs(around[:, 1]) / reach)
    distance = float((need + around[:, 2]).max())
    distance = max(distance, float(around[:, 2].max()) * 1.05, 1e-6)
    target = middle @ axes
    position = target + axes[2] * distance
    return Camera(_plain(position), _plain(target), _plain(axes[1]), angle, size)


def _axes(frame: np.ndarray, azimuth: float, elevation: float) -> np.ndarray:
    """Rows: to the picture's right, up, and towards the camera."""
    a, e = math.radians(azimuth), math.radians(elevation)
    towards = frame @ [math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)]
    right = frame @ [math.cos(a), 0.0, -math.sin(a)]
    return np.stack([right, np.cross(towards, right), towards])


def _size(width: float, height: float, side: int) -> tuple[int, int]:
    """Pixels of a picture as wide as what it shows, within limits."""
    shape = min(max(width / height if height > 0 else 1.0, NARROWEST), WIDEST)
    wide, high = (side, side / shape) if shape > 1 else (side * shape, side)
    return max(STEP, round(wide / STEP) * STEP), max(STEP, round(high / STEP) * STEP)


def _plain(vector: np.ndarray) -> tuple[float, float, float]:
    return float(vector[0]), float(vector[1]), float(vector[2])
