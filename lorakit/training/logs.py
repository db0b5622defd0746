"""What is written down of a run: a table always, TensorBoard and Weights & Biases on request."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..colab import secret
from ..errors import TrainingError
from ..files import write_text
from ..settings import to_mapping
from .config import RunningSettings
from .events import EpochDone, Previews, RunEvent, StepDone, Validated

log = logging.getLogger(__name__)

COLUMNS = ("step", "epoch", "loss", "lr", "gradient", "seconds", "validation", "likeness")
Values = Mapping[str, float]


class Table:
    """`output/log.csv`: a row a step, on disk as soon as it is written: a kill loses none. A run
    that goes on continues it from its step.
    """

    def __init__(self, path: Path, since: int = 0) -> None:
        write_text(path, _text(_rows(path, since) if since else []))
        self.file = path.open("a", newline="", encoding="utf-8", buffering=1)  # a line at a time
        self.writer = csv.DictWriter(self.file, COLUMNS, restval="")

    def write(self, values: Values) -> None:
        self.writer.writerow({k: f"{v:.6g}" for k, v in values.items() if k in COLUMNS})

    def flush(self) -> None:
        """Every row is on disk already."""

    def close(self) -> None:
        self.file.close()


def _text(rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(path: Path, since: int) -> list[dict[str, str]]:
    """The rows up to step `since`; what was written after the state was saved happens again."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        whole = [row for row in csv.DictReader(file) if None not in row.values()]
    return [
        {k: v for k, v in row.items() if k in COLUMNS}
        for row in whole
        if row.get("step", "").isdecimal() and int(row["step"]) <= since
    ]


class Board:
    """TensorBoard's log files. It hides what they hold from the first step of this sitting on: the
    steps after the last saved state, which happen again, or all of an earlier run.
    """

    def __init__(self, folder: Path, since: int = 0) -> None:
        self.writer = summary_writer()(str(folder), purge_step=since + 1 if since else 0)

    def write(self, values: Values) -> None:
        for name, value in values.items():
            if name not in ("step", "epoch"):
                self.writer.add_scalar(name, value, int(values["step"]))

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run on Weights & Biases; the same `run_id` goes on with the same run. Steps it has heard of
    already it leaves out.
    """

    def __init__(
        self, project: str, name: str, settings: Mapping[str, Any], folder: Path, run_id: str = ""
    ) -> None:
        wandb, key = wandb_and_key(project)
        if key:
            wandb.login(key=key)
        self.run = wandb.init(
            project=project,
            name=name,
            config=dict(settings),
            dir=str(folder),
            id=run_id or None,
            resume="allow",
        )

    def write(self, values: Values) -> None:
        self.run.log({k: v for k, v in values.items() if k != "step"}, step=int(values["step"]))

    def flush(self) -> None:
        """Weights & Biases sends by itself."""

    def close(self) -> None:
        self.run.finish()


def summary_writer() -> Any:
    """TensorBoard's writer. Raises TrainingError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            f"training: tensorboard is on, but the package is missing ({error}). Install it (pip "
            "install tensorboard) or turn tensorboard off."
        ) from error
    return SummaryWriter


def wandb_and_key(project: str) -> tuple[Any, str]:
    """The package, and the user's key ('' where none is needed). Raises TrainingError."""
    try:
        import wandb
    except ImportError as error:
        raise TrainingError(
            f"training: wandb is '{project}', but the package is missing. Install it (pip install "
            "wandb) or leave wandb empty."
        ) from error
    key = secret("WANDB_API_KEY") or ""
    if not key and os.environ.get("WANDB_MODE", "online") == "online":
        raise TrainingError(
            "training: wandb needs your key. Put it into the Colab secret WANDB_API_KEY (the key "
            "symbol on the left) or the environment variable of that name; it is on "
            "https://wandb.ai/authorize."
        )
    return wandb, key


def check_logs(settings: RunningSettings) -> None:
    """Raises TrainingError if a log that is wanted lacks its package or key."""
    if settings.tensorboard:
        summary_writer()
    if settings.wandb:
        wandb_and_key(settings.wandb)


def open_logs(
    output: Path, name: str, settings: RunningSettings, since: int = 0, run_id: str = ""
) -> Logs:
    """All logs that are wanted, of a run that begins or goes on after step `since`. Raises
    LorakitError.
    """
    found: list[Any] = []
    if settings.tensorboard:
        found.append(Board(output / "logs", since))
    if settings.wandb:
        found.append(Wandb(settings.wandb, name, to_mapping(settings), output, run_id))
    return Logs([*found, Table(output / "log.csv", since)])


class Logs:
    """All logs of a run as one; without any it says nothing."""

    def __init__(self, logs: Sequence[Any] = ()) -> None:
        self.all = list(logs)

    def hear(self, event: RunEvent) -> None:
        """Writes down what is to be kept of an event."""
        if isinstance(event, StepDone):
            self.write(
                step=event.step,
                epoch=event.epoch,
                loss=event.loss,
                lr=event.lr,
                gradient=event.gradient,
                seconds=event.seconds,
            )
        elif isinstance(event, Validated):
            self.write(step=event.step, epoch=event.epoch, validation=event.loss)
        elif isinstance(event, Previews) and event.likeness is not None:
            self.write(step=event.step, epoch=event.epoch, likeness=event.likeness)
        elif isinstance(event, EpochDone):
            self.flush()

    def write(self, **values: float) -> None:
        self._each("write", values)

    def flush(self) -> None:
        """To disk: after each epoch and saved state."""
        self._each("flush")

    def close(self) -> None:
        self._each("close")

    def _each(self, what: str, *arguments: Any) -> None:
        """A log that cannot be written any more is given up; the run goes on."""
        for each in list(self.all):
            try:
                getattr(each, what)(*arguments)
            except OSError as error:
                log.warning("The log cannot be written any more: %s.", error)
                self.all.remove(each)
                with contextlib.suppress(OSError):
                    each.close()
