"""Saves the LoRA of a run: numbered files on the way, one under the project's name at the end, and
the state from which a run that is cut off goes on.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ..errors import BaseModelError
from ..files import free_name
from . import adapter, export, metadata, state
from .artist import Previews
from .learning import Learning, Modules
from .provenance import Moment, Provenance, cover
from .tensorfile import TensorFile


@dataclass(frozen=True)
class Saved:
    """A LoRA file is on disk."""

    path: Path
    epoch: int
    step: int


def clock() -> float:
    """Now, in seconds since 1970; SOURCE_DATE_EPOCH stands in for it where files are to be the same
    bit for bit (https://reproducible-builds.org/specs/source-date-epoch/).
    """
    return float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())


@dataclass
class Keeper:
    """What is saved of a run, and where. `kept` are the numbered files of this run, oldest
    first; `run_id` is its name for Weights & Biases.
    """

    output: Path
    name: str
    origin: Provenance
    learning: Learning
    parts: Modules  # of the base, adapter or not
    identity: state.Identity
    kept: list[str]
    run_id: str = ""

    @property
    def state_file(self) -> Path:
        return state_path(self.output, self.name)

    @property
    def precision(self) -> str:
        """Number format of the base, like 'bfloat16'."""
        return str(self.origin.precision).removeprefix("torch.")

    def save_epoch(self, epoch: int) -> Saved:
        """`name-000001.safetensors`."""
        return self._numbered(f"{self.name}-{epoch:06d}", epoch)

    def save_step(self, epoch: int) -> Saved:
        """`name-step00000500.safetensors`."""
        return self._numbered(f"{self.name}-step{self.learning.step:08d}", epoch)

    def save_final(self, epoch: int, previews: Previews | None) -> Saved:
        """`name.safetensors`, and if wanted the same under diffusers' names; both with the likeness
        and a picture of the last previews.
        """
        saved = self._save(self.name, epoch, previews)
        if self.origin.settings.save_diffusers:
            self._save(f"{self.name}-diffusers", epoch, previews, diffusers=True)
        return saved

    def make_room(self) -> list[Path]:
        """Gives LoRA files of an earlier run that the final ones would be written over other names;
        returns these.
        """
        renamed = []
        for path in (self._path(self.name), self._path(f"{self.name}-diffusers")):
            if path.exists() and started(path) != str(self.origin.started):
                renamed.append(path.replace(free_name(path.with_stem(f"{path.stem}-old"))))
        return renamed

    def save_state(self) -> None:
        """What is needed to go on from here."""
        notes = {
            "kept": self.kept,
            "started": self.origin.started,
            "run_id": self.run_id,
            "precision": self.precision,
        }
        state.save_state(self.state_file, self.learning, self.identity, notes)

    def _path(self, name: str) -> Path:
        return self.output / f"{name}.safetensors"

    def _numbered(self, name: str, epoch: int) -> Saved:
        saved = self._save(name, epoch)
        self.kept = [other for other in self.kept if other != saved.path.name] + [saved.path.name]
        most = self.origin.settings.keep_last
        while most and len(self.kept) > most:
            delete(self.output / self.kept.pop(0))
        return saved

    def _save(
        self, name: str, epoch: int, previews: Previews | None = None, diffusers: bool = False
    ) -> Saved:
        dtype = export.DTYPES[self.origin.settings.save_precision]
        with self.learning.shown():
            tensors = adapter.tensors(self.learning.parts, dtype)
        step, likeness = self.learning.step, previews.likeness if previews else None
        moment = Moment(name, epoch, step, clock(), likeness)
        details = metadata.metadata(self.origin, moment, tensors)
        if previews and previews.pictures:
            details |= cover(previews.pictures[0])
        path = self._path(name)
        if diffusers:
            export.save_diffusers(path, tensors, details, self.parts)
        else:
            export.save_lora(path, tensors, details)
        return Saved(path, epoch, step)


def state_path(output: Path, name: str) -> Path:
    """Where the state of a run is; not a name that anyone takes for a LoRA file."""
    return output / "state" / f"{name}.safetensors"


def started(path: Path) -> str:
    """When the run began that a LoRA file is of, as the file says; '' if it does not."""
    try:
        with TensorFile(path) as file:
            return file.metadata.get("ss_training_started_at", "")
    except BaseModelError:
        return ""


def delete(path: Path) -> None:
    """Deletes a file this run has written. Emptied first: Drive keeps what is deleted in its trash,
    where it still counts.
    """
    if path.exists():
        path.write_bytes(b"")
        path.unlink()
