"""Where each picture came from: `origins.jsonl`, a line for every picture that was ever collected,
also for those that were removed since. So nothing is fetched twice.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path

from ..project import Project
from .finds import Origin

RECORD = "origins.jsonl"


def path_of(project: Project) -> Path:
    """The record, beside project.toml."""
    return project.settings_file.with_name(RECORD)


def read_origins(project: Project) -> dict[str, Origin]:
    """Origin of each collected picture by the path below dataset/ that it got."""
    found: dict[str, Origin] = {}
    path = path_of(project)
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut off by a crash
            row = json.loads(line)
            file = row.pop("file")
            found[file] = Origin(**row | {"tags": tuple(row.get("tags", ()))})
    return found


def note_origin(project: Project, file: str, origin: Origin) -> None:
    """Adds a line for a picture (its path below dataset/)."""
    path = path_of(project)
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"file": file, **asdict(origin)}
    with path.open("a", encoding="utf-8") as record:
        # line end first: a line cut off by a crash must not swallow this one
        record.write(f"\n{json.dumps(row, ensure_ascii=False)}")
