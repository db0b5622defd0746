"""Pictures and captions: finding, reading, writing safely, taking out, undoing.

A picture is an image file with its caption file beside it (`a.png`, `a.txt`), and perhaps a mask
(`a.mask.png`, white where training looks). Nothing here deletes anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .errors import DatasetError
from .files import free_name, write_text
from .images import open_image
from .progress import Progress, silent, track
from .project import Project

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
RECORD = "removed.jsonl"
CAPTIONS = (".txt", ".caption")
MASKS = (".mask.png", ".mask.PNG", ".MASK.PNG")
CHECKING = "Checking pictures"


@dataclass(frozen=True)
class Picture:
    """One image file; its caption lies beside it under the same name."""

    path: Path

    @property
    def caption_path(self) -> Path:
        """`a.txt`, or `a.caption` if only that exists."""
        other = self.path.with_suffix(".caption")
        text = self.path.with_suffix(".txt")
        return other if other.exists() and not text.exists() else text

    @property
    def mask_path(self) -> Path:
        """`a.mask.png` (or `a.mask.PNG`, if that is what there is), whether it exists or not."""
        names = [self.path.with_suffix(mask) for mask in MASKS]
        return next((name for name in names if name.exists()), names[0])

    @property
    def name(self) -> str:
        return self.path.name


def scan(folder: Path) -> list[Picture]:
    """Every picture in `folder` and below, in name order; hidden files and folders and masks are
    left out.
    """
    found = []
    for directory, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [
            Picture(Path(directory) / f)
            for f in files
            if not f.startswith(".")
            and not f.endswith(MASKS)
            and Path(f).suffix.lower() in SUFFIXES
        ]
    return sorted(found, key=lambda picture: str(picture.path).lower())


def require(folder: Path) -> list[Picture]:
    """`scan`, but there must be pictures. Raises DatasetError."""
    pictures = scan(folder)
    if not pictures:
        kinds = ", ".join(sorted(s[1:] for s in SUFFIXES))
        raise DatasetError(
            f"There are no pictures in {folder}. Put some there ({kinds}) and run again."
        )
    stems: dict[Path, str] = {}
    for picture in pictures:
        twin = stems.setdefault(picture.path.with_suffix(""), picture.name)
        if twin != picture.name:
            raise DatasetError(
                f"{twin} and {picture.name} in {picture.path.parent} would share one caption "
                "file. Rename one of them."
            )
    return pictures


def broken(pictures: Iterable[Picture], progress: Progress = silent) -> dict[Picture, str]:
    """The pictures that cannot be read, each with the reason. Every one is decoded, by as many
    threads as there are processors.
    """
    pictures = list(pictures)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(_reason, pictures)
        found = dict(zip(pictures, track(reasons, CHECKING, progress, len(pictures)), strict=True))
    return {picture: reason for picture, reason in found.items() if reason}


def _reason(picture: Picture) -> str:
    """Why a picture cannot be read, or ''."""
    try:
        open_image(picture.path)
    except DatasetError as error:
        return str(error)
    return ""


# --- captions -------------------------------------------------------------------------------------


def read_caption(picture: Picture) -> str | None:
    """The caption, or None when there is no caption file. Raises DatasetError when it is not UTF-8
    text.
    """
    return _read_text(picture.caption_path)


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not UTF-8 text ({error.reason}). Save it again as UTF-8."
        ) from error
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror}). Make it a file that can be read."
        ) from error


def write_captions(project: Project, captions: Mapping[Picture, str]) -> Path | None:
    """Writes many captions as one edit that `undo_captions` takes back; unchanged ones are left
    alone.

    Returns the record of the edit in `removed/`, or None when nothing changed.
    """
    old = {picture: read_caption(picture) for picture in captions}
    changes = {picture: text for picture, text in captions.items() if text != old[picture]}
    if not changes:
        return None
    record = free_name(project.removed / f"captions-{time.strftime('%Y%m%d-%H%M%S')}.json")
    rows = [
        {"file": str(p.caption_path.relative_to(project.dataset)), "old": old[p], "new": text}
        for p, text in changes.items()
    ]
    write_text(record, json.dumps(rows, ensure_ascii=False, indent=1))
    for picture, text in changes.items():
        write_text(picture.caption_path, text + "\n")
    return record


def undo_captions(project: Project) -> int:
    """Takes back the last edit of captions; returns how many files changed. Raises DatasetError if
    there is none.

    A caption that was changed by other means since then is left as it is now.
    """
    records = sorted(
        project.removed.glob("captions-*.json"), key=lambda path: path.stat().st_mtime_ns
    )
    if not records:
        raise DatasetError(f"There is no caption edit to undo in {project.removed}.")
    rows = json.loads(records[-1].read_text(encoding="utf-8"))
    undone = 0
    for row in rows:
        path = _inside(project.dataset, row["file"])
        if _read_text(path) != row["new"].strip():
            continue
        if row["old"] is None:
            path.replace(_free_place(project.removed / path.name))
        else:
            write_text(path, row["old"] + "\n")
        undone += 1
    records[-1].rename(free_name(records[-1].with_suffix(".undone")))
    return undone


def _inside(folder: Path, name: str) -> Path:
    """`folder / name`, refusing a name that leads out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DatasetError(f"'{name}' points outside {folder}; it was not touched.")
    return path


