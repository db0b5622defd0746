"""Choosing a project: one of those that are there, a new one, or the sample project when nothing is
chosen.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import ipywidgets as W

from .. import project as projects
from ..clean.sweep import sweep
from ..dataset import read_caption, scan
from ..demo.run import NAME, sample_project
from ..errors import LorakitError
from ..files import write_text
from ..progress import Progress
from ..project import Project
from ..tagging.captions import TaggingSettings, tag_dataset
from . import TIP, Bar, red

SAMPLE = "the sample project"


def remembered() -> Path:
    """The file that holds the name of the project chosen last, for both notebooks."""
    return projects.root() / ".last-project"


class ProjectPicker(W.VBox):
    """A list of the projects under the root and a field for a new name; what was chosen last is
    chosen again.
    """

    def __init__(self) -> None:
        self.list = W.Dropdown(options=_options(), value=_last(), description="Project").add_class(
            "lk-project"
        )
        tip = "Type a name and press Enter. Letters, digits, '_' and '-'."
        self.new = W.Text(
            description="or a new one",
            placeholder="my_character",
            continuous_update=False,
            **{TIP: tip},
        )
        self.new.add_class("lk-project-new")
        self.line = W.HTML().add_class("lk-project-line")
        self.bar = Bar()
        self.list.observe(lambda _: self._chosen(), "value")
        self.new.observe(lambda _: self._typed(), "value")
        super().__init__([W.HBox([self.list, self.new]), self.line, self.bar])
        self._describe()

    def choose(self, name: str) -> None:
        """Chooses a project, making its folders if it is new."""
        try:
            projects.named(name).create()
        except (LorakitError, OSError) as error:
            self.line.value = red(error)
            return
        self.list.options = _options()
        self.list.value = name
        self.new.value = ""

    def ready(self, captions: bool = False) -> Project:
        """The chosen project, its folders made. The sample's pictures are drawn if they are not
        there yet, and with `captions` also cleaned and tagged.
        """
        if self.list.value == NAME:
            project = _ready_sample(captions, self.bar)
        else:
            project = projects.named(self.list.value).create()
        self._describe()
        return project

    def _typed(self) -> None:
        if self.new.value.strip():
            self.choose(self.new.value.strip())

    def _chosen(self) -> None:
        self._describe()
        try:
            write_text(remembered(), self.list.value)
        except LorakitError as error:
            self.line.value = red(error)

    def _describe(self) -> None:
        try:
            project = projects.named(self.list.value)
        except (
            LorakitError
        ) as error:  # a folder made by hand may have a name that other tools trip over
            self.line.value = red(error)
            return
        pictures = scan(project.dataset)
        captions = sum(picture.caption_path.exists() for picture in pictures)
        what = f"{len(pictures)} pictures, {captions} captions"
        if self.list.value == NAME and not pictures:
            what = "drawn when the next cell runs"
        self.line.value = (
            f"<b>{escape(project.name)}</b>: {what}, in <code>{escape(str(project.dataset))}</code>"
        )


def _options() -> list[tuple[str, str]]:
    others = [(name, name) for name in projects.names() if name != NAME]
    return [(f"{SAMPLE} ({NAME})", NAME), *others]


def _last() -> str:
    """The project chosen last, if it is still there."""
    try:
        name = remembered().read_text(encoding="utf-8").strip()
    except OSError:
        return NAME
    return name if name in projects.names() else NAME


def _ready_sample(captions: bool, progress: Progress) -> Project:
    project = sample_project(progress=progress)
    if captions and any(read_caption(picture) is None for picture in scan(project.dataset)):
        sweep(project, progress)
        tag_dataset(project, project.load(TaggingSettings), progress)
    return project
