"""What both engines have in common: what can be done with a model, and how a person stands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from .clips import Clip
from .files import Model
from .humanoid import from_names, from_vrm, lacking
from .poses import about, facing
from .skeleton import Skeleton
from .views import Camera, Stand


@dataclass(frozen=True)
class Stance:
    """How the person stands: in a pose, or at a moment of an animation (`clip` is its number)."""

    name: str
    pose: str = ""
    clip: int = -1
    time: float = 0.0


@dataclass(frozen=True)
class Study:
    """What can be done with a model: whether poses are possible, its animations, and sentences
    about it for the user.
    """

    posable: bool
    clips: Sequence[Clip]
    notes: list[str] = field(default_factory=list)


class Engine(Protocol):
    """Draws models. Every method raises CollectError."""

    def study(self, model: Model) -> Study:
        """Opens the model and says what it is."""

    def stand(self, model: Model, stance: Stance) -> Stand:
        """Puts the model up for the pictures that follow."""

    def draw(self, model: Model, camera: Camera, out: Path, *, draft: bool = False) -> None:
        """Writes a picture of what stands there, as PNG with transparency; a draft is quicker."""


def bones_of(
    skeleton: Skeleton, extensions: Mapping[str, object], nodes: Sequence[str]
) -> dict[str, int]:
    """Joint by bone: as the file's VRM extension says (it counts `nodes`), else guessed."""
    names = [joint.name for joint in skeleton.joints]
    stated = from_vrm(extensions)
    if stated:
        places = {name: index for index, name in reversed(list(enumerate(names)))}
        named = {bone: nodes[node] for bone, node in stated.items() if 0 <= node < len(nodes)}
        return {bone: places[name] for bone, name in named.items() if name in places}
    return from_names(names, [joint.parent for joint in skeleton.joints])


def rig_notes(name: str, joints: int, bones: Mapping[str, int]) -> list[str]:
    """A sentence on the rig that was found, or was not."""
    if not (missing := lacking(bones)):
        return [
            f"{name}: joints of a person found ({len(bones)} bones), so every pose is possible."
        ]
    if joints == 0:
        return [f"{name} has no rig: it is shown as it is, without poses."]
    return [
        f"{name} has {joints} joints, but no {missing[0]} was found among their names, so it is "
        "shown as it is: in Blender, name them as Mixamo or VRM do."
    ]


def front(skeleton: Skeleton | None, turn: float) -> np.ndarray:
    """The 3x3 of the person's left, up and front; y up and z to the front without a rig."""
    frame = np.eye(3) if skeleton is None or lacking(skeleton.bones) else facing(skeleton)
    return frame @ about(0, turn, 0) if turn else frame


def slug(name: str) -> str:
    """A name as part of a file name."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
    return "-".join(part for part in kept.split("-") if part)[:40] or "model"


def finite(points: np.ndarray) -> bool:
    """Whether there is a body to be framed."""
    return (
        len(points) > 0 and bool(np.isfinite(points).all()) and math.isfinite(float(np.ptp(points)))
    )
