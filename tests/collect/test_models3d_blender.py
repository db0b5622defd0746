"""3D models drawn by Blender: the same person, in what Blender opens. Slow, and only where a
Blender is: `apt-get install -y blender python3-numpy`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorakit.collect.models3d import SOURCE, ModelSettings, blender
from lorakit.errors import CollectError, Refused, SettingsError
from lorakit.progress import silent
from lorakit.project import find

from .humanoid import Person
from .test_models3d import frame_free, look, overlap, pictures, solid

# Turns the person into what only Blender reads, and what others write.
CONVERT = """
import builtins, sys
import bpy, numpy
for name in ("bool", "int", "float", "object"):
    if name not in vars(numpy):
        setattr(numpy, name, getattr(builtins, name))
source, *targets = sys.argv[sys.argv.index("--") + 1:]
bpy.ops.wm.read_homefile(use_empty=True)
bpy.ops.import_scene.gltf(filepath=source)
for target in targets:
    if target.endswith(".fbx"):
        bpy.ops.export_scene.fbx(filepath=target, add_leaf_bones=False)
    elif target.endswith(".dae"):
        bpy.ops.wm.collada_export(filepath=target)
    else:
        bpy.ops.mesh.primitive_plane_add(size=50)  # a floor, as scenes have
        bpy.ops.object.text_add()
        bpy.ops.wm.save_as_mainfile(filepath=target)
"""
needs_blender = pytest.mark.skipif(
    shutil.which("blender") is None, reason="no Blender is installed here"
)
QUICK: dict[str, Any] = {"engine": "blender", "size": 96, "samples": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the person as .fbx, .dae and .blend."""
    folder = tmp_path_factory.mktemp("converted")
    source = Person("A", "any", "mixamo").glb(folder / "girl.glb", clip=True)
    (folder / "convert.py").write_text(CONVERT)
    targets = [str(folder / f"girl.{kind}") for kind in ("fbx", "dae", "blend")]
    words = ["blender", "-b", "-P", str(folder / "convert.py"), "--", str(source), *targets]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert all(Path(target).exists() for target in targets), done.stdout[-2000:]
    return folder


@pytest.mark.slow
@needs_blender
def test_the_same_person_as_f3d_draws(tmp_path: Path) -> None:
    path = Person("A", "any").glb(tmp_path / "girl.glb")
    chosen = {"views": 4, "poses": ("relaxed", "sit"), "framings": ("full body",)}
    by_blender = pictures(look(path, **{**QUICK, **chosen}), tmp_path)
    by_f3d = pictures(look(path, **chosen, size=96), tmp_path)
    for one, other in zip(by_blender, by_f3d, strict=True):
        assert frame_free(one[..., 3])
        assert set(np.unique(one[one[..., 3] == 0])) == {0}
        assert overlap(one, other) > 0.9
    # near by, where no gaps between arms and body are part of the picture
    (near,) = pictures(look(path, **QUICK, views=1, poses=("t",), framings=("head",)), tmp_path)
    inside = solid(np.where(solid(near[..., 3]), 255, 0))  # Cycles blurs two pixels of edge
    assert inside.mean() > 0.2 and (near[..., 3][inside] == 255).all()
    assert overlap(by_blender[1], by_blender[5]) < 0.8  # from the side, who sits has another shape


@pytest.mark.slow
@needs_blender
@pytest.mark.parametrize("kind", ["fbx", "dae", "blend"])
def test_what_f3d_cannot_pose_blender_can(converted: Path, tmp_path: Path, kind: str) -> None:
    chosen = {"views": 2, "poses": ("sit", "arms up"), "framings": ("full body", "head")}
    offer = look(converted / f"girl.{kind}", **{**QUICK, **chosen})
    assert "17 bones" in offer.notes[0]
    drawn = pictures(offer, tmp_path)
    ours = pictures(look(converted / "girl.glb", **chosen, size=96), tmp_path)
    for each, image, other in zip(offer.finds, drawn, ours, strict=True):
        assert overlap(image, other) > 0.8, each.name  # the floor of the .blend is not there
        assert frame_free(image[..., 3]) or "head" in each.name


@pytest.mark.slow
@needs_blender
def test_clips_of_an_fbx_by_both_engines(converted: Path, tmp_path: Path) -> None:
    chosen = {"views": 1, "poses": (), "clips": 2, "framings": ("full body",)}
    for engine in (QUICK, {"size": 96}):
        early, late = pictures(look(converted / "girl.fbx", **{**engine, **chosen}), tmp_path)
        assert overlap(early, late) < 0.9
        assert frame_free(early[..., 3]) and frame_free(late[..., 3])


