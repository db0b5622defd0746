"""The joints of a model in its rest pose, whatever program they come from. Lengths are the model's
own; y is up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import CollectError

Matrix = np.ndarray  # 4x4, or 3x3 for a rotation
Turns = dict[int, Matrix]  # new local rotation (3x3) by joint


@dataclass(frozen=True)
class Joint:
    """A node: its name, its parent's index (-1 for none), its place in its parent as 4x4."""

    name: str
    parent: int
    local: Matrix


@dataclass(frozen=True)
class Skeleton:
    """Joints by index, parents in any order, and which of them are humanoid bones ('leftHand')."""

    joints: Sequence[Joint]
    bones: Mapping[str, int]

    def order(self) -> list[int]:
        """Indices, parents before children. Raises CollectError where they go round in a circle."""
        children: dict[int, list[int]] = {}
        for index, joint in enumerate(self.joints):
            children.setdefault(joint.parent, []).append(index)
        order = list(children.get(-1, []))
        for index in order:  # grows while it is walked
            order += children.get(index, [])
        if len(order) != len(self.joints):
            raise CollectError("The model's joints hang on each other in a circle; it is damaged.")
        return order

    def worlds(self, turns: Turns | None = None) -> list[Matrix]:
        """Each joint's place in the world as 4x4, with the local rotations of `turns`."""
        worlds: list[Matrix] = [np.eye(4)] * len(self.joints)
        for index in self.order():
            joint = self.joints[index]
            local = joint.local
            if turns and index in turns:
                local = local.copy()
                local[:3, :3] = turns[index] * np.linalg.norm(joint.local[:3, :3], axis=0)
            worlds[index] = local if joint.parent < 0 else worlds[joint.parent] @ local
        return worlds

    def places(self, turns: Turns | None = None) -> dict[str, np.ndarray]:
        """Where each humanoid bone begins, [3]."""
        worlds = self.worlds(turns)
        return {bone: worlds[index][:3, 3] for bone, index in self.bones.items()}


def rotation(matrix: Matrix) -> Matrix:
    """The rotation in the upper left of a matrix, without its scale; the nearest one where it is
    also sheared (Procrustes, by singular values).
    """
    u, _, v = np.linalg.svd(matrix[:3, :3])
    turn = u @ v
    return turn if np.linalg.det(turn) > 0 else u @ np.diag([1.0, 1.0, -1.0]) @ v


def from_quaternion(q: Sequence[float] | np.ndarray) -> Matrix:
    """3x3 of a quaternion x, y, z, w, of any length but 0."""
    x, y, z, w = np.asarray(q, float) / (np.linalg.norm(q) or 1.0)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def to_quaternion(m: Matrix) -> list[float]:
    """Quaternion x, y, z, w of a 3x3, by its largest part, where dividing is safe (Shepperd
    1978).
    """
    squares = np.array(
        [
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
            1 + m[0, 0] + m[1, 1] + m[2, 2],
        ]
    )
    largest = int(np.argmax(squares))
    rows = (
        (squares[0], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]),
        (m[1, 0] + m[0, 1], squares[1], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]),
        (m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], squares[2], m[1, 0] - m[0, 1]),
        (m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]),
    )
    q = np.array(rows[largest])
    return [float(part) for part in q / np.linalg.norm(q)]


def local_matrix(node: Mapping[str, Any]) -> Matrix:
    """4x4 of a glTF node: its matrix, or its translation, rotation and scale."""
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T  # glTF writes columns
    placed = np.eye(4)
    placed[:3, :3] = from_quaternion(node.get("rotation", (0, 0, 0, 1)))
    placed[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), float)
    placed[:3, 3] = node.get("translation", (0, 0, 0))
    return placed


def of_nodes(nodes: Sequence[Mapping[str, Any]], bones: Mapping[str, int]) -> Skeleton:
    """The skeleton of a glTF file's nodes."""
    parents = {
        child: index for index, node in enumerate(nodes) for child in node.get("children", ())
    }
    joints = [
        Joint(str(node.get("name", "")), parents.get(index, -1), local_matrix(node))
        for index, node in enumerate(nodes)
    ]
    return Skeleton(joints, bones)


def turned(node: dict[str, Any], turn: Matrix) -> None:
    """Gives a glTF node a new local rotation; its place and size stay."""
    if matrix := node.pop("matrix", None):
        local = np.array(matrix, float).reshape(4, 4).T
        node["translation"] = local[:3, 3].tolist()
        node["scale"] = np.linalg.norm(local[:3, :3], axis=0).tolist()
    node["rotation"] = to_quaternion(turn)
