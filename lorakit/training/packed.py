"""Many latents in one file that only grows: what a killed run wrote stays, nothing is written
twice, and reading it costs no memory of its own (it is mapped).

A record is 64 bytes of head (mark, key, height, width, checksum) and then mean and deviation, two
times four channels of float16. What is behind the last whole record was cut off by a crash.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch

from ..errors import SaveError
from ..files import write_safely

MARK = b"lkl2"
HEAD = struct.Struct("<4s32sHHI20x")  # 64 bytes, so that values stay aligned
VALUES = 2 * 4  # planes: mean and deviation of four channels


def read(path: Path, wanted: Collection[str]) -> dict[str, torch.Tensor]:
    """The wanted latents that the file has whole, by key (64 hexadecimal digits): (2, 4, height,
    width) float16 each, mapped.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    data = np.memmap(path, np.uint8, mode="c")  # "c": torch wants memory that could be written to
    found = {}
    for key, start, height, width, checksum in _records(path):
        values = data[start : start + _size(height, width)]
        if key in wanted and zlib.crc32(values.data) == checksum:
            planes = values.view(np.float16).reshape(2, 4, height, width)
            found[key] = torch.from_numpy(planes)
    return found


def _records(path: Path) -> Iterator[tuple[str, int, int, int, int]]:
    """Key, place of the values, height, width and checksum of every whole record."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + HEAD.size <= size:
            file.seek(place)
            mark, key, height, width, checksum = HEAD.unpack(file.read(HEAD.size))
            start, place = place + HEAD.size, place + HEAD.size + _size(height, width)
            if mark != MARK or place > size:
                return
            yield key.hex(), start, height, width, checksum


def _size(height: int, width: int) -> int:
    return VALUES * height * width * 2


def tidy(path: Path, wanted: Collection[str]) -> None:
    """Cuts off what a crash left behind the last whole record; and if more than half of the file is
    not wanted any more, writes a new one without that. Raises SaveError.
    """
    if not path.exists():
        return
    end = useful = 0
    for key, start, height, width, _ in _records(path):
        end = start + _size(height, width)
        useful += HEAD.size + _size(height, width) if key in wanted else 0
    if 2 * useful < end:
        write_safely(path, lambda new: _copy(path, new, wanted))
    elif end < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(end)


def _copy(path: Path, new: Path, wanted: Collection[str]) -> None:
    """Writes the wanted records of one file into another."""
    with path.open("rb") as old, new.open("wb") as file:
        for key, start, height, width, _ in _records(path):
            if key in wanted:
                old.seek(start - HEAD.size)
                file.write(old.read(HEAD.size + _size(height, width)))


def append(path: Path, key: str, latent: torch.Tensor) -> None:
    """Writes one picture's latents (2, 4, height, width) behind the others; they are there for good
    when this returns. Raises SaveError.
    """
    values = latent.to(torch.float16).contiguous().numpy().tobytes()
    height, width = latent.shape[2:]
    head = HEAD.pack(MARK, bytes.fromhex(key), height, width, zlib.crc32(values))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(head + values)
    except OSError as error:
        raise SaveError(
            f"Could not write {path}: {error.strerror or error}. Free some space or choose another "
            "folder with XDG_CACHE_HOME, then run again."
        ) from error
