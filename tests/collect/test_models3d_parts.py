"""3D models, the parts that need no renderer: reading glTF, finding a person's bones, posing them,
placing the camera, unpacking zips.
"""

from __future__ import annotations

import base64
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lorakit.collect.models3d.clips import at, clips
from lorakit.collect.models3d.files import Model, models
from lorakit.collect.models3d.gltf import read_gltf, write_glb
from lorakit.collect.models3d.humanoid import from_names, from_vrm, lacking, meaning
from lorakit.collect.models3d.poses import POSES, about, facing, shortest_turn, strike
from lorakit.collect.models3d.settings import ModelSettings, rgb
from lorakit.collect.models3d.skeleton import (
    Skeleton,
    from_quaternion,
    of_nodes,
    to_quaternion,
    turned,
)
from lorakit.collect.models3d.skin import stilled
from lorakit.collect.models3d.views import (
    FRAMINGS,
    Stand,
    azimuths,
    camera,
    corners,
    directions,
    seen,
    view_tags,
)
from lorakit.collect.models3d.vrm import terms
from lorakit.errors import CollectError, SettingsError

from .humanoid import BODY, Person

STYLES = ("vrm", "mixamo", "blender", "unreal", "mmd")


def rig(path: Path) -> Skeleton:
    nodes = read_gltf(path).nodes
    bare = of_nodes(nodes, {})
    names, parents = [j.name for j in bare.joints], [j.parent for j in bare.joints]
    return Skeleton(bare.joints, from_names(names, parents))


# -- bones --


@pytest.mark.parametrize("style", STYLES)
def test_the_bones_are_found_under_the_names_of_every_program(tmp_path: Path, style: str) -> None:
    found = rig(Person(style=style).glb(tmp_path / "a.glb")).bones
    assert found == {bone: index for index, bone in enumerate(BODY)}


@pytest.mark.parametrize(
    "name, bone",
    [
        ("mixamorig:LeftForeArm", "leftLowerArm"),
        ("mixamorig1:RightToeBase", "rightToes"),
        ("J_Bip_L_UpperLeg", "leftUpperLeg"),
        ("J_Sec_Hair1_01", ""),
        ("Bip001 R Calf", "rightLowerLeg"),
        ("Bip01 Pelvis", "hips"),
        ("DEF-upper_arm.L", "leftUpperArm"),
        ("DEF-upper_arm.L.001", "leftUpperArm"),
        ("spine_03", "upperChest"),
        ("clavicle_l", "leftShoulder"),
        ("lShldrBend", "leftUpperArm"),
        ("rThighBend", "rightUpperLeg"),
        ("hand.R", "rightHand"),
        ("左ひじ", "leftLowerArm"),
        ("足首", ""),
        ("ひざ", ""),
        ("hand_thumb_01_l", ""),
        ("LeftHandIndex1", ""),
        ("leg", ""),
        ("Armature", ""),
    ],
)
def test_what_a_joints_name_means(name: str, bone: str) -> None:
    assert meaning(name) == bone


def test_a_vrm_says_itself_which_joint_is_which(tmp_path: Path) -> None:
    for front in (1, -1):
        model = read_gltf(Person(style="numbered", front=front).glb(tmp_path / "a.vrm"))
        bones = from_vrm(model.json["extensions"])
        assert bones == {bone: index for index, bone in enumerate(BODY)}


def test_the_terms_of_a_vrm_are_told(tmp_path: Path) -> None:
    new = read_gltf(Person().glb(tmp_path / "new.vrm")).json["extensions"]
    assert terms(new) == (
        "Terms of this VRM: by lorakit; who may use it: everyone; commercial use: "
        "personalNonProfit; modification: prohibited; credit: required; "
        "https://vrm.dev/licenses/1.0/. Keep to them; whoever uses the LoRA must too."
    )
    old = read_gltf(Person(front=-1).glb(tmp_path / "old.vrm")).json["extensions"]
    assert "licence CC_BY_NC" in terms(old) and "commercial use: Disallow" in terms(old)
    assert terms({}) == ""


def test_names_without_meaning_are_no_person(tmp_path: Path) -> None:
    skeleton = rig(Person(style="numbered").glb(tmp_path / "a.glb"))
    assert "hips" in lacking(skeleton.bones)


