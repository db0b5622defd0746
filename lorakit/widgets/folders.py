"""The folders of a dataset, each with settings of its own: the [[subset]] tables of project.toml on
screen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets as W

from ..errors import LorakitError, SettingsError
from ..project import Project
from ..settings import Spec, convert, specs
from ..training.config import SubsetSettings
from ..training.subsets import numbered
from . import TIP, red

AS_ELSEWHERE = "as elsewhere"
WORDS = {AS_ELSEWHERE: None, "on": True, "off": False}
SPECS = {spec.name: spec for spec in specs(SubsetSettings)}
COLUMNS = ("repeats", "keep_tags", "flip", "regularisation")


class FoldersForm(W.VBox):
    """A row for each folder with pictures; what is left empty holds as elsewhere. Saved on every
    change, after which `changed` is called.
    """

    def __init__(
        self, project: Project, folders: Sequence[str], changed: Callable[[], None]
    ) -> None:
        self.project, self.changed = project, changed
        self.problem = W.HTML()
        known = {table.folder: table for table in project.load_all(SubsetSettings)}
        counts = Counter(folders)
        rows = sorted({*counts, *known})
        self.rows = {
            folder: {
                name: _widget(folder, SPECS[name], getattr(known.get(folder), name, None))
                for name in COLUMNS
            }
            for folder in rows
        }
        for widgets in self.rows.values():
            for widget in widgets.values():
                widget.observe(lambda _: self._keep(), "value")
        lines = [
            W.HBox([W.HTML(_title(folder, counts[folder]), layout={"width": "200px"}), *widgets])
            for folder, widgets in ((f, list(w.values())) for f, w in self.rows.items())
        ]
        super().__init__([W.HTML(INTRODUCTION), *lines, self.problem])

    @property
    def tables(self) -> list[SubsetSettings]:
        """What is on screen, folders with nothing of their own left out. Raises SettingsError."""
        found = []
        for folder, widgets in self.rows.items():
            values = {name: _read(SPECS[name], widget.value) for name, widget in widgets.items()}
            if any(value is not None for value in values.values()):
                found.append(SubsetSettings(folder=folder, **values))
        return found

    def _keep(self) -> None:
        try:
            self.project.save_all(SubsetSettings, self.tables)
        except LorakitError as error:
            self.problem.value = red(str(error))
            return
        self.problem.value = ""
        self.changed()


INTRODUCTION = (
    "Folders inside dataset/ can have settings of their own. A name like <code>3_swimsuit</code> "
    "means 3 repeats. Left empty, the settings of the run hold."
)


def _title(folder: str, count: int) -> str:
    name = "dataset" if folder == "." else folder
    return f"<b>{escape(name)}</b>, {count} picture{'' if count == 1 else 's'}"


def _widget(folder: str, spec: Spec, value: Any) -> Any:
    """The widget for one setting of a folder; None is an empty text, or the words for it."""
    common = {
        "description": spec.name.replace("_", " "),
        TIP: spec.help,
        "style": {"description_width": "90px"},
        "layout": {"width": "210px"},
    }
    if spec.type is bool:
        word = next(word for word, meant in WORDS.items() if meant is value)
        made: Any = W.Dropdown(options=list(WORDS), value=word, **common)
    else:
        said = numbered(folder) if spec.name == "repeats" else ""
        common["layout"] = {"width": "170px"}
        made = W.Text("" if value is None else str(value), placeholder=said or "", **common)
    return made.add_class(f"lk-subset-{spec.name}")


def _read(spec: Spec, value: str) -> Any:
    """What a widget says. Raises SettingsError."""
    if spec.type is bool:
        return WORDS[value]
    if not value.strip():
        return None
    try:
        return convert(spec, value, "subset")
    except SettingsError as error:
        raise SettingsError(f"{error} Or leave it empty.") from error
