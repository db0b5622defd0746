"""The films that are asked for, and how each is told from any other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import CollectError

SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".wmv", ".flv", ".mpg", ".mpeg", ".ts"),
    *(".m2ts", ".mts", ".vob", ".ogv", ".ogm", ".3gp", ".rm", ".rmvb", ".divx", ".asf", ".mxf"),
)
ENDS = 1 << 18  # bytes of the start and the end of a file that tell it from others


def films(items: Sequence[str]) -> list[Path]:
    """The films of `items`, each a file or a folder of them, in order, each once. Raises
    CollectError.
    """
    found: dict[Path, None] = {}
    for item in items:
        path = Path(item).expanduser()
        if re.match(r"\w+://", item):
            raise CollectError(f"{item} is an address; download the film and give its file.")
        if path.is_dir():
            inside = _inside(path)
            if not inside:
                raise CollectError(f"There is no film in {path} (looked for {', '.join(SUFFIXES)})")
            found |= dict.fromkeys(inside)
        elif path.is_file():
            found[path.resolve()] = None
        else:
            raise CollectError(f"There is no file {path}. Give films, or folders of films.")
    return list(found)


def _inside(folder: Path) -> list[Path]:
    """The films of a folder and those below it, in the order in which a person counts."""
    paths = (p for p in folder.resolve().rglob("*") if p.suffix.lower() in SUFFIXES)
    return sorted((p for p in paths if p.is_file() and p.name[0] != "."), key=_counted)


def _counted(path: Path) -> list[tuple[int, str]]:
    """'ep10' comes after 'ep9'."""
    parts = re.findall(r"\d+|\D+", str(path).lower())
    return [(int(part), "") if part.isdigit() else (1 << 62, part) for part in parts]


def identity(path: Path) -> str:
    """Tells the film from others wherever it lies: its size, its first and its last bytes. Raises
    CollectError for a file that cannot be read or is empty.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.sha256(f"{size}:".encode() + file.read(ENDS))
            file.seek(max(0, size - ENDS))
            digest.update(file.read(ENDS))
    except OSError as error:
        raise CollectError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not size:
        raise CollectError(f"{path.name} is empty. Copy or download it again.")
    return digest.hexdigest()
