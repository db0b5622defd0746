"""One run from a project's folder to its LoRA file, as a stream of events that notebooks and
terminal both read.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..dataset import Picture, broken, picture_size, read_caption, require
from ..errors import DatasetError
from ..files import write_text
from ..progress import Progress, silent
from ..project import Project
from . import adapter, cache
from .base import Base, load_base
from .config import PreviewSettings, TrainingSettings
from .export import metadata, save_lora
from .loop import EpochDone, StepDone, train, trained_parts
from .plan import Plan, make_plan
from .preview import Prompt, draw, prompts, save_picture

log = logging.getLogger(__name__)

Score = Callable[[Sequence[Image.Image]], float]


@dataclass(frozen=True)
class Planned:
    """What will be done, before anything is loaded."""

    plan: Plan
    device: str
    dtype: torch.dtype
    reason: str  # why this device and number format


@dataclass(frozen=True)
class Previews:
    """Pictures drawn after `epoch` (0: before training) and, if the activation tag's were scored,
    their likeness.
    """

    epoch: int
    prompts: list[Prompt]
    pictures: list[Image.Image]
    likeness: float | None


@dataclass(frozen=True)
class Saved:
    """A LoRA file is on disk."""

    path: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class Finished:
    """The run is over; `stopped` if the user ended it early."""

    lora_file: Path
    steps: int
    seconds: float
    stopped: bool


RunEvent = Planned | Previews | StepDone | EpochDone | Saved | Finished


def read_dataset(project: Project) -> tuple[list[Picture], list[str]]:
    """Pictures and captions, all checked. Raises DatasetError naming the first that is broken or
    has no caption.
    """
    pictures = require(project.dataset)
    bad = broken(pictures)
    if bad:
        others = f" ({len(bad) - 1} more like it.)" if len(bad) > 1 else ""
        raise DatasetError(next(iter(bad.values())) + others)
    captions = [read_caption(picture) for picture in pictures]
    missing = [p.path for p, caption in zip(pictures, captions, strict=True) if caption is None]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(pictures)} pictures have no caption, the first is "
            f"{missing[0]}. Tag them first: python -m lorakit tag {project.name}"
        )
    return pictures, [caption or "" for caption in captions]


def plan_project(project: Project, settings: TrainingSettings) -> Plan:
    """The exact plan, from the pictures' sizes alone. Raises DatasetError."""
    sizes = [picture_size(picture.path) for picture in require(project.dataset)]
    return make_plan(
        sizes,
        settings.resolution,
        settings.bucket_step,
        settings.repeats,
        settings.batch_size,
        settings.epochs,
    )


def choose_device(settings: TrainingSettings) -> tuple[str, torch.dtype, str]:
    """Device, number format of the base, and why."""
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if not torch.cuda.is_available():
        # Attention that has made up its mind fills the backward pass with denormal numbers, which
        # made it 2.5 times slower. Threads take this over when they start: it must come early.
        torch.set_flush_denormal(True)
        wanted = "fp32" if settings.precision == "auto" else settings.precision
        return "cpu", formats[wanted], f"no GPU found: training on the CPU in {wanted}"
    name, memory = (
        torch.cuda.get_device_name(),
        torch.cuda.get_device_properties(0).total_memory / 2**30,
    )
    best = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    wanted = best if settings.precision == "auto" else settings.precision
    why = "" if best == "bf16" else " (it has no bf16)"
    return "cuda", formats[wanted], f"{name}, {memory:.0f} GB: base in {wanted}{why}, LoRA in fp32"


