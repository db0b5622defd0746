"""A safetensors file read tensor by tensor with plain reads.

A memory map, safetensors' own way, counts every page that was looked at as memory in use until the
file is closed; for a checkpoint that is converted on its way in that doubles the memory. Here the
only memory is that of the tensor asked for. Everything but `TensorFile.read` works without torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import BaseModelError

if TYPE_CHECKING:
    import torch

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


class NotSafetensors(ValueError):
    """The bytes are not those of a safetensors file; the message says what they look like."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: bytes `start` to `end` of the file, of type `kind` (a key of TYPES)."""

    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself; `size` is how many bytes it must have."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    size: int


def read_header(path: Path) -> Header | None:
    """The header of a safetensors file whose end may still be missing; None while the header itself
    is not whole. Raises NotSafetensors.
    """
    with path.open("rb") as file:
        start = file.read(64)
        if len(start) < 9:
            return None
        length = int.from_bytes(start[:8], "little")
        if length > LONGEST_HEADER or start[8:9] != b"{":
            raise NotSafetensors(_looks_like(start))
        file.seek(8)
        text = file.read(length)
    if len(text) < length:
        return None
    try:
        return _parsed(json.loads(text), 8 + length)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotSafetensors(f"its header is damaged: {error}") from error


def whole_header(path: Path) -> Header:
    """The header of a file that is all there. Raises NotSafetensors."""
    header, size = read_header(path), path.stat().st_size
    if header is None:
        raise NotSafetensors("it ends before its header does")
    if header.size != size:
        raise NotSafetensors(f"it has {size:,} bytes, but its header speaks of {header.size:,}")
    return header


def _looks_like(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith(b"<"):
        return "it is a web page"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return "it is a pickle, which can run code when opened, or a zip archive"
    return "it does not begin like one"


def _parsed(values: dict[str, Any], offset: int) -> Header:
    metadata = values.pop("__metadata__", None) or {}
    entries, end = {}, offset
    for name, value in sorted(values.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = (offset + int(n) for n in value["data_offsets"])
        if first != end or last < first:
            raise ValueError(f"the bytes of '{name}' do not follow those before them")
        entries[name] = Entry(value["dtype"], tuple(value["shape"]), first, last)
        end = last
    return Header(entries, dict(metadata), end)


class TensorFile:
    """An open safetensors file. `entries` are in the order in which the tensors lie in it.

    Raises BaseModelError when opened, if the file is not one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        refuse_pickle(path.name, str(path))
        try:
            header = whole_header(path)
            self._file = path.open("rb", buffering=0)
        except (NotSafetensors, OSError) as error:
            size = path.stat().st_size if path.exists() else 0
            raise BaseModelError(
                f"{path} is not a safetensors file ({size:,} bytes: {error}). Download it again or "
                "choose another one."
            ) from error
        self.entries, self.metadata = header.entries, header.metadata
        self._scratch: torch.Tensor | None = None

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and gives back the memory used for reading it."""
        self._file.close()
        self._scratch = None

    def read(
        self,
        name: str,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
        third: int | None = None,
    ) -> torch.Tensor:
        """One tensor, or of its rows the first, second or third `third` (0 to 2), in `dtype` (None:
        as stored) on `device`, in memory of its own. Raises BaseModelError.
        """
        import torch

        entry = self.entries[name]
        stored = getattr(torch, TYPES.get(entry.kind, ""), None)
        if not isinstance(stored, torch.dtype):
            raise BaseModelError(
                f"{self.path}: the tensor '{name}' is stored as {entry.kind}, which lorakit cannot "
                "read. Choose a version in fp16, bf16 or fp32."
            )
        start, size, shape = entry.start, entry.end - entry.start, list(entry.shape)
        if third is not None:
            size, shape[0] = size // 3, shape[0] // 3
            start += third * size
        converts = dtype not in (None, stored) or torch.device(device).type != "cpu"
        buffer = self._buffer(size) if converts else torch.empty(size, dtype=torch.uint8)
        self._fill(buffer, start)
        return buffer.view(stored).view(shape).to(device).to(dtype or stored)

    def _buffer(self, size: int) -> torch.Tensor:
        """Memory that is used again for the next tensor."""
        import torch

        if self._scratch is None or len(self._scratch) < size:
            self._scratch = None  # given back before the larger one is asked for
            self._scratch = torch.empty(size, dtype=torch.uint8)
        return self._scratch[:size]

    def _fill(self, buffer: torch.Tensor, start: int) -> None:
        self._file.seek(start)
        rest = memoryview(buffer.numpy())
        while len(rest):
            count = self._file.readinto(rest)
            if not count:
                raise BaseModelError(
                    f"{self.path} ended while it was read. Download the base model again."
                )
            rest = rest[count:]


def refuse_pickle(name: str, what: str) -> None:
    """Raises BaseModelError if a file of that name is a pickle; `what` names it in the sentence."""
    if name.lower().endswith(PICKLES):
        raise BaseModelError(
            f"{what} is a pickle, which can run code when opened; get the .safetensors version of "
            "that model."
        )
