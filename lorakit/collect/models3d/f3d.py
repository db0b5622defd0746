"""Drawing with f3d: in a process of its own; poses and glTF animations are worked out here."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import weakref
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ...errors import CollectError
from . import vrm
from .clips import Clip, at, clips
from .engine import Stance, Study, bones_of, finite, front, rig_notes
from .files import GLTF, Model, as_glb, missing_beside, opened
from .gltf import Gltf, write_glb
from .humanoid import lacking
from .poses import POSES, strike
from .settings import ModelSettings
from .skeleton import Skeleton, of_nodes, turned
from .skin import packed, stilled
from .views import Camera, Stand, corners
from .worker import Worker

MODULE = "lorakit.collect.models3d.f3d_worker"
# f3d brings its own OpenSSL: it cannot be loaded once another part has loaded the system's. So it
# comes first, before anything of lorakit; if it cannot be loaded, the worker says why.
START = f"""
try:
    import f3d
except ImportError:
    pass
from runpy import run_module
run_module("{MODULE}", run_name="__main__")
"""
RIGGED = (".fbx", ".dae", ".x")  # may have rigs, which f3d alone can read
FAR = 80  # times the person's size
ROOT = Path(__file__).parents[3]  # where the package lorakit lies


class F3D:
    """Engine f3d. What it has read of a model is kept until another is asked for."""

    def __init__(self, settings: ModelSettings) -> None:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.settings = settings
        self.worker = Worker(
            "f3d", [sys.executable, "-c", START], {"PYTHONPATH": os.pathsep.join(paths)}
        )
        self.folder = Path(tempfile.mkdtemp(prefix="lorakit-models3d-"))
        weakref.finalize(self, shutil.rmtree, self.folder, True)
        self.read: tuple[str, Gltf | None, Skeleton | None] = ("", None, None)
        self.standing: tuple[str, Stance, Stand] | None = None

    def study(self, model: Model) -> Study:
        """Opens the model and says what it is. Raises CollectError."""
        gltf, skeleton = self._content(model)
        if gltf is None or skeleton is None:
            reply = self._open(model, model.path)
            found = [Clip(str(name), start, end) for name, start, end in reply["clips"]]
            note = f"{model.path.name}: f3d cannot pose {model.kind} files; choose engine blender."
            rigged = model.kind in RIGGED
            notes = [note] if rigged else rig_notes(model.path.name, 0, {})
            return Study(False, found, [*notes, *filter(None, [missing_beside(model)])])
        notes = [*filter(None, [vrm.terms(gltf.json.get("extensions", {}))])]
        if name := packed(gltf):
            note = f"{model.path.name} is packed ({name}): for poses choose engine blender."
            return Study(False, [], [note, *notes])
        joints = sum(len(skin["joints"]) for skin in gltf.json.get("skins", []))
        notes = [*rig_notes(model.path.name, joints, skeleton.bones), *notes]
        return Study(not lacking(skeleton.bones), clips(gltf), notes)

    def _content(self, model: Model) -> tuple[Gltf | None, Skeleton | None]:
        if self.read[0] != model.digest:
            gltf, skeleton = opened(model), None
            if gltf is not None:
                names = [str(node.get("name", index)) for index, node in enumerate(gltf.nodes)]
                bare = of_nodes(
                    [node | {"name": names[i]} for i, node in enumerate(gltf.nodes)], {}
                )
                found = bones_of(bare, gltf.json.get("extensions", {}), names)
                skeleton = Skeleton(bare.joints, found)
                skeleton.order()  # raises for a circle
            self.read = (model.digest, gltf, skeleton)
        return self.read[1:]

    def stand(self, model: Model, stance: Stance) -> Stand:
        """Puts the model up for the pictures that follow. Raises CollectError."""
        alive = self.worker.process is not None and self.worker.process.poll() is None
        if alive and self.standing and self.standing[:2] == (model.digest, stance):
            return self.standing[2]
        self.standing = None
        gltf, skeleton = self._content(model)
        if gltf is None or skeleton is None or packed(gltf):
            stand = self._measured(model, stance, gltf)
        else:
            stand = self._worked_out(model, stance, gltf, skeleton)
        self.standing = (model.digest, stance, stand)
        return stand

    def _worked_out(self, model: Model, stance: Stance, gltf: Gltf, skeleton: Skeleton) -> Stand:
        """The person in a file that lorakit can read itself."""
        frame = front(skeleton, self.settings.turn)
        posed = at(gltf, stance.clip, stance.time) if stance.clip >= 0 else gltf.changed()
        for index, turn in strike(skeleton, POSES[stance.pose]).items() if stance.pose else ():
            turned(posed.nodes[index], turn)
        still, points = stilled(posed)
        if not finite(points):
            raise CollectError(f"{model.path.name}: there are no points in its meshes to be seen.")
        blended = any(m.get("alphaMode") == "BLEND" for m in gltf.json.get("materials", ()))
        self._open(model, write_glb(still, self.folder / "still.glb"), blended=blended)
        places = {} if lacking(skeleton.bones) else of_nodes(posed.nodes, skeleton.bones).places()
        return Stand(points, places, frame)

    def _measured(self, model: Model, stance: Stance, gltf: Gltf | None) -> Stand:
        """The person in a file that only f3d can read."""
        path = as_glb(model, gltf, self.folder) if gltf else model.path
        self._open(model, path, clip=stance.clip, time=stance.time)
        box = self.worker.ask(model.path.name, {"do": "measure"})
        points = corners(np.array(box["low"]), np.array(box["high"]))
        return Stand(points, {}, front(None, self.settings.turn))

    def _open(
        self, model: Model, path: Path, *, clip: int = -1, time: float = 0.0, blended: bool = False
    ) -> dict:
        up = "y" if model.kind in (*GLTF, ".fbx", ".dae") else self.settings.upward(model.kind)
        request = {"file": str(path), "clip": clip, "time": time, "up": up, "blended": blended}
        reply: dict = self.worker.ask(model.path.name, {"do": "open", **request})
        return reply

    def draw(self, model: Model, camera: Camera, out: Path, *, draft: bool = False) -> None:
        """Writes a picture of what stands there. Raises CollectError."""
        if self.standing and model.kind in RIGGED:
            camera = farther(camera, FAR * float(np.ptp(self.standing[2].points, axis=0).max()))
        request = {"camera": asdict(camera), "light": self.settings.light, "out": str(out)}
        self.worker.ask(model.path.name, {"do": "render", **request})


def farther(camera: Camera, distance: float) -> Camera:
    """The same picture with a longer lens from at least that far. f3d takes a rigged .fbx to reach
    no farther than its bare mesh, and cuts off what is more than a hundredth of the distance
    closer.
    """
    target, away = np.array(camera.target), np.subtract(camera.position, camera.target)
    times = max(1.0, distance / float(np.linalg.norm(away)))
    angle = 2 * math.atan(math.tan(math.radians(camera.angle) / 2) / times)
    position = target + away * times
    return replace(camera, position=tuple(position.tolist()), angle=math.degrees(angle))
