"""Bending a skinned mesh as its joints say, once and for all: what comes out has no rig, so a
viewer knows how far it reaches.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .gltf import Gltf, numbers
from .skeleton import Matrix, of_nodes

FLOAT, VEC3 = 5126, "VEC3"
PACKED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")


def packed(model: Gltf) -> str:
    """The name of the compression under which the mesh's numbers are not readable here, or ''."""
    used = model.json.get("extensionsUsed", [])
    return next((name for name in PACKED if name in used), "")


def stilled(model: Gltf) -> tuple[Gltf, np.ndarray]:
    """The model as its nodes stand, skins and morphs applied and animations gone, and every point
    of it in the world, [n, 3].
    """
    return _Still(model).result()


class _Still:
    def __init__(self, model: Gltf) -> None:
        self.source = model
        self.worlds = of_nodes(model.nodes, {}).worlds()
        self.json = {key: value for key, value in model.json.items() if key != "animations"}
        for key in ("accessors", "bufferViews", "nodes", "scenes"):
            self.json[key] = copy.deepcopy(model.json.get(key, []))
        self.json["meshes"] = list(model.json.get("meshes", []))
        self.block = bytearray(model.binary)
        self.points: list[np.ndarray] = []
        self.done: dict[tuple[Any, ...], tuple[int, np.ndarray]] = {}

    def result(self) -> tuple[Gltf, np.ndarray]:
        nodes = self.json["nodes"]
        loose = []
        for index in self._shown():
            if "mesh" in nodes[index]:
                self._bend(nodes[index], index)
                if nodes[index].pop("skin", None) is not None:
                    loose.append(len(nodes))  # a skin's points are in the world already
                    nodes.append({"mesh": nodes[index].pop("mesh")})
        scene = self.json.get("scene", 0)
        if self.json["scenes"]:
            shown = self.json["scenes"][scene]
            shown["nodes"] = [*shown.get("nodes", []), *loose]
        self.json.pop("skins", None)
        points = np.concatenate(self.points) if self.points else np.zeros((0, 3))
        return Gltf(self.json, bytes(self.block)), points

    def _shown(self) -> list[int]:
        """The nodes of the scene that viewers open."""
        scenes = self.json["scenes"]
        if not scenes:
            return list(range(len(self.json["nodes"])))
        found = list(scenes[self.json.get("scene", 0)].get("nodes", []))
        for index in found:  # grows while it is walked
            found += self.json["nodes"][index].get("children", [])
        return found

    def _bend(self, node: dict[str, Any], index: int) -> None:
        mesh = copy.deepcopy(self.source.json["meshes"][node["mesh"]])
        weights = node.pop("weights", None) or mesh.pop("weights", None) or []
        mesh.pop("weights", None)
        joints = self._joints(node["skin"]) if "skin" in node else None
        for primitive in mesh["primitives"]:
            points = self._primitive(primitive, weights, joints)
            if joints is None:
                points = points @ self.worlds[index][:3, :3].T + self.worlds[index][:3, 3]
            self.points.append(points)
        node["mesh"] = len(self.json["meshes"])
        self.json["meshes"].append(mesh)

    def _joints(self, skin: int) -> Matrix:
        """For each joint of a skin what moves a point from where it was bound, [n, 4, 4]."""
        given = self.source.json["skins"][skin]
        worlds = np.stack([self.worlds[joint] for joint in given["joints"]])
        if "inverseBindMatrices" not in given:
            return worlds
        inverse = numbers(self.source, given["inverseBindMatrices"]).reshape(-1, 4, 4)
        return worlds @ inverse[: len(worlds)].transpose(0, 2, 1)  # glTF writes columns

    def _primitive(
        self, primitive: dict[str, Any], weights: list[float], joints: Matrix | None
    ) -> np.ndarray:
        """Replaces the points and normals of one piece; returns its points."""
        attributes, targets = primitive["attributes"], primitive.pop("targets", [])
        moves = _influence(self.source, attributes, joints) if joints is not None else None
        for name in [name for name in attributes if name.startswith(("JOINTS_", "WEIGHTS_"))]:
            attributes.pop(name)
        if joints is None and not any(weights):
            return numbers(self.source, attributes["POSITION"])
        attributes.pop("TANGENT", None)  # viewers work it out again
        points = self._morphed("POSITION", attributes, targets, weights)
        if moves is not None:
            points = np.einsum("nij,nj->ni", moves[:, :, :3], points) + moves[:, :, 3]
        if "NORMAL" in attributes:
            normals = self._morphed("NORMAL", attributes, targets, weights)
            if moves is not None:
                normals = np.einsum("nij,nj->ni", moves[:, :, :3], normals)
            lengths = np.linalg.norm(normals, axis=1, keepdims=True)
            attributes["NORMAL"] = self._add(normals / np.maximum(lengths, 1e-12))
        attributes["POSITION"] = self._add(points)
        return points

    def _morphed(
        self, name: str, attributes: dict[str, int], targets: list[Any], weights: list[float]
    ) -> np.ndarray:
        values = numbers(self.source, attributes[name])
        for target, weight in zip(targets, weights, strict=False):
            if weight and name in target:
                values = values + weight * numbers(self.source, target[name])
        return values

    def _add(self, values: np.ndarray) -> int:
        """The new accessor of an array [n, 3]."""
        self.block.extend(bytes(-len(self.block) % 4))
        data = values.astype("<f4")
        views, accessors = self.json["bufferViews"], self.json["accessors"]
        place = {"byteOffset": len(self.block), "byteLength": data.nbytes}
        views.append({"buffer": 0, **place})
        self.block += data.tobytes()
        ends = {"min": data.min(0).tolist(), "max": data.max(0).tolist()}
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": FLOAT, "count": len(data), "type": VEC3}
            | ends
        )
        return len(accessors) - 1


def _influence(model: Gltf, attributes: dict[str, int], joints: Matrix) -> Matrix:
    """What moves each point: its joints' matrices, weighed, [n, 3, 4]."""
    total: Any = 0
    weight: Any = 0
    number = 0
    while f"JOINTS_{number}" in attributes:
        which = numbers(model, attributes[f"JOINTS_{number}"]).astype(int)
        share = _shares(model, attributes[f"WEIGHTS_{number}"])
        for column in range(4):
            total = total + share[:, column, None, None] * joints[which[:, column], :3]
            weight = weight + share[:, column]
        number += 1
    return total / np.maximum(weight, 1e-12)[:, None, None]


def _shares(model: Gltf, index: int) -> np.ndarray:
    """Weights as shares of 1, whether the file has them as floats or whole numbers."""
    values = numbers(model, index)
    return values if values.max(initial=0) <= 1 else values / values.max()
