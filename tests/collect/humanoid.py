"""A rigged person made of coloured capsules, as the tests' 3D model: known bones, known colours.

Bones can be named as VRM, Mixamo, Blender, Unreal or MMD do, rest in T or A, have any local axes,
and look to +z as glTF asks or to -z as VRM 0 does.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from lorakit.collect.models3d.poses import shortest_turn
from lorakit.collect.models3d.skeleton import to_quaternion

Joint = tuple[str, tuple[float, float, float], float, str]  # parent, place, thickness, colour
SKIN, HAIR, SHIRT, TROUSERS, SHOES = "ffd5b8", "5a3b8c", "3f7fd0", "2c3550", "a03030"
# x to the person's left, y up, z to the front; metres, in T
BODY: dict[str, Joint] = {
    "hips": ("", (0, 0.95, 0), 0.12, TROUSERS),
    "spine": ("hips", (0, 1.07, 0), 0.12, SHIRT),
    "chest": ("spine", (0, 1.22, 0), 0.14, SHIRT),
    "neck": ("chest", (0, 1.42, 0), 0.05, SKIN),
    "head": ("neck", (0, 1.50, 0), 0.12, SKIN),
}
for _side, _sign in (("left", 1), ("right", -1)):
    BODY |= {
        f"{_side}UpperArm": ("chest", (0.17 * _sign, 1.38, 0), 0.05, SHIRT),
        f"{_side}LowerArm": (f"{_side}UpperArm", (0.43 * _sign, 1.38, 0), 0.045, SKIN),
        f"{_side}Hand": (f"{_side}LowerArm", (0.67 * _sign, 1.38, 0), 0.05, SKIN),
        f"{_side}UpperLeg": ("hips", (0.09 * _sign, 0.90, 0), 0.075, TROUSERS),
        f"{_side}LowerLeg": (f"{_side}UpperLeg", (0.09 * _sign, 0.49, 0), 0.06, TROUSERS),
        f"{_side}Foot": (f"{_side}LowerLeg", (0.09 * _sign, 0.08, 0), 0.055, SHOES),
    }
ENDS = {
    "head": (0, 1.60, 0), "leftHand": (0.77, 1.38, 0), "rightHand": (-0.77, 1.38, 0),
    "leftFoot": (0.09, 0.06, 0.15), "rightFoot": (-0.09, 0.06, 0.15),
}  # fmt: skip
NEXT = {"hips": "spine", "spine": "chest", "chest": "neck", "neck": "head"}
NEXT |= {
    s + a: s + b
    for s in ("left", "right")
    for a, b in (
        ("UpperArm", "LowerArm"),
        ("LowerArm", "Hand"),
        ("UpperLeg", "LowerLeg"),
        ("LowerLeg", "Foot"),
    )
}
_MIXAMO = {"UpperArm": "Arm", "LowerArm": "ForeArm", "UpperLeg": "UpLeg", "LowerLeg": "Leg"}
_BLENDER = {"UpperArm": "upper_arm", "LowerArm": "forearm", "UpperLeg": "thigh", "LowerLeg": "shin"}
_UNREAL = {"UpperArm": "upperarm", "LowerArm": "lowerarm", "UpperLeg": "thigh", "LowerLeg": "calf"}
_MMD = {
    "hips": "下半身", "spine": "上半身", "chest": "上半身2", "neck": "首", "head": "頭",
    "UpperArm": "腕", "LowerArm": "ひじ", "Hand": "手首",
    "UpperLeg": "足", "LowerLeg": "ひざ", "Foot": "足首",
}  # fmt: skip


def bone_name(bone: str, style: str) -> str:
    """What a bone is called in files of a program."""
    side = "left" if bone.startswith("left") else "right" if bone.startswith("right") else ""
    part = bone.removeprefix(side)
    if style == "mixamo":
        names = {"hips": "Hips", "spine": "Spine", "chest": "Spine1", "neck": "Neck"}
        return f"mixamorig:{side.title()}{_MIXAMO.get(part, names.get(part, part.title()))}"
    if style == "blender":
        return _BLENDER.get(part, part.lower()) + (f".{side[0].upper()}" if side else "")
    if style == "unreal":
        names = {"hips": "pelvis", "spine": "spine_01", "chest": "spine_02", "neck": "neck_01"}
        return _UNREAL.get(part, names.get(part, part.lower())) + (f"_{side[0]}" if side else "")
    if style == "mmd":
        return {"left": "左", "right": "右", "": ""}[side] + _MMD[part]
    if style == "numbered":
        return f"Bone.{list(BODY).index(bone):03d}"
    return bone


class Person:
    """Geometry and joints, to be written as .glb, .vrm or .obj."""

    def __init__(
        self, rest: str = "T", axes: str = "plain", style: str = "vrm", front: int = 1
    ) -> None:
        self.style, self.front = style, front
        self.places = {bone: np.array(BODY[bone][1], float) for bone in BODY}
        self.ends = {bone: np.array(end, float) for bone, end in ENDS.items()}
        if rest == "A":
            self._lower_arms()
        if front < 0:
            for place in (*self.places.values(), *self.ends.values()):
                place *= (-1, 1, -1)
        seeds = np.random.default_rng(3)
        self.turns = {
            bone: np.linalg.qr(seeds.normal(size=(3, 3)))[0] if axes == "any" else np.eye(3)
            for bone in BODY
        }
        self.turns = {b: t if np.linalg.det(t) > 0 else -t for b, t in self.turns.items()}

    def _lower_arms(self) -> None:
        """Turns both arms down by 45 degrees at the shoulder."""
        for side, sign in (("left", 1), ("right", -1)):
            c = np.sqrt(0.5)
            turn = np.array([[c, sign * c, 0], [-sign * c, c, 0], [0, 0, 1]])
            root = self.places[f"{side}UpperArm"].copy()
            for bone in ("LowerArm", "Hand"):
                self.places[side + bone] = root + turn @ (self.places[side + bone] - root)
            self.ends[f"{side}Hand"] = root + turn @ (self.ends[f"{side}Hand"] - root)

    def parts(self) -> list[tuple[str, str, np.ndarray, np.ndarray, np.ndarray]]:
        """Bone, colour, points, normals, triangles of each piece."""
        made = []
        for bone in BODY:
            end = self.ends.get(bone, self.places.get(NEXT.get(bone, ""), self.places[bone]))
            made.append((bone, BODY[bone][3], *capsule(self.places[bone], end, BODY[bone][2])))
        up, front = np.array([0, 1.0, 0]), np.array([0, 0, float(self.front)])
        top = self.ends["head"]
        made.append(
            ("head", HAIR, *capsule(top + up * 0.03 - front * 0.03, top - front * 0.05, 0.125))
        )
        nose = self.places["head"] + up * 0.04 + front * 0.12
        made.append(("head", "e06060", *capsule(nose, nose + front * 0.04, 0.02)))
        return made

    def glb(self, path: Path, clip: bool = False) -> Path:
        """Writes the rigged model; with a VRM extension if the suffix is .vrm."""
        return _Glb(self, clip).write(path)

    def obj(self, path: Path) -> Path:
        """Writes the still model without a rig, with its colours beside it."""
        lines, materials, start = [f"mtllib {path.stem}.mtl"], [], 1
        for bone, colour, points, normals, triangles in self.parts():
            rgb = " ".join(f"{int(colour[i : i + 2], 16) / 255:.4f}" for i in (0, 2, 4))
            materials.append(f"newmtl m{colour}\nKd {rgb}\n")
            lines += [f"o {bone}", f"usemtl m{colour}"]
            lines += [f"v {p[0]:.5f} {p[1]:.5f} {p[2]:.5f}" for p in points]
            lines += [f"vn {n[0]:.4f} {n[1]:.4f} {n[2]:.4f}" for n in normals]
            lines += ["f " + " ".join(f"{i + start}//{i + start}" for i in t) for t in triangles]
            start += len(points)
        path.with_suffix(".mtl").write_text("\n".join(dict.fromkeys(materials)))
        path.write_text("\n".join(lines) + "\n")
        return path


def capsule(a: np.ndarray, b: np.ndarray, radius: float) -> tuple[np.ndarray, ...]:
    """Points, normals and triangles of a tube with round ends from `a` to `b`."""
    rings, around = 5, 14
    turn = shortest_turn(np.array([0, 1.0, 0]), b - a)
    angles = [(i / rings - 1) * np.pi / 2 for i in range(rings + 1)]
    rows = [(a, t) for t in angles] + [(b, -t) for t in reversed(angles)]
    points, normals = [], []
    for centre, t in rows:
        for k in range(around):
            p = 2 * np.pi * k / around
            n = turn @ np.array([np.cos(t) * np.cos(p), np.sin(t), np.cos(t) * np.sin(p)])
            normals.append(n)
            points.append(centre + radius * n)
    faces = []
    for row in range(len(rows) - 1):
        for k in range(around):
            i, j = row * around + k, row * around + (k + 1) % around
            faces += [(i, i + around, j), (j, i + around, j + around)]
    return np.array(points), np.array(normals), np.array(faces)


class _Glb:
    def __init__(self, person: Person, clip: bool) -> None:
        self.person, self.block = person, bytearray()
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "lorakit tests"},
            "scene": 0, "bufferViews": [], "accessors": [], "materials": [],
        }  # fmt: skip
        self.bones = list(BODY)
        self._nodes()
        self._mesh()
        if clip:
            self._clip()

    def _add(self, array: np.ndarray, kind: str, component: int) -> int:
        data = array.tobytes()
        view = {"buffer": 0, "byteOffset": len(self.block), "byteLength": len(data)}
        self.block += data + bytes(-len(data) % 4)
        self.json["bufferViews"].append(view)
        accessor = {
            "bufferView": len(self.json["bufferViews"]) - 1,
            "componentType": component, "count": len(array), "type": kind,
        }  # fmt: skip
        if component == 5126 and kind in ("VEC3", "SCALAR"):
            flat = array.reshape(len(array), -1)
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.json["accessors"].append(accessor)
        return len(self.json["accessors"]) - 1

    def _world(self, bone: str) -> np.ndarray:
        world = np.eye(4)
        world[:3, :3], world[:3, 3] = self.person.turns[bone], self.person.places[bone]
        return world

    def _nodes(self) -> None:
        nodes: list[dict[str, Any]] = []
        for bone in self.bones:
            parent = BODY[bone][0]
            local = np.linalg.inv(self._world(parent) if parent else np.eye(4)) @ self._world(bone)
            node = {
                "name": bone_name(bone, self.person.style),
                "translation": local[:3, 3].tolist(), "rotation": to_quaternion(local[:3, :3]),
            }  # fmt: skip
            children = [i for i, other in enumerate(self.bones) if BODY[other][0] == bone]
            nodes.append(node | ({"children": children} if children else {}))
        nodes.append({"name": "Body", "mesh": 0, "skin": 0})
        self.json["nodes"] = nodes
        self.json["scenes"] = [{"nodes": [0, len(nodes) - 1]}]
        inverse = [np.linalg.inv(self._world(bone)).T.ravel() for bone in self.bones]
        matrices = self._add(np.array(inverse, "<f4"), "MAT4", 5126)
        joints = list(range(len(self.bones)))
        self.json["skins"] = [{"joints": joints, "inverseBindMatrices": matrices}]

    def _mesh(self) -> None:
        primitives = []
        for bone, colour, points, normals, triangles in self.person.parts():
            joints = np.zeros((len(points), 4), "u1")
            joints[:, 0] = self.bones.index(bone)
            weights = np.tile(np.array([1, 0, 0, 0], "<f4"), (len(points), 1))
            attributes = {
                "POSITION": self._add(points.astype("<f4"), "VEC3", 5126),
                "NORMAL": self._add(normals.astype("<f4"), "VEC3", 5126),
                "JOINTS_0": self._add(joints, "VEC4", 5121),
                "WEIGHTS_0": self._add(weights, "VEC4", 5126),
            }
            indices = self._add(triangles.astype("<u2").ravel(), "SCALAR", 5123)
            primitives.append(
                {"attributes": attributes, "indices": indices, "material": self._paint(colour)}
            )
        self.json["meshes"] = [{"primitives": primitives}]

    def _paint(self, colour: str) -> int:
        rgb = [(int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (0, 2, 4)]
        look = {"baseColorFactor": [*rgb, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.9}
        self.json["materials"].append({"name": colour, "pbrMetallicRoughness": look})
        return len(self.json["materials"]) - 1

    def _clip(self) -> None:
        """Two seconds in which the left arm is raised by 90 degrees about z."""
        index = self.bones.index("leftUpperArm")
        start = np.array(self.json["nodes"][index]["rotation"])
        raised = np.array([0, 0, np.sin(np.pi / 4), np.cos(np.pi / 4)])
        times = self._add(np.array([[0.0], [2.0]], "<f4"), "SCALAR", 5126)
        turns = self._add(np.array([start, raised], "<f4"), "VEC4", 5126)
        self.json["animations"] = [
            {
                "name": "Raise",
                "samplers": [{"input": times, "output": turns, "interpolation": "LINEAR"}],
                "channels": [{"sampler": 0, "target": {"node": index, "path": "rotation"}}],
            }
        ]

    def write(self, path: Path) -> Path:
        if path.suffix == ".vrm":
            self._vrm()
        self.json["buffers"] = [{"byteLength": len(self.block)}]
        text = json.dumps(self.json).encode()
        text += b" " * (-len(text) % 4)
        body = struct.pack("<II", len(text), 0x4E4F534A) + text
        body += struct.pack("<II", len(self.block), 0x004E4942) + bytes(self.block)
        path.write_bytes(b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body)
        return path

    def _vrm(self) -> None:
        self.json["extensionsUsed"] = ["VRM" if self.person.front < 0 else "VRMC_vrm"]
        if self.person.front < 0:
            bones: Any = [{"bone": bone, "node": i} for i, bone in enumerate(self.bones)]
            meta = {
                "title": "Mannequin", "author": "lorakit", "licenseName": "CC_BY_NC",
                "allowedUserName": "Everyone", "commercialUssageName": "Disallow",
                "violentUssageName": "Disallow", "sexualUssageName": "Disallow",
            }  # fmt: skip
            self.json["extensions"] = {"VRM": {"humanoid": {"humanBones": bones}, "meta": meta}}
        else:
            humans = {bone: {"node": i} for i, bone in enumerate(self.bones)}
            terms = {
                "name": "Mannequin", "authors": ["lorakit"],
                "licenseUrl": "https://vrm.dev/licenses/1.0/", "avatarPermission": "everyone",
                "commercialUsage": "personalNonProfit", "modification": "prohibited",
                "creditNotation": "required",
            }  # fmt: skip
            extension = {"specVersion": "1.0", "humanoid": {"humanBones": humans}, "meta": terms}
            self.json["extensions"] = {"VRMC_vrm": extension}
