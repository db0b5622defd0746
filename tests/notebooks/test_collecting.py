"""Every source used once in the Dataset Maker: the notebook's own cells up to the one that
collects, then a look and the button, as a person would press it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from build_notebooks import NOTEBOOKS, ROOT
from nbformat.v4 import new_code_cell
from nbmake.nb_run import NotebookRun
from PIL import Image

from lorakit.collect import NAMES
from lorakit.collect.origins import read_origins
from lorakit.dataset import scan
from lorakit.demo.sample import good_picture
from lorakit.project import named
from lorakit.training.config import TrainingSettings

from ..collect.boards import Board, Shown, serving
from ..collect.films import Shot, encode, frames
from ..collect.humanoid import Person

START = """
import os, sys
os.chdir({notebooks!r})
sys.path.insert(0, {root!r})
from dataclasses import replace
from lorakit.collect.boorus import sites
sites.SITES["safebooru"] = replace(sites.SITES["safebooru"], base={board!r}, pace=0.0)
"""
USE = """
collecting.choice.value = {name!r}
collecting.forms[{name!r}].fill(**{settings!r})
collecting.items.value = {items!r}
collecting.look_button.click()
print("looked:", collecting.line.value)
print("shown:", collecting.page.value.count("<img"))
collecting.take_button.click()
print("took:", collecting.line.value)
"""


@pytest.fixture
def board() -> Iterator[Board]:
    posts = [Shown(number) for number in (1, 2, 3)]
    with serving(Board("safebooru", posts)) as served:
        yield served


def link(folder: Path, board: Board) -> str:
    """A saved page with one picture beside it."""
    (folder / "page_files").mkdir()
    good_picture(50).save(folder / "page_files" / "art.png")
    page = folder / "page.html"
    page.write_text('<html><body><img src="page_files/art.png"></body></html>')
    return str(page)


def film(folder: Path, board: Board) -> str:
    shots = [Shot(good_picture(i).convert("RGB"), 48, (0.5, 0.4, 0.7)) for i in (51, 52)]
    return str(encode(folder / "episode.mkv", frames(shots, (320, 180))))


def sheet(folder: Path, board: Board) -> str:
    """Two figures of hard pixels side by side."""
    whole = Image.new("RGBA", (64, 32))
    for left, colour in ((4, "red"), (36, "blue")):
        figure = Image.new("RGBA", (20, 24), colour)
        figure.paste((0, 0, 0, 255), (6, 4, 14, 9))
        whole.paste(figure, (left, 4))
    whole.save(folder / "sheet.png")
    return str(folder / "sheet.png")


def zipped(folder: Path, board: Board) -> str:
    good_picture(53).save(folder / "own.png")
    with zipfile.ZipFile(folder / "mine.zip", "w") as archive:
        archive.write(folder / "own.png", "own.png")
    return str(folder / "mine.zip")


def model(folder: Path, board: Board) -> str:
    return str(Person().glb(folder / "person.glb"))


USED = {
    "boorus": (lambda folder, board: "", {"tags": "1girl", "smallest": 0}, 3),
    "links": (link, {}, 1),
    "videos": (film, {}, 2),
    "models3d": (model, {"views": 2, "poses": ["sit"], "size": 128, "framings": ["full body"]}, 2),
    "sprites": (sheet, {}, 2),
    "archives": (zipped, {}, 1),
}


@pytest.mark.slow
def test_every_source_is_used_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, board: Board
) -> None:
    assert set(USED) == set(NAMES)
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path / "Loras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    project = named("astrid", tmp_path / "Loras").create()
    project.save(TrainingSettings())  # so that it is one of those to choose from
    (tmp_path / "Loras" / ".last-project").write_text("astrid")
    notebook = nbformat.read(NOTEBOOKS / "Dataset_Maker.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    last = next(i for i, cell in enumerate(code) if "collecting = show" in cell.source)
    names = {"notebooks": str(NOTEBOOKS), "root": str(ROOT), "board": board.base}
    notebook.cells = [new_code_cell(START.format(**names)), *code[: last + 1]]
    for name, (make, settings, _) in USED.items():
        folder = tmp_path / name
        folder.mkdir()
        use = USE.format(name=name, settings=settings, items=make(folder, board))
        notebook.cells.append(new_code_cell(use))
    nbformat.write(notebook, tmp_path / "maker.ipynb")
    result = NotebookRun(tmp_path / "maker.ipynb", default_timeout=300).execute()
    assert not result.error, result.error.trace
    for (name, (_, _, count)), cell in zip(
        USED.items(), result.nb.cells[-len(USED) :], strict=True
    ):
        said = "".join(output.get("text", "") for output in cell.outputs)
        assert f"{count} new pictures of {count}." in said, f"{name}: {said}"
        assert f"shown: {count}" in said, f"{name}: {said}"
        assert f"took: {count} new pictures. They are in" in said, f"{name}: {said}"
    total = sum(count for _, _, count in USED.values())
    assert len(scan(project.dataset)) == len(read_origins(project)) == total
