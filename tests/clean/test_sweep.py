"""The first sweep: broken pictures and copies go to removed/, and what a person brings back
stays.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from lorakit.clean.sweep import sweep
from lorakit.dataset import removals, restore, scan
from lorakit.project import Project, find


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two different pictures, a smaller copy of the first, and half a file."""
    made = find(str(tmp_path / "mila")).create()
    for number, colour in enumerate(["red", "blue"]):
        picture = Image.new("RGB", (400, 400), "white")
        ImageDraw.Draw(picture).ellipse((150 * number, 40, 150 * number + 200, 300), fill=colour)
        picture.save(made.dataset / f"{number}.png")
    Image.open(made.dataset / "0.png").resize((200, 200)).save(made.dataset / "copy.png")
    (made.dataset / "half.png").write_bytes((made.dataset / "1.png").read_bytes()[:200])
    return made


def names(project: Project) -> list[str]:
    return [picture.name for picture in scan(project.dataset)]


def test_broken_pictures_and_copies_are_moved_with_the_reason(project):
    swept = sweep(project)
    assert names(project) == ["0.png", "1.png"]
    assert [path.name for path in swept.broken] == ["half.png"]
    ((group, moved),) = swept.groups
    assert group.best.name == "0.png" and moved == [project.removed / "copy.png"]
    assert swept.moved == 2
    reasons = {row["file"]: row["reason"] for row in removals(project)}
    assert (
        reasons["copy.png"] == "near-duplicate of 0.png" and "cannot be read" in reasons["half.png"]
    )


def test_a_second_sweep_finds_nothing_more(project):
    sweep(project)
    assert sweep(project).moved == 0


@pytest.mark.parametrize("name", ["copy.png", "half.png"])
def test_what_a_person_brought_back_stays(project, name):
    sweep(project)
    restore(project, name)
    assert sweep(project).moved == 0
    assert name in names(project)


def test_an_empty_project_has_nothing_to_sweep(tmp_path):
    assert sweep(find(str(tmp_path / "none")).create()).moved == 0
