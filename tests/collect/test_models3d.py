"""3D models drawn by f3d: a person made in code, from all around, in poses."""

from __future__ import annotations

import gc
import json
import sys
import time
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from lorakit.__main__ import main
from lorakit.collect.finds import Offer
from lorakit.collect.intake import take
from lorakit.collect.models3d import SOURCE, ModelSettings
from lorakit.collect.models3d.worker import Worker
from lorakit.collect.origins import read_origins
from lorakit.errors import CollectError
from lorakit.progress import silent
from lorakit.project import find

from .humanoid import Person

# found, not imported: f3d cannot be loaded beside the OpenSSL that pytest's plugins have loaded
pytestmark = pytest.mark.skipif(find_spec("f3d") is None, reason="f3d is not installed")
POSES = ("relaxed", "walk", "sit", "arms up")


def look(*items: Path, **chosen: Any) -> Offer:
    chosen = {"size": 128, "background": ("transparent",), **chosen}
    return SOURCE.look(ModelSettings(**chosen), [str(item) for item in items], silent)


def pictures(offer: Offer, folder: Path) -> list[np.ndarray]:
    """Each picture of the offer as RGBA, [height, width, 4]."""
    drawn = []
    for each in offer.finds:
        each.write(folder / each.name)
        with Image.open(folder / each.name) as image:
            drawn.append(np.asarray(image.convert("RGBA")))
    return drawn


def frame_free(alpha: np.ndarray) -> bool:
    edges = (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])
    return not any(edge.any() for edge in edges)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the common silhouette in the whole one, both brought to one size."""
    masks = [np.asarray(Image.fromarray(each[..., 3]).resize((64, 64))) > 127 for each in (a, b)]
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


@pytest.mark.slow
def test_a_person_from_24_views_in_4_poses(tmp_path: Path) -> None:
    path = Person("A", "any").glb(tmp_path / "girl.glb")
    offer = look(path, views=24, poses=POSES, framings=("full body",), size=256)
    assert len(offer.finds) == 96
    drawn = pictures(offer, tmp_path)
    for each, image in zip(offer.finds, drawn, strict=True):
        alpha = image[..., 3]
        assert frame_free(alpha), each.name
        inside = alpha > 0
        assert (alpha[inside] == 255).mean() > 0.8  # all but the smooth edge
        assert 0.03 < inside.mean() < 0.6
        rows, columns = np.nonzero(inside)
        filled = max(np.ptp(rows) / alpha.shape[0], np.ptp(columns) / alpha.shape[1])
        assert filled > 0.8, each.name
    by_pose = [drawn[number * 24 : number * 24 + 24] for number in range(4)]
    for view in range(24):
        for one in range(4):
            for other in range(one):
                assert overlap(by_pose[one][view], by_pose[other][view]) < 0.93
    for images in by_pose:  # a step around changes what is seen
        for one, other in zip(images, images[1:], strict=False):
            same = one.shape == other.shape and np.array_equal(one, other)
            assert not same


def solid(alpha: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours are all part of the person: true inside."""
    inside = alpha > 0
    for axis in (0, 1):
        inside = inside & np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    return inside


@pytest.mark.parametrize("suffix", [".glb", ".vrm", ".obj"])
def test_the_background_is_exactly_clear_and_the_person_exactly_opaque(
    tmp_path: Path, suffix: str
) -> None:
    person, path = Person(front=-1 if suffix == ".vrm" else 1), tmp_path / f"girl{suffix}"
    person.obj(path) if suffix == ".obj" else person.glb(path)
    offer = look(path, views=2, poses=("as it is",), framings=("full body",), size=256)
    for image in pictures(offer, tmp_path):
        alpha = image[..., 3]
        assert (alpha[solid(alpha)] == 255).all()
        assert frame_free(alpha) and set(np.unique(image[alpha == 0])) == {0}
    front, back = pictures(offer, tmp_path)
    assert red(front) > red(back)  # the nose is at the front


