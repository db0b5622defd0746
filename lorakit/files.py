"""Writing files so that a crash, a kill or a full disk never leaves half a file behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from .errors import SaveError


def write_safely(path: Path, write: Callable[[Path], object]) -> Path:
    """Calls `write(temporary)` and renames the result to `path`; the old file stays until the new
    one is whole.

    The temporary name keeps the suffix of `path`, which some writers go by. Raises SaveError.
    """
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SaveError(
            f"Could not write {path}: {reason}. Free some space or choose another folder, then "
            "run again."
        ) from error
    finally:
        with contextlib.suppress(
            OSError
        ):  # a folder that cannot be written to cannot be tidied either
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """`write_safely` for UTF-8 text."""
    return write_safely(
        path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n")
    )


def caches() -> Path:
    """Where caches live: on the local disk, never on Drive."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "lorakit"


def free_name(path: Path) -> Path:
    """`path`, or `path` with a number if something is there already."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate
