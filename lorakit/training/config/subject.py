"""What the settings classes of [training] have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...settings import check


@dataclass(frozen=True)
class SubjectSettings:
    """One subject of the table [training]; every value in its range, or SettingsError."""

    SECTION: ClassVar[str] = "training"

    def __post_init__(self) -> None:
        check(self)
