"""One run from a project's folder to its LoRA file, as a stream of events that notebooks and
terminal both read.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from uuid import uuid4

from ..files import write_text
from ..progress import Progress, silent
from ..project import Project
from . import adapter, optim, parallel, state
from .artist import Artist, Previews, Score, make_artist
from .base import ENCODERS, Base, open_base
from .checks import check_length, remarks
from .compiling import compile_blocks
from .config import PreviewSettings, TrainingSettings
from .device import choose_device
from .events import Finished, Note, Planned, RunEvent, Saved, Validated
from .examples import Example, held_out, plan_examples, read_examples
from .interrupts import Interrupts
from .keeper import Keeper, clock, state_path
from .learning import Learning, begin, trained_parts
from .ledger import StepDone
from .logs import Logs, check_logs, open_logs
from .loop import EpochDone, Shrunk, train
from .material import Material, gather, keeps_texts
from .parallel import World
from .plan import Plan
from .planner import Ways, find_ways
from .preview import prompts
from .provenance import provenance
from .state import Stored
from .text import TextCache, cache_texts, longest
from .validation import validation_loss

__all__ = [
    "EpochDone",
    "Finished",
    "Note",
    "Planned",
    "Previews",
    "RunEvent",
    "Saved",
    "StepDone",
    "Validated",
    "train_project",
]

log = logging.getLogger(__name__)


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
    loaded. A run that was cut off goes on where it was. An interrupt (Ctrl-C, a notebook's stop
    button) saves what is learnt so far and ends the run.
    """
    world = parallel.join()
    if not world.main:
        progress, score = silent, None
    device, dtype, reason = choose_device(settings, world.rank)
    optim.check_arguments(settings, device)
    check_logs(settings)
    notes = list(remarks(settings))
    examples = read_examples(project, settings, activation_tag, progress)
    held = held_out([example.regularisation for example in examples], settings)
    learnt = [example for i, example in enumerate(examples) if i not in held]
    plan = plan_examples(learnt, settings)
    check_length(plan, settings)
    wanted = prompts(preview, activation_tag, [example.caption for example in learnt])
    yield Planned(plan, device, dtype, reason)
    yield from map(Note, notes)
    base = open_base(settings, dtype, device, progress)
    yield from map(Note, base.notes)
    in_order = learnt + [examples[i] for i in sorted(held)]
    run = Run(project, base, settings, plan, in_order, device, world)
    artist = make_artist(project, base, settings, preview, activation_tag, wanted, progress, score)
    yield from run.prepare(activation_tag, artist, progress)
    yield from run.follow(artist)


