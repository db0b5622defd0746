"""Cleaning on screen: what the sweep took out and why, and the way back."""

from __future__ import annotations

from html import escape

import ipywidgets as W

from ..clean.sweep import Swept, sweep
from ..dataset import removals, restore, scan
from ..errors import LorakitError
from ..project import Project
from . import Bar, red
from .gallery import groups_page, removed_page


class CleaningView(W.VBox):
    """Sweeps the dataset when asked to by `run`, shows groups and removed pictures, and brings
    pictures back.
    """

    def __init__(self, project: Project) -> None:
        self.project, self.bar = project, Bar()
        self.line = W.HTML().add_class("lk-clean-line")
        self.groups = W.HTML().add_class("lk-groups")
        self.removed = W.HTML().add_class("lk-removed")
        self.chosen = W.SelectMultiple(rows=4, layout={"width": "420px"}).add_class(
            "lk-removed-list"
        )
        self.back = W.Button(description="Bring back", icon="undo").add_class("lk-bring-back")
        self.back.on_click(lambda _: self._bring_back())
        self.controls = W.HBox([self.chosen, self.back])
        super().__init__(
            [
                self.bar,
                self.line,
                self.groups,
                W.HTML("<h4>Removed</h4>"),
                self.removed,
                self.controls,
            ]
        )
        self._refresh()

    def run(self) -> Swept:
        """Moves broken pictures and near-duplicates to `removed/` and shows what was done."""
        swept = sweep(self.project, self.bar)
        self.groups.value = groups_page([(group.best.path, moved) for group, moved in swept.groups])
        self._refresh(
            f"{len(swept.broken)} broken and {swept.moved - len(swept.broken)} copies moved to "
            "removed/; "
        )
        return swept

    def _bring_back(self) -> None:
        names = self.chosen.value
        try:
            for name in names:
                restore(self.project, name)
        except LorakitError as error:
            self.line.value = red(error)
        else:
            self._refresh(f"{', '.join(names) or 'nothing'} brought back; ")

    def _refresh(self, done: str = "") -> None:
        rows = list(reversed(removals(self.project)))
        self.chosen.options = [(row["to"], row["to"]) for row in rows]
        self.controls.layout.display = None if rows else "none"
        self.removed.value = removed_page(self.project)
        self.line.value = (
            f"{escape(done)}<b>{len(scan(self.project.dataset))} pictures</b> in the dataset."
        )
