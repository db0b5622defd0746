"""A row of the trainer's form: the preset of a machine, what it would set, take and cost, and a
button that sets it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any

import ipywidgets as W

from ..colab import gpu
from ..errors import LorakitError
from ..training.config import TrainingSettings
from ..training.plan import Plan
from ..training.presets import PRESETS, preset_for, sentence
from .forms import INDENT


class PresetRow(W.VBox):
    """This machine's preset is chosen at first. `plan` makes the plan for some settings; `use` puts
    values into the form's fields.
    """

    def __init__(self, plan: Callable[[TrainingSettings], Plan], use: Callable[..., None]) -> None:
        self.plan, self.settings = plan, TrainingSettings()
        found = gpu()
        memory = float((re.findall(r"(\d+) GB", found) or ["0"])[0])
        self.choice = W.Dropdown(
            options=[(each.name, each) for each in PRESETS],
            value=preset_for(found, memory),
            layout={"width": "140px"},
        ).add_class("lk-preset")
        self.use = W.Button(description="Use preset", icon="check", layout={"width": "110px"})
        self.use.add_class("lk-use-preset")
        self.use.on_click(lambda _: use(**self.choice.value.changes))
        self.line = W.HTML().add_class("lk-preset-line")
        self.choice.observe(lambda _: self._show(), "value")
        row = W.HBox([self.use, W.Label("for"), self.choice])
        super().__init__([row, self.line], layout={"margin": INDENT})

    def show(self, settings: TrainingSettings) -> None:
        """Follows the settings; the embedded base needs no preset."""
        self.settings = settings
        self.layout.display = "none" if settings.base_model == "demo" else None
        self._show()

    def _show(self) -> None:
        changes: dict[str, Any] = dict(self.choice.value.changes)
        try:
            chosen = replace(self.settings, **changes)
            self.line.value = escape(
                sentence(self.choice.value, self.plan(chosen), chosen.resolution)
            )
        except LorakitError:  # the line above says what is wrong with plan or settings
            self.line.value = ""
