"""The previews of a run: drawn by the weights as they are, kept in `output/previews/`, scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..progress import Progress
from ..project import Project
from .base import Base
from .config import PreviewSettings, TrainingSettings
from .preview import (
    Prompt,
    States,
    draw,
    encode_prompts,
    parameters,
    save_picture,
)

Score = Callable[[Sequence[Image.Image]], float]


@dataclass(frozen=True)
class Previews:
    """Pictures drawn after `epoch` and `step` (0: before training) and, if the activation tag's
    were scored, their likeness.
    """

    epoch: int
    prompts: list[Prompt]
    pictures: list[Image.Image]
    likeness: float | None
    step: int = 0


@dataclass
class Artist:
    """Draws the previews of a run. `states` are what frozen encoders made of the prompts."""

    folder: Path
    base: Base
    settings: PreviewSettings
    size: tuple[int, int]
    wanted: list[Prompt]
    activation_tag: str
    progress: Progress
    score: Score | None
    states: States | None = None

    def encode(self) -> None:
        """Encodes the prompts once for all: for encoders that are not trained."""
        self.states = encode_prompts(self.base, self.wanted, self.settings)

    def draw(self, epoch: int, step: int, name: str) -> Iterator[Previews]:
        """The previews, also saved as `name-00.png` and so on; nothing where none are wanted."""
        if not self.wanted:
            return
        with evaluating(self.base):
            pictures = draw(
                self.base,
                self.wanted,
                self.settings,
                self.size,
                self.progress,
                states=self.states,
            )
        for number, (picture, prompt) in enumerate(zip(pictures, self.wanted, strict=True)):
            text = parameters(prompt, self.settings, self.size)
            save_picture(picture, self._path(name, number), text)
        yield self._scored(epoch, step, pictures)

    def first(self) -> Iterator[Previews]:
        """The previews before training: those a run that was cut off has drawn already, if they are
        still all there and were drawn from the same prompts in the same way; else they are drawn.
        """
        pictures = []
        for number, prompt in enumerate(self.wanted):
            path = self._path("epoch-000", number)
            if not path.exists():
                break
            with Image.open(path) as image:
                if image.info.get("parameters") != parameters(prompt, self.settings, self.size):
                    break
                pictures.append(image.convert("RGB"))
        if len(pictures) == len(self.wanted):
            yield self._scored(0, 0, pictures)
        else:
            yield from self.draw(0, 0, "epoch-000")

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}-{number:02d}.png"

    def _scored(self, epoch: int, step: int, pictures: list[Image.Image]) -> Previews:
        alone = [
            picture
            for prompt, picture in zip(self.wanted, pictures, strict=True)
            if prompt.text == self.activation_tag
        ]
        likeness = self.score(alone) if self.score and alone else None
        return Previews(epoch, self.wanted, pictures, likeness, step)


def make_artist(
    project: Project,
    base: Base,
    training: TrainingSettings,
    preview: PreviewSettings,
    activation_tag: str,
    wanted: list[Prompt],
    progress: Progress,
    score: Score | None,
) -> Artist:
    """The artist of a run."""
    size = (preview.width or training.resolution, preview.height or training.resolution)
    folder = project.output / "previews"
    return Artist(folder, base, preview, size, wanted, activation_tag, progress, score)


@contextmanager
def evaluating(base: Base) -> Iterator[None]:
    """All parts of a base in evaluation mode while the context lasts."""
    training: list[torch.nn.Module] = [m for m in base.parts.values() if m.training]
    for module in training:
        module.eval()
    try:
        yield
    finally:
        for module in training:
            module.train()
