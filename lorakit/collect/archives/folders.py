"""Folders and single files on this machine or on a Drive that is connected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from ...errors import CollectError
from .members import MB, Left, Member, too_large
from .names import is_hidden
from .pairing import NUMBERED
from .zips import ZIP, Zips


def members(folder: Path, zips: Zips) -> list[Member]:
    """All files below a folder, those in its zips too. Links that lead out of it are left out."""
    found: list[Member] = []
    keep = folder.parent if NUMBERED.match(folder.name) else folder
    paths = list(_walk(folder, zips.left))
    zips.budget.count(len(paths), str(folder))
    for path in paths:
        where = path.relative_to(keep).parts
        if path.suffix.lower() == ZIP:
            found += zips.inside(str(path), where, path, 1)
        elif path.stat().st_size > zips.budget.settings.max_picture_mb * MB:
            zips.left.out(too_large(zips.budget.settings), path.name)
        else:
            found.append(_member(path, where))
    return found


def beside(picture: Path) -> list[Member]:
    """One picture, with what lies beside it under its name."""
    stem = picture.name[: len(picture.name) - len(picture.suffix)]
    names = (f"{stem}.txt", f"{stem}.caption", f"{stem}.mask.png")
    paths = [picture, *(picture.with_name(name) for name in names)]
    return [_member(path, (path.name,)) for path in paths if path.is_file()]


def _walk(folder: Path, left: Left) -> Iterator[Path]:
    for directory, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not is_hidden([name]))
        for name in sorted(name for name in names if not is_hidden([name])):
            path = Path(directory, name)
            if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                left.out("links that lead out of the folder", name)
            elif path.is_file():
                yield path


def _member(path: Path, where: tuple[str, ...]) -> Member:
    return Member(where, path.stat().st_size, str(path), partial(_opened, path))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise CollectError(f"{path} cannot be read ({error.strerror}).") from error
    with stream:
        yield stream
