"""From files to pictures: each with its caption and mask, in its folder, under a harmless name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...dataset import CAPTIONS
from ...errors import CollectError
from ...progress import Progress, track
from ..finds import Find, Origin
from .config import ArchivesSettings
from .formats import (
    CONVERTED,
    OTHER_ARCHIVES,
    PICTURES,
    VIDEOS,
    copy,
    target_name,
    thumbnail,
    unreadable,
)
from .members import Left, Member, content_mark
from .names import harmless, text_of

SOURCE = "archives"
MASK = ".mask.png"
NUMBERED = re.compile(r"(\d+)_.")  # a folder of the trainers: 5_name
DEEPEST = 12  # folders below dataset/: a path has its limits too
LONGEST_CAPTION = 100_000  # bytes


def is_wanted(member: Member) -> bool:
    """Whether anything of it may be unpacked."""
    return member.suffix in (*PICTURES, *CAPTIONS, ".zip")


def without_common_folder(members: list[Member]) -> list[Member]:
    """The members as if the folder that all of the wanted ones lie in were the archive itself.
    A folder whose name says how often its pictures are shown stays.
    """
    shared: list[str] = []
    paths = [member.path[:-1] for member in members if is_wanted(member)]
    for level in zip(*paths, strict=False):
        if len(set(level)) > 1 or NUMBERED.match(level[0]):
            break
        shared.append(level[0])
    return [
        replace(member, path=member.path[len(shared) :])
        if list(member.path[: len(shared)]) == shared
        else member
        for member in members
    ]


@dataclass(frozen=True)
class _Beside:
    """Captions and masks by what they share with their picture."""

    captions: dict[tuple[str, ...], Member]
    masks: dict[tuple[str, ...], Member]


def finds(
    members: Sequence[Member], settings: ArchivesSettings, left: Left, progress: Progress
) -> list[Find]:
    """The pictures among `members`; what else there is goes to `left`."""
    pictures = list(_pictures(members, settings, left, progress))
    beside = _beside(members)
    for stem in beside.captions.keys() - {member.stem for member in pictures}:
        left.out("text files without a picture of their name", "/".join(stem))
    for stem in beside.masks.keys() - {member.stem for member in pictures}:
        left.out("masks without a picture of their name", "/".join(stem))
    found = []
    for member in track(pictures, "Reading pictures", progress):
        try:
            mark = member.mark or content_mark(member)
        except CollectError as error:
            left.out("files that are damaged", str(error))
        else:
            found.append(
                _find(member, mark, _caption(member, beside, settings, left), beside, settings)
            )
    return found


def _caption(
    picture: Member, beside: _Beside, settings: ArchivesSettings, left: Left
) -> str | None:
    """The text beside a picture; None where there is none, or a damaged one."""
    caption = beside.captions.get(picture.stem) if settings.captions else None
    if caption is None:
        return None
    try:
        with caption.open() as stream:
            return text_of(stream.read())
    except CollectError as error:
        left.out("captions that are damaged", str(error))
        return None


def _pictures(
    members: Iterable[Member], settings: ArchivesSettings, left: Left, progress: Progress
) -> Iterable[Member]:
    reasons = unreadable({member.suffix for member in members}, progress)
    for member in members:
        if member.name.lower().endswith(MASK) or member.suffix in CAPTIONS:
            continue
        reason = reasons.get(member.suffix) or _unwanted(member, settings)
        if reason:
            left.out(reason, "/".join(member.path))
        else:
            yield member


def _unwanted(member: Member, settings: ArchivesSettings) -> str:
    """Why it is no picture to take, or ''."""
    if member.suffix in VIDEOS:
        return "videos; take pictures from them with `collect videos`"
    if member.suffix in OTHER_ARCHIVES:
        return "archives that are no zips; unpack them on your computer and give the folder"
    if member.suffix not in PICTURES:
        return "files that are no pictures"
    if member.size < settings.smallest * 1000 or not member.size:
        return f"files smaller than {settings.smallest} kB" if member.size else "empty files"
    return ""


def _beside(members: Iterable[Member]) -> _Beside:
    """Where there is a .txt and a .caption, the .txt counts."""
    found = _Beside({}, {})
    for member in members:
        if member.name.lower().endswith(MASK):
            found.masks[(*member.path[:-1], member.name[: -len(MASK)])] = member
        elif member.suffix in CAPTIONS and member.size <= LONGEST_CAPTION:
            known = found.captions.get(member.stem)
            if known is None or CAPTIONS.index(member.suffix) < CAPTIONS.index(known.suffix):
                found.captions[member.stem] = member
    return found


def _find(
    member: Member, mark: str, caption: str | None, beside: _Beside, settings: ArchivesSettings
) -> Find:
    mask = beside.masks.get(member.stem) if settings.masks else None
    folders = member.path[:-1][-DEEPEST:] if settings.subfolders else ()
    return Find(
        Origin(SOURCE, mark, member.link),
        target_name(harmless(member.name)),
        partial(copy, member),
        thumbnail=partial(thumbnail, member),
        caption=caption,
        mask=partial(copy, mask) if mask else None,
        folder="/".join(harmless(step) for step in folders),
    )


def notes(members: Sequence[Find]) -> list[str]:
    """What else a user should know of the pictures that are taken."""
    said = []
    folders = {find.folder.split("/")[-1] for find in members if find.folder}
    for folder in sorted(folders):
        if times := NUMBERED.match(folder):
            said.append(
                f"The folder {folder}: its pictures are shown {int(times[1])} times an epoch."
            )
    changed = sum(Path(find.origin.link).suffix.lower() in CONVERTED for find in members)
    if changed:
        said.append(f"{changed} pictures become PNG (GIF: the first frame; HEIC, JPEG XL).")
    return said
