"""The first sweep over a new dataset: what cannot be read, and copies of the same picture, go to
`removed/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..dataset import broken, brought_back, remove, scan
from ..progress import Progress, silent
from ..project import Project
from .duplicates import Group, near_duplicates, remove_duplicates


@dataclass(frozen=True)
class Swept:
    """What a sweep moved: broken pictures, and for each group of copies where all but its best
    went.
    """

    broken: list[Path]
    groups: list[tuple[Group, list[Path]]]

    @property
    def moved(self) -> int:
        return len(self.broken) + sum(len(paths) for _, paths in self.groups)


def sweep(project: Project, progress: Progress = silent) -> Swept:
    """Moves broken pictures and near-duplicates to `removed/`. What a person brought back from
    there stays.
    """
    kept = brought_back(project)
    pictures = scan(project.dataset)
    bad = {
        picture: reason for picture, reason in broken(pictures).items() if picture.path not in kept
    }
    gone = [remove(project, picture, reason) for picture, reason in bad.items()]
    found = near_duplicates([p for p in pictures if p not in bad], progress=progress)
    groups = [Group(g.best, tuple(o for o in g.others if o.path not in kept)) for g in found]
    return Swept(
        gone, [(group, remove_duplicates(project, [group])) for group in groups if group.others]
    )
