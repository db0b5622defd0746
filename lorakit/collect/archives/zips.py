"""Zip files, which may come from anywhere: only their directory is read, and it is not believed."""

from __future__ import annotations

import lzma
import shutil
import stat
import struct
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from ...errors import CollectError, Refused
from ...progress import Progress
from .members import MB, Budget, Left, Member, too_large
from .names import encoding_of, is_hidden, steps
from .pairing import is_wanted, without_common_folder

UTF8, ENCRYPTED = 0x800, 0x1  # flags of an entry
METHODS = {0, 8, 12, 14}  # stored, deflate, bzip2, lzma: what zipfile unpacks
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
ENTRY = 400  # bytes that an entry of the directory takes, and seldom more
ZIP = ".zip"
AGAIN = "Download or pack it again."


class Shelf:
    """Opens zips, one at a time, and keeps those that lay inside others in a temporary folder for
    as long as it lives.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._open: tuple[Path, zipfile.ZipFile] | None = None
        self._folder: Path | None = None
        self._kept = 0

    def zip(self, path: Path) -> zipfile.ZipFile:
        """The opened zip; the one before is closed. Raises what zipfile does."""
        if self._open is None or self._open[0] != path:
            if self._open:
                self._open[1].close()
            self._open = (path, zipfile.ZipFile(path))
        return self._open[1]

    def keep(self, member: Member) -> Path:
        """A zip inside another, as a file of its own. Raises CollectError."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="lorakit-zips-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._kept += 1
        path = self._folder / f"{self._kept}.zip"
        self.progress(f"Opening {member.name}", 0, 0)
        with member.open() as stream, path.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        return path


@dataclass(frozen=True)
class Zips:
    """What listing zips shares: the shelf, the budget, what is left out."""

    shelf: Shelf
    budget: Budget
    left: Left

    def members(self, path: Path, title: str, depth: int = 0) -> list[Member]:
        """The files of a zip and of the zips in it. Raises CollectError for one that cannot be
        opened, Refused for one that is too large to be honest.
        """
        listed = self._listed(path, title)
        members = without_common_folder(list(self._members(path, title, listed)))
        size = sum(member.size for member in members if is_wanted(member))
        self.budget.spend(size, path.stat().st_size, title)
        inner = [member for member in members if member.suffix == ZIP]
        found = [member for member in members if member.suffix != ZIP]
        if depth >= self.budget.settings.max_depth:
            for member in inner:
                self.left.out("zips deeper inside others than max_depth", member.name)
            return found
        for member, kept in [(member, self._kept(member)) for member in inner]:
            if kept:
                found += self.inside(member.link, member.path, kept, depth + 1)
        return found

    def _listed(self, path: Path, title: str) -> list[zipfile.ZipInfo]:
        """The entries of its directory that are files."""
        most = self.budget.settings.max_files
        try:
            size = directory_size(path)
            if size > max(1, most) * ENTRY:
                raise Refused(
                    f"The list of files in {title} takes {size / MB:.1f} MB, too much for "
                    f"{most:,} files (max_files). If you trust it, raise max_files."
                )
            listed = self.shelf.zip(path).infolist()
        except (*DAMAGE, OSError, struct.error, ValueError) as error:
            raise CollectError(f"{title} is no zip file, or damaged ({error}). {AGAIN}") from error
        self.budget.count(len(listed), title)
        files = [info for info in listed if not info.orig_filename.endswith(("/", "\\"))]
        if files and all(info.flag_bits & ENCRYPTED for info in files):
            raise CollectError(
                f"{title} is locked with a password. Unpack it on your computer and give the "
                "folder, or pack it again without a password."
            )
        return files

    def _members(
        self, path: Path, title: str, listed: Sequence[zipfile.ZipInfo]
    ) -> Iterator[Member]:
        """Those that can be had and lie inside the zip; what is left out is noted."""
        for info, name in zip(listed, names_of(listed), strict=True):
            where = steps(name)
            if where is None:
                self.left.out("files whose names lead out of the zip", name)
            elif where and not is_hidden(where):
                if reason := self._unreadable(info, where[-1]):
                    self.left.out(reason, name)
                else:
                    yield self._member(path, f"{title}: {name}", tuple(where), info)

    def _unreadable(self, info: zipfile.ZipInfo, name: str) -> str:
        """Why its content cannot be had, or ''."""
        if info.flag_bits & ENCRYPTED:
            return "files locked with a password"
        if stat.S_ISLNK(info.external_attr >> 16):
            return "links to other files"
        if info.compress_type not in METHODS:
            return "files packed in a way that only other programs unpack, such as Deflate64"
        large = info.file_size > self.budget.settings.max_picture_mb * MB
        return too_large(self.budget.settings) if large and not name.lower().endswith(ZIP) else ""

    def _member(
        self, path: Path, link: str, where: tuple[str, ...], info: zipfile.ZipInfo
    ) -> Member:
        opened = partial(_opened, self.shelf, path, info, link)
        return Member(where, info.file_size, link, opened)

    def _kept(self, member: Member) -> Path | None:
        try:
            return self.shelf.keep(member)
        except CollectError:
            self.left.out("zips inside that are damaged", member.name)
            return None

    def inside(self, title: str, where: tuple[str, ...], path: Path, depth: int) -> list[Member]:
        """The files of the zip at `path`, as if they lay where it lay itself; noted if it cannot be
        opened.
        """
        try:
            found = self.members(path, title, depth)
        except Refused:
            raise
        except CollectError as error:
            self.left.out("zips that cannot be opened", f"{where[-1]}: {error}")
            return []
        return [replace(each, path=(*where[:-1], *each.path)) for each in found]


def names_of(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The names of the entries. An entry says whether its name is UTF-8; the others are all in one
    code page, which is guessed.
    """
    raw = {id(info): info.orig_filename.encode("cp437") for info in infos if not _is_utf8(info)}
    encoding = encoding_of(list(raw.values()))
    return [
        info.orig_filename if _is_utf8(info) else raw[id(info)].decode(encoding, "replace")
        for info in infos
    ]


def _is_utf8(info: zipfile.ZipInfo) -> bool:
    """zipfile reads a name that does not say so as code page 437, which has all 256 bytes."""
    return bool(info.flag_bits & UTF8)


@contextmanager
def _opened(shelf: Shelf, path: Path, info: zipfile.ZipInfo, link: str) -> Iterator[IO[bytes]]:
    """The bytes of an entry, checked against their CRC as they are read. Raises CollectError."""
    try:
        with shelf.zip(path).open(info) as stream:
            yield stream
    except DAMAGE as error:
        raise CollectError(f"{link} is damaged in the zip ({error}). {AGAIN}") from error


def directory_size(path: Path) -> int:
    """Bytes of a zip's directory, from the record at its end (APPNOTE 4.3.14 to 4.3.16). zipfile
    reads all of it into memory, so that it is better asked before.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 65557))
        end = file.read()
        at = end.rfind(b"PK\x05\x06")
        if at < 0:
            raise zipfile.BadZipFile("its end is missing")
        listed: int = struct.unpack_from("<I", end, at + 12)[0]
        if listed == 0xFFFFFFFF and end[at - 20 : at - 16] == b"PK\x06\x07" and at >= 76:
            listed = struct.unpack_from("<Q", end, at - 76 + 40)[0]
    return listed
