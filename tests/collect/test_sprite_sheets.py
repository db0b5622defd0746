"""Real sheets: arcade's as they are, and Wesnoth's units laid out as sheets on the web are.

The right numbers are the frames of each unit, identical ones once, and on arcade's sheets the cells
in which something is seen; each sheet was looked at too. They do not come from the code tested.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorakit.collect.intake import take
from lorakit.collect.sprites import SpritesSettings, look
from lorakit.collect.sprites.slicing import sliced
from lorakit.dataset import scan
from lorakit.images import open_image
from lorakit.progress import silent
from lorakit.project import find

from .material import debian, pypi
from .sheets import frames, in_cells, packed

pytestmark = pytest.mark.slow

# folder and name of a unit, how its sheet is laid out, sprites on it (without identical ones)
UNITS = [
    ("orcs", "archer", "cells", 46),
    ("nagas", "ringcaster", "key", 18),
    ("human-loyalists", "lieutenant", "packed", 29),
    ("undead-skeletal", "bone", "packed key", 21),
    ("human-outlaws", "thief+female", "cells", 28),
    ("dwarves", "guard", "key", 35),
    ("orcs", "nightblade", "packed", 18),
    ("monsters", "giant", "packed key", 38),
    ("goblins", "impaler", "cells", 19),
    ("human-loyalists", "bowman", "key", 22),
    ("human-outlaws", "thief", "packed", 28),
    ("nagas", "warden", "packed key", 9),
    ("orcs", "slurbow", "cells", 12),
    ("human-outlaws", "trapper", "key", 20),
    ("monsters", "deep", "packed", 12),  # tentacles that rise from rings of water: one too few
    ("undead-necromancers", "dark", "packed key", 14),
    ("trolls", "shaman", "cells", 11),
    ("human-loyalists", "pikeman", "key", 15),
    ("orcs", "warrior", "packed", 8),
    ("undead", "shadow", "packed key", 18),
    ("dwarves", "pathfinder", "cells", 29),
    ("monsters", "cuttlefish", "key", 21),
    ("nagas", "ophidian", "packed", 10),
    ("human-outlaws", "highwayman", "packed key", 11),
    ("undead", "ghast", "cells", 9),
    ("orcs", "xbowman", "key", 11),
]
ARCADE = [("explosion", 221), ("tiles", 148), ("number_sheet", 6)]


@pytest.fixture(scope="module")
def units() -> Path:
    package = debian("wesnoth-1.16-data")
    return package / "usr/share/games/wesnoth/1.16/data/core/images/units"


@pytest.fixture(scope="module")
def arcade() -> Path:
    return pypi("arcade", "3.3.3") / "arcade/resources/assets/images/spritesheets"


def laid_out(units: Path, folder: str, unit: str, layout: str) -> Image.Image:
    images = [image for image in frames(units / folder, unit) if image.getbbox()]
    if layout == "cells":
        return in_cells(images, 6)
    if layout == "key":
        return in_cells(images, 7, "#ff00ff")
    if layout == "packed":
        return packed(images, 500, 6)
    return packed(images, 480, 5, "#00b050")


def test_nearly_all_sheets_are_cut_into_the_right_number(
    units: Path, arcade: Path, tmp_path: Path
) -> None:
    wrong = {}
    for number, (folder, unit, layout, right) in enumerate(UNITS):
        path = tmp_path / f"{number}-{unit}.png"
        laid_out(units, folder, unit, layout).save(path)
        if (count := len(sliced(path, SpritesSettings()).sprites)) != right:
            wrong[f"{unit} {layout}"] = (count, right)
    for name, right in ARCADE:
        if (count := len(sliced(arcade / f"{name}.png", SpritesSettings()).sprites)) != right:
            wrong[name] = (count, right)
    total = len(UNITS) + len(ARCADE)
    print(f"{total - len(wrong)} of {total} sheets; wrong (cut, right): {wrong}")
    assert total >= 20 and len(wrong) <= 0.05 * total


def test_pixel_art_is_told_from_painted_sprites(units: Path, arcade: Path, tmp_path: Path) -> None:
    for number, (folder, unit, _, _) in enumerate(UNITS):
        path = tmp_path / f"{number}.png"
        laid_out(units, folder, unit, "cells").save(path)
        assert sliced(path, SpritesSettings()).sprites[0].is_pixel_art, unit
    characters = sorted((arcade.parent / "animated_characters").rglob("*_walk[0-3].png"))
    novel = debian("renpy-thequestion") / "usr/share/games/renpy/the_question/game/images"
    painted = [*characters, *sorted(novel.glob("sylvie *.png"))]
    assert len(painted) == 32
    for path in painted:
        assert not any(each.is_pixel_art for each in sliced(path, SpritesSettings()).sprites), path


@pytest.mark.parametrize("factor", [2, 3, 4, 7])
def test_an_enlarged_sheet_returns_to_its_true_pixels_exactly(
    units: Path, tmp_path: Path, factor: int
) -> None:
    sheet = laid_out(units, "orcs", "archer", "cells")
    large = sheet.resize((sheet.width * factor, sheet.height * factor), Image.Resampling.NEAREST)
    shifted = Image.new("RGBA", (large.width + 11, large.height + 5))
    shifted.paste(large, (5, 3))  # cut out of a screenshot, not on the grid
    for name, image in (("true", sheet), ("large", large), ("shifted", shifted)):
        image.save(tmp_path / f"{name}.png")
    true, *others = (
        sliced(tmp_path / f"{name}.png", SpritesSettings()) for name in ("true", "large", "shifted")
    )
    assert len(true.sprites) == 46 and true.size == 1
    for other in others:
        assert other.size == factor
        pairs = list(zip(true.sprites, other.sprites, strict=True))
        assert all(np.array_equal(one.pixels, two.pixels) for one, two in pairs)


def test_visual_novel_figures_stand_before_their_scenes(tmp_path: Path) -> None:
    images = debian("renpy-thequestion") / "usr/share/games/renpy/the_question/game/images"
    figures = sorted(images.glob("sylvie *.png"))
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for path in images.glob("bg *.jpg"):
        (scenes / path.name).write_bytes(path.read_bytes())
    settings = SpritesSettings(background=(str(scenes), "#88aacc"), every_background=True)
    offer = look(settings, [str(path) for path in figures], silent)
    assert len(figures) == 8 and len(offer.finds) == 8 * 5  # one figure each, not cut apart
    project = find(str(tmp_path / "p" / "sylvie"))
    assert take(project, offer).failed == {}
    folder = project.dataset / "sprites"
    assert len(scan(folder)) == 40
    before = open_image(folder / "sylvie green smile-bg meadow.png")
    scene = open_image(scenes / "bg meadow.jpg")
    assert before.size == scene.size == (1280, 720)
    changed = (np.asarray(before) != np.asarray(scene)).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert rows[-1] == 719 and abs(rows[0] - 720 * 0.05) < 25  # on the lower edge, 95 % high
    assert abs((columns[0] + columns[-1]) / 2 - 640) < 30
    plain = open_image(folder / "sylvie green smile-88aacc.png")
    assert plain.getpixel((3, 3)) == (0x88, 0xAA, 0xCC) and plain.size == (1024, 1024)


def test_a_sheet_of_8192_pixels_is_cut_in_reasonable_time(units: Path, tmp_path: Path) -> None:
    unit = laid_out(units, "orcs", "archer", "cells")
    large = Image.new("RGBA", (8192, 8192))
    for x in range(0, 8192 - unit.width, unit.width):
        large.paste(unit, (x, 0))
    for y in range(unit.height, 8192 - unit.height, unit.height):
        large.paste(large.crop((0, 0, 8192, unit.height)), (0, y))
    large.save(tmp_path / "large.png", compress_level=1)
    started = time.process_time()
    sheet = sliced(tmp_path / "large.png", SpritesSettings())
    spent = time.process_time() - started
    print(f"8192 x 8192: {spent:.1f} s of CPU, {sheet.same} cells the same")
    assert len(sheet.sprites) == 46
    assert spent < 60