@pytest.mark.slow
@needs_blender
def test_f3d_cuts_no_hole_into_a_head_near_by(converted: Path, tmp_path: Path) -> None:
    chosen = {"views": 1, "poses": ("as it is",), "framings": ("head",), "size": 96}
    (by_fbx,) = pictures(look(converted / "girl.fbx", **chosen), tmp_path)
    middle = by_fbx[30:60, 30:60]
    assert (middle[..., 3] == 255).all()
    r, g, b, _ = middle.astype(int).transpose(2, 0, 1)
    assert (r > b).mean() > 0.5  # the face, not the inside of the hair


@pytest.mark.slow
@needs_blender
def test_a_cartoon_has_few_tones_and_dark_lines(tmp_path: Path) -> None:
    path = Person().glb(tmp_path / "girl.glb")
    chosen = {**QUICK, "views": 1, "poses": ("relaxed",), "framings": ("head",), "size": 128}
    (plain,) = pictures(look(path, **chosen), tmp_path)
    (toon,) = pictures(look(path, **chosen, toon=True), tmp_path)
    assert dark(toon) > dark(plain) + 100


def dark(image: np.ndarray) -> int:
    return int(((image[..., 3] > 200) & (image[..., :3].max(2) < 85)).sum())


@pytest.mark.slow
@needs_blender
@pytest.mark.parametrize("suffix", [".glb", ".blend", ".fbx", ".obj"])
def test_what_is_no_model_is_said_to_be_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"This is a text, not a model.\n" * 9)
    with pytest.raises(CollectError, match=f"bad{suffix}"):
        offer = look(path, **QUICK, views=1, framings=("full body",))
        offer.finds[0].write(tmp_path / "out.png")


def test_without_a_blender_it_is_said_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("LORAKIT_BLENDER", raising=False)
    monkeypatch.delenv("LORAKIT_INSTALL_BLENDER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    with pytest.raises(
        Refused, match=r"apt-get install -y blender\), give its path in the .* LORAKIT_BLENDER, or"
    ):
        look(tmp_path / "a.glb", engine="blender")
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    with pytest.raises(
        Refused, match=r"Blender is not found here: install it .*, or give its path"
    ):
        look(tmp_path / "a.glb", engine="blender")
    with pytest.raises(Refused, match=r"does not exist for Python 3\.12"):
        monkeypatch.setenv("LORAKIT_INSTALL_BLENDER", "1")
        look(tmp_path / "a.glb", engine="blender")


def test_a_project_file_cannot_name_a_program_to_run_or_fetch(tmp_path: Path) -> None:
    project = find(str(tmp_path / "shared")).create()
    for line in ("blender = '/bin/sh'", "install_blender = true"):
        project.settings_file.write_text(f"[models3d]\nengine = 'blender'\n{line}\n")
        with pytest.raises(SettingsError, match=line.split()[0]):
            project.load(ModelSettings)


def test_a_program_that_is_not_blender_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "paint"
    other.write_text("#!/bin/sh\necho Paint 3.4\n")
    other.chmod(0o755)
    monkeypatch.setenv("LORAKIT_BLENDER", str(other))
    with pytest.raises(Refused, match=r"paint is not Blender\. Give the path .*LORAKIT_BLENDER"):
        look(tmp_path / "a.glb", engine="blender")
    other.write_text("#!/bin/sh\necho Blender 4.2.1\n")
    assert blender.find_blender(silent)[0] == str(other)


def test_the_package_is_fetched_into_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, commands = [], []

    def run(words: list[str], **more: object) -> subprocess.CompletedProcess[str]:
        commands.append(words)
        failed = "bpy" in words[-1]
        return subprocess.CompletedProcess(words, failed, "", "ERROR: No space left on device")

    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(blender, "package_folder", lambda: tmp_path / "env")
    monkeypatch.setattr(blender, "PACKAGES", {sys.version_info[:2]: "bpy==9"})
    monkeypatch.delenv("LORAKIT_BLENDER", raising=False)
    monkeypatch.setenv("LORAKIT_INSTALL_BLENDER", "1")
    settings = ModelSettings(engine="blender")
    with pytest.raises(Refused, match=r"could not be fetched \(ERROR: No space left on device\)"):
        SOURCE.look(settings, ["a.glb"], lambda what, done, total: said.append(what))
    assert said[-1] == "Fetching Blender (about 400 MB, 1.2 GB unpacked)"
    assert commands[0][1:] == ["-m", "venv", str(tmp_path / "env")]
    assert commands[1] == [
        str(tmp_path / "env/bin/python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "bpy==9",
    ]
