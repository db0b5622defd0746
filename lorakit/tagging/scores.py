"""What the taggers said, kept by picture content, so that thresholds and lists can change without
running them again.

One packed file a tagger in the project's `output/`: it survives a disconnect, and a renamed, moved
or copied picture keeps its scores. It is made again when it is missing, damaged, or comes from
other weights.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..files import write_safely
from ..progress import Progress, silent
from ..project import Project

log = logging.getLogger(__name__)

CHUNK = 64  # pictures between two looks at the clock
SAVE_EVERY = 60.0  # seconds of work that a kill may cost


class Scorer(Protocol):
    """What is asked of a tagger here; `taggers.LoadedTagger` is one."""

    name: str
    characters: frozenset[str]  # which of its tags are names of characters
    general: float  # the scores from which its tags count
    character: float

    @property
    def identity(self) -> str: ...

    def scores(
        self, images: Sequence[Path], progress: Progress = ...
    ) -> list[dict[str, float]]: ...


@dataclass
class Kept:
    """`pictures`: scores by content hash. `files`: path -> (size, mtime_ns, hash), to spare reading
    files again.
    """

    pictures: dict[str, dict[str, float]] = field(default_factory=dict)
    files: dict[str, tuple[int, int, str]] = field(default_factory=dict)


def scores_file(project: Project, name: str) -> Path:
    """Where the scores of the tagger `name` are kept."""
    return project.output / f"scores-{name}.json.gz"


def score(
    project: Project, tagger: Scorer, paths: Sequence[Path], progress: Progress = silent
) -> list[dict[str, float]]:
    """The tagger's scores for each picture, from the kept ones where there are any. Raises
    DatasetError.
    """
    file = scores_file(project, tagger.name)
    kept = load(file, tagger.identity)
    hashes = [_hash(path, kept) for path in paths]
    todo = {
        digest: path
        for digest, path in zip(hashes, paths, strict=True)
        if digest not in kept.pictures
    }
    if todo:
        try:
            _run(tagger, todo, kept, lambda: save(file, tagger.identity, kept), progress)
        finally:
            save(file, tagger.identity, kept)
    return [dict(kept.pictures[digest]) for digest in hashes]


def _run(
    tagger: Scorer,
    todo: dict[str, Path],
    kept: Kept,
    save_now: Callable[[], object],
    progress: Progress,
) -> None:
    items, saved = list(todo.items()), time.monotonic()
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]

        def part(what: str, done: int, total: int, before: int = start) -> None:
            progress(what, before + done, len(items))

        for (digest, _), found in zip(
            chunk, tagger.scores([path for _, path in chunk], part), strict=True
        ):
            kept.pictures[digest] = {tag: round(value, 4) for tag, value in found.items()}
        if time.monotonic() - saved > SAVE_EVERY:
            save_now()
            saved = time.monotonic()


def _hash(path: Path, kept: Kept) -> str:
    """sha256 of the file; a file whose size and time are as before is not read again."""
    stat, name = path.stat(), str(path)
    size, modified, digest = kept.files.get(name, (-1, -1, ""))
    if (size, modified) != (stat.st_size, stat.st_mtime_ns):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        kept.files[name] = (stat.st_size, stat.st_mtime_ns, digest)
    return digest


def load(file: Path, identity: str) -> Kept:
    """The kept scores, or none if the file is missing, damaged or from another tagger."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            values = json.load(stream)
        if values["tagger"] != identity:
            return Kept()
        return Kept(
            values["pictures"], {name: tuple(entry) for name, entry in values["files"].items()}
        )
    except FileNotFoundError:
        return Kept()
    except (
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        log.warning("%s is damaged (%s); its pictures are tagged again.", file, error)
        return Kept()


def save(file: Path, identity: str, kept: Kept) -> Path:
    """Writes the kept scores. Raises SaveError."""
    values = {"tagger": identity, "pictures": kept.pictures, "files": kept.files}

    def write(temporary: Path) -> None:
        with gzip.open(temporary, "wt", encoding="utf-8", compresslevel=3) as stream:
            json.dump(values, stream, ensure_ascii=False, separators=(",", ":"))

    return write_safely(file, write)
