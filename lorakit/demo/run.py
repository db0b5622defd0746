"""The whole job on the embedded world: draw, clean, tag, train, compare. Needs no GPU, no hub and
no account.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..clean.sweep import sweep
from ..dataset import scan
from ..files import write_text
from ..progress import Progress, duration, silent
from ..project import Project, find, root
from ..tagging.captions import TaggingSettings, tag_dataset
from ..tagging.likeness import scorer
from ..training.config import PreviewSettings, TrainingSettings
from .sample import ACTIVATION_TAG, BASE_TAGS, make_sample

NAME = "demo"
OTHERS = (
    "1girl, solo, full body, blonde hair, short hair, blue eyes, white shirt, shirt, red skirt, "
    "skirt, outdoors",
    "1girl, solo, upper body, green hair, ponytail, red eyes, blue kimono, kimono, smile, pink "
    "background",
    "1girl, solo, full body, black hair, twin braids, witch hat, purple dress, dress, night sky",
    "1girl, solo, portrait, red hair, single hair bun, glasses, open mouth, yellow background",
)
TAGGING = TaggingSettings(
    tagger="demo", activation_tag=ACTIVATION_TAG, base_tags=BASE_TAGS, base_mode="prune"
)
TRAINING = TrainingSettings(
    base_model="demo",
    repeats=8,
    batch_size=8,
    epochs=16,
    resolution=128,
    bucket_step=32,
    unet_lr=4e-3,
    text_encoder_lr=6e-3,
    text_encoder_2_lr=6e-3,
    rank=16,
    alpha=16,
    optimizer="AdamW",
    checkpointing="none",
    save_every=4,
    tag_dropout=0.9,
    prior_weight=1.0,
)
PREVIEW = PreviewSettings(prompts=(), count=16, every=0, steps=30, cfg=4.0)


@dataclass(frozen=True)
class Summary:
    """What a demo run came to; written to `output/summary.json`."""

    likeness_before: float
    likeness_after: float
    steps: int
    seconds: float
    lora_file: str
    grid: str
    pictures: int
    removed: int
    peak_gb: float
    seed: int


def sample_project(folder: Path | None = None, progress: Progress = silent) -> Project:
    """The sample project under `folder` (default: `demo` under the root), drawn and set up if it is
    not there yet.
    """
    project = find(str(folder or root() / NAME)).create()
    if not scan(project.dataset):
        make_sample(project, progress=progress)
    if not project.settings_file.exists():
        for settings in (TAGGING, TRAINING, PREVIEW):
            project.save(settings)
    return project


def run_demo(
    folder: Path,
    seed: int = 42,
    changes: Callable[[TrainingSettings], TrainingSettings] = lambda s: s,
    progress: Progress = silent,
) -> Summary:
    """Everything from an empty folder to `output/`: the LoRA file, `grid.png` and
    `summary.json`.
    """
    from ..training import run  # torch and diffusers load here, not before the pictures are drawn

    started = time.monotonic()
    project = sample_project(folder, progress)
    removed = sweep(project, progress).moved
    tagging = project.load(TaggingSettings)
    tag_dataset(project, tagging, progress)
    training = changes(replace(project.load(TrainingSettings), seed=seed))
    preview = replace(project.load(PreviewSettings), prompts=OTHERS, seed=1000 + 100 * seed)
    drawn: list[run.Previews] = []
    steps, lora, pictures = 0, Path(), 0
    for event in run.train_project(
        project, training, preview, tagging.activation_tag, progress, scorer(tagging)
    ):
        if isinstance(event, run.Planned):
            pictures = len(event.plan.placements)
            print(event.plan.sentence(), file=sys.stderr)
        elif isinstance(event, run.StepDone):
            progress("Training", event.step, event.steps)
        elif isinstance(event, run.Previews):
            drawn.append(event)
        elif isinstance(event, run.Finished):
            steps, lora = event.steps, event.lora_file
    grid = save_comparison(project, drawn[0], drawn[-1])
    summary = Summary(
        likeness_before=round(drawn[0].likeness or 0.0, 4),
        likeness_after=round(drawn[-1].likeness or 0.0, 4),
        steps=steps,
        seconds=round(time.monotonic() - started, 1),
        lora_file=str(lora),
        grid=str(grid),
        pictures=pictures,
        removed=removed,
        peak_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        seed=seed,
    )
    write_text(project.output / "summary.json", json.dumps(asdict(summary), indent=1) + "\n")
    return summary


def save_comparison(project: Project, before: Any, after: Any, columns: int = 6) -> Path:
    """`output/grid.png`: for each prompt what the base drew and, below, what the LoRA draws from
    the same seed.
    """
    from ..training.preview import grid, save_picture

    bands = []
    for start in range(0, len(before.pictures), columns):
        part = slice(start, start + columns)
        labels = [prompt.text for prompt in before.prompts[part]]
        bands.append(
            grid(
                [before.pictures[part], after.pictures[part]], ("before", "after"), labels, tile=192
            )
        )
    sheet = Image.new(
        "RGB", (max(band.width for band in bands), sum(band.height for band in bands)), "white"
    )
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    return save_picture(sheet, project.output / "grid.png")


def report(summary: Summary) -> str:
    """The demo's last words."""
    return (
        f"Likeness {summary.likeness_before:.2f} before, {summary.likeness_after:.2f} after "
        f"{summary.steps} steps"
        f" ({duration(summary.seconds)}, {summary.peak_gb} GB at most).\nLoRA file: "
        f"{summary.lora_file}\nPictures:  {summary.grid}"
    )
