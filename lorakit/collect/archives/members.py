"""Files in an archive, a folder or a dataset, and what of them is left out."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO

from ...errors import Refused
from .config import ArchivesSettings

MB = 10**6
GB = 10**9


@dataclass(frozen=True)
class Member:
    """One file. `path` is its steps below the archive ('girls', 'a.png'), `link` says where it
    lies; `open` gives its bytes and raises CollectError. `mark` tells its content from any other
    where that is known without reading it.
    """

    path: tuple[str, ...]
    size: int
    link: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    mark: str = ""

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def suffix(self) -> str:
        """'.png', in small letters."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def stem(self) -> tuple[str, ...]:
        """Its path without the suffix: what a picture and its caption share."""
        return (*self.path[:-1], self.name[: len(self.name) - len(self.suffix)])


def content_mark(member: Member) -> str:
    """What tells its content from any other: the sha256. (The CRC in a zip's directory would cost
    nothing, but does not do: a PNG carries CRCs of its own, after which that of the whole file
    hangs on little more than its length.) Raises CollectError for a damaged file.
    """
    digest = hashlib.sha256()
    with member.open() as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def too_large(settings: ArchivesSettings) -> str:
    """The reason for leaving out a single large file."""
    return f"files larger than {settings.max_picture_mb} MB (max_picture_mb)"


@dataclass
class Left:
    """What is not taken: names by the reason, which is the rest of 'N files ...'."""

    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def out(self, reason: str, name: str) -> None:
        self.names[reason].append(name)

    def notes(self) -> list[str]:
        """A sentence for each reason."""
        return [
            f"Left out: {len(names)} {reason} ({_few(names)})."
            for reason, names in sorted(self.names.items())
        ]


def _few(names: list[str]) -> str:
    shown = ", ".join(
        name if len(name) < 60 else f"{name[:40]}...{name[-15:]}" for name in names[:2]
    )
    return shown + (", ..." if len(names) > 2 else "")


@dataclass
class Budget:
    """How much may still be unpacked. It is counted by what an archive declares, and nothing is
    ever read beyond that.
    """

    settings: ArchivesSettings
    files: int = 0
    unpacked: int = 0

    def count(self, files: int, title: str) -> None:
        """Raises Refused when there are too many files."""
        self.files += files
        if self.files > self.settings.max_files:
            raise Refused(
                f"{title} holds {self.files:,} files or more, and max_files is "
                f"{self.settings.max_files:,}. If you trust it, raise max_files."
            )

    def spend(self, unpacked: int, packed: int, title: str) -> None:
        """Raises Refused when it would take too much room, or grows like a bomb."""
        self.unpacked += unpacked
        most = self.settings.max_gb * GB
        if self.unpacked > most:
            raise Refused(
                f"{title} would take {self.unpacked / GB:.3g} GB unpacked, and max_gb is "
                f"{self.settings.max_gb:g}. If you trust it and have the room, raise max_gb."
            )
        if unpacked > 100 * MB and unpacked > packed * self.settings.max_ratio:
            raise Refused(
                f"{title} would grow {unpacked / max(1, packed):,.0f} times when it is unpacked, "
                "as no pictures do: it looks like a zip bomb and was not opened. If you trust it, "
                "raise max_ratio."
            )
