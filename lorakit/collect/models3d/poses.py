"""Poses for any humanoid rig, whatever its rest pose and the axes of its joints.

A pose says how each bone is turned against its parent, seen from a person who stands upright with
the arms stretched out sideways (T). As in VRM 1.0's normalised humanoid, all bones then have the
same axes: x to the person's left, y up, z to where the person looks. A rig that rests in another
way, arms half down as most do (A), is first brought to T by the shortest turn of each limb.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .humanoid import SIDES
from .skeleton import Matrix, Skeleton, Turns, rotation

Angles = tuple[float, float, float]  # degrees about x, y and z; applied z first, then x, then y


@dataclass(frozen=True)
class Pose:
    """Turns by bone, and the tags that say what the person does."""

    bones: Mapping[str, Angles]
    tags: tuple[str, ...] = ()


AS_IT_IS = "as it is"
# The left arm points to +x: about z, -90 lets it hang and +90 raises it; about y, -90 points it to
# the front. An elbow bends by the same turns. Legs point down: about x, -90 lifts one to the front,
# +90 bends a knee. The head: +x nods, +y looks left.
HANGING: dict[str, Angles] = {
    "leftUpperArm": (0, 0, -76), "rightUpperArm": (0, 0, 76),
    "leftLowerArm": (0, -12, 0), "rightLowerArm": (0, 12, 0),
}  # fmt: skip
STRIDE: dict[str, Angles] = {
    "leftUpperLeg": (-28, 0, 0), "leftLowerLeg": (10, 0, 0), "leftFoot": (8, 0, 0),
    "rightUpperLeg": (20, 0, 0), "rightLowerLeg": (22, 0, 0), "rightFoot": (12, 0, 0),
    "leftUpperArm": (26, 0, -78), "rightUpperArm": (-26, 0, 78),
    "leftLowerArm": (0, -14, 0), "rightLowerArm": (0, 24, 0),
    "spine": (0, -6, 0),
}  # fmt: skip
SEATED: dict[str, Angles] = {
    "leftUpperLeg": (-84, 6, 0), "rightUpperLeg": (-84, -6, 0),
    "leftLowerLeg": (84, 0, 0), "rightLowerLeg": (84, 0, 0),
    "leftUpperArm": (-32, 0, -76), "rightUpperArm": (-32, 0, 76),
    "leftLowerArm": (0, -48, 0), "rightLowerArm": (0, 48, 0),
}  # fmt: skip
POSES: dict[str, Pose] = {
    AS_IT_IS: Pose({}),
    "t": Pose({side + "UpperArm": (0, 0, 0) for side in SIDES}, ("t-pose", "standing")),
    "relaxed": Pose(HANGING, ("standing",)),
    "walk": Pose(STRIDE, ("walking",)),
    "run": Pose(
        {
            "leftUpperLeg": (-62, 0, 0), "leftLowerLeg": (70, 0, 0), "leftFoot": (5, 0, 0),
            "rightUpperLeg": (30, 0, 0), "rightLowerLeg": (50, 0, 0), "rightFoot": (30, 0, 0),
            "leftUpperArm": (42, 0, -72), "rightUpperArm": (-36, 0, 72),
            "leftLowerArm": (0, -85, 0), "rightLowerArm": (0, 85, 0),
            "spine": (10, -8, 0), "head": (-6, 6, 0),
        },
        ("running",),
    ),
    "sit": Pose(SEATED, ("sitting",)),
    "wave": Pose(
        HANGING | {"rightUpperArm": (0, 10, 0), "rightLowerArm": (0, 12, -84), "head": (0, 0, -6)},
        ("standing", "waving"),
    ),
    "arms up": Pose(
        {
            "leftUpperArm": (0, 0, 62), "rightUpperArm": (0, 0, -62),
            "leftLowerArm": (0, 0, 14), "rightLowerArm": (0, 0, -14),
        },
        ("standing", "arms up"),
    ),
    "hands on hips": Pose(
        {
            "leftUpperArm": (18, 0, -46), "rightUpperArm": (18, 0, 46),
            "leftLowerArm": (0, -42, -92), "rightLowerArm": (0, 42, 92),
        },
        ("standing", "hands on own hips"),
    ),
    "kneel": Pose(
        {
            "leftUpperLeg": (-12, 4, 0), "rightUpperLeg": (-12, -4, 0),
            "leftLowerLeg": (104, 0, 0), "rightLowerLeg": (104, 0, 0),
            "leftFoot": (52, 0, 0), "rightFoot": (52, 0, 0),
            "leftUpperArm": (-16, 0, -74), "rightUpperArm": (-16, 0, 74),
            "leftLowerArm": (0, -30, 0), "rightLowerArm": (0, 30, 0),
        },
        ("kneeling",),
    ),
    "look back": Pose(
        HANGING
        | {"spine": (0, 16, 0), "chest": (0, 12, 0), "neck": (0, 22, 0), "head": (0, 36, 0)},
        ("standing", "looking back"),
    ),
}  # fmt: skip
# Bones whose direction in T is known, with the bone that they point to.
REACH = {
    side + bone: (side + to, direction)
    for side, out in (("left", 1.0), ("right", -1.0))
    for bone, to, direction in (
        ("UpperArm", "LowerArm", (out, 0.0, 0.0)),
        ("LowerArm", "Hand", (out, 0.0, 0.0)),
        ("UpperLeg", "LowerLeg", (0.0, -1.0, 0.0)),
        ("LowerLeg", "Foot", (0.0, -1.0, 0.0)),
    )
}
FOLLOWS = {"Hand": "LowerArm"}  # a hand keeps to its forearm; a foot keeps to the ground
# Where a bone is missing, the next one down the line takes its turn too.
STAND_IN = {"upperChest": "chest", "chest": "spine", "neck": "head"}


def facing(skeleton: Skeleton) -> Matrix:
    """3x3 whose columns are the person's left, up and front in the world of the model: told from
    where the left and right bones are.
    """
    places = skeleton.places()
    left = sum(
        (places["left" + bone] - places["right" + bone] for bone in ("UpperArm", "UpperLeg")),
        np.zeros(3),
    )
    left[1] = 0.0  # y is up, however crooked the rig hangs
    length = np.linalg.norm(left)
    left = left / length if length > 1e-9 else np.array([1.0, 0.0, 0.0])
    up = np.array([0.0, 1.0, 0.0])
    return np.stack([left, up, np.cross(left, up)], axis=1)


def strike(skeleton: Skeleton, pose: Pose) -> Turns:
    """The new local rotations of the bones that stand differently in `pose`."""
    if not pose.bones:
        return {}
    frame, worlds = facing(skeleton), skeleton.worlds()
    straight = _straightening(skeleton, frame)
    wanted = _complete(pose.bones, skeleton.bones)
    bone_of = {index: bone for bone, index in skeleton.bones.items()}
    unit = np.eye(3)
    posed: dict[int, Matrix] = {-1: unit}  # the pose's own turn, summed down the line
    change: dict[int, Matrix] = {-1: unit}  # the turn against the rest pose, in the world
    turns: Turns = {}
    for index in skeleton.order():
        parent, bone = skeleton.joints[index].parent, bone_of.get(index)
        if bone is None:
            posed[index], change[index] = posed[parent], change[parent]
            continue
        posed[index] = posed[parent] @ about(*wanted.get(bone, (0, 0, 0)))
        change[index] = frame @ posed[index] @ frame.T @ straight.get(bone, unit)
        above = unit if parent < 0 else change[parent] @ rotation(worlds[parent])
        turns[index] = above.T @ change[index] @ rotation(worlds[index])
    return turns


def _complete(wanted: Mapping[str, Angles], bones: Mapping[str, int]) -> dict[str, Angles]:
    """The turns of bones that the rig lacks, added to those that stand in for them."""
    done = dict(wanted)
    for missing, other in STAND_IN.items():
        if missing in done and missing not in bones:
            extra, own = done.pop(missing), done.get(other, (0, 0, 0))
            done[other] = (own[0] + extra[0], own[1] + extra[1], own[2] + extra[2])
    return done


def _straightening(skeleton: Skeleton, frame: Matrix) -> dict[str, Matrix]:
    """The turn in the world that brings each limb from rest to T."""
    places, found = skeleton.places(), {}
    for bone, (to, direction) in REACH.items():
        if bone in places and to in places:
            points = places[to] - places[bone]
            found[bone] = shortest_turn(points, frame @ np.array(direction))
    for side in SIDES:
        for bone, other in FOLLOWS.items():
            if side + other in found:
                found[side + bone] = found[side + other]
    return found


def about(x: float, y: float, z: float) -> Matrix:
    """3x3 that turns by degrees about z, then x, then y, all axes standing still."""
    turn = np.eye(3)
    for axis, degrees in ((2, z), (0, x), (1, y)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one = np.eye(3)
        one[i, i] = one[j, j] = c
        one[j, i], one[i, j] = s, -s
        turn = one @ turn
    return turn


def shortest_turn(a: np.ndarray, b: np.ndarray) -> Matrix:
    """3x3 that brings direction `a` onto direction `b` (Rodrigues' formula); no turn where one of
    them has no length.
    """
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if min(lengths) < 1e-9:
        return np.eye(3)
    a, b = a / lengths[0], b / lengths[1]
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -1 + 1e-9:  # opposite: half a turn about anything across
        across = np.cross(a, np.eye(3)[int(np.argmin(np.abs(a)))])
        across /= np.linalg.norm(across)
        return 2 * np.outer(across, across) - np.eye(3)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + k + k @ k / (1 + cosine)
