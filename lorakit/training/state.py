"""The state of a run that is not over: all that is needed to go on exactly where it was cut off.

One safetensors file (no pickle) beside the LoRA files: weights, average and optimiser as tensors,
the rest as JSON in its header. Every random choice is a function of seed and step (chance.py), so
no dice need remembering.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import TrainingError
from ..files import write_safely
from ..settings import to_mapping
from . import adapter, optim
from .config import TrainingSettings
from .examples import Example
from .learning import Learning

KEY = "lorakit.state"
VERSION = 1

# What may change between two sittings of one run without making it another run: its length, and
# what is written down or how fast it goes. All else decides what the LoRA becomes.
FREE = {
    "epochs",
    "max_steps",
    "most_steps",
    "resume",
    "save_every",
    "save_every_steps",
    "keep_last",
    "save_precision",
    "save_diffusers",
    "state_every",
    "tensorboard",
    "wandb",
    "models_folder",
    "checkpointing",
    "at_once",
    "compile",
}


@dataclass(frozen=True)
class Identity:
    """What a run is made of: two runs with the same identity give the same LoRA."""

    settings: dict[str, Any]
    pictures: dict[str, str]  # path below the dataset -> digest of picture, caption and handling

    def differences(self, other: Identity) -> list[str]:
        """What changed from `other` (earlier) to this one, as phrases."""
        found, plain = [], to_mapping(TrainingSettings())  # what the other did not know of yet
        for name in sorted(set(self.settings) | set(other.settings)):
            old, new = (each.settings.get(name, plain.get(name)) for each in (other, self))
            if old != new:
                found.append(f"{name} was {old!r} and is {new!r}")
        before, now = other.pictures, self.pictures
        counts = {
            "new": len(now.keys() - before.keys()),
            "gone": len(before.keys() - now.keys()),
            "changed": sum(before[k] != now[k] for k in before.keys() & now.keys()),
        }
        what = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        return found + ([f"the dataset changed (pictures or captions: {what})"] if what else [])


def identity(settings: TrainingSettings, examples: Sequence[Example], dataset: Path) -> Identity:
    """The identity of a run, from its settings and the content of its pictures."""
    values = {k: v for k, v in to_mapping(settings).items() if k not in FREE}
    return Identity(values, {_name(e, dataset): digest(e) for e in examples})


def _name(example: Example, dataset: Path) -> str:
    return example.picture.path.relative_to(dataset).as_posix()


def digest(example: Example) -> str:
    """Sixteen hex digits that change with a picture, its mask, its caption or how it is shown."""
    how = (
        example.caption,
        example.placement,
        example.repeats,
        example.keep_tags,
        example.flip,
        example.regularisation,
    )
    files = [example.picture.path, example.picture.mask_path]
    content = b"".join(path.read_bytes() for path in files if path.exists())
    return hashlib.sha256(content + repr(how).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Stored:
    """A state as it was read: tensors by name, and the plain rest."""

    tensors: dict[str, torch.Tensor]
    plain: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.plain["step"])

    @property
    def identity(self) -> Identity:
        return Identity(**self.plain["identity"])

    @property
    def notes(self) -> dict[str, Any]:
        """What whoever saved it has noted."""
        return dict(self.plain["notes"])


def save_state(path: Path, learning: Learning, who: Identity, notes: Mapping[str, Any]) -> None:
    """Writes the state whole or not at all; `notes` is the caller's own. Raises SaveError."""
    moving, plain = optim.state_tensors(learning.optimizer)
    tensors = {f"optimizer/{k}": v for k, v in moving.items()}
    tensors |= {f"adapter/{k}": v for k, v in adapter.state(learning.parts).items()}
    if learning.ema:
        tensors |= {f"ema/{k}": v for k, v in learning.ema.state_dict().items()}
    header = {
        "version": VERSION,
        "step": learning.step,
        "identity": {"settings": who.settings, "pictures": who.pictures},
        "optimizer": plain,
        "scaler": learning.scaler.state_dict(),
        "first_losses": learning.first_losses,
        "last_losses": learning.last_losses,
        "notes": dict(notes),
    }
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_safely(path, lambda temporary: save_file(whole, temporary, {KEY: json.dumps(header)}))


def read_state(path: Path) -> Stored | None:
    """The state at `path`, None if there is none. Raises TrainingError for a file that is not
    one.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})[KEY])
            return Stored({name: file.get_tensor(name) for name in file.keys()}, plain)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{path} is not a state that this lorakit can go on from ({error}). Move it away to "
            "start anew."
        ) from error


def restore(learning: Learning, stored: Stored) -> None:
    """Puts a stored state onto a fresh `learning`. Raises TrainingError if it does not fit."""

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in stored.tensors.items()
            if name.startswith(prefix)
        }

    adapter.load_state(learning.parts, part("adapter/"))
    optim.load_state(learning.optimizer, part("optimizer/"), stored.plain["optimizer"])
    if learning.ema:
        learning.ema.load_state_dict(part("ema/"))
    if stored.plain["scaler"]:  # empty from a base that was not in fp16: nothing was scaled
        learning.scaler.load_state_dict(stored.plain["scaler"])
    learning.step = stored.step
    learning.first_losses = list(stored.plain["first_losses"])
    learning.last_losses = list(stored.plain["last_losses"])


@dataclass(frozen=True)
class Decision:
    """Whether a run goes on from a state, and the sentence that says so ('' if there is nothing to
    say).
    """

    go_on: bool
    sentence: str


def decide(stored: Stored | None, now: Identity, steps: int, resume: str) -> Decision:
    """Go on from `stored` or start anew, by the setting `resume`: auto, always or never."""
    if stored is None:
        return Decision(False, "")
    at = f"step {stored.step} of {steps}"
    if resume == "never":
        return Decision(
            False, f"A state at {at} is put aside, as resume is 'never': starting anew."
        )
    changes = now.differences(stored.identity)
    if stored.step >= steps:
        return Decision(
            False,
            f"The run before has come to step {stored.step}, and this plan ends at {steps}: "
            "starting anew. Its LoRA file and its state are kept under other names.",
        )
    if not changes:
        return Decision(True, f"Going on from {at}.")
    what = "; ".join(changes[:4]) + ("; ..." if len(changes) > 4 else "")
    if resume == "always":
        return Decision(True, f"Going on from {at}, though {what}.")
    return Decision(
        False,
        f"Starting anew instead of going on from {at}, because {what}. To go on all the same, set "
        "resume to 'always'; the old state is kept.",
    )


def other_format(stored: Stored, precision: str) -> str:
    """The sentence for a run that goes on with its base in another number format, or ''."""
    before = stored.notes.get("precision", precision)
    if before == precision:
        return ""
    return (
        f"The base was in {before} so far and is in {precision} on this device: the LoRA goes on, "
        "but not bit for bit as it would have there."
    )


def put_aside(path: Path) -> None:
    """Keeps a state that is not gone on from, the last such one, under another name."""
    if path.exists():
        path.replace(path.with_name(f"{path.stem}-old{path.suffix}"))
