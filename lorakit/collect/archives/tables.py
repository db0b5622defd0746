"""Pictures in parquet tables, as the Hugging Face Hub keeps many datasets: a column of pictures
(their bytes), perhaps one of captions.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

from PIL import Image

from ...errors import LorakitError
from ...images import UNREADABLE
from ...install import ensure
from ...progress import Progress
from .members import Left, Member

CAPTION_COLUMNS = ("text", "caption", "tags", "prompt", "tag_string")
BROKEN = "tables that cannot be read"


def members(path: Path, link: str, left: Left, progress: Progress) -> list[Member]:
    """A picture for each row of a table, and a caption where it has a column of them."""
    try:
        ensure("pyarrow>=14", "45 MB", progress)
        return list(_members(path, link, left, progress))
    except (LorakitError, OSError, ValueError) as error:  # pyarrow's errors are among these
        left.out(BROKEN, f"{link}: {error}")
        return []


def _members(path: Path, link: str, left: Left, progress: Progress) -> Iterator[Member]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as table:
        pictures, captions = _columns(table.schema_arrow)
        groups = table.num_row_groups if pictures else 0
    if not pictures:
        left.out("tables without a column of pictures", link)
    number = 0
    for group in range(groups):
        progress("Reading a table", group, groups)
        for row, cell in enumerate(_cells(path, group, pictures)):
            content = (cell or {}).get("bytes")
            number += 1
            if content:
                name = f"{Path(link).stem}-{number:06d}"
                opened = partial(_opened, path, group, row, pictures)
                where = f"{link}, row {number}"
                yield Member((name + _suffix(content),), len(content), where, opened)
                if captions:
                    words = partial(_words, path, group, row, captions)
                    yield Member((f"{name}.txt",), 0, where, words)


def _columns(schema: Any) -> tuple[str, str]:
    """The names of the columns of pictures and captions; '' for what it has not."""
    import pyarrow as arrow

    pictures, captions = "", ""
    for field in schema:
        if not pictures and arrow.types.is_struct(field.type):
            pictures = field.name if "bytes" in {each.name for each in field.type} else ""
    for name in CAPTION_COLUMNS:
        known = name in schema.names
        if not captions and known and arrow.types.is_string(schema.field(name).type):
            captions = name
    return pictures, captions


@lru_cache(2)
def _cells(path: Path, group: int, column: str) -> list[Any]:
    """One column of one part of a table; the last two parts are kept."""
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as table:
        cells: list[Any] = table.read_row_group(group, columns=[column])[column].to_pylist()
    return cells


@contextmanager
def _opened(path: Path, group: int, row: int, column: str) -> Iterator[IO[bytes]]:
    yield io.BytesIO(_cells(path, group, column)[row]["bytes"])


@contextmanager
def _words(path: Path, group: int, row: int, column: str) -> Iterator[IO[bytes]]:
    yield io.BytesIO((_cells(path, group, column)[row] or "").encode())


def _suffix(content: bytes) -> str:
    """Of the kind that the bytes are; '.bin' for what is no picture."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = (image.format or "bin").lower()
    except UNREADABLE:
        return ".bin"
    return {"jpeg": ".jpg", "mpo": ".jpg"}.get(kind, f".{kind}")
