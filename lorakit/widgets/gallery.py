"""Pictures on a page: small JPEG copies inside one HTML widget, so that no custom widget and no
file server is needed.

Every function takes plain values and returns HTML text; captions and names are escaped.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

import ipywidgets as W
from PIL import Image

from ..dataset import Picture, read_caption, removals, require, scan
from ..errors import DatasetError
from ..images import open_image
from ..project import Project

LIMIT = 60  # pictures on a page: about 5 KB each, so a page stays under half a megabyte
SIDE = 144  # pixels
PAGE = '<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start">{}</div>'
SMALL = "font-size:11px;line-height:1.3;overflow-wrap:anywhere;max-height:92px;overflow:auto"
TILE = '<figure style="margin:0;width:{0}px">{1}<figcaption style="{3}">{2}</figcaption></figure>'
NO_PICTURE = (
    '<div style="height:{}px;background:#8884;border-radius:4px;padding:8px">not a picture</div>'
)


def picture_tag(image: Image.Image, side: int = SIDE, title: str = "") -> str:
    """An <img> with a small copy of `image` inside."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    source = f"data:image/jpeg;base64,{data}"
    style = "display:block;border-radius:4px"
    return f'<img src="{source}" title="{escape(title)}" style="{style}">'


def file_tag(path: Path, side: int = SIDE) -> str:
    """`picture_tag` for a file, made once for each state of the file; a grey box if it is not a
    picture.
    """
    return _file_tag(path, side, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=1024)
def _file_tag(path: Path, side: int, modified: int) -> str:
    try:
        return picture_tag(open_image(path), side, path.name)
    except DatasetError:
        return NO_PICTURE.format(side * 2 // 3)


def tile(path: Path, text: str, side: int = SIDE) -> str:
    """A picture with a line or two below it."""
    return TILE.format(
        side, file_tag(path, side), f"<b>{escape(path.name)}</b><br>{escape(text)}", SMALL
    )


def page(tiles: Sequence[str], total: int) -> str:
    """Tiles side by side, and how many more there are."""
    rest = f"<p>and {total - len(tiles)} more</p>" if total > len(tiles) else ""
    return PAGE.format("".join(tiles)) + rest


def gallery(project: Project) -> W.HTML:
    """The project's pictures as a widget. Raises DatasetError when there are none."""
    require(project.dataset)
    return W.HTML(dataset_page(project)).add_class("lk-gallery")


def dataset_page(project: Project, limit: int = LIMIT) -> str:
    """The project's pictures with their captions."""
    pictures = scan(project.dataset)
    tiles = [tile(picture.path, _caption(picture)) for picture in pictures[:limit]]
    return f"<p>{len(pictures)} pictures</p>{page(tiles, len(pictures))}"


def _caption(picture: Picture) -> str:
    try:
        text = read_caption(picture)
    except DatasetError as error:
        return str(error)
    return "no caption yet" if text is None else text


def groups_page(groups: Sequence[tuple[Path, Sequence[Path]]], limit: int = LIMIT) -> str:
    """Copies: on each row the picture that stays, then those that went."""
    rows, shown = [], 0
    for best, others in groups:
        if shown >= limit:
            break
        shown += 1 + len(others)
        rows.append(
            PAGE.format(
                tile(best, "stays") + "".join(tile(other, "moved to removed/") for other in others)
            )
        )
    rest = f"<p>and {len(groups) - len(rows)} more groups</p>" if len(groups) > len(rows) else ""
    return "<hr>".join(rows) + rest


def removed_page(project: Project, limit: int = LIMIT) -> str:
    """What was taken out of the project, newest first, each with the reason."""
    rows = list(reversed(removals(project)))
    if not rows:
        return "<p>Nothing has been removed.</p>"
    # reasons name whole paths; here everybody knows which folder is meant
    inside = f"{project.dataset}{os.sep}"
    tiles = [
        tile(project.removed / row["to"], row["reason"].replace(inside, "")) for row in rows[:limit]
    ]
    return f"<p>{len(rows)} removed</p>{page(tiles, len(rows))}"


def counts_table(counts: Mapping[str, int], total: int, limit: int = LIMIT) -> str:
    """Tags with how many of `total` captions they are in, in the order given."""
    rows = list(counts.items())
    lines = [
        f'<div style="break-inside:avoid"><code>{count:>4}</code> {escape(tag)}'
        f'<div style="height:3px;width:{100 * count / max(total, 1):.0f}%;background:#4285f4">'
        "</div></div>"
        for tag, count in rows[:limit]
    ]
    rest = f"<p>and {len(rows) - limit} more tags</p>" if len(rows) > limit else ""
    return f'<div style="columns:4 170px;font-size:12px">{"".join(lines)}</div>{rest}'


def grid_table(
    rows: Sequence[tuple[str, Sequence[Path | Image.Image]]], heads: Sequence[str], side: int = 160
) -> str:
    """A table of pictures: one row a label, one column a head."""
    head = "".join(
        f'<th style="font-weight:normal;max-width:{side}px">{escape(text)}</th>' for text in heads
    )
    lines = [f"<tr><th></th>{head}</tr>"]
    for label, pictures in rows:
        tags = [
            file_tag(p, side) if isinstance(p, Path) else picture_tag(p, side) for p in pictures
        ]
        cells = "".join(f'<td style="padding:2px">{tag}</td>' for tag in tags)
        lines.append(
            f'<tr><th style="text-align:right;padding-right:8px">{escape(label)}</th>{cells}</tr>'
        )
    return f'<div style="overflow-x:auto"><table>{"".join(lines)}</table></div>'
