"""What is written down of a run."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path

import pytest

from lorakit.errors import TrainingError
from lorakit.training.config import RunningSettings
from lorakit.training.events import EpochDone, Previews, StepDone, Validated
from lorakit.training.logs import Logs, check_logs, open_logs


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write(output: Path, steps: range, since: int = 0) -> None:
    logs = open_logs(output, "astrid", RunningSettings(), since)
    for step in steps:
        logs.write(step=step, epoch=1, loss=0.5 / step, lr=1e-4, gradient=0.1, seconds=step)
    logs.close()


def test_every_step_is_a_row_of_the_table(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    table = rows(tmp_path)
    assert [row["step"] for row in table] == ["1", "2", "3"]
    assert float(table[1]["loss"]) == 0.25
    assert table[0]["validation"] == ""


def test_a_resumed_run_continues_the_table_from_its_state(tmp_path: Path) -> None:
    write(tmp_path, range(1, 8))  # killed after step 7; the state is of step 5
    write(tmp_path, range(6, 10), since=5)
    assert [int(row["step"]) for row in rows(tmp_path)] == list(range(1, 10))


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    path = tmp_path / "log.csv"
    path.write_text(path.read_text()[:-12])
    write(tmp_path, range(3, 4), since=2)
    assert [int(row["step"]) for row in rows(tmp_path)] == [1, 2, 3]


def test_a_table_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = open_logs(tmp_path, "astrid", RunningSettings())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    logs.all[0].write = full
    logs.write(step=1)
    logs.write(step=2)
    assert caplog.text.count("No space left on device") == 1


def test_tensorboard_without_the_package_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="pip install tensorboard"):
        check_logs(RunningSettings(tensorboard=True))


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What TensorBoard's writer is told; the first entry is from which step on it hides what there
    was.
    """
    told: list[object] = []

    class SummaryWriter:
        """Stands for TensorBoard's own: notes what it is told."""

        def __init__(self, folder: str, purge_step: int | None = None) -> None:
            assert folder == str(tmp_path / "logs")
            told.append(purge_step)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def flush(self) -> None: ...
        def close(self) -> None: ...

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return told


def test_tensorboard_gets_every_value_by_step(tmp_path: Path, board: list[object]) -> None:
    logs = open_logs(tmp_path, "astrid", RunningSettings(tensorboard=True))
    logs.write(step=3, epoch=1, loss=0.25)
    logs.close()
    assert board[1:] == [("loss", 0.25, 3)]


@pytest.mark.parametrize(("since", "hidden"), [(0, 0), (5, 6)])
def test_tensorboard_hides_an_earlier_run_and_the_steps_that_happen_again(
    tmp_path: Path, board: list[object], since: int, hidden: int
) -> None:
    open_logs(tmp_path, "astrid", RunningSettings(tensorboard=True), since).close()
    assert board == [hidden]


def test_wandb_needs_a_key_and_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace())
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(TrainingError, match="secret WANDB_API_KEY .* https://wandb.ai/authorize"):
        check_logs(RunningSettings(wandb="characters"))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What Weights & Biases hears: the key, the words a run is begun with, each row, the end."""
    heard: list[object] = []
    run = types.SimpleNamespace(
        log=lambda values, step: heard.append((values, step)), finish=lambda: heard.append("end")
    )
    fake = types.SimpleNamespace(
        login=lambda key: heard.append(key), init=lambda **words: heard.append(words) or run
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    return heard


def test_wandb_gets_the_settings_and_every_step(tmp_path: Path, wandb: list[object]) -> None:
    settings = RunningSettings(wandb="characters", epochs=7)
    logs = open_logs(tmp_path, "astrid", settings, run_id="a1b2c3d4")
    logs.write(step=2, loss=0.5)
    logs.close()
    key, words, *rows = wandb
    assert key == "k" * 40
    assert words["project"] == "characters" and words["config"]["epochs"] == 7
    assert (words["id"], words["resume"]) == ("a1b2c3d4", "allow")  # goes on with that run
    assert rows == [({"loss": 0.5}, 2), "end"]


def test_what_a_run_tells_is_a_row_each(tmp_path: Path) -> None:
    logs = open_logs(tmp_path, "astrid", RunningSettings())
    logs.hear(Previews(0, [], [], likeness=0.25))
    logs.hear(Validated(0, 0, loss=0.5))
    logs.hear(StepDone(1, 2, 1, loss=0.4, lr=1e-4, gradient=0.1, seconds=2.0))
    logs.hear(EpochDone(1, 1, 1))
    logs.hear(Previews(1, [], [], likeness=None, step=1))
    logs.close()
    filled = [{k: float(v) for k, v in row.items() if v} for row in rows(tmp_path)]
    assert filled == [
        {"step": 0, "epoch": 0, "likeness": 0.25},
        {"step": 0, "epoch": 0, "validation": 0.5},
        {"step": 1, "epoch": 1, "loss": 0.4, "lr": 1e-4, "gradient": 0.1, "seconds": 2},
    ]


def test_a_row_is_on_disk_before_the_next_step(tmp_path: Path) -> None:
    """A kill -9 flushes nothing: what it leaves is what another process can read now."""
    write(tmp_path, range(1, 8))
    logs = open_logs(tmp_path, "astrid", RunningSettings(), since=5)
    assert [int(row["step"]) for row in rows(tmp_path)] == [1, 2, 3, 4, 5]
    logs.write(step=6, loss=0.5)
    assert [int(row["step"]) for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]
    logs.close()


def test_without_logs_nothing_is_written_and_nothing_said() -> None:
    logs = Logs()
    logs.hear(Validated(0, 0, loss=0.5))
    logs.close()
