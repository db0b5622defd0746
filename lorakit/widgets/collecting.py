"""Collecting on screen: a source is chosen, looked at, and then taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as W

from ..collect import NAMES, Source, sheet, source
from ..collect.finds import Offer
from ..collect.intake import take, unknown
from ..errors import LorakitError
from ..files import free_name, write_safely
from ..project import Project
from . import Bar, red
from .forms import Form
from .gallery import PAGE, SMALL, TILE, picture_tag

UPLOADS = "uploads"  # beside dataset/: what came through the browser, kept as it came


class CollectView(W.VBox):
    """The sources with their settings. `look` shows what there is, `take` brings it into the
    project; nothing is fetched before.
    """

    def __init__(self, project: Project) -> None:
        self.project, self.bar = project, Bar()
        self.offer: Offer | None = None
        titles = [(source(name).title, name) for name in NAMES]
        self.choice = W.Dropdown(options=titles, description="Source", layout={"width": "420px"})
        self.choice.add_class("lk-source")
        self.items = W.Textarea(layout={"width": "640px", "height": "70px"}).add_class("lk-items")
        self.upload = W.FileUpload(multiple=True, description="Upload").add_class("lk-upload")
        self.inputs = W.HBox([self.items, self.upload])
        self.look_button = _button("Look", "search", "lk-look", self.look)
        self.take_button = _button("Take them", "download", "lk-take", self.take)
        self.line = W.HTML().add_class("lk-collect-line")
        self.page = W.HTML().add_class("lk-offer")
        self.place = W.VBox()
        self.forms: dict[str, Form] = {}
        self.choice.observe(lambda _: self._chosen(), "value")
        self.items.observe(lambda _: self._forget(), "value")
        self.upload.observe(lambda change: self._uploaded(change.new), "value")
        buttons = W.HBox([self.look_button, self.take_button])
        super().__init__(
            [self.choice, self.place, self.inputs, buttons, self.bar, self.line, self.page]
        )
        self._chosen()

    @property
    def source(self) -> Source:
        """The one that is chosen."""
        return source(self.choice.value)

    def look(self) -> None:
        """Shows what the source has that the project never had."""
        self._forget()
        try:
            settings = self.forms[self.choice.value].value
            self.offer = self.source.look(settings, words(self.items.value), self.bar)
            new = unknown(self.project, self.offer.finds)
            shown = sheet.thumbnails(new, progress=self.bar)
        except LorakitError as error:
            self.line.value = red(error)
            return
        self.take_button.disabled = not new
        self.take_button.description = f"Take {len(new)}"
        self.line.value = "<br>".join(
            map(escape, [*self.offer.notes, f"{len(new)} new pictures of {len(self.offer.finds)}."])
        )
        tiles = [
            TILE.format(sheet.SIDE, picture_tag(image, sheet.SIDE), escape(find.name), SMALL)
            for find, image in shown
        ]
        self.page.value = PAGE.format("".join(tiles))

    def take(self) -> None:
        """Brings what was looked at into the project."""
        if self.offer is None:
            return
        self.take_button.disabled = True
        try:
            taken = take(self.project, self.offer, self.bar)
        except BaseException as error:
            self.take_button.disabled = False  # what came is kept; the same button goes on
            if not isinstance(error, LorakitError):
                raise
            self.line.value = red(error)
            return
        self.line.value = escape(f"{taken} They are in {self.project.dataset}.")

    def _chosen(self) -> None:
        """Shows the form of the source, and the field for what it collects from."""
        name = self.choice.value
        if name not in self.forms:
            self.forms[name] = Form(self.project, self.source.settings)
            self.forms[name].observe(lambda _: self._forget(), "settings")
        self.place.children = [self.forms[name]]
        self.inputs.layout.display = None if self.source.items else "none"
        self.items.placeholder = f"{self.source.items.replace('_', ' ').lower()}: one a line"
        self._forget()

    def _forget(self) -> None:
        """What was looked at is no longer what would be taken."""
        self.offer, self.take_button.disabled = None, True
        self.take_button.description, self.line.value, self.page.value = "Take them", "", ""

    def _uploaded(self, value: Any) -> None:
        """Keeps the files and lists them among the items."""
        try:
            kept = [self._keep(name, content) for name, content in contents(value)]
        except LorakitError as error:
            self.line.value = red(error)
            return
        self.items.value = "\n".join([*filter(None, [self.items.value.strip()]), *kept])

    def _keep(self, name: str, content: bytes) -> str:
        folder = self.project.settings_file.parent / UPLOADS
        place = free_name(folder / Path(name).name)
        return str(write_safely(place, lambda part: part.write_bytes(content)))


def words(text: str) -> list[str]:
    """What is listed, one a line; quotes around a line are taken off."""
    lines = (line.strip().strip("'\"") for line in text.splitlines())
    return [line for line in lines if line]


def contents(value: Any) -> Iterable[tuple[str, bytes]]:
    """Names and contents of uploaded files: ipywidgets 7 and 8 differ in how they give them."""
    if isinstance(value, Mapping):  # 7
        return [(name, bytes(file["content"])) for name, file in value.items()]
    return [(file["name"], bytes(file["content"])) for file in value]


def _button(text: str, icon: str, mark: str, work: Any) -> W.Button:
    button = W.Button(description=text, icon=icon).add_class(mark)
    button.on_click(lambda _: work())
    return button
