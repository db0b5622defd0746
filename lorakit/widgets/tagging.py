"""Tagging on screen: the form, base tags proposed from the picture that shows the character best,
and the review.
"""

from __future__ import annotations

from html import escape

import ipywidgets as W

from ..dataset import Picture, scan, undo_captions
from ..errors import LorakitError
from ..project import Project
from ..tagging import captions, glossary, taggers, tags
from ..tagging.captions import TaggingSettings, TagReport, tag_dataset
from . import Bar, red
from .forms import Form
from .gallery import counts_table, dataset_page, file_tag

FRONT = ("activation_tag", "base_tags", "tagger")


class TaggingForm(W.VBox):
    """The tagging settings of a project, and a button that proposes base tags."""

    def __init__(self, project: Project) -> None:
        self.project, self.bar = project, Bar()
        pictures = [(p.name, p) for p in scan(project.dataset)]
        self.best = W.Dropdown(options=pictures, description="Best picture").add_class("lk-best")
        self.shown = W.HTML()
        self.propose = W.Button(
            description="Propose base tags", icon="magic", disabled=not pictures
        )
        self.propose.add_class("lk-propose")
        self.propose.on_click(lambda _: self._propose())
        self.best.observe(lambda _: self._show_best(), "value")
        self.problem = W.HTML().add_class("lk-propose-problem")
        asking = W.HBox([self.best, self.propose, self.shown])
        self.form = Form(project, TaggingSettings, FRONT, [asking, self.bar, self.problem])
        super().__init__([self.form])
        self._show_best()

    @property
    def value(self) -> TaggingSettings:
        """The settings on screen. Raises SettingsError when something is wrong with them."""
        return self.form.value

    def _show_best(self) -> None:
        self.shown.value = file_tag(self.best.value.path, 96) if self.best.value else ""

    def _propose(self) -> None:
        try:
            proposed = base_tags_of(self.project, self.best.value, self.value, self.bar)
        except LorakitError as error:
            self.problem.value = red(error)
            return
        self.problem.value = ""
        self.form.fill(base_tags=proposed)


def base_tags_of(
    project: Project, picture: Picture, settings: TaggingSettings, progress: Bar
) -> list[str]:
    """The character sheet that the tagger reads from one picture."""
    words = glossary.load()
    scorers = [taggers.load(name) for name in tags.parse(settings.tagger)]
    (found,) = captions.find_tags(project, [picture], settings, scorers, progress)
    return captions.base_tags_from(captions.cleaned(found, settings, words), words=words)


class Review(W.VBox):
    """Writes the captions when asked to by `run`, shows them with the pictures, and takes the edit
    back.
    """

    def __init__(self, project: Project) -> None:
        self.project, self.bar = project, Bar()
        self.line = W.HTML().add_class("lk-tag-line")
        self.counts = W.HTML().add_class("lk-tag-counts")
        self.page = W.HTML().add_class("lk-captions")
        self.undo = W.Button(
            description="Take this edit back", icon="undo", disabled=True
        ).add_class("lk-undo")
        self.undo.on_click(lambda _: self._undo())
        super().__init__([self.bar, W.HBox([self.line, self.undo]), self.counts, self.page])

    def run(self, asked: TaggingForm) -> TagReport:
        """Tags the dataset as `asked`; base tags that had to be chosen go into that form. Raises
        LorakitError.
        """
        settings = asked.value
        report = tag_dataset(self.project, settings, self.bar)
        asked.form.fill(base_tags=report.base_tags)
        base = ", ".join(report.base_tags) or "none"
        first = settings.activation_tag or "none: the LoRA will have no word that calls it"
        self._show(
            f"{report.captions} captions written. Activation tag: {first}. Base tags: {base}."
        )
        self.counts.value = counts_table(report.top, report.captions)
        self.undo.disabled = report.record is None
        return report

    def _show(self, line: str) -> None:
        self.line.value = escape(line)
        self.page.value = dataset_page(self.project)

    def _undo(self) -> None:
        self.undo.disabled = True
        try:
            count = undo_captions(self.project)
        except LorakitError as error:
            self.line.value = red(error)
            return
        self.counts.value = ""
        self._show(f"{count} captions are as they were before.")
