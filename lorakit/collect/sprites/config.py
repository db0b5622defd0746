"""How sheets are cut into sprites, and how a sprite becomes a picture to train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import SettingsError
from ...settings import check, setting

MODES = ("auto", "transparency", "key", "grid", "single")


@dataclass(frozen=True)
class SpritesSettings:
    """Sprites cut from sheets, pixel art enlarged by whole factors."""

    SECTION: ClassVar[str] = "sprites"

    mode: str = setting(
        "auto",
        "How a sheet is cut: where it is transparent, where it has the colour of its border (key), "
        "in cells of one size (grid), not at all (single)",
        choices=MODES,
    )
    side: int = setting(
        1024,
        "Sprites are enlarged towards this longer side, pixel art by whole factors; 0 leaves them "
        "in their true pixels",
        unit="px",
        low=0,
        high=4096,
    )
    square: bool = setting(True, "Pad each picture to a square")
    background: tuple[str, ...] = setting(
        ("white",),
        "What is behind the sprites, in turn: colours (white, #88aacc), 'transparent', picture "
        "files or folders of them",
    )
    every_background: bool = setting(False, "Put each sprite on each background, not in turn")
    standing: float = setting(
        0.95,
        "Height of a sprite that stands on a picture, as a share of the picture's",
        low=0.1,
        high=2.0,
        advanced=True,
    )
    style: str = setting(
        "auto",
        "Whether it is pixel art, which is never smoothed, or painted",
        choices=("auto", "pixel", "painted"),
    )
    own_folder: bool = setting(
        True, "Put them into dataset/sprites, so that they can be shown less often than the rest"
    )
    smallest: int = setting(
        8, "Sprites with a longer side below this are left out", unit="px", low=1, high=2048
    )
    gap: int = setting(
        1,
        "Parts with no more than this between them belong to one sprite",
        unit="px",
        low=0,
        high=64,
        advanced=True,
    )
    tolerance: int = setting(
        8,
        "How far a colour may be from the key colour and still count as background",
        unit="of 255",
        low=0,
        high=128,
        advanced=True,
    )
    cell_width: int = setting(0, "Of the grid; 0 guesses it", unit="px", low=0, high=8192)
    cell_height: int = setting(0, "Of the grid; 0 guesses it", unit="px", low=0, high=8192)
    offset_x: int = setting(
        0, "Where the grid's first cell begins", unit="px", low=0, high=8192, advanced=True
    )
    offset_y: int = setting(
        0, "Where the grid's first cell begins", unit="px", low=0, high=8192, advanced=True
    )
    spacing: int = setting(0, "Between the cells of a grid", unit="px", low=0, high=512)

    def __post_init__(self) -> None:
        check(self)
        if (self.cell_width > 0) != (self.cell_height > 0):
            raise SettingsError(
                f"sprites: cell_width is {self.cell_width} and cell_height {self.cell_height}; "
                "give both, or neither to have them guessed."
            )
        if not self.background:
            raise SettingsError("sprites: background is empty; give a colour, such as white.")