# -- poses --


@pytest.mark.parametrize("rest", ["T", "A"])
@pytest.mark.parametrize("axes", ["plain", "any"])
@pytest.mark.parametrize("front", [1, -1])
def test_a_pose_looks_alike_whatever_the_rest_pose_axes_and_front(
    tmp_path: Path, rest: str, axes: str, front: int
) -> None:
    skeleton = rig(Person(rest, axes, front=front).glb(tmp_path / "a.glb"))
    plain = rig(Person().glb(tmp_path / "b.glb"))
    assert facing(skeleton)[:, 2] == pytest.approx([0, 0, front], abs=1e-6)
    for name, pose in POSES.items():
        if not pose.bones:
            continue
        got = skeleton.places(strike(skeleton, pose))
        wanted = plain.places(strike(plain, pose))
        for bone, place in wanted.items():
            assert got[bone] * (front, 1, front) == pytest.approx(place, abs=1e-5), (name, bone)


def test_poses_are_what_they_are_called(tmp_path: Path) -> None:
    skeleton = rig(Person("A", "any").glb(tmp_path / "a.glb"))
    at_rest = skeleton.places()
    got = {name: skeleton.places(strike(skeleton, pose)) for name, pose in POSES.items()}
    assert got["as it is"]["leftHand"] == pytest.approx(at_rest["leftHand"])
    for side, out in (("left", 1), ("right", -1)):
        t, relaxed = got["t"], got["relaxed"]
        arm = t[side + "Hand"] - t[side + "UpperArm"]
        assert arm == pytest.approx([0.5 * out, 0, 0], abs=1e-4)
        assert relaxed[side + "Hand"][1] < relaxed["hips"][1]  # the hands hang below the hips
        assert got["arms up"][side + "Hand"][1] > got["arms up"]["head"][1] + 0.2
        sit = got["sit"]
        assert sit[side + "LowerLeg"][2] - sit[side + "UpperLeg"][2] > 0.35  # knees to the front
        assert sit[side + "Foot"][1] < sit[side + "LowerLeg"][1] - 0.35  # shins hang
        kneel = got["kneel"]
        assert kneel[side + "Foot"][2] < kneel[side + "LowerLeg"][2] - 0.3  # feet behind the knees
        hip = got["hands on hips"]
        assert np.linalg.norm(hip[side + "Hand"] - hip["hips"]) < 0.3
        assert abs(hip[side + "LowerArm"][0]) > abs(hip[side + "Hand"][0]) + 0.05  # elbows out
    assert got["wave"]["rightHand"][1] > got["wave"]["rightUpperArm"][1] + 0.15
    assert got["wave"]["leftHand"][1] < got["wave"]["hips"][1]
    feet = got["walk"]["leftFoot"][2] - got["walk"]["rightFoot"][2]
    assert feet > 0.4 and got["run"]["leftFoot"][2] - got["run"]["rightFoot"][2] > 0.4


def test_who_looks_back_turns_the_head_by_a_quarter_but_not_the_feet(tmp_path: Path) -> None:
    skeleton = rig(Person().glb(tmp_path / "a.glb"))
    worlds = skeleton.worlds(strike(skeleton, POSES["look back"]))
    head = worlds[skeleton.bones["head"]][:3, :3] @ [0, 0, 1]
    assert np.degrees(np.arctan2(head[0], head[2])) == pytest.approx(86, abs=1)
    assert worlds[skeleton.bones["leftFoot"]][:3, :3] == pytest.approx(np.eye(3), abs=1e-6)


def test_a_joint_between_two_bones_goes_along(tmp_path: Path) -> None:
    path = Person().glb(tmp_path / "a.glb")
    model = read_gltf(path).changed()
    arm = next(n for n in model.nodes if n["name"] == "leftUpperArm")
    lower = arm["children"][0]
    model.nodes.append({"name": "twist", "children": [lower], "rotation": [0, 0.6, 0, 0.8]})
    turned(model.nodes[lower], from_quaternion([0, -0.6, 0, 0.8]))
    there = np.array(model.nodes[lower]["translation"])
    model.nodes[lower]["translation"] = (from_quaternion([0, -0.6, 0, 0.8]) @ there).tolist()
    arm["children"] = [len(model.nodes) - 1]
    write_glb(model, tmp_path / "b.glb")
    plain, twisted = rig(path), rig(tmp_path / "b.glb")
    wanted = plain.places(strike(plain, POSES["relaxed"]))["leftHand"]
    assert twisted.places(strike(twisted, POSES["relaxed"]))["leftHand"] == pytest.approx(wanted)


