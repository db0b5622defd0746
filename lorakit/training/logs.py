"""What is written down of a run: a table always, TensorBoard and Weights & Biases on request."""

from __future__ import annotations

import contextlib
import csv
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..colab import secret
from ..errors import TrainingError
from .config import RunningSettings

log = logging.getLogger(__name__)

COLUMNS = ("step", "epoch", "loss", "lr", "gradient", "seconds", "validation", "likeness")
Values = Mapping[str, float]


class Table:
    """`output/log.csv`: a row a step. A run that goes on continues it from its step."""

    def __init__(self, path: Path, since: int = 0) -> None:
        rows = _rows(path, since) if since else []
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", newline="", encoding="utf-8")
        self.writer = csv.DictWriter(self.file, COLUMNS, restval="")
        self.writer.writeheader()
        self.writer.writerows(rows)

    def write(self, values: Values) -> None:
        self.writer.writerow({k: f"{v:.6g}" for k, v in values.items() if k in COLUMNS})

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


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
    """TensorBoard's log files."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                f"training: tensorboard is on, but the package is missing ({error}). Install it "
                "(pip install tensorboard) or turn tensorboard off."
            ) from error
        self.writer = SummaryWriter(str(folder))

    def write(self, values: Values) -> None:
        for name, value in values.items():
            if name not in ("step", "epoch"):
                self.writer.add_scalar(name, value, int(values["step"]))

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run on Weights & Biases."""

    def __init__(self, project: str, name: str, settings: Mapping[str, Any], folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise TrainingError(
                f"training: wandb is '{project}', but the package is missing. Install it (pip "
                "install wandb) or leave wandb empty."
            ) from error
        key = secret("WANDB_API_KEY")
        mode = os.environ.get("WANDB_MODE", "online")
        if not key and mode == "online":
            raise TrainingError(
                "training: wandb needs your key. Put it into the Colab secret WANDB_API_KEY (the "
                "key symbol on the left) or the environment variable of that name; it is on "
                "https://wandb.ai/authorize."
            )
        if key:
            wandb.login(key=key)
        self.run = wandb.init(project=project, name=name, config=dict(settings), dir=str(folder))

    def write(self, values: Values) -> None:
        self.run.log({k: v for k, v in values.items() if k != "step"}, step=int(values["step"]))

    def flush(self) -> None:
        """Weights & Biases sends by itself."""

    def close(self) -> None:
        self.run.finish()


class Logs:
    """All logs of a run as one."""

    def __init__(
        self,
        output: Path,
        name: str,
        settings: RunningSettings,
        values: Mapping[str, Any],
        since: int = 0,
    ) -> None:
        self.all: list[Any] = []
        if settings.tensorboard:
            self.all.append(Board(output / "logs"))
        if settings.wandb:
            self.all.append(Wandb(settings.wandb, name, values, output))
        self.all.append(Table(output / "log.csv", since))

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
