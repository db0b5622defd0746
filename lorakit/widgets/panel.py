"""The training panel: shows the events of a run while it goes on, in the foreground of its cell.

No thread: Colab shows no update from one. The run ends early, with what it has learnt saved, by the
panel's own Stop button (where jupyter-ui-poll lets presses through while a cell runs) or by the
notebook's interrupt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from html import escape
from importlib.metadata import version
from importlib.util import find_spec

import ipywidgets as W
from IPython import get_ipython

from ..errors import LorakitError
from ..progress import duration
from ..project import Project
from ..tagging.captions import TaggingSettings
from ..tagging.likeness import scorer
from ..training.config import PreviewSettings, TrainingSettings
from ..training.ledger import StepDone
from ..training.loop import EpochDone
from ..training.run import (
    Finished,
    Note,
    Planned,
    Previews,
    RunEvent,
    Saved,
    Validated,
    train_project,
)
from . import Bar
from .gallery import grid_table
from .plot import loss_plot

SOON = 30  # steps of this run, or a tenth of all, from which the time left is told
PAUSE = 0.5  # seconds between two updates of bars and text
PLOT_PAUSE = (
    1.0,
    10.0,
)  # seconds between two drawings of the plot, at least and at most; between them
SHARE = 50  # drawing takes one part in so many of the time
LOG_PAUSE = 10.0  # seconds between two lines about steps in the log


HINT = (
    "To stop: this cell's own stop button, or Kernel > Interrupt. What is learnt so far is saved."
)


class Panel(W.VBox):
    """Bars, time left, loss, previews and likeness of one run. `follow` shows the events of a
    run.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.losses: list[float] = []
        self.likeness: dict[int, float] = {}
        self.finished: Finished | None = None
        self._first: Previews | None = None
        self._stop = False
        self._next = self._next_plot = self._next_log = 0.0
        self._build()

    def _build(self) -> None:
        wide = {"width": "420px"}
        self.plan = W.HTML().add_class("lk-run-plan")
        self.status = W.HTML("Not started.").add_class("lk-status")
        self.progress = Bar()
        self.step = W.IntProgress(description="Steps", layout=wide).add_class("lk-step")
        self.epoch = W.IntProgress(description="Epochs", layout=wide).add_class("lk-epoch")
        self.step_text, self.epoch_text = W.HTML(), W.HTML()
        self.loss = W.Image(format="png", layout={"width": "600px", "display": "none"}).add_class(
            "lk-loss"
        )
        self.pictures = W.HTML().add_class("lk-previews")
        self.stop = W.Button(description="Stop and save", icon="stop", disabled=True).add_class(
            "lk-stop"
        )
        self.stop.on_click(lambda _: self.ask_stop())
        self.hint = W.HTML()
        bars = [W.HBox([self.step, self.step_text]), W.HBox([self.epoch, self.epoch_text])]
        stopping = W.HBox([self.stop, self.hint])
        super().__init__(
            [self.plan, *bars, self.status, self.progress, stopping, self.loss, self.pictures]
        )

    def train(self, training: TrainingSettings, preview: PreviewSettings) -> Finished | None:
        """Trains the project's LoRA and shows how it goes; returns how it ended. Raises
        LorakitError.
        """
        tagging = self.project.load(TaggingSettings)
        score = scorer(tagging)
        return self.follow(
            train_project(
                self.project, training, preview, tagging.activation_tag, self.progress, score
            )
        )

    def ask_stop(self) -> None:
        """Ends the run after the present step; what is learnt so far is saved."""
        self._stop = True
        self.stop.disabled = True
        self.status.value = "Stopping: saving what is learnt so far ..."

    def follow(self, events: Generator[RunEvent, None, None]) -> Finished | None:
        """Shows the events of a run until it ends; returns how it ended, None if it was stopped
        before it began.

        Raises LorakitError as the run does, after saying so on the panel.
        """
        self.status.value = "Starting ..."
        try:
            with polling() as poll:
                self.stop.disabled = poll is None
                self.hint.value = "" if poll else HINT
                self._pump(events, poll or (lambda: None))
        except KeyboardInterrupt:
            left = (
                f"what was saved is in {self.project.output}"
                if self.losses
                else "nothing was trained"
            )
            self._say(f"Stopped; {left}.")
        except LorakitError as error:
            self.status.value = "<b>Stopped.</b> The reason is said below."
            self._write(str(error))
            raise
        finally:
            self.stop.disabled = True
            self.stop.layout.display = self.progress.layout.display = "none"
            self.hint.value = ""
        return self.finished

    def _pump(self, events: Generator[RunEvent, None, None], poll: Callable[[], None]) -> None:
        """Takes one event after the other. A wish to stop, from button or interrupt, is thrown into
        the run, once.
        """
        event = next(events, None)
        while event is not None:
            try:
                self.show_event(event)
                poll()
            except KeyboardInterrupt:
                self.ask_stop()
            if self._stop:
                self._stop = False
                event = _interrupted(events)
            else:
                event = next(events, None)

    # --- events -----------------------------------------------------------------------------------

    def show_event(self, event: RunEvent) -> None:
        """Shows one event and writes it to the log."""
        if isinstance(event, StepDone):
            self._show_step(event)
        elif isinstance(event, EpochDone):
            self._show_epoch(event)
        elif isinstance(event, Previews):
            self._show_previews(event)
        elif isinstance(event, Planned):
            self._show_plan(event)
        elif isinstance(event, Note):
            self._show_note(event)
        elif isinstance(event, Validated):
            self._write(f"Validation loss {event.loss:.4f} after epoch {event.epoch}.")
        elif isinstance(event, Saved):
            self._write(f"Saved {event.path.name} after epoch {event.epoch}, step {event.step}.")
        elif isinstance(event, Finished):
            self._show_end(event)

    def _show_plan(self, event: Planned) -> None:
        self.step.max, self.epoch.max = event.plan.steps, event.plan.epochs
        self.plan.value = f"<b>{escape(event.plan.sentence())}</b><br>{escape(event.reason)}"
        self._write(f"{event.plan.sentence()}; {event.reason}")

    def _show_note(self, event: Note) -> None:
        self.plan.value += f"<br>{escape(event.text)}"
        self._write(event.text)

    def _show_step(self, event: StepDone) -> None:
        self.losses.append(event.loss)
        now, last = time.monotonic(), event.step == event.steps
        if now >= self._next or last:
            self._next = now + PAUSE
            self.step.max, self.step.value = event.steps, event.step
            self.step_text.value = f"{event.step} of {event.steps}"
            self.status.value = escape(step_line(event))
        if now >= self._next_plot or last:
            self._draw_loss(now)
        if now >= self._next_log:
            self._next_log = now + LOG_PAUSE
            self._write(f"Step {event.step} of {event.steps}: {step_line(event)}")

    def _draw_loss(self, now: float) -> None:
        self.loss.value = loss_plot(self.losses)
        self.loss.layout.display = None
        least, most = PLOT_PAUSE
        self._next_plot = now + min(max(least, SHARE * (time.monotonic() - now)), most)

    def _show_epoch(self, event: EpochDone) -> None:
        self.epoch.max, self.epoch.value = event.epochs, event.epoch
        self.epoch_text.value = f"{event.epoch} of {event.epochs}"
        self._write(f"Epoch {event.epoch} of {event.epochs} done, step {event.step}.")

    def _show_previews(self, event: Previews) -> None:
        self._first = self._first or event
        shown = [self._first] if event is self._first else [self._first, event]
        heads = [prompt.text for prompt in event.prompts]
        rows = [(preview_label(each), each.pictures) for each in shown]
        self.pictures.value = grid_table(rows, heads)
        if event.likeness is not None:
            self.likeness[event.epoch] = event.likeness
        self._write(f"Previews: {preview_label(event)}.")

    def _show_end(self, event: Finished) -> None:
        self.finished = event
        how = "Stopped" if event.stopped else "Done"
        self.step.bar_style = self.epoch.bar_style = "" if event.stopped else "success"
        self._say(
            f"{how}: {event.steps} steps in {duration(event.seconds)}. LoRA file: {event.lora_file}"
        )

    def _say(self, line: str) -> None:
        self.status.value = f"<b>{escape(line)}</b>"
        self._write(line)

    def _write(self, line: str) -> None:
        """Adds a line to `output/log.txt`, which outlives the page. A full disk must not end the
        run here.
        """
        path = self.project.output / "log.txt"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        except OSError as error:
            self.hint.value = escape(f"{path} cannot be written ({error.strerror}).")


