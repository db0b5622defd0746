"""What a run has left behind: previews of every epoch and LoRA files, read from disk: a restart
loses nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import ipywidgets as W

from ..project import Project
from .gallery import grid_table


def previews(project: Project) -> dict[int, list[Path]]:
    """The preview pictures of the last run, by epoch; 0 is before training."""
    found: dict[int, list[Path]] = defaultdict(list)
    for path in sorted((project.output / "previews").glob("epoch-*-*.png")):
        if number := re.fullmatch(r"epoch-(\d+)-\d+", path.stem):
            found[int(number[1])].append(path)
    return {epoch: paths for epoch, paths in found.items() if _newer(paths, found.get(0, []))}


def _newer(paths: Sequence[Path], first: Sequence[Path]) -> bool:
    """Whether pictures belong to the run that drew `first`: every run draws step 0 before anything
    else.
    """
    return not first or paths[0].stat().st_mtime_ns >= first[0].stat().st_mtime_ns


def lora_files(project: Project) -> list[Path]:
    """The project's LoRA files, newest first."""
    return sorted(
        project.output.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns, reverse=True
    )


def result(project: Project, likeness: Mapping[int, float]) -> W.HTML:
    """Before and after, side by side, and where the LoRA file is."""
    drawn, files = previews(project), lora_files(project)
    if not files:
        return W.HTML(
            f"No LoRA file in <code>{escape(str(project.output))}</code> yet: run the cell above."
        )
    ends = dict.fromkeys([min(drawn), max(drawn)]) if drawn else {}
    where = f"<p><b>LoRA file: <code>{escape(str(files[0]))}</code> ({size(files[0])})</b></p>"
    return W.HTML(where + _grid(drawn, list(ends), likeness)).add_class("lk-result")


def epochs(project: Project, likeness: Mapping[int, float]) -> W.HTML:
    """Every epoch's previews below each other, and every LoRA file with its size."""
    drawn = previews(project)
    files = [
        f"<li><code>{escape(path.name)}</code>, {size(path)}</li>" for path in lora_files(project)
    ]
    return W.HTML(f"{_grid(drawn, list(drawn), likeness)}<ul>{''.join(files)}</ul>").add_class(
        "lk-epochs"
    )


def size(path: Path) -> str:
    """'12.3 MB'."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _grid(
    drawn: Mapping[int, Sequence[Path]], shown: Sequence[int], likeness: Mapping[int, float]
) -> str:
    if not shown:
        return "<p>This run drew no previews.</p>"
    rows = [(_label(epoch, likeness), drawn[epoch]) for epoch in shown]
    return grid_table(rows, [str(n + 1) for n in range(max(len(drawn[epoch]) for epoch in shown))])


def _label(epoch: int, likeness: Mapping[int, float]) -> str:
    when = f"epoch {epoch}" if epoch else "before"
    return f"{when}, likeness {likeness[epoch]:.2f}" if epoch in likeness else when