def train_project(
    project: Project,
    settings: TrainingSettings,
    preview: PreviewSettings,
    activation_tag: str = "",
    progress: Progress = silent,
    score: Score | None = None,
) -> Generator[RunEvent, None, None]:
    """Trains the project's LoRA. `score` measures the likeness of previews of the activation tag
    alone.

    Everything that can be wrong with the input is raised (LorakitError) before the base model is
    loaded. An interrupt (Ctrl-C, a notebook's stop button) saves what is learnt so far and ends the
    run.
    """
    pictures, captions = read_dataset(project)
    plan = plan_project(project, settings)
    device, dtype, reason = choose_device(settings)
    yield Planned(plan, device, dtype, reason)
    progress("Loading the base model", 0, 1)
    base = load_base(settings.base_model, dtype, device)
    progress("Loading the base model", 1, 1)
    store = cache.folder() / "latents" / f"{project.name}.safetensors"
    latents = cache.latents(pictures, plan.placements, base.vae, store, progress)
    adapter.add_adapter(trained_parts(base, settings), settings.rank, settings.alpha, settings.seed)
    artist = Artist(project, base, settings, preview, activation_tag, progress, score)
    keeper = Keeper(project, base, settings, plan, captions, activation_tag)
    yield from artist.draw(0)
    last, spent, started, stopped = 0, 0.0, time.monotonic(), False
    loop = train(base, plan, latents, captions, settings, device)
    try:
        for event in loop:
            yield event
            if isinstance(event, StepDone):
                last, spent = event.step, event.seconds
            elif event.epoch < event.epochs and event.epoch % settings.save_every == 0:
                yield keeper.save(event.epoch, last, final=False)
            if isinstance(event, EpochDone) and (
                event.epoch == event.epochs or (preview.every and event.epoch % preview.every == 0)
            ):
                yield from artist.draw(event.epoch)
    except KeyboardInterrupt:
        stopped = True
        log.warning("Stopped at step %d; saving what is learnt so far.", last)
    saved = keeper.save(
        plan.epochs if not stopped else last // plan.steps_per_epoch, last, final=True
    )
    yield saved
    if last:
        keep_timing(project, spent / last, device)
    yield Finished(saved.path, last, time.monotonic() - started, stopped)


def keep_timing(project: Project, seconds_per_step: float, device: str) -> None:
    """Notes how fast the run was in `output/timing.json`: the next plan of this project says how
    long it takes.
    """
    write_text(
        project.output / "timing.json",
        json.dumps({"seconds_per_step": round(seconds_per_step, 4), "device": device}) + "\n",
    )


class Artist:
    """Draws the previews of a run and keeps them under `output/previews/`."""

    def __init__(
        self,
        project: Project,
        base: Base,
        settings: TrainingSettings,
        preview: PreviewSettings,
        activation_tag: str,
        progress: Progress,
        score: Score | None,
    ) -> None:
        self.folder, self.base, self.preview, self.progress, self.score = (
            project.output / "previews",
            base,
            preview,
            progress,
            score,
        )
        self.size = (preview.width or settings.resolution, preview.height or settings.resolution)
        self.wanted = prompts(preview, activation_tag)
        self.tag = activation_tag

    def draw(self, epoch: int) -> Iterator[Previews]:
        if not self.wanted:
            return
        training = [module for module in self.base.parts.values() if module.training]
        for module in training:
            module.eval()
        pictures = draw(self.base, self.wanted, self.preview, self.size, self.progress)
        for module in training:
            module.train()
        for number, picture in enumerate(pictures):
            save_picture(picture, self.folder / f"epoch-{epoch:03d}-{number:02d}.png")
        alone = [
            picture
            for prompt, picture in zip(self.wanted, pictures, strict=True)
            if prompt.text == self.tag
        ]
        likeness = self.score(alone) if self.score and alone else None
        yield Previews(epoch, self.wanted, pictures, likeness)


class Keeper:
    """Saves the LoRA as it is: `name-000001.safetensors` after an epoch, `name.safetensors` at the
    end.
    """

    def __init__(
        self,
        project: Project,
        base: Base,
        settings: TrainingSettings,
        plan: Plan,
        captions: Sequence[str],
        activation_tag: str,
    ) -> None:
        self.project, self.base, self.settings, self.plan = project, base, settings, plan
        self.captions, self.activation_tag, self.started = captions, activation_tag, time.time()

    def save(self, epoch: int, step: int, final: bool) -> Saved:
        name = self.project.name if final else f"{self.project.name}-{epoch:06d}"
        details = metadata(
            name,
            self.settings,
            self.plan,
            self.captions,
            self.activation_tag,
            self.base.prediction,
            epoch,
            step,
            self.started,
            time.time(),
        )
        tensors = adapter.tensors(trained_parts(self.base, self.settings))
        return Saved(
            save_lora(self.project.output / f"{name}.safetensors", tensors, details), epoch, step
        )
