"""The commands about finished LoRA files: resize, merge, card and upload."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import project
from .errors import SettingsError
from .progress import TerminalProgress

if TYPE_CHECKING:
    from .training.combine import Made
    from .training.merge import Goal

Add = Callable[..., argparse.ArgumentParser]
PRECISIONS = ("fp16", "bf16", "fp32")


def register(add: Add) -> None:
    """Puts the commands on the command line; `add(name, command, help, project_help)` makes one."""
    resize = add("resize", _resize, "Make a LoRA file smaller: a lower rank by SVD.", "")
    resize.add_argument("file", type=Path, help="a LoRA or LoCon file for SDXL, of any tool")
    resize.add_argument("--rank", type=int, help="highest rank in the new file")
    _add_making(resize)

    merge = add("merge", _merge, "Put several LoRA files into one, each with its weight.", "")
    merge.add_argument(
        "files",
        nargs="+",
        metavar="FILE=WEIGHT",
        help="LoRA or LoCon files for SDXL, of any tool, like a.safetensors=0.7; the weight is 1 "
        "where none is given",
    )
    merge.add_argument(
        "--rank", type=int, help="make the result smaller; without it the ranks add up, exactly"
    )
    _add_making(merge)

    card = add("card", _card, "Write a model card (README.md) beside the project's LoRA file.")
    card.add_argument(
        "--overwrite", action="store_true", help="also over a card that was changed by hand"
    )
    card.add_argument("--repo", default="", help="where on the Hub it will be, as owner/name")

    upload = add(
        "upload", _upload, "Put the LoRA, its card and its previews on the Hugging Face Hub."
    )
    upload.add_argument("--repo", required=True, help="where, as owner/name")
    upload.add_argument(
        "--public", action="store_true", help="for everyone to see; otherwise only for you"
    )
    upload.add_argument(
        "--epochs", action="store_true", help="the LoRA files of all epochs too, not the last alone"
    )


def _add_making(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("-o", "--output", type=Path, required=True, help="the new .safetensors file")
    sub.add_argument(
        "--conv-rank", type=int, help="highest rank of 3x3 convolutions (default: as --rank)"
    )
    sub.add_argument(
        "--keep",
        type=float,
        metavar="SHARE",
        help="in each module only as many ranks as are needed for this share of its energy, "
        "like 0.95",
    )
    sub.add_argument("--precision", choices=PRECISIONS, help="number format (default: as it is)")


def _resize(options: argparse.Namespace) -> dict[str, Any]:
    from .training.combine import resize_file

    goal = _goal(options)
    if goal is None:
        raise SettingsError("Say how small: --rank 8, or --keep 0.95, or both.")
    source, target = options.file.expanduser(), options.output.expanduser()
    return _made(resize_file(source, target, goal, _dtype(options), TerminalProgress()))


def _merge(options: argparse.Namespace) -> dict[str, Any]:
    from .training.combine import merge_files

    sources, target = [weighted(word) for word in options.files], options.output.expanduser()
    progress = TerminalProgress()
    return _made(merge_files(sources, target, _goal(options), _dtype(options), progress))


def weighted(word: str) -> tuple[Path, float]:
    """File and weight of a word like 'a.safetensors=0.7'. Raises SettingsError."""
    path, separator, weight = word.rpartition("=")
    if not separator or Path(word).expanduser().exists():
        return Path(word).expanduser(), 1.0
    try:
        return Path(path).expanduser(), float(weight)
    except ValueError:
        raise SettingsError(
            f"'{weight}' in '{word}' is not a weight; write FILE=WEIGHT, like a.safetensors=0.7."
        ) from None


def _goal(options: argparse.Namespace) -> Goal | None:
    from .training.merge import Goal

    for name in ("rank", "conv_rank"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise SettingsError(f"--{name.replace('_', '-')} must be at least 1.")
    if options.keep is not None and not 0 < options.keep <= 1:
        raise SettingsError(f"--keep is {options.keep:g}; it must be above 0 and at most 1.")
    if options.rank is None and options.conv_rank is None and options.keep is None:
        return None
    unlimited = 1_000_000
    rank = options.rank or unlimited
    return Goal(rank, options.conv_rank or rank, 1.0 if options.keep is None else options.keep)


def _dtype(options: argparse.Namespace) -> Any:
    from .training.export import DTYPES

    return DTYPES[options.precision] if options.precision else None


def _made(made: Made) -> dict[str, Any]:
    ranks = ", ".join(f"{rank} ({count})" for rank, count in made.ranks.items())
    kept = (
        f" Each module keeps at least {made.least_kept:.1%} of its energy, {made.mean_kept:.1%} on "
        "average."
        if made.least_kept < 1
        else ""
    )
    lines = [f"LoRA file: {made.path} ({made.bytes / 1e6:.1f} MB; ranks {ranks}).{kept}"]
    values = asdict(made)
    return {"text": "\n".join([*lines, *made.notes]), "file": values.pop("path"), **values}


def _card(options: argparse.Namespace) -> dict[str, Any]:
    from .training.card import write_card

    path = write_card(project.existing(options.project), options.repo, options.overwrite)
    return {"text": f"Model card: {path}", "file": path}


def _upload(options: argparse.Namespace) -> dict[str, Any]:
    from .training.hub import upload

    here = project.existing(options.project)
    done = upload(here, options.repo, private=not options.public, epochs=options.epochs)
    who = "only you can see it" if done.private else "everyone can see it"
    files = ", ".join(done.files)
    return {"text": f"On the Hub: {done.url} ({who})\nFiles: {files}", **asdict(done)}
