"""Drawing with Blender: the one that is installed, or its Python package, in a process of its own.
Poses are worked out here; the script inside only turns bones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import CollectError, Refused
from ...progress import Progress
from . import vrm
from .clips import Clip
from .engine import Stance, Study, bones_of, finite, front, rig_notes
from .files import GLTF, Model, as_glb, missing_beside, opened
from .gltf import Gltf
from .humanoid import lacking
from .lights import LIGHTS
from .poses import AS_IT_IS, POSES, strike
from .settings import ModelSettings
from .skeleton import Joint, Skeleton
from .views import Camera, Stand
from .worker import Worker

SCRIPT = Path(__file__).with_name("in_blender.py")
# The Python versions for which the index has bpy, and the release taken.
PACKAGES = {(3, 11): "bpy==4.5.*", (3, 13): "bpy>=5.1"}
NEARLY = 248  # of 255: taken for opaque
WHERE, FETCH = "LORAKIT_BLENDER", "LORAKIT_INSTALL_BLENDER"  # environment variables
PATIENCE = 60  # seconds for a program to say its version
SIZE = "about 400 MB, 1.2 GB unpacked"


class Blender:
    """Engine Blender, started by the words of `command`."""

    def __init__(self, settings: ModelSettings, command: list[str]) -> None:
        self.settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="lorakit-blender-"))
        weakref.finalize(self, shutil.rmtree, self.folder, True)
        look = self.folder / "look.json"
        lights = LIGHTS[settings.light]
        chosen = {"samples": settings.samples, "device": settings.device, "toon": settings.toon}
        look.write_text(json.dumps({**chosen, "lights": lights}), encoding="utf-8")
        # A preloaded library or a set PYTHONPATH is for this Python, not for Blender's own.
        self.worker = Worker("Blender", [*command, "--", str(look)], {"PYTHONPATH": ""})
        self.read: tuple[str, Gltf | None] = ("", None)
        self.standing: tuple[str, Stance, Stand] | None = None

    def study(self, model: Model) -> Study:
        """Opens the model and says what it is. Raises CollectError."""
        reply = self._open(model)
        skeleton = self._skeleton(model, reply["joints"])
        found = [Clip(str(name), start, end) for name, start, end in reply["clips"]]
        notes = rig_notes(model.path.name, len(skeleton.joints), skeleton.bones)
        gltf = self._gltf(model)
        terms = vrm.terms(gltf.json.get("extensions", {})) if gltf else ""
        notes += filter(None, [terms, missing_beside(model)])
        return Study(not lacking(skeleton.bones), found, notes)

    def _gltf(self, model: Model) -> Gltf | None:
        if self.read[0] != model.digest:
            self.read = (model.digest, opened(model))
        return self.read[1]

    def _open(self, model: Model) -> dict[str, Any]:
        gltf = self._gltf(model)
        path = as_glb(model, gltf, self.folder) if gltf and model.kind in GLTF else model.path
        request = {"do": "open", "file": str(path.resolve())}
        request["up"] = self.settings.upward(model.kind)
        reply: dict[str, Any] = self.worker.ask(model.path.name, request)
        return reply

    def _skeleton(self, model: Model, given: list[dict[str, Any]]) -> Skeleton:
        """The armature's rest pose, as Blender told it."""
        worlds = [np.array(each["world"], float) for each in given]
        joints = []
        for each, world in zip(given, worlds, strict=True):
            parent = int(each["parent"])
            above = worlds[parent] if parent >= 0 else np.eye(4)
            joints.append(Joint(str(each["name"]), parent, np.linalg.inv(above) @ world))
        bare, gltf = Skeleton(joints, {}), self._gltf(model)
        extensions = gltf.json.get("extensions", {}) if gltf else {}
        nodes = [str(node.get("name", "")) for node in gltf.nodes] if gltf else []
        return Skeleton(joints, bones_of(bare, extensions, nodes))

    def stand(self, model: Model, stance: Stance) -> Stand:
        """Puts the model up for the pictures that follow. Raises CollectError."""
        alive = self.worker.process is not None and self.worker.process.poll() is None
        if alive and self.standing and self.standing[:2] == (model.digest, stance):
            return self.standing[2]
        self.standing = None
        skeleton = self._skeleton(model, self._open(model)["joints"])
        request: dict[str, Any] = {"do": "stand", "clip": stance.clip, "time": stance.time}
        if stance.pose not in ("", AS_IT_IS):
            turns = strike(skeleton, POSES[stance.pose])
            request["turns"] = {skeleton.joints[i].name: turn.tolist() for i, turn in turns.items()}
        reply = self.worker.ask(model.path.name, request)
        points = np.array(reply["points"], float)
        if not finite(points):
            raise CollectError(f"{model.path.name}: there are no points in its meshes to be seen.")
        places = self._places(skeleton, reply["places"])
        stand = Stand(points, places, front(skeleton, self.settings.turn))
        self.standing = (model.digest, stance, stand)
        return stand

    def _places(self, skeleton: Skeleton, given: dict[str, Any]) -> dict[str, np.ndarray]:
        if lacking(skeleton.bones):
            return {}
        names = {bone: skeleton.joints[index].name for bone, index in skeleton.bones.items()}
        return {bone: np.array(given[name], float) for bone, name in names.items() if name in given}

    def draw(self, model: Model, camera: Camera, out: Path, *, draft: bool = False) -> None:
        """Writes a picture of what stands there. Raises CollectError."""
        request = {"do": "draw", "camera": asdict(camera), "out": str(out), "draft": draft}
        self.worker.ask(model.path.name, request)
        if not out.is_file():
            raise CollectError(f"{model.path.name}: Blender wrote no picture; try engine f3d.")
        clean(out)


