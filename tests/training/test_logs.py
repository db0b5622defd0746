"""What is written down of a run."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path

import pytest

from lorakit.errors import TrainingError
from lorakit.training.config import RunningSettings
from lorakit.training.logs import Logs


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write(output: Path, steps: range, since: int = 0) -> None:
    logs = Logs(output, "astrid", RunningSettings(), {}, since)
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
    logs = Logs(tmp_path, "astrid", RunningSettings(), {})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    logs.all[0].write = full
    logs.write(step=1)
    logs.write(step=2)
    assert caplog.text.count("No space left on device") == 1


def test_tensorboard_without_the_package_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="pip install tensorboard"):
        Logs(tmp_path, "astrid", RunningSettings(tensorboard=True), {})


def test_tensorboard_gets_every_value_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float, int]] = []

    class SummaryWriter:
        """Stands for TensorBoard's own: notes what it is told."""

        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "logs")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def flush(self) -> None: ...
        def close(self) -> None: ...

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    logs = Logs(tmp_path, "astrid", RunningSettings(tensorboard=True), {})
    logs.write(step=3, epoch=1, loss=0.25)
    logs.close()
    assert told == [("loss", 0.25, 3)]


def test_wandb_needs_a_key_and_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace())
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(TrainingError, match="secret WANDB_API_KEY .* https://wandb.ai/authorize"):
        Logs(tmp_path, "astrid", RunningSettings(wandb="characters"), {})


def test_wandb_gets_the_settings_and_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[object] = []
    run = types.SimpleNamespace(
        log=lambda values, step: heard.append((values, step)), finish=lambda: heard.append("end")
    )
    fake = types.SimpleNamespace(
        login=lambda key: heard.append(key), init=lambda **words: heard.append(words) or run
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    logs = Logs(tmp_path, "astrid", RunningSettings(wandb="characters"), {"rank": 8})
    logs.write(step=2, loss=0.5)
    logs.close()
    assert heard[0] == "k" * 40
    assert heard[1]["project"] == "characters" and heard[1]["config"] == {"rank": 8}
    assert heard[2:] == [({"loss": 0.5}, 2), "end"]
