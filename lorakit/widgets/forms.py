"""A form made from any settings class: every field, its unit, range and meaning come from the
dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets as W
import traitlets

from ..errors import LorakitError, SettingsError
from ..project import Project
from ..settings import Spec, convert, specs
from . import TIP, red

WORDS = {"lr": "learning rate", "unet": "U-Net", "snr": "SNR", "cfg": "CFG"}
WIDTH = "380px"
INDENT = "0 0 0 168px"  # to stand below the fields, not below their labels
HELP = '<div style="opacity:.7;line-height:1.3;padding:5px 0 0 4px">{}</div>'


def label(name: str) -> str:
    """A setting's name as a person would write it: `unet_lr` is 'U-Net learning rate'."""
    words = " ".join(WORDS.get(word, word) for word in name.split("_"))
    return words[0].upper() + words[1:]


def meaning(spec: Spec) -> str:
    """The help line: meaning, unit and range."""
    limits = [
        f"{value:g}" if value < 1e6 else f"{value:.0f}"
        for value in (spec.low, spec.high)
        if value is not None
    ]
    span = " to ".join(limits) if len(limits) == 2 else ""
    extra = " ".join(part for part in (span, spec.unit) if part)
    return f"{spec.help} ({extra})" if extra else spec.help


class Field:
    """One setting on screen: the widget, what it means, and what is wrong with its value."""

    def __init__(self, spec: Spec, value: Any, section: str) -> None:
        self.spec, self.section = spec, section
        self.widget = _widget(spec, value).add_class(f"lk-{section}-{spec.name}")
        self.problem = W.HTML(layout={"display": "none", "margin": INDENT})
        self.problem.add_class(f"lk-{section}-{spec.name}-problem")
        help_line = W.HTML(HELP.format(escape(meaning(spec))), layout={"flex": "1 1 0%"})
        self.box = W.VBox([W.HBox([self.widget, help_line]), self.problem])

    def read(self) -> Any:
        """The value on screen. Raises SettingsError."""
        return convert(self.spec, self.widget.value, self.section)

    def write(self, value: Any) -> None:
        self.widget.value = _on_screen(self.spec, value)

    def complain(self, problem: str) -> None:
        """Shows what is wrong below the field; '' takes the complaint away."""
        self.problem.value = red(problem)
        self.problem.layout.display = None if problem else "none"


def _on_screen(spec: Spec, value: Any) -> Any:
    between = ", " if spec.separator == "," else spec.separator
    return between.join(value) if spec.type is tuple else value


def _widget(spec: Spec, value: Any) -> Any:
    """The core widget for a setting. Numbers are not clamped by it: a wrong one is answered, not
    changed in silence.
    """
    common = {
        "value": _on_screen(spec, value),
        "description": label(spec.name),
        TIP: meaning(spec),
        "style": {"description_width": "160px"},
        "layout": {"width": WIDTH},
    }
    if spec.choices:
        return W.Dropdown(options=list(spec.choices), **common)
    if spec.suggestions:
        return W.Combobox(options=list(spec.suggestions), **common)
    if spec.type is bool:
        return W.Checkbox(**common)
    kind = {int: W.IntText, float: W.FloatText, tuple: W.Textarea}.get(spec.type, W.Text)
    return kind(continuous_update=True, **common)


class Form(W.VBox):
    """A form for the settings class `cls` of a project: filled from project.toml, saved there on
    every change.

    `front` names the fields that come first, `between` are widgets shown below those. `settings` is
    the trait to observe: the last settings that were right.
    """

    settings = traitlets.Any()

    def __init__(
        self, project: Project, cls: type, front: Sequence[str] = (), between: Sequence[Any] = ()
    ) -> None:
        self.project, self.cls, self.problem = project, cls, ""
        loaded: Any = project.load(cls)
        section = cls.SECTION  # type: ignore[attr-defined]
        self.fields = {
            spec.name: Field(spec, getattr(loaded, spec.name), section) for spec in specs(cls)
        }
        super().__init__(self._rows(front, between))
        self.settings = loaded
        for name, field in self.fields.items():
            field.widget.observe(lambda _, touched=name: self._read(touched), "value")

    @property
    def value(self) -> Any:
        """The settings on screen. Raises SettingsError when something is wrong with them."""
        if self.problem:
            raise SettingsError(self.problem)
        return self.settings

    def fill(self, **values: Any) -> None:
        """Puts values into fields, as if typed."""
        for name, value in values.items():
            self.fields[name].write(value)

    def _rows(self, front: Sequence[str], between: Sequence[Any]) -> list[Any]:
        rest = [field for name, field in self.fields.items() if name not in front]
        rows = [self.fields[name].box for name in front] + list(between)
        rows += [field.box for field in rest if not field.spec.advanced]
        advanced: dict[str, list[Any]] = {}
        for field in rest:
            if field.spec.advanced:
                advanced.setdefault(field.spec.subject, []).append(field.box)
        if not advanced:
            return rows
        pages = {subject: W.VBox(boxes) for subject, boxes in advanced.items()}
        return [
            *rows,
            folded("Advanced", folds(pages) if len(pages) > 1 else W.VBox(*advanced.values())),
        ]

    def _read(self, touched: str) -> None:
        """Reads every field after `touched` was changed, shows what is wrong, saves what is
        right.
        """
        values, problems = {}, {}
        for name, field in self.fields.items():
            try:
                values[name] = field.read()
            except SettingsError as error:
                problems[name] = str(error)
        if not problems:
            try:  # settings that contradict each other are told where the person is typing
                self._keep(self.cls(**values))
            except LorakitError as error:
                problems[touched] = str(error)
        for name, field in self.fields.items():
            field.complain(problems.get(name, "").removeprefix(f"{field.section}: "))
        self.problem = next(iter(problems.values()), "")

    def _keep(self, settings: Any) -> None:
        if settings != self.settings:
            self.project.save(settings)
            self.settings = settings


def folded(title: str, content: Any) -> Any:
    """`content` under a title that opens and closes it; closed at first."""
    return folds({title: content})


def folds(pages: Mapping[str, Any]) -> Any:
    """Pages one below the other, each under a title that opens and closes it; all closed at
    first.
    """
    accordion = W.Accordion(list(pages.values()), selected_index=None)
    for number, title in enumerate(pages):
        accordion.set_title(number, title)
    return accordion