def red(image: np.ndarray) -> int:
    """How many pixels of the upper third are as red as the nose."""
    r, g, b, a = image[: len(image) // 3].astype(int).transpose(2, 0, 1)
    return int(((a == 255) & (r > 1.6 * g) & (r > 1.6 * b)).sum())


def test_edges_have_the_persons_colour_and_no_dark_fringe(tmp_path: Path) -> None:
    path = Person().glb(tmp_path / "girl.glb")
    offer = look(path, views=1, poses=("relaxed",), framings=("head",), size=256, light="even")
    (image,) = pictures(offer, tmp_path)
    alpha = image[..., 3]
    bright = image[..., :3].max(2).astype(float)
    edge, opaque = (alpha > 0) & (alpha < 255), alpha == 255
    shifts = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    total = sum(np.roll(bright * opaque, shift, (0, 1)) for shift in shifts)
    count = sum(np.roll(opaque * 1.0, shift, (0, 1)) for shift in shifts)
    near = edge & (count > 3)
    assert near.sum() > 50
    # what is behind the model is black: weighed by it, edges would be half as bright
    assert np.median(bright[near] / (total[near] / count[near])) > 0.75


def test_backgrounds_take_turns_and_lie_behind_the_edges(tmp_path: Path) -> None:
    path = Person().glb(tmp_path / "girl.glb")
    offer = look(
        path,
        views=2,
        poses=("relaxed", "sit"),
        framings=("full body",),
        background=("white", "#20c040"),
    )
    corners = [tuple(image[0, 0]) for image in pictures(offer, tmp_path)]
    white, green = (255, 255, 255, 255), (32, 192, 64, 255)
    assert corners == [white, green, green, white]  # no view always has the same one
    assert [find.origin.tags[-2] for find in offer.finds] == [
        "white background", "simple background", "simple background", "white background",
    ]  # fmt: skip


def test_what_is_known_of_a_picture_comes_along_as_tags(tmp_path: Path) -> None:
    path = Person().glb(tmp_path / "Hatsune Miku.glb")
    offer = look(path, views=2, poses=("sit", "look back"), elevations=("30",))
    tags = {find.name.rpartition("_")[0]: find.origin.tags for find in offer.finds}
    assert tags["hatsune-miku_sit_full-body_180+30"] == (
        "full body", "sitting", "from behind", "from above", "transparent background", "3d",
    )  # fmt: skip
    assert "looking back" in tags["hatsune-miku_look-back_upper-body_000+30"]
    ids = {find.origin.id for find in offer.finds}
    assert len(ids) == len(offer.finds) == 8
    assert {find.origin.source for find in offer.finds} == {"model"}


def test_every_picture_is_made_once_and_a_changed_look_is_another(tmp_path: Path) -> None:
    project = find(str(tmp_path / "astrid")).create()
    path = Person().glb(tmp_path / "girl.glb")
    few = {"views": 2, "poses": ("relaxed",), "framings": ("full body",), "size": 64}
    assert len(take(project, look(path, **few)).new) == 2
    assert str(take(project, look(path, **few))) == "0 new pictures; 2 were here already."
    assert len(take(project, look(path, **few, light="side")).new) == 2
    assert all(origin.link == "girl.glb" for origin in read_origins(project).values())
    assert len({path.read_bytes() for path in project.dataset.glob("*.png")}) == 4


def test_what_the_model_can_do_is_said_first(tmp_path: Path) -> None:
    notes = look(Person().glb(tmp_path / "girl.vrm", clip=True)).notes
    assert notes[0] == "girl.vrm: joints of a person found (17 bones), so every pose is possible."
    assert notes[1].startswith("Terms of this VRM: by lorakit;")
    assert notes[2].startswith("girl.vrm carries 1 animations (Raise): --clips N takes N moments")
    offer = look(Person(style="numbered").glb(tmp_path / "thing.glb"))
    assert "no hips was found among their names" in offer.notes[0]
    assert {find.name.split("_")[1] for find in offer.finds} == {"as-it-is"}
    offer = look(Person().obj(tmp_path / "still.obj"))
    assert offer.notes[0] == "still.obj has no rig: it is shown as it is, without poses."
    (tmp_path / "still.mtl").unlink()
    assert (
        "still.mtl is not beside still.obj, so it comes out grey"
        in look(tmp_path / "still.obj").notes[1]
    )


def test_moments_of_a_clip(tmp_path: Path) -> None:
    path = Person().glb(tmp_path / "girl.glb", clip=True)
    offer = look(path, views=1, poses=(), clips=2, framings=("full body",))
    early, late = pictures(offer, tmp_path)
    assert [find.name.split("_")[1] for find in offer.finds] == ["raise-1", "raise-2"]
    assert overlap(early, late) < 0.9
    assert frame_free(early[..., 3]) and frame_free(late[..., 3])


def test_thumbnails_are_small_and_quick(tmp_path: Path) -> None:
    offer = look(Person().glb(tmp_path / "girl.glb"), size=2048)
    assert offer.finds[0].thumbnail is not None
    small = offer.finds[0].thumbnail()
    assert max(small.size) <= 184 and small.mode == "RGB" and small.getpixel((0, 0)) == (255,) * 3


def test_a_zip_with_textures_beside_the_model(tmp_path: Path) -> None:
    Person().obj(tmp_path / "girl.obj")
    with zipfile.ZipFile(tmp_path / "girl.zip", "w") as archive:
        for name in ("girl.obj", "girl.mtl"):
            archive.write(tmp_path / name, f"model/{name}")
    offer = look(tmp_path / "girl.zip", views=1, framings=("full body",))
    (image,) = pictures(offer, tmp_path)
    r, g, b, a = image.astype(int).transpose(2, 0, 1)
    assert ((a == 255) & (b > r + 40)).mean() > 0.03  # the shirt is blue: its colours were found


@pytest.mark.parametrize("suffix", [".glb", ".vrm", ".fbx", ".dae", ".obj", ".stl", ".ply", ".3ds"])
@pytest.mark.parametrize("content", [b"This is a text, not a model.\n" * 9, bytes(range(256)) * 40])
def test_what_is_no_model_is_said_to_be_none(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(CollectError, match=f"bad{suffix}"):
        offer = look(path, views=1, framings=("full body",))
        offer.finds[0].write(tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.glb").write_bytes(b"text")
    offer = look(tmp_path / "bad.glb", Person().obj(tmp_path / "good.obj"), views=1)
    assert len(offer.finds) == 2 and "bad.glb is not a whole glTF model" in offer.notes[-1]


def test_a_renderer_that_is_killed_starts_again(tmp_path: Path) -> None:
    offer = look(Person().glb(tmp_path / "girl.glb"), views=2, framings=("full body",))
    engine = engine_of(offer)
    offer.finds[0].write(tmp_path / "a.png")
    engine.worker.process.kill()
    engine.worker.process.wait()
    offer.finds[1].write(tmp_path / "b.png")
    assert engine.worker.lives == 2
    process = engine.worker.process
    del offer, engine
    gc.collect()
    assert process.poll() is not None  # nobody can ask it any more


def engine_of(offer: Offer) -> Any:
    write: Any = offer.finds[0].write
    return next(
        c.cell_contents for c in write.__closure__ if hasattr(c.cell_contents, "engine")
    ).engine


ECHO = """
import sys, json, os, time
for line in sys.stdin:
    do = json.loads(line)["do"]
    if do == "crash": print("segfault in libfoo", file=sys.stderr, flush=True); os.abort()
    if do == "hang": time.sleep(60)
    print("noise" if do == "noise" else "", flush=True)
    print(json.dumps({"error": "no such file"} if do == "fail" else {"did": do}), flush=True)
"""


def test_a_worker_that_crashes_hangs_or_fails_says_which_file_it_was() -> None:
    worker = Worker("f3d", [sys.executable, "-c", ECHO])
    assert worker.ask("a.glb", {"do": "noise"}) == {"did": "noise"}
    with pytest.raises(CollectError, match="^a.glb: no such file$"):
        worker.ask("a.glb", {"do": "fail"})
    with pytest.raises(
        CollectError, match=r"^b.glb: f3d crashed on it \(signal 6\): segfault in lib"
    ):
        worker.ask("b.glb", {"do": "crash"})
    with pytest.raises(CollectError, match="^c.glb: f3d was stopped: the model took too long or"):
        worker.ask("c.glb", {"do": "hang"}, patience=0.5)
    assert worker.ask("d.glb", {"do": "draw"}) == {"did": "draw"} and worker.lives == 3
    worker.close()
    with pytest.raises(CollectError, match="f3d could not be started"):
        Worker("f3d", ["/nowhere/f3d"]).ask("a.glb", {"do": "x"})


def command(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["collect", "models3d", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_previews_renders_and_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAKIT_BLENDER", "/nowhere")
    path = str(Person().glb(tmp_path / "girl.glb"))
    here = ["--project", str(tmp_path / "astrid"), "--json", "--views", "2", "--size", "64"]
    chosen = [path, *here, "--poses", "sit,t", "--framings", "full body"]
    code, out, _ = command([*chosen, "--dry-run"], capsys)
    said = json.loads(out)
    assert code == 0 and said["new"] == 4 and Path(said["sheet"]).is_file()
    code, out, _ = command(chosen, capsys)
    assert code == 0 and len(json.loads(out)["files"]) == 4
    for wrong, words in [
        ([str(tmp_path / "gone.glb"), *here], "gone.glb does not exist"),
        ([path, *here, "--poses", "fly"], "poses has 'fly'"),
        ([path, *here, "--engine", "blender"], "no program at /nowhere"),
    ]:
        code, out, err = command(wrong, capsys)
        assert code == 2 and words in out + err


@pytest.mark.slow
def test_a_hundred_pictures_a_minute(tmp_path: Path) -> None:
    """At 512 pixels, on two cores without a graphics card. The processor's time is measured, so
    that other work on the machine does not count.
    """
    offer = look(Person().glb(tmp_path / "girl.glb"), size=512, views=24)
    offer.finds[0].write(tmp_path / "first.png")
    drawing, own = psutil.Process(engine_of(offer).worker.process.pid), psutil.Process()
    before, started = busy(drawing) + busy(own), time.monotonic()
    for each in offer.finds[1:51]:
        each.write(tmp_path / each.name)
    spent = busy(drawing) + busy(own) - before
    print(f"50 pictures: {time.monotonic() - started:.1f} s, {spent:.1f} s of processor")
    assert spent < 50 * 0.6 * 2


def busy(process: psutil.Process) -> float:
    """Seconds of processor that it has used."""
    times = process.cpu_times()
    return float(times.user + times.system)