def test_turns_and_quaternions_say_the_same() -> None:
    for angles in [(0, 0, 0), (30, 0, 0), (0, 170, 0), (20, -40, 130), (180, 0, 0), (0, 0, 180)]:
        turn = about(*angles)
        assert from_quaternion(to_quaternion(turn)) == pytest.approx(turn, abs=1e-12)
    left, up = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    assert about(0, 0, 90) @ left == pytest.approx(up)
    assert shortest_turn(left, -left) @ left == pytest.approx(-left)
    assert shortest_turn(left, np.zeros(3)) == pytest.approx(np.eye(3))


# -- glTF --


def test_a_skin_is_bent_as_its_joints_stand(tmp_path: Path) -> None:
    model = read_gltf(Person("A", "any").glb(tmp_path / "a.glb"))
    skeleton = rig(tmp_path / "a.glb")
    posed = model.changed()
    for index, turn in strike(skeleton, POSES["t"]).items():
        turned(posed.nodes[index], turn)
    still, points = stilled(posed)
    _, plain = stilled(read_gltf(Person("T").glb(tmp_path / "b.glb")))
    assert points == pytest.approx(plain, abs=2e-3)
    assert "skins" not in still.json
    again, same = stilled(read_gltf(write_glb(still, tmp_path / "c.glb")))
    assert same == pytest.approx(points, abs=1e-6)


def test_a_clip_is_read_at_any_moment(tmp_path: Path) -> None:
    model = read_gltf(Person().glb(tmp_path / "a.glb", clip=True))
    (clip,) = clips(model)
    assert (clip.name, clip.start, clip.end) == ("Raise", 0.0, 2.0)
    assert clip.moments(2) == [0.5, 1.5]
    bones = rig(tmp_path / "a.glb").bones
    for time, degrees in [(0.0, 0), (1.0, 45), (2.0, 90), (9.0, 90)]:
        places = of_nodes(at(model, 0, time).nodes, bones).places()
        arm = places["leftHand"] - places["leftUpperArm"]
        assert np.degrees(np.arctan2(arm[1], arm[0])) == pytest.approx(degrees, abs=0.01)


def test_a_gltf_with_files_beside_it_becomes_one_piece(tmp_path: Path) -> None:
    model = read_gltf(Person().glb(tmp_path / "a.glb"))
    (tmp_path / "a b.bin").write_bytes(model.binary)
    pixel = base64.b64encode(b"\x89PNG pixel").decode()
    document = model.json | {
        "buffers": [{"uri": "a%20b.bin", "byteLength": len(model.binary)}],
        "images": [{"uri": f"data:image/png;base64,{pixel}"}],
    }
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    read = read_gltf(tmp_path / "a.gltf")
    assert stilled(read)[1] == pytest.approx(stilled(model)[1])
    image = read.json["images"][0]
    view = read.json["bufferViews"][image["bufferView"]]
    start = view["byteOffset"]
    assert read.binary[start : start + view["byteLength"]] == b"\x89PNG pixel"


