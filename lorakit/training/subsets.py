"""Which pictures belong together, and what holds for them: repeats, kept tags, flip and so on.

Said by a [[subset]] table of project.toml, else by the folder's name ('3_name': repeats 3), else
by the settings of the run; a folder inside another goes before it. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ..errors import DatasetError, SettingsError
from ..settings import nearest
from .config import SubsetSettings, TrainingSettings
from .plan import MOST_REPEATS

NUMBERED = re.compile(r"(\d+)_.")
TOP = "."  # dataset/ itself


@dataclass(frozen=True)
class Subset:
    """What holds for the pictures of `folder`, which is relative to dataset/."""

    folder: str
    repeats: int
    keep_tags: int
    flip: bool
    regularisation: bool


def subsets(
    folders: Sequence[str], tables: Sequence[SubsetSettings], settings: TrainingSettings
) -> list[Subset]:
    """The subset of each picture, given the folder it lies in (relative to dataset/, '.' for
    dataset/ itself).

    Raises SettingsError for a table whose folder has no pictures or is named twice, DatasetError
    for a folder's name with impossible repeats.
    """
    named = _by_folder(tables, {level for folder in set(folders) for level in levels(folder)})
    each = {folder: resolve(folder, named, settings) for folder in set(folders)}
    found = [each[folder] for folder in folders]
    return balanced(found) if settings.balance else found


def levels(folder: str) -> list[str]:
    """A folder and those it lies in, the innermost first: 'a/b', 'a', '.'."""
    path = PurePosixPath(folder)
    return [str(level) for level in (path, *path.parents)]


def _by_folder(tables: Sequence[SubsetSettings], known: set[str]) -> dict[str, SubsetSettings]:
    """The tables by their folder, all of which must be known."""
    named: dict[str, SubsetSettings] = {}
    for table in tables:
        if table.folder not in known:
            raise SettingsError(
                f"[[subset]]: there are no pictures in a folder '{table.folder}' of dataset"
                f"{nearest(table.folder, sorted(known))} Correct its folder in project.toml."
            )
        if table.folder in named:
            raise SettingsError(
                f"[[subset]]: folder '{table.folder}' stands in two tables of project.toml. Make "
                "them one."
            )
        named[table.folder] = table
    return named


def resolve(folder: str, named: Mapping[str, SubsetSettings], settings: TrainingSettings) -> Subset:
    """What holds in `folder`: of each setting what the innermost folder says."""
    inner = levels(folder)
    top = inner[-2] if len(inner) > 1 else TOP
    own = next((level for level in inner if level in named or numbered(level)), top)
    regularisation = bool(_said(inner, named, "regularisation"))
    # Without the activation tag, a regularisation caption begins one tag later.
    kept = max(0, settings.keep_tags - 1) if regularisation else settings.keep_tags
    said_kept, flip = _said(inner, named, "keep_tags"), _said(inner, named, "flip")
    return Subset(
        folder=own,
        repeats=_repeats(inner, named) or settings.repeats,
        keep_tags=kept if said_kept is None else said_kept,
        flip=settings.flip if flip is None else flip,
        regularisation=regularisation,
    )


def _said(inner: Sequence[str], named: Mapping[str, SubsetSettings], setting: str) -> Any:
    """A setting's value in the innermost table that gives it, or None."""
    given = (getattr(named[level], setting) for level in inner if level in named)
    return next((value for value in given if value is not None), None)


def _repeats(inner: Sequence[str], named: Mapping[str, SubsetSettings]) -> int | None:
    """The innermost folder's repeats, a table's before a name's; None if none has any."""
    for level in inner:
        if level in named and named[level].repeats is not None:
            return named[level].repeats
        if found := numbered(level):
            repeats = int(found)
            if not 1 <= repeats <= MOST_REPEATS:
                raise DatasetError(
                    f"The folder name {PurePosixPath(level).name} means {repeats} repeats; they "
                    f"must be from 1 to {MOST_REPEATS}. Rename the folder, or give it repeats in a "
                    "[[subset]] table of project.toml."
                )
            return repeats
    return None


def numbered(folder: str) -> str:
    """The digits that a folder's name begins with, if it is like '3_name', else ''."""
    match = NUMBERED.match(PurePosixPath(folder).name)
    return match[1] if match else ""


def balanced(found: Sequence[Subset]) -> list[Subset]:
    """The subsets (one a picture) with repeats raised so that each is shown about as often as the
    one shown most; regularisation subsets are left alone.
    """
    shown: Counter[str] = Counter()
    for subset in found:
        if not subset.regularisation:
            shown[subset.folder] += subset.repeats
    most = max(shown.values(), default=0)
    return [
        subset
        if subset.regularisation
        else replace(subset, repeats=round(subset.repeats * most / shown[subset.folder]))
        for subset in found
    ]
