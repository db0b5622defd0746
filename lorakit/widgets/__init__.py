"""What the notebooks show: forms, galleries, the training panel. They show and ask; every decision
is made elsewhere.

Only core widgets of ipywidgets 7.7.1, which Colab has, and nothing that 8 warns about. Each widget
that a person touches carries a CSS class `lk-...`, by which the browser tests find it.
"""

from __future__ import annotations

import time
from html import escape
from typing import TypeVar

import ipywidgets as W
from IPython.display import display

# The tooltip of a field: 7 knows only the one name, 8 warns about it.
TIP = "tooltip" if "tooltip" in W.Text.class_trait_names() else "description_tooltip"

T = TypeVar("T")


def show(widget: T) -> T:
    """Displays a widget below the running cell; returns it."""
    display(widget)
    return widget


def red(problem: object) -> str:
    """What is wrong, as HTML; '' for nothing."""
    text = str(problem)
    return f'<span style="color:#c62828">{escape(text)}</span>' if text else ""


class Bar(W.HBox):
    """A progress bar; an object to pass wherever the library takes `progress`."""

    PAUSE = 0.1  # seconds between two updates: each is a message to the browser

    def __init__(self) -> None:
        self.bar = W.IntProgress(layout={"width": "300px"})
        self.text = W.HTML()
        self.what, self.shown = "", 0.0
        super().__init__([self.bar, self.text], layout={"display": "none"})

    def __call__(self, what: str, done: int, total: int) -> None:
        now, finished = time.monotonic(), 0 < total <= done
        if what == self.what and not finished and now - self.shown < self.PAUSE:
            return
        self.what, self.shown = what, now
        self.layout.display = None
        self.bar.max, self.bar.value = max(total, 1), done
        self.bar.bar_style = "success" if finished else ""
        self.text.value = f"{what}: {done} of {total}" if total else f"{what} ..."
