"""Projects on disk for the widgets, which are real ones, only without a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from lorakit.project import Project, find


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of all projects."""
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path / "Loras"))
    return tmp_path / "Loras"


@pytest.fixture
def empty(home: Path) -> Project:
    """A project without pictures."""
    return find("mila").create()


@pytest.fixture
def project(empty: Project) -> Project:
    """A project with four pictures, no two alike, and no captions."""
    for number, size in enumerate([(256, 256), (256, 384), (384, 256), (256, 256)]):
        picture = Image.new("RGB", size, "white")
        pen = ImageDraw.Draw(picture)
        pen.ellipse(
            (20 + 40 * number, 30, 120 + 40 * number, 200),
            fill=["red", "green", "blue", "black"][number],
        )
        picture.save(empty.dataset / f"{number}.png")
    return empty