@dataclass
class Run:
    """One run: what it is made of, and how far it is. The first pictures of `examples`, as many as
    the plan has, are trained on; the others are held out for validation.
    """

    project: Project
    base: Base
    settings: TrainingSettings
    plan: Plan
    examples: Sequence[Example]
    device: str
    world: World
    material: Material = field(init=False)
    learning: Learning = field(init=False)
    keeper: Keeper = field(init=False)
    ways: Ways = field(init=False)
    stored: Stored | None = None  # the state it goes on from, until it is restored
    since: int = 0  # the step it goes on after; 0 for a new run
    logs: Logs = field(default_factory=Logs)
    spent: float = 0.0  # seconds in steps of this sitting
    told: int = 0  # the last step whose numbers were read
    drawn: Previews | None = None  # the last previews of this run

    @property
    def held(self) -> range:
        return range(len(self.plan.placements), len(self.examples))

    def prepare(self, activation_tag: str, artist: Artist, progress: Progress) -> Iterator[Note]:
        """Captions, latents, adapter, optimiser; and finds the state to go on from, if there is
        one. Of the base model only what is needed is in memory: encoders, then VAE, then U-Net.
        """
        texts = self._texts(artist, progress)
        with parallel.main_first(self.world):  # it makes the latents, the others read them
            self.material = gather(
                self.project, self.base, self.settings, self.examples, texts, progress
            )
        tokens = longest(self.base.tokenizers[0], [each.caption for each in self.examples])
        self.ways = find_ways(
            self.base, self.settings, self.plan, self.device, tokens, self.world.count
        )
        yield Note(f"Memory: {self.ways.sentence(self.ways.best())}.")
        self.base.fetch("unet", progress=progress)
        parts = trained_parts(self.base, self.settings)
        adapter.add_adapter(parts, self.settings, self.settings.seed)
        if self.settings.compile:
            compile_blocks(self.base.unet)
        self.learning = begin(self.base, self.settings, self.device)
        yield from self._begin_or_go_on(activation_tag)

    def _begin_or_go_on(self, activation_tag: str) -> Iterator[Note]:
        """Reads the state of a run that was cut off, if this one goes on with it; names what will
        be saved.
        """
        who = state.identity(self.settings, self.examples, self.project.dataset)
        path = state_path(self.project.output, self.project.name)
        stored = state.read_state(path)
        decision = state.decide(stored, who, self.plan.steps, self.settings.resume)
        if stored and decision.go_on:
            self.stored, self.since = stored, stored.step
        elif self.world.main:
            state.put_aside(path)
        notes = self.stored.notes if self.stored else {}
        parallel.wait(self.world)
        learnt = self.examples[: len(self.plan.placements)]
        origin = provenance(
            self.project,
            self.base,
            self.settings,
            self.plan,
            learnt,
            activation_tag,
            notes.get("started", clock()),
        )
        used = type(self.learning.optimizer).__name__  # not always the one asked for
        self.keeper = Keeper(
            self.project.output,
            self.project.name,
            replace(origin, optimizer=used),
            self.learning,
            self.base.parts,
            who,
            notes.get("kept", []),
            notes.get("run_id") or uuid4().hex[:8],
        )
        changed = state.other_format(self.stored, self.keeper.precision) if self.stored else ""
        yield from map(Note, filter(None, (decision.sentence, changed)))

    def _texts(self, artist: Artist, progress: Progress) -> TextCache | None:
        """What the encoders make of captions and prompts, where that can be kept; else they stay
        in memory.
        """
        if not keeps_texts(self.settings):
            self.base.fetch(*ENCODERS, progress=progress)
            return None
        base, seed = self.base, self.settings.seed
        with base.present(*ENCODERS, progress=progress):
            artist.encode()
            return cache_texts(
                base.tokenizers,
                base.encoders,
                self.examples,
                self.settings,
                seed,
                self.held,
                progress,
            )

    def follow(self, artist: Artist) -> Iterator[RunEvent]:
        """Trains to the end, or until the user stops it; draws, validates and saves on the way."""
        began, stopped = time.monotonic(), False
        if self.world.main:
            output, name, mark = self.project.output, self.project.name, self.keeper.run_id
            self.logs = open_logs(output, name, self.settings, self.since, mark)
        with closing(self.logs):
            yield from self._first(artist)
            with Interrupts(patient=self.world.count > 1) as interrupts:
                try:
                    yield from self._steps(artist, interrupts)
                except KeyboardInterrupt:
                    stopped = True
                    log.warning("Stopped at step %d; saving what is learnt.", self.learning.step)
                yield from self._end(time.monotonic() - began, stopped)

    def _first(self, artist: Artist) -> Iterator[RunEvent]:
        """Previews and validation before the first step, which a run that goes on has had already.
        Its state is not restored yet: pictures that are missing are drawn as they would have been.
        """
        if not self.world.main:
            return
        if self.since:
            yield from artist.first()
            return
        events: Iterator[RunEvent] = chain(artist.draw(0, 0, "epoch-000"), self._validated(0))
        for event in events:
            self.logs.hear(event)
            yield event

    def _steps(self, artist: Artist, interrupts: Interrupts) -> Iterator[RunEvent]:
        """The loop's events and what follows from them. Raises KeyboardInterrupt when an interrupt
        was noted: in several processes only where all of them stand at the same place, or they
        would wait for each other.
        """
        if self.stored:
            state.restore(self.learning, self.stored)
            self.stored = None  # as large as the LoRA and its optimiser
        events = train(
            self.base,
            self.plan,
            self.material,
            self.settings,
            self.learning,
            self.device,
            self.world,
            self.ways,
            partial(self._looks, artist),
        )
        for event in events:
            if isinstance(event, StepDone):
                self.spent, self.told = event.seconds, event.step
            for each in self._handle(event, artist):
                self.logs.hear(each)
                yield each
                if self.world.count == 1:
                    interrupts.check()
            if parallel.anywhere(interrupts.asked, self.world):
                raise KeyboardInterrupt

    def _looks(self, artist: Artist, step: int) -> bool:
        """Whether something is saved or drawn just after a step."""
        ours = self.settings
        every = (ours.save_every_steps, ours.state_every, artist.settings.every_steps)
        return any(number and step % number == 0 for number in every)

    def _handle(self, event: StepDone | EpochDone | Shrunk, artist: Artist) -> Iterator[RunEvent]:
        """An event of the loop, and what follows from it: files, previews, validation, state."""
        if isinstance(event, Shrunk):
            way = self.ways.sentence(event.way)
            yield Note(f"Memory ran out in step {event.step}; going on with {way}.")
            return
        yield event
        if not self.world.main:
            return
        every = self.settings
        if isinstance(event, StepDone):
            step = event.step
            if every.save_every_steps and step % every.save_every_steps == 0:
                yield self.keeper.save_step(event.epoch)
            if artist.settings.every_steps and step % artist.settings.every_steps == 0:
                yield from self._draw(artist, event.epoch, step, f"step-{step:06d}")
            if every.state_every and step % every.state_every == 0 and step < self.plan.steps:
                self.keeper.save_state()
                self.logs.flush()
            return
        last = event.epoch == event.epochs
        if every.save_every and not last and event.epoch % every.save_every == 0:
            yield self.keeper.save_epoch(event.epoch)
        yield from self._validated(event.epoch)
        drawn = artist.settings.every and event.epoch % artist.settings.every == 0
        if last or drawn:
            yield from self._draw(artist, event.epoch, event.step, f"epoch-{event.epoch:03d}")

    def _draw(self, artist: Artist, epoch: int, step: int, name: str) -> Iterator[Previews]:
        with self.learning.shown():
            for self.drawn in artist.draw(epoch, step, name):
                yield self.drawn

    def _validated(self, epoch: int) -> Iterator[Validated]:
        if self.held:
            with self.learning.shown():
                loss = validation_loss(
                    self.base, self.material, self.held, self.settings, self.device
                )
            yield Validated(epoch, self.learning.step, loss)

    def _end(self, seconds: float, stopped: bool) -> Iterator[RunEvent]:
        """The LoRA file, the state, and how fast it was."""
        step = self.learning.step
        if self.world.main:
            for path in self.keeper.make_room():
                yield Note(f"The LoRA file of an earlier run is kept as {path.name}.")
            epoch = step // self.plan.steps_per_epoch if stopped else self.plan.epochs
            saved = self.keeper.save_final(epoch, self.drawn)
            if self.learning.whole:
                self.keeper.save_state()
            yield saved
            if step > self.since:
                keep_timing(self.project, self.spent / max(1, self.told - self.since), self.device)
        parallel.wait(self.world)
        file = self.project.output / f"{self.project.name}.safetensors"
        yield Finished(file, step, seconds, stopped)


def keep_timing(project: Project, seconds_per_step: float, device: str) -> None:
    """Notes how fast the run was in `output/timing.json`: the next plan of this project says how
    long it takes.
    """
    write_text(
        project.output / "timing.json",
        json.dumps({"seconds_per_step": round(seconds_per_step, 4), "device": device}) + "\n",
    )
