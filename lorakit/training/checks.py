"""What is looked at before a run loads anything: input that would end it minutes or hours later,
and settings that are likely not meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import LoraFileError, TrainingError
from .config import TrainingSettings
from .config.optimizer import departures
from .foreign import role
from .inspect import kind
from .plan import Plan
from .tensorfile import TensorFile


def check_length(plan: Plan, settings: TrainingSettings) -> None:
    """Raises TrainingError for a plan that is longer than anyone means."""
    if plan.steps > settings.most_steps:
        raise TrainingError(
            f"This plan has {plan.steps:,} steps, more than most_steps ({settings.most_steps:,}). "
            "About 450 are right for most characters: lower repeats or epochs, or raise most_steps "
            "if you mean it."
        )


def remarks(settings: TrainingSettings) -> Iterator[str]:
    """What the user should know of the settings before the run, a sentence each. Raises
    LorakitError for a `continue_from` that is no LoRA file.
    """
    if settings.continue_from:
        yield continued(settings)
    advice = departures(settings)
    if advice and settings.base_model != "demo":  # far smaller than what that is said of
        yield advice


def continued(settings: TrainingSettings) -> str:
    """What the LoRA file that is gone on from brings with it. Raises LorakitError if it is none."""
    path = Path(settings.continue_from).expanduser()
    if not path.is_file():
        raise LoraFileError(
            f"training: continue_from is {path}, and there is no such file. Give the path of a "
            "LoRA file, or leave it empty to start from nothing."
        )
    with TensorFile(path) as file:
        downs = [entry.shape for name, entry in file.entries.items() if role(name)[1] == "down"]
        what = kind(file.entries, downs)
    if not downs:
        raise LoraFileError(
            f"training: continue_from is {path}, which is not a LoRA file that can be gone on "
            "from. Give one of a LoRA, LoCon or DoRA."
        )
    if what == "DoRA" and settings.save_diffusers:
        raise LoraFileError(
            f"training: save_diffusers is on, but continue_from ({path}) is a DoRA, for which "
            "diffusers' names have no place. Turn save_diffusers off or go on from another file."
        )
    ranks = sorted({shape[0] for shape in downs})
    shown = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    return (
        f"The LoRA goes on from {path.name}, a {what} of {shown}: these stay, whatever kind, "
        "dora, rank_stabilized and the settings of ranks and alphas say."
    )