def clean(path: Path) -> None:
    """Makes the inside of a picture exactly opaque: Cycles' average over its samples is often a
    hair below. What is wholly clear becomes black, as in f3d's pictures.
    """
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGBA"))
    alpha = pixels[..., 3]
    alpha[alpha >= NEARLY] = 255
    pixels[alpha == 0] = 0
    Image.fromarray(pixels).save(path, "PNG", compress_level=1)


def find_blender(progress: Progress) -> list[str]:
    """The words that start our script in Blender. Raises Refused where there is none.

    No setting names the program: projects are shared, and a file of theirs must not choose what
    runs here.
    """
    if given := os.environ.get(WHERE):
        path = shutil.which(str(Path(given).expanduser()))
        if path is None:
            raise Refused(f"models3d: there is no program at {given} ({WHERE}).")
        return _started(path)
    if path := shutil.which("blender") or shutil.which("/usr/bin/blender"):
        return _started(path)
    python = package_folder() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not _has_bpy(python):
        if os.environ.get(FETCH) != "1":
            raise Refused(_how_to_get())
        _install(python, progress)
    return [str(python), str(SCRIPT)]


def _started(path: str) -> list[str]:
    """Raises Refused if the program does not call itself Blender."""
    try:
        asked = subprocess.run(
            [path, "--version"], capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
        said = asked.stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    if not any(line.startswith("Blender ") for line in said.splitlines()):
        raise Refused(f"{path} is not Blender. Give the path of Blender's program in {WHERE}.")
    # a .blend may carry scripts, which do not run
    quiet = ["--background", "--disable-autoexec", "--python-exit-code", "1"]
    return [path, *quiet, "--python", str(SCRIPT)]


def package_folder() -> Path:
    """The environment of Blender's Python package, apart from everything else."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lorakit" / "blender-{}.{}".format(*sys.version_info[:2])


def _has_bpy(python: Path) -> bool:
    return python.is_file() and any(
        python.parents[1].glob("lib/python*/site-packages/bpy/__init__*")
    )


def _how_to_get() -> str:
    version = sys.version_info[:2]
    ways = [
        "install it (on Colab and Debian: apt-get install -y blender)",
        f"give its path in the environment variable {WHERE}",
    ]
    if version in PACKAGES:
        ways.append(f"let lorakit fetch it: set {FETCH}=1 ({SIZE})")
    return f"Blender is not found here: {', '.join(ways[:-1])}, or {ways[-1]}."


def _install(python: Path, progress: Progress) -> None:
    """Makes the environment and fetches the package into it. Raises Refused."""
    version = sys.version_info[:2]
    if version not in PACKAGES:
        raise Refused(
            f"Blender's package does not exist for Python {version[0]}.{version[1]}: "
            "install Blender itself, on Colab and Debian by apt-get install -y blender."
        )
    progress(f"Fetching Blender ({SIZE})", 0, 0)
    folder = python.parents[1]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", PACKAGES[version]],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise Refused(f"Blender could not be fetched ({said[-1] if said else 'no reason'}).")
