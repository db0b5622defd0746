"""Times what a user waits for: `make bench`, or `python scripts/bench.py SUBJECT...`.

Prints tables and writes them into docs/benchmarks.md, under this machine's name. Without subjects
all that this machine can do are measured. Everything is written to a temporary folder; the full
size base (7 GB) is kept where LORAKIT_FULL_SIZE_FILE says, if it does.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from lorakit.files import write_text
from lorakit.project import Project, find
from lorakit.training.config import TrainingSettings
from lorakit.training.plan import make_plan

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = (
    "# Benchmarks\n\nWritten by `make bench` (`scripts/bench.py`), a part for each machine. Times "
    "of steps are the least and the median, the first step left out; runs to be compared are "
    "interleaved. Memory is the most the process had, on a GPU the most torch had reserved there."
    "\n\nWhere there is no GPU the subject `gpu` is left out; on a machine with one, `python "
    "scripts/bench.py gpu` adds its part: 1024 pixels in batches of 1 to 8, with and without "
    "checkpointing, `compile` and encoders, under the 15 GiB of a T4, and as the ancestor trains.\n"
)
ROUNDS = 2
COUNTS = (10, 100, 1000, 10_000)
UNET_ONLY = {"text_encoder_lr": 0, "text_encoder_2_lr": 0}
ANCESTOR = {"checkpointing": "full", "caption_variants": 0}  # and --resident
KINDS: dict[str, Mapping[str, Any]] = {
    "no checkpointing": {"checkpointing": "none"},
    "all checkpointed": {"checkpointing": "full"},
    "compiled": {"checkpointing": "none", "compile": True},
}
MATRIX = """
import statistics, time, torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
paces = []
for _ in range(20):
    torch.cuda.synchronize()
    began = time.perf_counter()
    a @ a
    torch.cuda.synchronize()
    paces.append(time.perf_counter() - began)
print(statistics.median(paces))
"""
FULL_SIZE = {
    "optimizer": "AdamW",
    "rank": 8,
    "alpha": 4,
    "repeats": 1,
    "batch_size": 1,
    "epochs": 1,
}


@dataclass(frozen=True)
class Table:
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __str__(self) -> str:
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
        return f"### {self.title}\n\n{text}\n"


def main() -> None:
    machine = machine_name()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # latents of an earlier run would hide their cost
        for name in sys.argv[1:] or default_subjects():
            for table in SUBJECTS[name](Path(folder)):
                print(table, flush=True)
                old = PAGE.read_text("utf-8") if PAGE.exists() else HEAD
                write_text(PAGE, with_part(old, machine, [table]))


def with_part(page: str, machine: str, tables: Sequence[Table]) -> str:
    """The page with these tables in the part of this machine; its other tables stay."""
    parts = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    old = dict(each.split("\n", 1) for each in parts.get(machine, "").split("\n### ")[1:])
    new = {table.title: str(table).split("\n", 1)[1] for table in tables}
    said = f"\nMeasured on {date.today()} with {versions()}.\n"
    parts[machine] = said + "".join(f"\n### {k}\n{v.rstrip()}\n" for k, v in {**old, **new}.items())
    return HEAD + "".join(f"\n## {name}\n{text.rstrip()}\n" for name, text in parts.items())


def machine_name() -> str:
    import torch

    memory = psutil.virtual_memory().total / 2**30
    cpu = f"{os.cpu_count()} virtual cores ({platform.machine()}), {memory:.0f} GiB"
    return f"{torch.cuda.get_device_name()}, {cpu}" if torch.cuda.is_available() else cpu


def versions() -> str:
    from importlib.metadata import version

    packages = ("torch", "diffusers", "transformers", "peft")
    return f"Python {platform.python_version()}, " + ", ".join(
        f"{p} {version(p)}" for p in packages
    )


# --- the subjects ---------------------------------------------------------------------------------


def start(folder: Path) -> list[Table]:
    """What is waited for before anything is asked."""
    bare = imported("sys")
    names = ("lorakit", "lorakit.training.run")
    return [
        Table(
            "Start",
            ("what", "time"),
            [(f"`import {name}`", ms(imported(name) - bare)) for name in names],
        )
    ]


def embedded(folder: Path) -> list[Table]:
    """The demo's own job, and training on its pictures in batches of four."""
    from lorakit.clean.sweep import sweep
    from lorakit.demo.run import sample_project
    from lorakit.tagging.captions import TaggingSettings, tag_dataset

    project, rows = find(str(folder / "demo")), []
    for what, work in (
        ("draw the sample project", lambda: sample_project(folder / "demo")),
        ("find broken pictures and near-duplicates", lambda: sweep(project)),
        ("tag", lambda: tag_dataset(project, project.load(TaggingSettings))),
    ):
        rows.append((what, f"{seconds(work):.2f} s"))
    plain = {"batch_size": 4, "epochs": 1, "tag_dropout": 0, "prior_weight": 0, "resume": "never"}
    cases = {
        "U-Net and both encoders": plain,
        "U-Net alone": plain | UNET_ONLY,
        "as the demo trains": {"epochs": 2, "resume": "never"},
    }
    whole = measured(project, plain | {"epochs": 10, "max_steps": 450})
    took = f"{whole['all_steps']:.0f} s"
    rows.append(("450 steps of four pictures, U-Net and both encoders", took))
    return [
        Table("The sample project", ("what", "time"), rows),
        *compared("Embedded base", project, cases),
    ]


