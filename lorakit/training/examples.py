"""The dataset as training sees it: every picture with its caption, its place in a bucket, and what
its subset says of it.

`Survey` reads no more than a plan needs (for the form), `read_examples` reads and checks all.
Nothing here needs torch.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..dataset import Picture, broken, read_caption, require
from ..errors import DatasetError
from ..images import has_alpha, picture_size
from ..progress import Progress, silent
from ..project import Project
from .captions import part, prior_caption, shown_caption
from .config import CaptionSettings, DataSettings, SubsetSettings, TrainingSettings
from .plan import Placement, Plan, Size, aim, make_plan, place_all
from .subsets import Subset, subsets

LEAST_SEEN = 0.1  # of a picture, by its crop


@dataclass(frozen=True)
class Example:
    """One picture as it is trained on."""

    picture: Picture
    caption: str
    placement: Placement
    repeats: int
    keep_tags: int
    flip: bool
    regularisation: bool

    def shown(self, settings: CaptionSettings, rng: random.Random) -> str:
        """Its caption for one time that it is shown."""
        return shown_caption(self.caption, settings, rng, self.keep_tags, self.regularisation)

    def prior(self, settings: CaptionSettings, rng: random.Random) -> str:
        """Its caption without what calls the LoRA, for one time that it is shown."""
        return prior_caption(self.caption, settings, rng, self.keep_tags, self.regularisation)


@dataclass(frozen=True)
class Survey:
    """What a plan needs to know of a dataset: size and folder (relative to dataset/) of every
    picture, and the [[subset]] tables of its project.
    """

    sizes: tuple[Size, ...]
    folders: tuple[str, ...]
    tables: tuple[SubsetSettings, ...]

    def subsets(self, settings: TrainingSettings) -> list[Subset]:
        """The subset of each picture."""
        return subsets(self.folders, self.tables, settings)

    def plan(self, settings: TrainingSettings) -> Plan:
        """The exact plan for some settings; pictures held out for validation are not in it."""
        found = self.subsets(settings)
        plan = make_plan(self.sizes, settings, [subset.repeats for subset in found])
        return without(plan, held_out([subset.regularisation for subset in found], settings))

    def aim(self, settings: TrainingSettings, target: int) -> TrainingSettings:
        """The settings with repeats and epochs that come near to `target` steps."""
        held = held_out([subset.regularisation for subset in self.subsets(settings)], settings)

        def repeats_at(knob: int) -> list[int]:
            found = self.subsets(replace(settings, repeats=knob))
            return [subset.repeats for i, subset in enumerate(found) if i not in held]

        repeats, plan = aim(self.plan(settings), target, repeats_at)
        return replace(settings, repeats=repeats, epochs=plan.epochs, max_steps=0)


def survey(project: Project) -> Survey:
    """What the project's plan needs to know, from the pictures' headers alone. Raises DatasetError,
    SettingsError.
    """
    return _survey(project, require(project.dataset))


def _survey(project: Project, pictures: Sequence[Picture]) -> Survey:
    return Survey(
        tuple(picture_size(picture.path) for picture in pictures),
        tuple(p.path.relative_to(project.dataset).parent.as_posix() for p in pictures),
        project.load_all(SubsetSettings),
    )


def plan_project(project: Project, settings: TrainingSettings) -> Plan:
    """The exact plan, from the pictures' sizes and folders alone. Raises DatasetError,
    SettingsError.
    """
    return survey(project).plan(settings)


def plan_examples(examples: Sequence[Example], settings: TrainingSettings) -> Plan:
    """The plan whose pictures are these, in this order."""
    return Plan(
        tuple(example.placement for example in examples),
        tuple(example.repeats for example in examples),
        settings.batch_size,
        settings.epochs,
        settings.accumulation,
        settings.max_steps,
    )


def held_out(regularisation: Sequence[bool], settings: TrainingSettings) -> set[int]:
    """Which pictures are not trained on but kept for validation: `validation_share` of those that
    are not for regularisation, at least one if it is above 0, never all.
    """
    candidates = [i for i, held in enumerate(regularisation) if not held]
    share = settings.validation_share
    count = min(max(1, round(share * len(candidates))), len(candidates) - 1) if share else 0
    dice = random.Random(f"{settings.seed}/validation")
    return set(dice.sample(candidates, max(0, count)))


def without(plan: Plan, held: set[int]) -> Plan:
    """The plan of the other pictures."""
    left = [i for i in range(len(plan.placements)) if i not in held]
    return replace(
        plan,
        placements=tuple(plan.placements[i] for i in left),
        repeats=tuple(plan.repeats[i] for i in left),
    )


# --- reading and checking all ---------------------------------------------------------------------


def read_examples(
    project: Project,
    settings: TrainingSettings,
    activation_tag: str = "",
    progress: Progress = silent,
) -> list[Example]:
    """Every picture of the dataset, all checked; those to be held out for validation are among
    them. The activation tag is left out of regularisation captions.

    Raises DatasetError naming the first picture that is broken, has no caption, or cannot be used
    otherwise; SettingsError for a wrong [[subset]].
    """
    pictures = require(project.dataset)
    bad = broken(pictures, progress)
    if bad:
        others = f" ({len(bad) - 1} more like it.)" if len(bad) > 1 else ""
        raise DatasetError(next(iter(bad.values())) + others)
    captions = _captions(project, pictures)
    found = _survey(project, pictures)
    placements = place_all(found.sizes, settings)
    examples = [
        Example(
            picture,
            _cleared(picture, caption, activation_tag, settings)
            if subset.regularisation
            else caption,
            placement,
            subset.repeats,
            subset.keep_tags,
            subset.flip,
            subset.regularisation,
        )
        for picture, caption, placement, subset in zip(
            pictures, captions, placements, found.subsets(settings), strict=True
        )
    ]
    _check(examples, settings, activation_tag)
    return examples


def _captions(project: Project, pictures: Sequence[Picture]) -> list[str]:
    captions = [read_caption(picture) for picture in pictures]
    missing = [p.path for p, caption in zip(pictures, captions, strict=True) if caption is None]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(pictures)} pictures have no caption, the first is "
            f"{missing[0]}. Tag them first: python -m lorakit tag {project.name}"
        )
    return [caption or "" for caption in captions]


def _cleared(picture: Picture, caption: str, activation_tag: str, settings: CaptionSettings) -> str:
    """A regularisation caption without the activation tag."""
    if not activation_tag:
        return caption
    tag = re.escape(activation_tag)
    if settings.sentences and _speaks_of(caption, activation_tag):
        raise DatasetError(
            f"The caption of {picture.path} has the activation tag '{activation_tag}' in it, but "
            "the picture is for regularisation. Take the word out of the sentence."
        )
    return re.sub(
        rf"(^|[,|{{\n])[^\S\n]*{tag}[^\S\n]*(?=[,|}}\n]|$)", r"\1", caption, flags=re.IGNORECASE
    ).lstrip(", ")


def _speaks_of(caption: str, tag: str) -> bool:
    """Whether the tag is somewhere in the caption, as a word or words of its own."""
    return bool(re.search(rf"(?<!\w){re.escape(tag)}(?!\w)", caption, re.IGNORECASE))


def _check(examples: Sequence[Example], settings: TrainingSettings, activation_tag: str) -> None:
    """Raises DatasetError for what would make a run pointless."""
    for example in examples:
        _check_shape(example)
    _check_masks([example.picture for example in examples], settings)
    if all(example.regularisation for example in examples):
        raise DatasetError(
            "Every picture is for regularisation; none is left to learn from. Take regularisation "
            "out of a [[subset]] in project.toml, or add pictures outside these folders."
        )
    if settings.prior_weight:
        for example in examples:
            texts = example.caption.splitlines() if settings.wildcards else [example.caption]
            for text in [] if example.regularisation else texts:
                _check_prior(replace(example, caption=text), settings, activation_tag)


def _check_shape(example: Example) -> None:
    """Raises DatasetError for a strip of which hardly anything would be seen."""
    place = example.placement
    seen = math.prod(place.bucket) / math.prod(place.resized)
    if seen < LEAST_SEEN:
        raise DatasetError(
            f"{example.picture.path} is {place.original[0]}x{place.original[1]}, so narrow that "
            f"training would see {seen:.1%} of it. Crop or remove it."
        )


def _check_prior(example: Example, settings: CaptionSettings, activation_tag: str) -> None:
    """Raises DatasetError if the caption without what calls the LoRA is the whole caption, or still
    calls it.
    """
    whole = replace(settings, wildcards=False)  # all choices are looked at
    if not settings.caption_prefix and not part(example.caption, whole, example.keep_tags).kept:
        raise DatasetError(
            f"prior_weight needs something to leave out, but nothing is kept at the start of the "
            f"caption of {example.picture.path}. Put the activation tag there, set keep_tags of "
            "its [[subset]] to at least 1, or set prior_weight to 0."
        )
    if activation_tag and _speaks_of(example.prior(whole, random.Random(0)), activation_tag):
        raise DatasetError(
            f"prior_weight holds the LoRA back where its activation tag is missing, but in the "
            f"caption of {example.picture.path} '{activation_tag}' is not among what is kept at "
            "the start. Put it first, or set prior_weight to 0."
        )


def _check_masks(pictures: Sequence[Picture], settings: DataSettings) -> None:
    """Raises DatasetError if there are to be masks and no picture has one."""
    if settings.mask == "files" and not any(picture.mask_path.exists() for picture in pictures):
        raise DatasetError(
            f"mask is 'files', but there is no mask beside any picture; the first would be "
            f"{pictures[0].mask_path}. Make masks, or set mask to 'none'."
        )
    if settings.mask == "alpha" and not any(has_alpha(picture.path) for picture in pictures):
        raise DatasetError(
            "mask is 'alpha', but no picture is transparent anywhere. Cut the character out, or "
            "set mask to 'none'."
        )