# --- taking pictures out, and putting them back ---------------------------------------------------


def remove(project: Project, picture: Picture, reason: str) -> Path:
    """Moves a picture and its caption to `removed/`, noting the reason; returns where it went."""
    project.removed.mkdir(parents=True, exist_ok=True)
    target = _free_place(project.removed / picture.name)
    row = {
        "file": str(picture.path.relative_to(project.dataset)),
        "to": target.name,
        "reason": reason,
    }
    with (project.removed / RECORD).open("a", encoding="utf-8") as record:
        record.write(
            f"\n{json.dumps(row)}"
        )  # line end first: a line cut off by a crash must not swallow this one
    _move(picture.path, target)
    return target


def _free_place(path: Path) -> Path:
    """`path`, or `path` with a number if a file of that stem is there: what goes along must not
    land on another's caption or mask.
    """
    others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    taken = {Path(name).stem for name in others}
    taken |= {name[: -len(MASKS[0])] for name in others if name.endswith(MASKS)}
    number, stem = 1, path.stem
    while stem in taken:
        number += 1
        stem = f"{path.stem}-{number}"
    return path.with_stem(stem)


def _move(picture: Path, target: Path) -> None:
    """Moves a picture with its captions and mask; `target` comes from `_free_place`."""
    picture.rename(target)
    for suffix in (*CAPTIONS, *MASKS):
        if picture.with_suffix(suffix).exists():
            picture.with_suffix(suffix).rename(target.with_suffix(suffix))


def removals(project: Project) -> list[dict[str, str]]:
    """What was removed and why, oldest first: rows with `file`, `to` and `reason`."""
    return [row for row in _recorded(project) if (project.removed / row["to"]).exists()]


def brought_back(project: Project) -> set[Path]:
    """The pictures that were removed once and restored since: a person wants them."""
    return {
        project.dataset / row["file"]
        for row in _recorded(project)
        if not (project.removed / row["to"]).exists()
    }


def _recorded(project: Project) -> list[dict[str, str]]:
    """The record's rows, the last one for each name under `removed/`."""
    path = project.removed / RECORD
    rows: dict[str, dict[str, str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(
            ValueError
        ):  # a line cut off by a crash: its picture was not moved yet
            row = json.loads(line)
            rows.pop(row["to"], None)
            rows[row["to"]] = row
    return list(rows.values())


def restore(project: Project, name: str) -> Picture:
    """Brings a removed picture (its file name under `removed/`) back where it was. Raises
    DatasetError.
    """
    rows = [row for row in removals(project) if row["to"] == name]
    if not rows:
        raise DatasetError(f"{project.removed / name} is not a removed picture.")
    target = _free_place(_inside(project.dataset, rows[0]["file"]))
    target.parent.mkdir(parents=True, exist_ok=True)
    _move(project.removed / name, target)
    return Picture(target)
