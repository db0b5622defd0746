"""Trains a project and prints what it took, as JSON:
`python scripts/measure.py PROJECT NAME=VALUE...`

Seconds and CPU-seconds of each step, the seconds from the start of the process to the end of each
phase, the most memory there was and what the planner expected. `--resident` keeps every part of the
base in memory, as other trainers do; `--cap` leaves so many GiB of a GPU.
"""

from __future__ import annotations

import time

STARTED = time.time()  # before the imports: they are part of the time to the first step

import argparse  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

import psutil  # noqa: E402
import torch  # noqa: E402

from lorakit.project import find  # noqa: E402
from lorakit.settings import changed  # noqa: E402
from lorakit.training import run  # noqa: E402
from lorakit.training.base import Base  # noqa: E402
from lorakit.training.checkpoint import FOLDERS  # noqa: E402
from lorakit.training.config import PreviewSettings, TrainingSettings  # noqa: E402

GIB = 2**30


class Phases:
    """A progress callback that keeps when each phase began."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float]] = [("Starting", 0.0)]

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        if what != self.began[-1][0]:
            self.began.append((what, time.time() - STARTED))

    def seconds(self) -> dict[str, float]:
        """How long each phase took; one that comes again is counted together."""
        ends = [start for _, start in self.began[1:]] + [time.time() - STARTED]
        took: dict[str, float] = {}
        for (what, start), end in zip(self.began, ends, strict=True):
            took[what] = took.get(what, 0.0) + end - start
        return {what: round(seconds, 2) for what, seconds in took.items()}


def measure(folder: str, words: list[str]) -> dict[str, Any]:
    """What a run of the project took, with these settings changed."""
    project = find(folder)
    settings = changed(project.load(TrainingSettings), words)
    phases, steps, notes, losses = Phases(), [], [], []
    expected = note_expected()
    first, file, told = 0.0, "", 0.0
    cpu = time.process_time()
    previews = replace(PreviewSettings(), count=0)
    for event in run.train_project(project, settings, previews, "astrid", phases):
        if isinstance(event, run.StepDone):
            # on a GPU several steps are told at once: what each took it says itself
            used, took, told = time.process_time(), event.seconds - told, event.seconds
            if first:
                steps.append((took, used - cpu))
            else:
                first = time.time() - STARTED
            cpu = used
            phases("Training")
            losses.append(event.loss)
        elif isinstance(event, run.Note):
            notes.append(event.text)
        elif isinstance(event, run.Planned):
            phases("Opening the base model")
        elif isinstance(event, run.Saved):
            phases("Saving")
        elif isinstance(event, run.Finished):
            file = str(event.lora_file)
    return {
        "first": round(first, 2),
        "all_steps": round(told, 2),
        "seconds": [round(wall, 4) for wall, _ in steps],
        "cpu_seconds": [round(cpu, 3) for _, cpu in steps],
        "peak_gib": round(peak_gib(), 3),
        "expected_gib": round(expected[0], 3),
        "phases": phases.seconds(),
        "losses": losses,
        "notes": notes,
        "file": file,
    }


def peak_gib() -> float:
    """The most memory there was: of the GPU, or of this process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_reserved() / GIB)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def note_expected() -> list[float]:
    """From now on what the planner expects a run to have at most, in GiB, is added to the list."""
    expected, find_ways = [], run.find_ways

    def noted(*arguments: Any) -> Any:
        ways = find_ways(*arguments)
        expected.append((taken() + ways.best().need) / GIB)
        return ways

    run.find_ways = noted
    return expected


def taken() -> int:
    """Bytes that this process has now, on the GPU if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.memory_reserved()
    return int(psutil.Process().memory_info().rss)


def keep_everything() -> None:
    """From now on whatever is loaded of a base comes whole, and stays."""
    fetch = Base.fetch

    def fetch_all(base: Base, *names: str, **named: Any) -> list[str]:
        fetch(base, *FOLDERS, **named)
        return []

    Base.fetch = fetch_all  # type: ignore[method-assign,assignment]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("project")
    parser.add_argument("changes", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--resident", action="store_true")
    parser.add_argument("--cap", type=float, default=math.inf, metavar="GIB")
    options = parser.parse_args()
    if options.resident:
        keep_everything()
    if options.cap < math.inf:
        whole = torch.cuda.get_device_properties(0).total_memory / GIB
        torch.cuda.set_per_process_memory_fraction(min(1.0, options.cap / whole))
    print(json.dumps(measure(options.project, options.changes)))


if __name__ == "__main__":
    main()
