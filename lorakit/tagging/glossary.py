"""The user's own list, kept across projects: what a tag is replaced by, where it belongs on the
body, and why.

It lives beside the projects as `glossary.csv` (tag, replacement, region, note), which a spreadsheet
opens too:

    tag,replacement,region,note
    horns,"hair ornament, yellow hair ornament",,the tagger takes her combs for horns
    tomoe,,neck,
    virtual youtuber,-,,says nothing about a picture

An empty replacement keeps the tag, `-` always removes it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import project
from ..errors import SettingsError
from ..files import write_text
from . import body, tags

COLUMNS = ("tag", "replacement", "region", "note")
REMOVE = "-"


@dataclass(frozen=True)
class Entry:
    """One line: `replacement` is a caption's worth of tags, '' (keep the tag) or '-' (remove
    it).
    """

    tag: str
    replacement: str = ""
    region: str = ""
    note: str = ""


Glossary = Mapping[str, Entry]  # by tags.key(entry.tag)


def path() -> Path:
    """Where the glossary lives: `glossary.csv` in the root folder of all projects."""
    return project.root() / "glossary.csv"


def glossary_of(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The glossary made of `entries`; the last one for a tag counts."""
    return {tags.key(entry.tag): entry for entry in entries}


def load(file: Path | None = None) -> dict[str, Entry]:
    """The glossary in `file` (default: the user's), empty when there is none.

    Columns may come in any order, split by commas or semicolons, and others are passed over. Raises
    SettingsError.
    """
    file = file or path()
    if not file.exists():
        return {}
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The glossary {file} cannot be read ({error}). Save it as a CSV file in UTF-8."
        ) from error
    first = text.partition("\n")[0]
    rows = csv.DictReader(
        io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ","
    )
    if "tag" not in (rows.fieldnames or ()):
        raise SettingsError(
            f"The first line of the glossary {file} must name its columns: {', '.join(COLUMNS)}."
        )
    return glossary_of(
        _entry(row, f"{file} line {rows.line_num}") for row in rows if (row["tag"] or "").strip()
    )


def _entry(row: Mapping[str, str | None], where: str) -> Entry:
    cells = {column: (row.get(column) or "").strip() for column in COLUMNS}
    if cells["region"]:
        body.check_region(cells["region"], where)
    return Entry(**cells)


def save(glossary: Glossary, file: Path | None = None) -> Path:
    """Writes the glossary as CSV, sorted by tag; returns where. Raises SaveError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([e.tag, e.replacement, e.region, e.note] for _, e in sorted(glossary.items()))
    return write_text(file or path(), text.getvalue())


def apply(caption: Iterable[str], glossary: Glossary) -> list[str]:
    """The tags of a caption with the glossary's replacements made."""
    changes = {name: _replacement(entry) for name, entry in glossary.items() if entry.replacement}
    return tags.replace(caption, changes)


def _replacement(entry: Entry) -> list[str]:
    return [] if entry.replacement == REMOVE else tags.parse(entry.replacement)


def regions(glossary: Glossary) -> dict[str, str]:
    """The user's own regions, as `body.body_order` takes them."""
    return {name: entry.region for name, entry in glossary.items() if entry.region}
