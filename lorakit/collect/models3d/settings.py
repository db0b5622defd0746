"""What is rendered of a 3D model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from ...errors import SettingsError
from ...settings import check, nearest, setting
from .lights import LIGHTS
from .poses import POSES
from .views import FRAMINGS, azimuths

TRANSPARENT = "transparent"
COLOURS = {
    "white": (255, 255, 255), "grey": (160, 160, 160), "black": (0, 0, 0), "red": (196, 72, 72),
    "green": (96, 160, 104), "blue": (96, 128, 200), "yellow": (232, 208, 96),
    "purple": (144, 104, 184), "pink": (240, 168, 192), "brown": (136, 104, 80),
}  # fmt: skip


@dataclass(frozen=True)
class ModelSettings:
    """3D models: what is rendered of them, and how."""

    SECTION: ClassVar[str] = "models3d"

    engine: str = setting(
        "f3d",
        "f3d draws quickly and needs nothing else; blender opens also .blend files, poses .fbx and "
        ".dae too, and can draw as a cartoon",
        choices=("f3d", "blender"),
    )
    views: int = setting(
        8, "Directions around the person, the front first", unit="views", low=1, high=72
    )
    elevations: tuple[str, ...] = setting(
        ("0",), "Heights of the camera in degrees: 20 looks from above, -20 from below"
    )
    framings: tuple[str, ...] = setting(
        ("full body", "upper body"), f"How near the camera is: {', '.join(FRAMINGS)}"
    )
    poses: tuple[str, ...] = setting(
        ("relaxed", "walk", "wave"),
        f"Poses, for models with the joints of a person: {', '.join(POSES)}",
    )
    clips: int = setting(
        0, "Moments taken of each animation that the file carries", unit="moments", low=0, high=50
    )
    background: tuple[str, ...] = setting(
        ("white",),
        "transparent, a colour's name or #rrggbb; several take turns from picture to picture. "
        f"Names: {', '.join(COLOURS)}",
    )
    light: str = setting("studio", "How the person is lit", choices=tuple(LIGHTS))
    size: int = setting(1024, "Longer side of a picture", unit="pixels", low=64, high=4096)
    toon: bool = setting(False, "Flat cartoon colours and dark outlines; engine blender only")
    samples: int = setting(
        32, "Light paths a pixel; more give less noise; engine blender only",
        low=1, high=4096, advanced=True,
    )  # fmt: skip
    device: str = setting(
        "auto", "What Blender renders on; auto takes a graphics card if it finds one",
        choices=("auto", "cpu", "gpu"), advanced=True,
    )  # fmt: skip
    up: str = setting(
        "auto", "Which axis of the file points up, where a model is shown lying; auto: z in .stl "
        "and .ply, else y; .glb, .vrm, .fbx and .dae say it themselves",
        choices=("auto", "y", "z"), advanced=True,
    )  # fmt: skip
    turn: int = setting(
        0, "Turns the front, where a model without a rig looks elsewhere",
        unit="degrees", low=-180, high=180, advanced=True,
    )  # fmt: skip
    margin: float = setting(
        0.06, "Free border around the person, as a share of the picture",
        low=0.0, high=0.3, advanced=True,
    )  # fmt: skip
    angle: int = setting(
        30, "Angle of view; a small one flattens like a drawing",
        unit="degrees", low=5, high=90, advanced=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self)
        _known(self, "framings", FRAMINGS)
        _known(self, "poses", tuple(POSES))
        self.heights()
        if not self.framings or not self.background:
            empty = "framings" if not self.framings else "background"
            raise SettingsError(f"models3d: {empty} is empty; give at least one.")
        if not self.poses and not self.clips:
            raise SettingsError("models3d: there are neither poses nor clips; give one of them.")
        for colour in self.background:
            rgb(colour)
        if self.toon and self.engine != "blender":
            raise SettingsError("models3d: toon needs engine = blender; f3d has no such look.")

    def heights(self) -> list[int]:
        """The elevations as numbers. Raises SettingsError."""
        for given in self.elevations:
            if not re.fullmatch(r"[+-]?\d+", given) or abs(int(given)) > 85:
                raise SettingsError(
                    f"models3d: elevations has '{given}'; it takes whole degrees from -85 to 85."
                )
        if not self.elevations:
            raise SettingsError("models3d: elevations is empty; give at least one, like 0.")
        return list(dict.fromkeys(int(given) for given in self.elevations))

    def upward(self, kind: str) -> str:
        """The axis that points up in a file with that suffix."""
        return ("z" if kind in (".stl", ".ply") else "y") if self.up == "auto" else self.up

    def directions(self) -> list[tuple[int, int]]:
        """(azimuth, elevation) of every view, in degrees."""
        return [(azimuth, height) for height in self.heights() for azimuth in azimuths(self.views)]


def _known(settings: ModelSettings, name: str, there: tuple[str, ...]) -> None:
    for given in getattr(settings, name):
        if given not in there:
            raise SettingsError(f"models3d: {name} has '{given}'{nearest(given, there)}")


def rgb(colour: str) -> tuple[int, int, int] | None:
    """Red, green and blue from 0 to 255; None for transparent. Raises SettingsError."""
    if colour == TRANSPARENT:
        return None
    if colour in COLOURS:
        return COLOURS[colour]
    if re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
    raise SettingsError(
        f"models3d: background has '{colour}'{nearest(colour, (TRANSPARENT, *COLOURS))} "
        "Or write it as #rrggbb."
    )
