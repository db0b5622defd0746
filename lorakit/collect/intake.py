"""Bringing what a source offers into a project: nothing twice, nothing over what is there, nothing
half.
"""

from __future__ import annotations

import filecmp
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..dataset import Picture
from ..errors import CollectError, DatasetError, Refused, SaveError
from ..files import write_safely, write_text
from ..images import picture_size
from ..progress import Progress, silent, track
from ..project import Project
from .finds import Find, Offer
from .origins import note_origin, read_origins

log = logging.getLogger(__name__)
DAMAGED = "it is no picture, or damaged"
PART = ".arriving-"  # before the name of a picture that is not whole yet


@dataclass
class Taken:
    """What became of an offer: paths of the pictures that are new, how many were here already, and
    why others could not be had, by name.
    """

    new: list[Path] = field(default_factory=list)
    known: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        said = [f"{len(self.new)} new pictures"]
        said += [f"{self.known} were here already"] if self.known else []
        if self.failed:
            name, reason = next(iter(self.failed.items()))
            others = f" and {len(self.failed) - 1} others" if len(self.failed) > 1 else ""
            said.append(f"{len(self.failed)} could not be had: {name} ({reason}){others}")
        return "; ".join(said) + "."


def unknown(project: Project, finds: Iterable[Find]) -> list[Find]:
    """Those that the project never had, each once."""
    had = {(origin.source, origin.id) for origin in read_origins(project).values()}
    new = []
    for find in finds:
        key = (find.origin.source, find.origin.id)
        if key not in had:
            had.add(key)
            new.append(find)
    return new


def take(project: Project, offer: Offer, progress: Progress = silent) -> Taken:
    """Fetches or makes every picture of the offer that the project never had. One that cannot be
    had does not stop the others. Raises Refused when the source refuses altogether, SaveError when
    the disk does not take a picture.

    It can be killed at any moment: what is in dataset/ is whole, and the next call goes on.
    """
    project.create()
    wanted = unknown(project, offer.finds)
    taken, arrivals = Taken(known=len(offer.finds) - len(wanted)), _Arrivals(project)
    for find in track(wanted, "Collecting pictures", progress):
        try:
            if path := arrivals.take(find):
                taken.new.append(path)
            else:
                taken.known += 1
        except Refused:
            raise
        except (CollectError, DatasetError) as error:
            log.info("%s: %s", find.name, error)
            taken.failed[find.name] = str(error)
    return taken


class _Arrivals:
    """The dataset while pictures come in. Its folders are listed once."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.stems: dict[Path, dict[str, list[Path]]] = {}  # folder -> stem -> files

    def take(self, find: Find) -> Path | None:
        """Where the picture is now; None if the very same file was there: a run was killed before
        it noted it, or a person had put it there. Raises CollectError, and SaveError for a full
        disk.
        """
        try:
            return self._take(find)
        except OSError as error:
            reason = error.strerror or str(error)
            raise SaveError(
                f"{find.name} could not be written to {self.project.dataset}: {reason}. Free some "
                "space, then run again: it goes on."
            ) from error

    def _take(self, find: Find) -> Path | None:
        folder = self.project.dataset / find.folder
        inside = folder.resolve().is_relative_to(self.project.dataset.resolve())
        if not inside or Path(find.name).name != find.name:
            raise CollectError(f"{find.folder}/{find.name} points outside the dataset.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise CollectError(
                f"the folder {find.folder} cannot be made: a file has that name"
            ) from None
        part = folder / f"{PART}{find.name}"
        find.write(part)
        try:
            picture_size(part)
        except DatasetError as error:
            log.info("%s", error)
            part.unlink(missing_ok=True)
            raise CollectError(DAMAGED) from error
        path, there = self._place(folder, find.name, part)
        if there:
            part.unlink()
        else:
            part.rename(path)
            self._files(folder).setdefault(path.stem, []).append(path)
        caption = Picture(path).caption_path
        if find.caption is not None and not caption.exists():
            write_text(caption, find.caption.strip() + "\n")
        if find.mask and not Picture(path).mask_path.exists():
            write_safely(Picture(path).mask_path, find.mask)
        note_origin(self.project, path.relative_to(self.project.dataset).as_posix(), find.origin)
        return None if there else path

    def _place(self, folder: Path, name: str, part: Path) -> tuple[Path, bool]:
        """A path that is free, or the one where the same file lies already. No two pictures share
        a stem: they would share a caption.
        """
        stem, suffix = Path(name).stem, Path(name).suffix
        number, place = 1, folder / name
        while (twins := self._files(folder).get(place.stem)) or place.is_dir():
            for twin in twins or ():
                if twin.exists() and filecmp.cmp(twin, part, shallow=False):
                    return twin, True
            number += 1
            place = folder / f"{stem}-{number}{suffix}"
        return place, False

    def _files(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self.stems:
            found: dict[str, list[Path]] = defaultdict(list)
            for path in folder.iterdir():
                if not path.name.startswith(PART):
                    found[path.stem].append(path)
            self.stems[folder] = found
        return self.stems[folder]
