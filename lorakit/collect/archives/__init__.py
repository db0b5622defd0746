"""Pictures of one's own: zip files, folders, shared Drive links, datasets of the Hugging Face Hub.

They are looked through without being unpacked to the disk; a picture is copied byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import CollectError, Refused
from ...progress import Progress
from .. import Source
from ..finds import Offer
from . import drive, folders, hub, web
from .config import ArchivesSettings
from .formats import OTHER_ARCHIVES, PICTURES, VIDEOS
from .members import Budget, Left, Member
from .pairing import finds, notes
from .zips import Shelf, Zips

__all__ = ["SOURCE", "ArchivesSettings", "look"]


def look(settings: ArchivesSettings, items: Sequence[str], progress: Progress) -> Offer:
    """What is in archives, folders and links. Raises CollectError for one that cannot be opened."""
    left = Left()
    zips = Zips(Shelf(progress), Budget(settings), left)
    members: list[Member] = []
    for item in items:
        members += _members(item.strip(), zips, progress)
    found = finds(members, settings, left, progress)
    return Offer(found, [*notes(found), *left.notes()])


def _members(item: str, zips: Zips, progress: Progress) -> list[Member]:
    """The files of one thing that was given."""
    path = Path(item).expanduser()
    if re.match(r"https?://", item):
        return _linked(item, zips, progress)
    if path.is_dir():
        return folders.members(path.resolve(), zips)
    if path.is_file():
        return _file(path, zips, progress)
    if hub.parse(item):
        return hub.members(item, zips, progress)
    raise CollectError(
        f"There is no file or folder {item}. Give a zip, a folder, a picture, a link, or a dataset "
        "of the Hugging Face Hub (user/name)."
    )


def _linked(link: str, zips: Zips, progress: Progress) -> list[Member]:
    if drive.parse(link):
        try:
            return _members(str(drive.fetched(link, progress)), zips, progress)
        except Refused:  # the limits say no, or a password is needed: the file is good
            raise
        except CollectError:
            drive.forget(link)  # what cannot be opened would be taken from here ever after
            raise
    if hub.parse(link):
        return hub.members(link, zips, progress)
    path = web.fetched(link, zips.budget.settings, progress)
    return zips.members(path, link)


def _file(path: Path, zips: Zips, progress: Progress) -> list[Member]:
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        return folders.beside(path)
    if suffix in VIDEOS:
        raise CollectError(f"{path} is a video: take pictures from it with `collect videos`.")
    if suffix in OTHER_ARCHIVES:
        raise CollectError(
            f"{path} is no zip file. Unpack it on your computer and give the folder, or pack it "
            "again as a zip."
        )
    return zips.members(path.resolve(), path.name)


SOURCE = Source(
    "archives",
    "Your own: zips, folders, links",
    "ZIP_OR_FOLDER_OR_LINK",
    ArchivesSettings,
    look,
)
