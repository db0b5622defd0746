"""What a terminal shows of a job."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace

import pytest

from lorakit import progress


class Terminal(io.StringIO):
    """A terminal that remembers what was written, at a time that the test sets."""

    now = 0.0

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=made))
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


def test_the_time_left_is_told_though_the_loss_changes_with_every_step(terminal: Terminal) -> None:
    show = progress.TerminalProgress()
    for done in (1, 2, 3):
        terminal.now += 10.0
        show(f"Training, loss 0.{done}", done, 8)
    assert terminal.getvalue().endswith("Training, loss 0.3: 3/8, 33 s left")


def test_another_job_begins_its_own_time(terminal: Terminal) -> None:
    show = progress.TerminalProgress()
    show("Drawing previews", 0, 2)
    terminal.now += 60.0
    show("Training", 1, 2)
    assert terminal.getvalue().endswith("Training: 1/2")


def test_on_a_pipe_a_long_job_tells_a_line_a_minute(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    terminal.now = 1000.0
    show = progress.TerminalProgress()
    for done in range(1, 16):
        show("Training", done, 15)
        terminal.now += 10.0
    assert terminal.getvalue().splitlines() == [
        "Training: 1/15",
        "Training: 8/15, 61 s left",
        "Training: 15 done in 2 min",
    ]
