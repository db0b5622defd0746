"""The taggers: which there are, how each wants its pictures, and running them through onnxruntime.

A tagger is a folder with `model.onnx` and `selected_tags.csv`: from the Hugging Face hub, from a
path of your own, or the one embedded for the demo. Whatever differs between them is in the
registry's rows.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..ahead import ahead
from ..errors import SettingsError
from ..images import flatten, open_image
from ..install import nvidia_gpu
from ..progress import Progress, silent
from ..settings import nearest
from . import tags

log = logging.getLogger(__name__)

DEMO_FOLDER = Path(__file__).parents[1] / "demo" / "assets" / "tagger"
FILES = "model.onnx and selected_tags.csv"
GENERAL, CHARACTER, RATING = 0, 4, 9  # the categories in selected_tags.csv
# scores below this are not kept: nobody sets a threshold there, and they are nearly all of the
# labels
FLOOR = 0.05


@dataclass(frozen=True)
class Tagger:
    """One row of the registry.

    `general` and `character` are the scores from which its tags count. The network gets `value *
    scale + shift` of each channel (0 to 255), in the order `channels` (BGR or RGB) and the shape
    `layout` (NHWC or NCHW); `sigmoid` says that its output is still to be squashed to 0..1.
    """

    name: str
    repo: str = ""
    revision: str = "main"
    general: float = 0.35
    character: float = 0.85
    model: str = "model.onnx"
    labels: str = "selected_tags.csv"
    layout: str = "NHWC"
    channels: str = "BGR"
    scale: float = 1.0
    shift: float = 0.0
    sigmoid: bool = False

    @property
    def files(self) -> tuple[str, str]:
        return self.model, self.labels


def _wd(name: str, revision: str, general: float) -> Tagger:
    return Tagger(name, f"SmilingWolf/{name}", revision, general)


# Thresholds: where precision equals recall, from the models' cards. eva02's lies at twice the
# others'.
TAGGERS = (
    Tagger("demo", general=0.5),
    _wd("wd-swinv2-tagger-v3", "627aef95638667ddcaa3ac8ae625e88ea5b02f51", 0.2653),
    _wd("wd-vit-tagger-v3", "7f6b584d0bd3f55c4531f14ba3d4761b2bccdc0f", 0.2614),
    _wd("wd-convnext-tagger-v3", "d39e46de298d27340111b64965e20b8185c407e6", 0.2682),
    _wd(
        "wd-vit-large-tagger-v3", "main", 0.2606
    ),  # no full hash of it was at hand; the hub takes no short ones
    _wd("wd-eva02-large-tagger-v3", "b25b82a03f7282e41aa2f257a52c7583b710bd1c", 0.5296),
)


def names() -> list[str]:
    """The names that `load` knows beside folders."""
    return [tagger.name for tagger in TAGGERS]


# --- finding the files ----------------------------------------------------------------------------


def load(name: str) -> LoadedTagger:
    """The tagger called `name` (a row of TAGGERS, or a folder with its files), downloaded if need
    be.

    The network itself starts with the first picture. Raises SettingsError.
    """
    folder = Path(name).expanduser()
    row = next((t for t in TAGGERS if t.name == name), None)
    if row is None and folder.is_dir():
        row = next((t for t in TAGGERS if t.name == folder.name), Tagger(folder.name))
    elif row is None:
        raise SettingsError(
            f"There is no tagger '{name}'{nearest(name, names())} A folder with {FILES} will do "
            "too."
        )
    elif row.repo:
        return LoadedTagger(row, *_download(row))
    else:
        folder = DEMO_FOLDER
    for file in row.files:
        if not (folder / file).is_file():
            others = ", ".join(names())
            raise SettingsError(
                f"The tagger in {folder} lacks {file}. Put it there, or choose another: {others}."
            )
    return LoadedTagger(row, folder / row.model, folder / row.labels)


def _download(row: Tagger) -> tuple[Path, Path]:
    """The files from the hub's cache, fetched first if they are not there; a broken-off download
    goes on.
    """
    from huggingface_hub import hf_hub_download

    try:
        model, labels = (
            Path(hf_hub_download(row.repo, file, revision=row.revision)) for file in row.files
        )
    except (
        Exception
    ) as error:  # what it raises differs from one release of the hub's library to the next
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SettingsError(
            f"The tagger {row.name} could not be downloaded from huggingface.co ({reason}). Run "
            "again when the connection is back (it goes on where it stopped), or set tagger to a "
            f"folder with {FILES}, or to demo."
        ) from error
    return model, labels


@dataclass(frozen=True)
class Label:
    """One column of a tagger's output."""

    name: str
    category: int


