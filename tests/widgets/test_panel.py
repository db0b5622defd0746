"""The training panel, fed with scripted runs: what it shows, when it tells the time, how a run is
stopped.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from lorakit.errors import TrainingError
from lorakit.training.config import TrainingSettings
from lorakit.training.loop import EpochDone, StepDone
from lorakit.training.plan import make_plan
from lorakit.training.preview import Prompt
from lorakit.training.run import Finished, Planned, Previews, RunEvent, Saved
from lorakit.widgets import panel as panels
from lorakit.widgets.panel import Panel, step_line, time_left

STEPS, EPOCHS = 8, 2


def step(number: int, steps: int = STEPS, seconds: float = 0.5) -> StepDone:
    return StepDone(number, steps, 1, 0.5 / number, 1e-4, 0.1, number * seconds)


def previews(epoch: int, likeness: float | None) -> Previews:
    return Previews(
        epoch, [Prompt("mila", 1)], [Image.new("RGB", (64, 64), (epoch * 100, 0, 0))], likeness
    )


class Run:
    """A run that takes an interrupt as train_project does: it saves and ends. `log` is what it
    did.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, list[str]()

    def events(self) -> Generator[RunEvent, None, None]:
        file, last, stopped = self.folder / "mila.safetensors", 0, False
        settings = TrainingSettings(
            resolution=64, bucket_step=32, repeats=1, batch_size=1, epochs=EPOCHS
        )
        plan = make_plan([(64, 64)] * 4, settings)
        yield Planned(plan, "cpu", torch.float32, "no GPU found")
        yield previews(0, 0.2)
        try:
            for number in range(1, STEPS + 1):
                self.log.append(f"step {number}")
                last = number
                yield step(number)
                if number % 4 == 0:
                    yield EpochDone(number // 4, EPOCHS, number)
                    yield previews(number // 4, 0.2 + number / 10)
        except KeyboardInterrupt:
            stopped = True
        self.log.append("saved")
        yield Saved(file, EPOCHS, last)
        yield Finished(file, last, 4.0, stopped)


@pytest.fixture
def run(project) -> Run:
    return Run(project.output)


@pytest.fixture
def panel(project) -> Panel:
    return Panel(project)


@pytest.mark.parametrize(
    "done, steps, left",
    [
        (1, 448, None),
        (29, 448, None),
        (30, 448, 209.0),  # 30 steps are enough,
        (9, 100, None),
        (10, 100, 45.0),  # and so is a tenth of a short run
        (448, 448, 0.0),
    ],
)
def test_time_left_is_told_when_enough_of_this_run_is_done(done, steps, left):
    assert time_left(step(done, steps)) == left


def test_the_status_line_says_time_speed_loss_rate_and_gradient():
    assert (
        step_line(replace(step(2, 400), gradient=0.0321))
        == "estimating the time left · 0.50 s a step · loss 0.250 · learning rate 0.0001 · "
        "gradient 0.032"
    )
    assert step_line(step(100, 460)).startswith("3 min left · 0.50 s a step")


def test_a_run_fills_the_bars_and_ends_with_the_lora_file(panel, run):
    finished = panel.follow(run.events())
    assert (panel.step.value, panel.step.max, panel.step_text.value) == (8, 8, "8 of 8")
    assert (panel.epoch.value, panel.epoch.max, panel.epoch_text.value) == (2, 2, "2 of 2")
    assert finished == panel.finished and not finished.stopped
    assert (
        panel.status.value
        == f"<b>Done: 8 steps in 4 s. LoRA file: {run.folder / 'mila.safetensors'}</b>"
    )
    assert (
        panel.plan.value.startswith("<b>4 pictures x 1 repeats")
        and "no GPU found" in panel.plan.value
    )
    assert panel.stop.disabled and panel.hint.value == ""


def test_previews_show_the_newest_epoch_beside_step_0_with_likeness(panel, run):
    panel.follow(run.events())
    assert (
        "step 0, likeness 0.20" in panel.pictures.value
        and "epoch 2, likeness 1.00" in panel.pictures.value
    )
    assert "epoch 1" not in panel.pictures.value and panel.pictures.value.count("<img ") == 2
    assert panel.likeness == {0: 0.2, 1: 0.6000000000000001, 2: 1.0}


def test_previews_without_likeness_have_none(panel):
    panel.show_event(previews(0, None))
    assert "step 0<" in panel.pictures.value and panel.likeness == {}


def test_the_loss_is_plotted_in_place_at_most_once_a_second(panel, run, monkeypatch):
    drawn = []
    monkeypatch.setattr(panels, "loss_plot", lambda losses: drawn.append(len(losses)) or b"png")
    assert panel.loss.layout.display == "none"
    panel.follow(run.events())
    assert drawn == [1, 8], "the first step, and the last one whenever it comes"
    assert panel.loss.value == b"png" and panel.loss.layout.display is None


@pytest.mark.parametrize("cost, pause", [(0.001, 1.0), (0.1, 5.0), (3.0, 10.0)])
def test_a_slow_plot_is_drawn_less_often_but_bars_go_on(panel, monkeypatch, cost, pause):
    clock, drawn = [100.0], []
    monkeypatch.setattr(panels.time, "monotonic", lambda: clock[0])

    def slow(losses):
        drawn.append(len(losses))
        clock[0] += cost
        return b"png"

    monkeypatch.setattr(panels, "loss_plot", slow)
    panel.show_event(step(1, 1000))
    clock[0] = 100 + pause - 0.01
    panel.show_event(step(2, 1000))
    assert drawn == [1] and panel.step.value == 2
    clock[0] = 100 + pause
    panel.show_event(step(3, 1000))
    assert drawn == [1, 3]


def test_everything_goes_to_the_log(panel, run):
    panel.follow(run.events())
    lines = (run.folder / "log.txt").read_text().splitlines()
    said = [line.split(" ", 2)[2] for line in lines]
    assert said[0].startswith("4 pictures x 1 repeats")
    assert said[1] == "Previews: step 0, likeness 0.20." and said[2].startswith("Step 1 of 8: ")
    assert said[3:6] == [
        "Epoch 1 of 2 done, step 4.",
        "Previews: epoch 1, likeness 0.60.",
        "Epoch 2 of 2 done, step 8.",
    ]
    assert said[-2:] == ["Saved mila.safetensors after epoch 2, step 8.", panel.status.value[3:-4]]


def test_a_log_that_cannot_be_written_does_not_end_the_run(panel, run):
    (run.folder / "log.txt").mkdir()
    assert panel.follow(run.events()) is not None


def press_at(panel: Panel, number: int):
    """A poll that finds the Stop button pressed once step `number` is done."""
    return lambda: (
        panel.stop.click() if len(panel.losses) == number and not panel.stop.disabled else None
    )


def polled(monkeypatch, poll) -> None:
    from contextlib import contextmanager

    @contextmanager
    def polling():
        yield poll

    monkeypatch.setattr(panels, "polling", polling)


def test_the_stop_button_ends_the_run_within_a_step_and_saves(panel, run, monkeypatch):
    polled(monkeypatch, press_at(panel, 3))
    finished = panel.follow(run.events())
    assert run.log == ["step 1", "step 2", "step 3", "saved"]
    assert finished.stopped and finished.steps == 3
    assert panel.status.value.startswith("<b>Stopped: 3 steps in 4 s. LoRA file: ")


def test_an_interrupt_that_hits_the_panel_saves_too(panel, run, monkeypatch):
    def interrupted():
        if len(panel.losses) == 5 and panel.finished is None and "saved" not in run.log:
            raise KeyboardInterrupt

    polled(monkeypatch, interrupted)
    assert panel.follow(run.events()).steps == 5
    assert run.log[-2:] == ["step 5", "saved"]


def test_an_interrupt_before_the_first_step_ends_quietly(panel, run, monkeypatch):
    polled(monkeypatch, press_at(panel, 0))
    assert panel.follow(run.events()) is None
    assert panel.status.value == "<b>Stopped; nothing was trained.</b>" and run.log == []


def test_where_presses_cannot_get_through_the_button_is_off_and_the_other_way_is_said(panel, run):
    seen = []
    show = panel.show_event
    panel.show_event = lambda event: (
        seen.append((panel.stop.disabled, panel.hint.value)),
        show(event),
    )
    panel.follow(run.events())
    assert set(seen) == {(True, panels.HINT)}


def test_an_error_is_one_sentence_and_still_stops_run_all(panel, project):
    def events() -> Generator[RunEvent, None, None]:
        yield step(1)
        raise TrainingError("The loss is not a number any more at step 2. Lower unet_lr.")

    with pytest.raises(TrainingError) as caught:
        panel.follow(events())
    assert caught.value._render_traceback_() == [
        "The loss is not a number any more at step 2. Lower unet_lr."
    ]
    assert "Stopped." in panel.status.value and panel.stop.disabled
    assert "The loss is not a number" in (project.output / "log.txt").read_text()


def test_a_fault_in_the_input_is_told_before_anything_is_loaded(panel, project):
    from lorakit.errors import DatasetError
    from lorakit.training.config import PreviewSettings, TrainingSettings

    with pytest.raises(DatasetError, match="4 of 4 pictures have no caption"):
        panel.train(TrainingSettings(), PreviewSettings())