def _interrupted(events: Generator[RunEvent, None, None]) -> RunEvent | None:
    """Interrupts a run where it stands; its next event, None if it ends at once."""
    try:
        return events.throw(KeyboardInterrupt())
    except StopIteration:
        return None


def time_left(event: StepDone) -> float | None:
    """Seconds until the last step, None while too few steps of this run are done to tell."""
    done = event.step - event.since
    if done < min(SOON, event.steps / 10):
        return None
    return event.seconds / done * (event.steps - event.step)


def step_line(event: StepDone) -> str:
    """The status line after a step."""
    left = time_left(event)
    when = "estimating the time left" if left is None else f"{duration(left)} left"
    done = event.step - event.since
    speed = f"{event.seconds / done:.2f} s a step" if event.seconds else ""
    return (
        f"{when} · {speed} · loss {event.loss:.3f} · learning rate {event.lr:.2g} · "
        f"gradient {event.gradient:.2g}"
    )


def preview_label(event: Previews) -> str:
    """'step 0' or 'epoch 3', with the likeness where it was measured."""
    when = f"epoch {event.epoch}" if event.epoch else "step 0"
    return when if event.likeness is None else f"{when}, likeness {event.likeness:.2f}"


@contextmanager
def polling() -> Iterator[Callable[[], None] | None]:
    """A function that lets button presses through while a cell runs, or None where that cannot be
    done.
    """
    if not can_poll():
        yield None
        return
    from jupyter_ui_poll import ui_events

    with ui_events() as poll:
        yield lambda: poll(1)


def can_poll() -> bool:
    """Whether jupyter-ui-poll is installed and works here: with ipykernel 7 it loses presses
    without a word.
    """
    if getattr(get_ipython(), "kernel", None) is None or find_spec("jupyter_ui_poll") is None:
        return False
    return int(version("ipykernel").partition(".")[0]) < 7