def read_labels(path: Path) -> list[Label]:
    """The rows of a `selected_tags.csv`, names tidied. Raises SettingsError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            labels = [
                Label(tags.tidy(row["name"]), int(row["category"])) for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{path} is not a list of tags with the columns name and category ({error!r})."
        ) from error
    if not labels:
        raise SettingsError(
            f"{path} is not a list of tags with the columns name and category: it has no rows."
        )
    return labels


# --- running --------------------------------------------------------------------------------------


class LoadedTagger:
    """A tagger whose files are here. `labels` are its columns; `characters` the names among
    them.
    """

    def __init__(self, row: Tagger, model: Path, labels: Path) -> None:
        self.row, self.model, self.name = row, model, row.name
        self.general, self.character = row.general, row.character
        self.labels = read_labels(labels)
        self.characters = frozenset(
            label.name for label in self.labels if label.category == CHARACTER
        )

    @cached_property
    def identity(self) -> str:
        """Name and fingerprint of the weights: scores kept under another one do not count."""
        size = self.model.stat().st_size
        with self.model.open("rb") as file:
            digest = hashlib.sha256(f"{size}".encode() + file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
        return f"{self.name}-{digest.hexdigest()[:12]}"

    @cached_property
    def session(self) -> Any:
        return start_session(self.model)

    @property
    def side(self) -> int:
        """Height and width of the pictures that the network takes."""
        return int(self.session.get_inputs()[0].shape[1 if self.row.layout == "NHWC" else 2])

    def scores(
        self, images: Sequence[Image.Image | Path], progress: Progress = silent, batch: int = 8
    ) -> list[dict[str, float]]:
        """For each picture its tags, general and character, with scores from FLOOR to 1, best
        first.

        `images` are pictures or their paths; they are decoded ahead of the network. Raises
        DatasetError for a broken picture.
        """
        wanted = [
            (column, label.name)
            for column, label in enumerate(self.labels)
            if label.category != RATING
        ]
        found = []
        progress(f"Tagging with {self.name}", 0, len(images))
        for rows in self.raw(images, batch):
            found += [_named(row, wanted) for row in rows]
            progress(f"Tagging with {self.name}", len(found), len(images))
        return found

    def raw(self, images: Sequence[Image.Image | Path], batch: int = 8) -> Iterator[np.ndarray]:
        """The network's output (pictures, labels), 0 to 1, batch after batch; ratings are among the
        columns.
        """
        chunks = [images[i : i + batch] for i in range(0, len(images), batch)]
        side, name = self.side, self.session.get_inputs()[0].name
        for pixels in ahead(
            lambda chunk: np.stack([prepare(image, self.row, side) for image in chunk]),
            chunks,
            workers=1,
            waiting=2,
        ):
            (output,) = self.session.run(None, {name: pixels})[:1]
            if output.shape[-1] != len(self.labels):
                raise SettingsError(
                    f"{self.model} gives {output.shape[-1]} scores, but {self.row.labels} beside "
                    f"it has {len(self.labels)} rows. Take both files from the same tagger."
                )
            yield 1 / (1 + np.exp(-output)) if self.row.sigmoid else output


def _named(row: np.ndarray, wanted: Sequence[tuple[int, str]]) -> dict[str, float]:
    kept = [(name, float(row[column])) for column, name in wanted if row[column] >= FLOOR]
    return dict(sorted(kept, key=lambda item: -item[1]))


def tags_over(
    scores: Mapping[str, float], general: float, character: float, characters: Collection[str]
) -> dict[str, float]:
    """The tags whose score reaches the threshold of their kind; `characters` says which are
    character names.
    """
    return {
        tag: score
        for tag, score in scores.items()
        if score >= (character if tag in characters else general)
    }


def prepare(image: Image.Image | Path, row: Tagger, side: int) -> np.ndarray:
    """A picture as `row`'s network wants it: over white, padded white to a square, bicubic,
    float32.
    """
    picture = open_image(image) if isinstance(image, Path) else flatten(image)
    longest = max(picture.size)
    if picture.size != (longest, longest):
        square = Image.new("RGB", (longest, longest), (255, 255, 255))
        square.paste(picture, ((longest - picture.width) // 2, (longest - picture.height) // 2))
        picture = square
    if longest != side:
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, np.float32) * row.scale + row.shift
    pixels = pixels[..., ::-1] if row.channels == "BGR" else pixels
    return np.ascontiguousarray(
        pixels.transpose(2, 0, 1) if row.layout == "NCHW" else pixels, np.float32
    )


# --- onnxruntime ----------------------------------------------------------------------------------


def start_session(model: Path) -> Any:
    """An onnxruntime session on the GPU when there is one and it can be used, else on all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    options.intra_op_num_threads = cores or 1
    options.log_severity_level = 3  # errors only
    gpu, cuda = nvidia_gpu(), "CUDAExecutionProvider"
    wanted = [cuda] if gpu and cuda in onnxruntime.get_available_providers() else []
    if wanted and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=[*wanted, "CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors have no common base
        reason = str(error).strip().partition("\n")[0]
        raise SettingsError(
            f"{model} cannot be read as a tagger ({reason}). Delete it and run again."
        ) from error
    if gpu and session.get_providers()[0] != cuda:
        _say_slow()
    return session


@cache
def _say_slow() -> None:
    """Said once, aloud: nobody should wait an hour without knowing why."""
    log.warning(
        "CUDA provider missing, tagging on CPU, about 20x slower. Put onnxruntime-gpu (1.23 to "
        "1.26, for CUDA 12) in place of onnxruntime, then restart."
    )
