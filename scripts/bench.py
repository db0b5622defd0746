"""Times what a user waits for, on the embedded world: `make bench`, or `python scripts/bench.py
STEPS`.

Prints a Markdown table to paste beside older ones. Everything is written to a temporary folder.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from lorakit.training.config import TrainingSettings
from lorakit.training.plan import make_plan

STEPS = 40
Rows = list[tuple[str, str]]


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = (
            folder  # latents of an earlier run would hide what caching them costs
        )
        rows = imports() + plans() + job(Path(folder, "bench"), steps)
    print("| what | time |\n|---|---|")
    for what, took in rows:
        print(f"| {what} | {took} |")


def imports() -> Rows:
    return [
        (f"`import {module}`", ms(imported(module) - imported("sys")))
        for module in ("lorakit", "lorakit.training.run")
    ]


def imported(module: str) -> float:
    """Seconds that a Python takes that imports `module` and ends; the best of three."""
    return min(
        seconds(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))
        for _ in range(3)
    )


def plans() -> Rows:
    rng = random.Random(0)
    rows = []
    for count in (10, 100, 1000, 10_000):
        sizes = [(rng.randrange(400, 3000), rng.randrange(400, 3000)) for _ in range(count)]
        rows.append(
            (
                f"plan of {count:,} pictures",
                ms(seconds(lambda s=sizes: make_plan(s, TrainingSettings()))),
            )
        )
    return rows


def job(folder: Path, steps: int) -> Rows:
    """The demo's own job, ended after `steps` steps."""
    from lorakit.clean.sweep import sweep
    from lorakit.demo.run import sample_project
    from lorakit.tagging.captions import TaggingSettings, tag_dataset
    from lorakit.training import run
    from lorakit.training.config import PreviewSettings, TrainingSettings
    from lorakit.training.examples import plan_project

    rows: Rows = []

    def timed(what, work):
        started = time.perf_counter()
        result = work()
        rows.append((what, f"{time.perf_counter() - started:.2f} s"))
        return result

    project = timed("draw the sample project", lambda: sample_project(folder))
    timed("find broken pictures and near-duplicates", lambda: sweep(project))
    timed("tag", lambda: tag_dataset(project, project.load(TaggingSettings)))
    settings = project.load(TrainingSettings)
    plan = plan_project(project, settings)
    settings = replace(settings, epochs=-(-steps // plan.steps_per_epoch), save_every=1)
    events = run.train_project(
        project, settings, replace(project.load(PreviewSettings), every=0), "bench"
    )
    timed("read the dataset and plan", lambda: next(events))
    drawn = timed(
        "load the base, cache latents, draw the first previews",
        lambda: next(event for event in events if isinstance(event, run.Previews)),
    )
    took = [(event, elapsed) for event, elapsed in stopwatch(events)]
    paces = [elapsed for event, elapsed in took if isinstance(event, run.StepDone)]
    saves = [elapsed for event, elapsed in took if isinstance(event, run.Saved)]
    [last] = [elapsed for event, elapsed in took if isinstance(event, run.Previews)]
    rows.append(
        (
            f"a training step (median of {len(paces)}, batch {settings.batch_size})",
            ms(statistics.median(paces)),
        )
    )
    rows.append((f"a preview (mean of {len(drawn.pictures)})", ms(last / len(drawn.pictures))))
    rows.append((f"save the LoRA (median of {len(saves)})", ms(statistics.median(saves))))
    return rows


def stopwatch(events):
    """Each event with the seconds it took to come."""
    started = time.perf_counter()
    for event in events:
        yield event, time.perf_counter() - started
        started = time.perf_counter()


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ms(value: float) -> str:
    return f"{value * 1000:.1f} ms"


if __name__ == "__main__":
    main()
