"""The animations that a glTF file carries: how long they are, and its nodes at a moment of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .gltf import Gltf, numbers
from .skeleton import local_matrix, to_quaternion


@dataclass(frozen=True)
class Clip:
    """An animation: its name, and when it starts and ends, in seconds."""

    name: str
    start: float
    end: float

    def moments(self, count: int) -> list[float]:
        """`count` moments spread evenly; the first and last are a little inside, since a loop's end
        is its beginning.
        """
        return [self.start + (self.end - self.start) * (i + 0.5) / count for i in range(count)]


def clips(model: Gltf) -> list[Clip]:
    """The animations of a file, those without a name numbered."""
    found = []
    for number, animation in enumerate(model.json.get("animations", [])):
        times = [numbers(model, sampler["input"]) for sampler in animation["samplers"]]
        times = [each for each in times if len(each)]
        if times:
            start, end = min(t.min() for t in times), max(t.max() for t in times)
            name = str(animation.get("name") or f"clip {number + 1}")
            found.append(Clip(name, float(start), float(end)))
    return found


def at(model: Gltf, clip: int, time: float) -> Gltf:
    """The model as it stands `time` seconds into an animation."""
    moved = model.changed()
    animation = model.json["animations"][clip]
    for channel in animation["channels"]:
        index, path = channel["target"].get("node"), channel["target"]["path"]
        if index is not None and path in ("translation", "rotation", "scale", "weights"):
            sampler = animation["samplers"][channel["sampler"]]
            _set(moved.nodes[index], path, _value(model, sampler, path, time))
    return moved


def _set(node: dict[str, Any], path: str, value: np.ndarray) -> None:
    if path != "weights" and "matrix" in node:  # not allowed beside an animation, yet it happens
        local = local_matrix(node)
        node.pop("matrix")
        scale = np.linalg.norm(local[:3, :3], axis=0)
        node["translation"], node["scale"] = local[:3, 3].tolist(), scale.tolist()
        node["rotation"] = to_quaternion(local[:3, :3] / np.maximum(scale, 1e-12))
    node[path] = [float(part) for part in value]


def _value(model: Gltf, sampler: dict[str, Any], path: str, time: float) -> np.ndarray:
    """The sampler at a time: in a straight line between its keys (also for cubic ones, whose keys
    lie close), or the last key's where it steps.
    """
    times = numbers(model, sampler["input"])[:, 0]
    values = numbers(model, sampler["output"])
    kind = sampler.get("interpolation", "LINEAR")
    if kind == "CUBICSPLINE":  # each key is its tangent in, its value and its tangent out
        values = values.reshape(len(times), 3, -1)[:, 1]
    values = values.reshape(len(times), -1)
    after = int(np.clip(np.searchsorted(times, time, side="right"), 0, len(times) - 1))
    before = max(0, after - 1) if time < times[after] else after
    gap = times[after] - times[before]
    share = (
        0.0 if kind == "STEP" or gap <= 0 else float(np.clip((time - times[before]) / gap, 0, 1))
    )
    if path == "rotation":
        return _between(values[before], values[after], share)
    return (1 - share) * values[before] + share * values[after]


def _between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Spherical interpolation of quaternions the short way round (Shoemake 1985)."""
    a, b = a / (np.linalg.norm(a) or 1), b / (np.linalg.norm(b) or 1)
    b = -b if a @ b < 0 else b
    angle = float(np.arccos(np.clip(a @ b, -1, 1)))
    if angle < 1e-6:
        return a
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