def growth(folder: Path) -> list[Table]:
    """What becomes slower with more pictures, and what does not."""
    rows, rng = [], random.Random(0)
    for count in COUNTS:
        project = pictures(folder / f"growth-{count}", count, 64)
        sizes = [(rng.randrange(400, 3000), rng.randrange(400, 3000)) for _ in range(count)]
        plan = seconds(partial(make_plan, sizes, TrainingSettings()))
        changes = {"base_model": "demo", "resolution": 64, "bucket_step": 32, "max_steps": 40}
        many = {"repeats": max(1, 40 * 4 // count), "batch_size": 4, "epochs": 1}
        took = measured(project, changes | many | UNET_ONLY | {"most_steps": 10_000})
        phases = took["phases"]
        read = phases["Starting"] + phases.get("Checking pictures", 0)
        rows.append(
            (
                f"{count:,}",
                ms(plan),
                f"{read:.1f} s",
                f"{phases.get('Encoding captions', 0):.2f} s",
                f"{phases['Encoding pictures']:.1f} s",
                ms(phases["Encoding pictures"] / count),
                spread(took["seconds"]),
                f"{took['peak_gib']:.2f} GiB",
            )
        )
    head = (
        "pictures",
        "plan",
        "start and read",
        "captions",
        "latents",
        "a picture",
        "a step",
        "peak",
    )
    return [Table("Growth with the dataset (embedded base, 64 px, batch 4)", head, rows)]


def full(folder: Path) -> list[Table]:
    """SDXL's own size with random weights, at 256 pixels."""
    project = pictures(folder / "full", 8, 256)
    plain = FULL_SIZE | {
        "base_model": str(full_size_file(folder)),
        "resolution": 256,
        "max_steps": 5,
    }
    both, alone = {"precision": "fp32"}, {"precision": "fp32"} | UNET_ONLY
    cases = {
        "U-Net alone, fp32": plain | alone,
        "U-Net alone, bf16 base": plain | alone | {"precision": "bf16"},
        "U-Net and both encoders, fp32": plain | both,
        "U-Net and both encoders, bf16 base": plain | {"precision": "bf16"},
        "as the ancestor: everything checkpointed and resident, fp32": plain | both | ANCESTOR,
    }
    return compared("Full-size SDXL, 256 px, batch 1, rank 8", project, cases)


def planner(folder: Path) -> list[Table]:
    """What the planner expects of memory, and what there was, at SDXL's own size."""
    project, rows = pictures(folder / "planner", 8, 256), []
    plain = FULL_SIZE | {"base_model": str(full_size_file(folder)), "resolution": 256}
    plain |= {"max_steps": 2, "repeats": 2}
    cases: dict[str, Mapping[str, Any]] = {}
    for precision in ("fp32", "bf16"):
        for label, text in (("U-Net", UNET_ONLY), ("U-Net and encoders", {})):
            for batch, kind in ((1, "none"), (4, "none"), (4, "full")):
                name = f"{label}, {precision}, batch {batch}, checkpointing {kind}"
                sized = {"precision": precision, "batch_size": batch, "checkpointing": kind}
                cases[name] = plain | text | sized
    half = plain | UNET_ONLY | {"precision": "bf16", "checkpointing": "none"}
    cases["U-Net, 8-bit storage, batch 1"] = half | {"storage": "8bit"}
    cases["U-Net, 4-bit storage, batch 1"] = half | {"storage": "4bit"}
    cases["U-Net, bf16, batch 1, 512 px"] = half | {"resolution": 512}
    for name, changes in cases.items():
        took = measured(project, changes)
        expected, peak = took["expected_gib"], took["peak_gib"]
        off = f"{expected / peak - 1:+.1%}"
        rows.append((name, f"{expected:.2f} GiB", f"{peak:.2f} GiB", off))
    return [Table("The planner's prediction", ("settings", "expected", "measured", "off by"), rows)]


def gpu(folder: Path) -> list[Table]:
    """Full size at 1024 pixels, as people train it, and under the memory of a T4."""
    project = pictures(folder / "gpu", 16, 1024)
    file, rate = full_size_file(folder), matrix_rate()
    plain = FULL_SIZE | {"base_model": str(file), "resolution": 1024, "repeats": 8, "max_steps": 12}
    plain |= {"rank": 16, "alpha": 16}
    cases: dict[str, Mapping[str, Any]] = {}
    for batch in (1, 2, 4, 8):
        sized = plain | {"batch_size": batch, "precision": "bf16"}
        for kind, how in KINDS.items():
            for label, text in (("U-Net", UNET_ONLY), ("U-Net and encoders", {})):
                cases[f"{label}, batch {batch}, {kind}"] = sized | text | how
    rows = [gpu_row(project, name, changes, rate) for name, changes in cases.items()]
    for name, changes in {
        "fp16, 15 GiB, U-Net, batch 4": UNET_ONLY | {"batch_size": 4},
        "fp16, 15 GiB, U-Net and encoders, batch 2": {"batch_size": 2},
    }.items():
        half = plain | changes | {"precision": "fp16"}
        rows.append(gpu_row(project, name, half, rate, "--cap", "15"))
    for label, text in (("U-Net", UNET_ONLY), ("U-Net and encoders", {})):
        four = plain | ANCESTOR | text | {"batch_size": 4, "precision": "bf16"}
        rows.append(
            gpu_row(project, f"as the ancestor, {label}, batch 4", four, rate, "--resident")
        )
    head = (
        "settings",
        "pictures a second",
        f"share of {rate / 1e12:.0f} TFLOP/s",
        "peak",
        "expected",
        "to step 1",
    )
    return [Table("Full-size SDXL, 1024 px, rank 16", head, rows)]


SUBJECTS: dict[str, Callable[[Path], list[Table]]] = {
    each.__name__: each  # type: ignore[attr-defined]
    for each in (start, embedded, growth, full, planner, gpu)
}


def default_subjects() -> list[str]:
    import torch

    return [name for name in SUBJECTS if torch.cuda.is_available() or name != "gpu"]


# --- how it is measured ---------------------------------------------------------------------------


def compared(title: str, project: Project, cases: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Two tables: what a step of each case took, and where the time to the first step went."""
    took: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, changes in cases.items():
            words = ["--resident"] if "ancestor" in name else []
            took[name].append(measured(project, changes, *words))
    steps, phases = [], []
    for name, runs in took.items():
        steps.append(
            (
                name,
                spread([s for each in runs for s in each["cpu_seconds"]]),
                spread([s for each in runs for s in each["seconds"]]),
                f"{max(each['peak_gib'] for each in runs):.2f} GiB",
                f"{min(each['first'] for each in runs):.1f} s",
            )
        )
        best = min(runs, key=lambda each: each["first"])
        shares = sorted(best["phases"].items(), key=lambda item: -item[1])
        phases.append((name, ", ".join(f"{k.lower()} {v:.1f} s" for k, v in shares if v >= 0.1)))
    head = (
        "trained",
        "CPU-seconds a step",
        "seconds a step",
        "peak memory",
        "to the end of step 1",
    )
    return [Table(title, head, steps), Table(f"{title}: phases", ("trained", "took"), phases)]


class Failed(Exception):
    """A run ended before its end; the message is the end of what it said."""


def measured(project: Project, changes: Mapping[str, Any], *words: str) -> dict[str, Any]:
    """What `scripts/measure.py` says of a run of its own, from nothing."""
    command = [sys.executable, str(Path(__file__).with_name("measure.py"))]
    values = [f"{name}={value}" for name, value in changes.items()]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as cache:
        said = subprocess.run(
            [*command, *words, str(project.settings_file.parent), *values, "resume=never"],
            capture_output=True,
            text=True,
            env=os.environ | {"XDG_CACHE_HOME": cache, "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths},
        )
    if said.returncode:
        raise Failed(said.stderr[-3000:])
    return dict(json.loads(said.stdout.splitlines()[-1]))


def pictures(folder: Path, count: int, side: int) -> Project:
    """A project of so many pictures of noise, captioned."""
    project = find(str(folder)).create()
    rng = random.Random(0)
    for number in range(count):
        image = Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side))
        image.save(project.dataset / f"{number:05d}.png", compress_level=0)
        (project.dataset / f"{number:05d}.txt").write_text("astrid, 1girl, smile\n")
    return project


def full_size_file(folder: Path) -> Path:
    """A full-size checkpoint with random weights, written now if there is none."""
    file = Path(os.environ.get("LORAKIT_FULL_SIZE_FILE") or folder / "sdxl.safetensors")
    if not file.exists():
        words = [sys.executable, "-m", "tests.training.full_size", "write", str(file)]
        subprocess.run(words, check=True, cwd=ROOT)
    return file


def gpu_row(
    project: Project, name: str, changes: Mapping[str, Any], rate: float, *words: str
) -> tuple[str, ...]:
    """One run; what fails does not cost the others."""
    try:
        took = measured(project, changes, *words)
    except Failed as error:
        return (name, f"failed: {str(error).strip().splitlines()[-1][:100]}", "", "", "", "")
    pace, batch = statistics.median(took["seconds"]), changes["batch_size"]
    share = step_flops(1024) * batch / pace / rate
    return (
        name,
        f"{batch / pace:.2f}",
        f"{share:.0%}",
        f"{took['peak_gib']:.1f} GiB",
        f"{took['expected_gib']:.1f} GiB",
        f"{took['first']:.0f} s",
    )


def matrix_rate() -> float:
    """FLOP a second of a large bf16 matrix product on this GPU, in a process of its own: what it
    takes of the GPU must not be missing to the runs.
    """
    words = [sys.executable, "-c", MATRIX]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return 2 * 8192**3 / float(said)


def step_flops(side: int) -> float:
    """FLOP that a LoRA step of full-size SDXL needs for one picture, U-Net alone: forward, and back
    through the activations. Counted on shapes.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lorakit.training import parts
    from lorakit.training.single_file import sdxl_configs

    unet = parts.empty("unet", sdxl_configs()["unet"])
    with FlopCounterMode(display=False) as counted, torch.device("meta"), torch.no_grad():
        unet(
            torch.empty(1, 4, side // 8, side // 8),
            torch.empty(1),
            torch.empty(1, 77, 2048),
            added_cond_kwargs={"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)},
        )
    return 2.0 * counted.get_total_flops()


def imported(module: str) -> float:
    """Seconds that a Python takes that imports `module` and ends; the best of three."""
    words = [sys.executable, "-c", f"import {module}"]
    return min(seconds(lambda: subprocess.run(words, check=True)) for _ in range(3))


def spread(values: Sequence[float]) -> str:
    """'0.41, 0.44': the least and the median."""
    return f"{min(values):.3g}, {statistics.median(values):.3g}"


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ms(value: float) -> str:
    return f"{value * 1000:.1f} ms"


if __name__ == "__main__":
    main()
