"""Which pictures are shown, at which size, and how often each; for all, and for one sub-folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import SettingsError
from ...settings import check, setting
from .subject import SubjectSettings

MASKS = ("none", "alpha", "files")


@dataclass(frozen=True)
class DataSettings(SubjectSettings):
    """Pictures and their sizes."""

    repeats: int = setting(
        4,
        "How often each picture is shown in an epoch; a folder named like '3_name' and a "
        "[[subset]] have their own",
        unit="times",
        low=1,
        high=1000,
    )
    batch_size: int = setting(
        4,
        "Pictures looked at in one step, all GPUs together",
        unit="pictures",
        low=1,
        high=64,
    )
    resolution: int = setting(
        1024,
        "Side of a square training picture; others get about the same area",
        unit="pixels",
        low=64,
        high=2048,
    )
    bucket_step: int = setting(
        64,
        "Sides of training pictures are multiples of this",
        unit="pixels",
        low=32,
        high=256,
        advanced=True,
    )
    upscale: bool = setting(
        True,
        "Enlarge pictures that are smaller than their training size; off trains them as they are, "
        "cut to multiples of bucket_step",
        advanced=True,
    )
    smallest_bucket: int = setting(
        1,
        "Pictures of a training size that has fewer than this join the nearest other size",
        unit="pictures",
        low=1,
        high=1000,
        advanced=True,
    )
    flip: bool = setting(
        False,
        "Show every picture mirrored half of the time; not for characters whose sides differ",
        advanced=True,
    )
    balance: bool = setting(
        False,
        "Raise the repeats of small subsets until each subset is shown about as often as the "
        "largest; regularisation subsets are left as they are",
        advanced=True,
    )
    regularisation_weight: float = setting(
        1.0,
        "How much pictures of regularisation subsets count: those show the kind of thing without "
        "the character, and the activation tag is left out of their captions",
        low=0,
        high=10,
        advanced=True,
    )
    mask: str = setting(
        "none",
        "What the loss looks at: none, all of the picture; alpha, what is not transparent; files, "
        "what is white in NAME.mask.png beside NAME.png. A picture without a mask counts whole",
        choices=MASKS,
        advanced=True,
    )
    unmasked_weight: float = setting(
        0.0,
        "How much the rest of a masked picture still counts",
        low=0,
        high=1,
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bucket_step % 32:
            raise SettingsError(
                f"training: bucket_step is {self.bucket_step}; SDXL needs a multiple of 32."
            )
        if self.resolution < 2 * self.bucket_step:
            raise SettingsError(
                f"training: resolution {self.resolution} is less than twice bucket_step "
                f"{self.bucket_step}; raise the one or lower the other."
            )


@dataclass(frozen=True)
class SubsetSettings:
    """A folder of the dataset with settings of its own; what is not given holds as elsewhere."""

    SECTION: ClassVar[str] = "subset"

    folder: str = setting(
        "", "The folder below dataset/, with all that lies in it; '.' is dataset/ itself"
    )
    repeats: int | None = setting(
        None,
        "How often each of its pictures is shown in an epoch, whatever the folder's name says",
        unit="times",
        low=1,
        high=1000,
    )
    keep_tags: int | None = setting(
        None,
        "Tags at the start of its captions that are never shuffled or dropped",
        unit="tags",
        low=0,
        high=20,
    )
    flip: bool | None = setting(None, "Show its pictures mirrored half of the time")
    regularisation: bool | None = setting(
        None,
        "Its pictures show the kind of thing without the character: they hold the base model in "
        "place, with regularisation_weight",
    )

    def __post_init__(self) -> None:
        check(self)
        folder = self.folder.replace("\\", "/").strip().strip("/").removeprefix("./")
        object.__setattr__(self, "folder", folder)
        if not folder:
            raise SettingsError(
                'subset: a [[subset]] without folder; add a line like folder = "3_swimsuit".'
            )
        if ".." in folder.split("/"):
            raise SettingsError(f"subset: folder is '{folder}'; it must lie below dataset/.")
