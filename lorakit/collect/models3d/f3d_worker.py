"""The process that draws with f3d, started by f3d.py. See worker.py for how it is spoken to."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from .lights import LIGHTS

FINER = 2  # pixels of the drawing for one of the picture, each way
PROBE, PROBE_ANGLE = 384, 2.0  # pixels and degrees of the small pictures that measure a model


class Studio:
    """One window without a screen, and the model that stands in it."""

    def __init__(self) -> None:
        import f3d

        self.f3d = f3d
        f3d.Log.set_verbose_level(f3d.Log.VerboseLevel.ERROR)
        self.engine = f3d.Engine.create(True)
        self.engine.options["render.background.color"] = [0.0, 0.0, 0.0]
        self.lit, self.up = "", "y"

    def open(self, file: str, clip: int, time: float, up: str, blended: bool) -> dict[str, Any]:
        """Puts a model into the window, `time` seconds into its animation number `clip` (-1 for
        none)."""
        engine = self.engine
        engine.scene.clear()
        self.lit, self.up = "", up
        engine.options["scene.animation.indices"] = [max(clip, 0)]
        engine.options["render.effect.blending.mode"] = "ddp" if blended else "none"
        try:
            engine.scene.add(file)
        except Exception as error:
            return {"error": f"f3d cannot read it ({_short(error)}); it may be damaged."}
        if engine.scene.get_scene_info().number_of_points == 0:
            return {"error": "there is no mesh in it: nothing would be seen."}
        if clip >= 0:
            engine.scene.animation.load_time(time)
        return {"clips": self._clips(), "points": engine.scene.get_scene_info().number_of_points}

    def _clips(self) -> list[list[Any]]:
        animation, found = self.engine.scene.animation, []
        for number, name in enumerate(animation.get_names()):
            self.engine.options["scene.animation.indices"] = [number]
            start, end = animation.get_time_range()
            found.append([name, float(start), float(end)])
        return found

    def measure(self) -> dict[str, Any]:
        """The box that the model fills as it is seen from the front and the side. What f3d knows of
        its extent is of its rest pose, so pictures are asked.
        """
        camera = self.engine.window.camera
        camera.position, camera.focal_point, camera.view_up = (0, 0, 1), (0, 0, 0), (0, 1, 0)
        camera.reset_to_bounds(0.9)
        x, y, z = camera.focal_point
        middle = np.array([x, y, z] if self.up == "y" else [x, z, -y])
        away = float(np.linalg.norm(np.subtract(camera.position, camera.focal_point)))
        reach = 2.5 * away * math.tan(math.radians(camera.view_angle) / 2)
        for _ in range(3):  # closer each time, so that the last measure is a fine one
            low, high = self._extent(middle, reach)
            if not np.isfinite(low).all() or (high <= low).all():
                return {"error": "nothing of it is seen; its meshes may be hidden or empty."}
            middle, reach = (low + high) / 2, float((high - low).max()) * 0.55
        return {"low": low.tolist(), "high": high.tolist()}

    def _extent(self, middle: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        away = reach / math.tan(math.radians(PROBE_ANGLE) / 2)
        for towards, right in ((2, 0), (0, 2)):
            place = middle.copy()
            place[towards] += away
            self._look(place.tolist(), middle.tolist(), [0, 1, 0], PROBE_ANGLE, (PROBE, PROBE))
            rows, columns = np.nonzero(self._draw()[..., 3])
            if not len(rows):
                continue
            pixel = 2 * reach / PROBE
            sign = 1 if towards == 2 else -1  # from +x, z grows to the left
            across = sorted(
                middle[right] + sign * (edge * pixel - reach)
                for edge in (columns.min(), columns.max() + 1)
            )
            upright = [middle[1] + reach - edge * pixel for edge in (rows.max() + 1, rows.min())]
            low[right], high[right] = across
            low[1], high[1] = min(low[1], upright[0]), max(high[1], upright[1])
        return low, high

    def render(self, camera: dict[str, Any], light: str, out: str) -> dict[str, Any]:
        """Writes the picture as PNG with transparency: fully opaque inside, smooth at the edge."""
        if self.lit != light:
            self._light(light)
        width, height = camera["size"]
        self._look(
            camera["position"], camera["target"], camera["up"], camera["angle"],
            (width * FINER, height * FINER),
        )  # fmt: skip
        finer = Image.fromarray(self._draw())
        # Weighed by its opacity: else the black behind the model darkens its edge.
        small = finer.convert("RGBa").resize((width, height), Image.Resampling.BOX)
        small.convert("RGBA").save(out, "PNG", compress_level=1)
        return {}

    def _light(self, name: str) -> None:
        scene = self.engine.scene
        scene.remove_all_lights()
        for (x, y, z), strength in LIGHTS[name]:
            state = self.f3d.LightState(
                type=self.f3d.LightType.CAMERA_LIGHT,
                position=(x, y, z),
                direction=(-x, -y, -z),
                intensity=strength,
            )
            scene.add_light(state)
        self.lit = name

    def _look(
        self, position: Any, target: Any, up: Any, angle: float, size: tuple[int, int]
    ) -> None:
        if tuple(self.engine.window.size) != size:
            self.engine.window.size = size
        camera = self.engine.window.camera
        camera.position, camera.focal_point = self._file(position), self._file(target)
        camera.view_up, camera.view_angle = self._file(up), angle

    def _file(self, vector: Any) -> tuple[float, float, float]:
        """A place or direction, y up, as the file has it."""
        x, y, z = vector
        return (x, y, z) if self.up == "y" else (x, -z, y)

    def _draw(self) -> np.ndarray:
        image = self.engine.window.render_to_image(True)
        rows = np.frombuffer(image.content, np.uint8)
        return np.ascontiguousarray(rows.reshape(image.height, image.width, 4)[::-1])


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else "no reason given"


def serve(answers: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Answers requests until the input ends. What libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = answers[request.pop("do")](**request)
        except Exception as error:  # said to the other side, which knows the file
            reply = {"error": f"f3d could not do it ({type(error).__name__}: {_short(error)})"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    """The studio opens with the first request, so that its failing is an answer too."""
    studio: list[Studio] = []

    def call(method: str) -> Callable[..., dict[str, Any]]:
        def answer(**given: Any) -> dict[str, Any]:
            if not studio:
                studio.append(Studio())
            return getattr(studio[0], method)(**given)  # type: ignore[no-any-return]

        return answer

    serve({method: call(method) for method in ("open", "measure", "render")})


if __name__ == "__main__":
    main()
