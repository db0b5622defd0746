"""Which joints of a model are which bones of a person: as VRM says it, else guessed from names.

Bones have the names of VRM 1.0 ('leftUpperArm').
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SIDES = ("left", "right")
MIDDLE = ("hips", "spine", "chest", "upperChest", "neck", "head")
LIMBS = (
    "Shoulder", "UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot", "Toes",
)  # fmt: skip
BONES = (*MIDDLE, *(side + limb for side in SIDES for limb in LIMBS))
# Without these a pose cannot be struck.
NEEDED = (
    "hips", "head",
    *(side + limb for side in SIDES for limb in ("UpperArm", "LowerArm", "UpperLeg", "LowerLeg")),
)  # fmt: skip

# What the joint is called once side, prefix and separators are off, by program: Mixamo, Blender
# (Rigify and hand-made), Unreal, 3ds Max Biped, Daz and Unity's habits.
WORDS = {
    "hips": "hips hip pelvis root.hips hipscenter cog",
    "spine": "spine spine1st spine01 abdomen abdomenlower torso waist",
    "chest": "chest spine1 spine02 chestlower ribcage upperbody",
    "upperChest": "upperchest spine2 spine03 chestupper",
    "neck": "neck neck01 neck1 necklower",
    "head": "head",
    "Shoulder": "shoulder clavicle collar shoulderblade",
    "UpperArm": "upperarm arm armupper shldr shldrbend uparm bicep",
    "LowerArm": "lowerarm forearm armlower forearmbend lowarm elbow",
    "Hand": "hand wrist palm",
    "UpperLeg": "upperleg upleg thigh thighbend legupper",
    "LowerLeg": "lowerleg leg calf shin leglower knee lowleg",
    "Foot": "foot ankle",
    "Toes": "toes toe toebase ball",
}  # fmt: skip
MEANINGS = {word: bone for bone, words in WORDS.items() for word in words.split()}
# MikuMikuDance's names, in which most .pmx models come
MMD = {
    "下半身": "hips", "センター": "hips",
    "上半身": "spine", "上半身2": "chest", "上半身3": "upperChest", "首": "neck", "頭": "head",
    "肩": "Shoulder", "腕": "UpperArm", "ひじ": "LowerArm", "手首": "Hand",
    "足": "UpperLeg", "ひざ": "LowerLeg", "足首": "Foot", "つま先": "Toes",
}  # fmt: skip
PREFIX = re.compile(r"^(mixamorig\d*|bip0*\d+|bip|def|org|j|cc_base|valvebiped)[\W_]+", re.I)
VRM_PREFIX = re.compile(r"^j_bip_[clr]_", re.I)


def from_vrm(extensions: Mapping[str, Any]) -> dict[str, int]:
    """Node by bone, as the VRM 0 or 1 extension of a file says; empty without one."""
    if new := extensions.get("VRMC_vrm"):
        bones = new.get("humanoid", {}).get("humanBones", {})
        return {bone: given["node"] for bone, given in bones.items() if bone in BONES}
    bones = extensions.get("VRM", {}).get("humanoid", {}).get("humanBones", [])
    return {given["bone"]: given["node"] for given in bones if given.get("bone") in BONES}


def from_names(names: Sequence[str], parents: Sequence[int]) -> dict[str, int]:
    """Joint by bone, guessed from names; the joint nearest the root wins where two have the same.

    A leg that names its thigh 'leg' too is sorted out by who is whose parent.
    """
    found: dict[str, int] = {}
    for index in sorted(range(len(names)), key=lambda i: _depth(i, parents)):
        if bone := meaning(names[index]):
            found.setdefault(bone, index)
    for side in SIDES:
        _repair(found, side, names, parents)
    return found


def meaning(name: str) -> str:
    """The bone that a joint's name stands for, or ''. 'mixamorig:LeftForeArm' is 'leftLowerArm'."""
    for mark, side in (("左", "left"), ("右", "right"), ("", "")):
        if name.startswith(mark) and (bone := MMD.get(name.removeprefix(mark))):
            return side + bone if bone in LIMBS and side else "" if bone in LIMBS else bone
    bare = PREFIX.sub("", VRM_PREFIX.sub(lambda found: f"{found[0][-2]}_", name))
    side, rest = _split_side(bare)
    bone = MEANINGS.get(re.sub(r"[\W_]+", "", rest).lower(), "")
    if not bone:
        bone = MEANINGS.get(re.sub(r"[\W_]+|0+1?$", "", rest).lower(), "")
    if bone in LIMBS:
        return side + bone if side else ""
    return bone if bone and not side else ""


def _split_side(name: str) -> tuple[str, str]:
    """('left', 'Hand') of LeftHand, hand_l, Hand.L, L_Hand, lHand, handLeft."""
    patterns = (
        (r"^(left|right)[\W_]*(.+)$", 1, 2),
        (r"^(.+?)[\W_]*(left|right)$", 2, 1),
        (r"^([lr])[\W_]+(.+)$", 1, 2),
        (r"^(.+?)[\W_]+([lr])(?:[\W_]*0*1)?$", 2, 1),
    )
    for pattern, side, rest in patterns:
        if found := re.match(pattern, name, re.I):
            return _side(found[side]), found[rest]
    if found := re.match(r"^([lr])([A-Z].+)$", name):  # lShldr
        return _side(found[1]), found[2]
    if name.lower().startswith("c_"):
        return "", name[2:]
    return "", name


def _side(mark: str) -> str:
    return "left" if mark.lower().startswith("l") else "right"


def _depth(index: int, parents: Sequence[int]) -> int:
    depth = 0
    while parents[index] >= 0 and depth <= len(parents):
        index, depth = parents[index], depth + 1
    return depth


def _repair(found: dict[str, int], side: str, names: Sequence[str], parents: Sequence[int]) -> None:
    """Rigs that say 'shoulder' for the upper arm have no clavicle, and so no upper arm yet."""
    upper, shoulder, lower = side + "UpperArm", side + "Shoulder", side + "LowerArm"
    if upper not in found and lower in found and shoulder in found:
        if parents[found[lower]] == found[shoulder]:
            found[upper] = found.pop(shoulder)


def lacking(bones: Iterable[str]) -> list[str]:
    """The bones that posing needs and that are not there."""
    have = set(bones)
    return [bone for bone in NEEDED if bone not in have]