@pytest.mark.parametrize(
    "uri, words",
    [("../secret.bin", "lies outside its folder"), ("gone.bin", "gone.bin is missing")],
)
def test_a_gltf_reads_only_what_is_beside_it(tmp_path: Path, uri: str, words: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"secret")
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.gltf"
    path.write_text(json.dumps({"asset": {"version": "2.0"}, "buffers": [{"uri": uri}]}))
    with pytest.raises(CollectError, match=words):
        read_gltf(path)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"just a text", "a.glb is not a whole glTF model"),
        (b'{"asset": {"version": "1.0"}, "meshes": [1]}', "is glTF 1.0, not 2.0"),
        (b'{"asset": {"version": "2.0"}}', "There is no mesh in a.glb"),
        (b"[]", "has no description"),
        (b"glTF\x02\0\0\0\x00\x10\0\0", "of 4,096 bytes are there"),
    ],
)
def test_damaged_files_are_said_to_be(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.glb").write_bytes(content)
    with pytest.raises(CollectError, match=words):
        read_gltf(tmp_path / "a.glb")


def test_numbers_that_are_not_there_and_joints_in_a_circle(tmp_path: Path) -> None:
    model = read_gltf(Person().glb(tmp_path / "a.glb"))
    model.binary = model.binary[:1000]
    with pytest.raises(CollectError, match="ends before its numbers do"):
        stilled(model)
    model.nodes[1]["children"] = [0]
    with pytest.raises(CollectError, match="in a circle"):
        of_nodes(model.nodes, {}).worlds()


# -- the camera --


@pytest.mark.parametrize("direction", [(a, e) for a in azimuths(12) for e in (-40, 0, 20, 80)])
@pytest.mark.parametrize("box", [(0.5, 1.7, 0.3), (1.6, 1.7, 0.3), (2.0, 0.5, 3.0), (90, 1e2, 7)])
def test_nothing_is_cut_off_and_the_picture_is_filled(
    direction: tuple[int, int], box: tuple[float, float, float]
) -> None:
    points = corners(-np.array(box) / 2, np.array(box) / 2) + (3, 1, -2)
    view = camera(points, np.eye(3), direction, side=1024, margin=0.06)
    x, y = projected(points, view)
    assert max(view.size) == 1024 and all(side % 8 == 0 for side in view.size)
    used = max(np.abs(x).max(), np.abs(y).max())
    assert used == pytest.approx(0.88, abs=1e-6)


def projected(points: np.ndarray, view: object) -> tuple[np.ndarray, np.ndarray]:
    """Where points are seen, -1 to 1 from edge to edge: a camera written anew."""
    place, target, up = (np.array(getattr(view, k)) for k in ("position", "target", "up"))
    ahead = (target - place) / np.linalg.norm(target - place)
    right = np.cross(ahead, up)
    seen_from = points - place
    depth = seen_from @ ahead
    assert (depth > 0).all()
    width, height = view.size  # type: ignore[attr-defined]
    tangent = np.tan(np.radians(view.angle) / 2)  # type: ignore[attr-defined]
    return seen_from @ right / depth / tangent * height / width, seen_from @ up / depth / tangent


def test_the_front_comes_first_and_positive_angles_show_the_left_side() -> None:
    assert azimuths(4) == [0, 90, 180, -90]
    points = corners(np.array([-1.0, -1, -1]), np.ones(3))
    assert camera(points, np.eye(3), (0, 0), side=64).position[2] > 2
    assert camera(points, np.eye(3), (90, 0), side=64).position[0] > 2
    assert camera(points, np.eye(3), (0, 60), side=64).position[1] > 2


@pytest.mark.parametrize(
    "direction, tags",
    [
        ((0, 0), ()),
        ((45, 20), ("from above",)),
        ((-90, 0), ("from side",)),
        ((180, -30), ("from behind", "from below")),
    ],
)
def test_views_have_danboorus_tags(direction: tuple[int, int], tags: tuple[str, ...]) -> None:
    assert view_tags(*direction) == tags


def test_framings_go_by_the_rig_and_without_one_by_the_height(tmp_path: Path) -> None:
    _, points = stilled(read_gltf(Person().glb(tmp_path / "a.glb")))
    places = rig(tmp_path / "a.glb").places()
    for known in (places, {}):
        stand = Stand(points, known, np.eye(3))
        full, upper, head = (seen(stand, framing) for framing in FRAMINGS)
        top = points[:, 1].max()
        assert len(full) == len(points)
        assert upper[:, 1].max() == pytest.approx(top) and 0.75 < upper[:, 1].min() < 1.0
        assert head[:, 1].max() == pytest.approx(top, abs=0.06)
        assert 1.2 < head[:, 1].min() < 1.48
    with pytest.raises(ValueError, match="there is no framing 'feet'"):
        seen(Stand(points, {}, np.eye(3)), "feet")


def test_directions_are_spread_evenly() -> None:
    spread = directions(200)
    assert np.linalg.norm(spread, axis=1) == pytest.approx(1)
    assert spread.mean(0) == pytest.approx([0, 0, 0], abs=0.01)


# -- files --


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_zip_gives_each_model_once_in_its_best_format(tmp_path: Path) -> None:
    files = {"a/Miku.fbx": b"1", "a/Miku.obj": b"2", "a/skin.png": b"3", "b/cat.dae": b"4"}
    path = zipped(tmp_path / "m.zip", files)
    found = models(str(path), "f3d", tmp_path / "out")
    assert [model.path.name for model in found] == ["Miku.fbx", "cat.dae"]
    assert (found[0].path.parent / "skin.png").read_bytes() == b"3"
    assert found[0] == Model("Miku", found[0].path, found[0].digest) and len(found[0].digest) == 16


@pytest.mark.parametrize(
    "name, words",
    [
        ("../../evil.obj", "points outside of it"),
        ("/evil.obj", "points outside of it"),
        ("C:/evil.obj", "points outside of it"),
        ("..\\evil.obj", "points outside of it"),
        ("read.me", "There is no 3D model in m.zip"),
        ("a.blend", "f3d does not open .blend files: choose engine blender"),
    ],
)
def test_a_zip_that_is_of_no_use_or_harmful(tmp_path: Path, name: str, words: str) -> None:
    path = zipped(tmp_path / "m.zip", {name: b"content"})
    with pytest.raises(CollectError, match=words):
        models(str(path), "f3d", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil.obj"))


def test_links_bombs_and_damaged_zips_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.obj")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.obj", bytes(300 << 20))
    (tmp_path / "half.zip").write_bytes((tmp_path / "link.zip").read_bytes()[:40])
    for name, words in [
        ("link", "is a link"),
        ("bomb", "no model"),
        ("half", "cannot be unpacked"),
    ]:
        with pytest.raises(CollectError, match=words):
            models(str(tmp_path / f"{name}.zip"), "f3d", tmp_path / "out")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.obj").write_text("")
    with (tmp_path / "huge.fbx").open("wb") as file:
        os.truncate(file.fileno(), 3 << 30)  # no room is taken
    for name, words in [
        ("gone.glb", "gone.glb does not exist"),
        ("a.txt", "a.txt is no 3D model that lorakit knows: it opens .vrm .glb"),
        ("a.obj", "a.obj is empty"),
        ("huge.fbx", "huge.fbx is larger than 2 GB"),
        ("", "is a folder; name the model in it"),
    ]:
        with pytest.raises(CollectError, match=words):
            models(str(tmp_path / name), "f3d", tmp_path / "out")


# -- settings --


@pytest.mark.parametrize(
    "given, words",
    [
        ({"poses": ("relaxd",)}, "poses has 'relaxd'; did you mean 'relaxed'?"),
        ({"framings": ("knees",)}, "framings has 'knees'"),
        ({"framings": ()}, "framings is empty"),
        ({"poses": ()}, "neither poses nor clips"),
        ({"elevations": ("high",)}, "whole degrees from -85 to 85"),
        ({"elevations": ("90",)}, "whole degrees from -85 to 85"),
        ({"elevations": ()}, "elevations is empty"),
        ({"background": ("whit",)}, "did you mean 'white'?"),
        ({"background": ("#12345",)}, "write it as #rrggbb"),
        ({"toon": True}, "toon needs engine = blender"),
        ({"views": 0}, "views is 0; it must be from 1 to 72 views"),
        ({"engine": "maya"}, "engine is 'maya'"),
    ],
)
def test_wrong_settings_are_said_plainly(given: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace("?", r"\?")):
        ModelSettings(**given)


def test_colours_and_directions_of_the_settings() -> None:
    assert rgb("transparent") is None and rgb("white") == (255, 255, 255)
    assert rgb("#10ff80") == (16, 255, 128)
    given = ModelSettings(views=2, elevations=("0", "-20", "+0"))
    assert given.directions() == [(0, 0), (180, 0), (0, -20), (180, -20)]
