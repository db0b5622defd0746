"""What of one's own pictures comes in, and how much an archive may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...settings import check, setting


@dataclass(frozen=True)
class ArchivesSettings:
    """Pictures of one's own: zip files, folders, shared links, datasets of the Hugging Face Hub."""

    SECTION: ClassVar[str] = "archives"

    subfolders: bool = setting(
        True, "Keep the folders of an archive; a folder called 5_name is shown 5 times an epoch"
    )
    captions: bool = setting(
        True, "Bring along caption files (.txt, .caption) that lie beside a picture"
    )
    masks: bool = setting(True, "Bring along masks (a.mask.png beside a.png)")
    smallest: int = setting(
        0,
        "Leave out files smaller than this, such as icons and thumbnails",
        unit="kB",
        low=0,
        high=100_000,
    )
    max_gb: float = setting(
        50.0,
        "Refuse an archive whose pictures take more than this unpacked",
        unit="GB",
        low=0.001,
        high=10_000,
        advanced=True,
    )
    max_files: int = setting(
        100_000,
        "Refuse an archive with more files than this, those of zips inside it included",
        unit="files",
        low=1,
        high=10_000_000,
        advanced=True,
    )
    max_picture_mb: int = setting(
        200, "Leave out single files larger than this", unit="MB", low=1, high=4000, advanced=True
    )
    max_ratio: int = setting(
        100,
        "Refuse an archive that grows by more than this factor to over 100 MB: pictures hardly do",
        unit="times",
        low=2,
        high=1100,
        advanced=True,
    )
    max_depth: int = setting(
        3,
        "Open zips inside zips down to this depth; 0 opens none",
        unit="levels",
        low=0,
        high=20,
        advanced=True,
    )

    def __post_init__(self) -> None:
        check(self)
