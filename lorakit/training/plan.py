"""Bucket and step arithmetic: which picture is trained at which size, in which batch, and how many
steps that makes.

All pure; `steps = epochs x ceil(sum over buckets of ceil(pictures x repeats / batch) / batches a
step)`, exactly.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from ..progress import duration
from .config import DataSettings, TrainingSettings

Size = tuple[int, int]  # width, height
MOST_REPEATS = 1000


def bucket_sizes(resolution: int, step: int) -> list[Size]:
    """The sizes that pictures may be trained at: about resolution² pixels, sides multiples of
    `step`.

    Sides run from half to twice the resolution (kohya's list, without its extreme ratios).
    """
    area, longest = resolution * resolution, 2 * resolution // step * step
    sizes = {(resolution // step * step,) * 2}
    for width in range(max(step, resolution // 2 // step * step), longest + 1, step):
        height = min(longest, area // width // step * step)
        if height >= resolution // 2 // step * step and height >= step:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def choose_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """The bucket whose shape is nearest: the least difference of the logarithms of width / height,
    then most pixels.
    """
    shape = math.log(size[0] / size[1])
    return min(
        buckets, key=lambda b: (round(abs(shape - math.log(b[0] / b[1])), 9), -b[0] * b[1], b)
    )


@dataclass(frozen=True)
class Placement:
    """How a picture is fitted into its bucket: scaled to cover it, then cropped in the middle. All
    in pixels.
    """

    original: Size
    resized: Size
    left: int
    top: int
    bucket: Size

    @property
    def time_ids(self) -> tuple[int, int, int, int, int, int]:
        """SDXL's micro-conditioning: original height and width, crop top and left, target height
        and width.
        """
        return (
            self.original[1],
            self.original[0],
            self.top,
            self.left,
            self.bucket[1],
            self.bucket[0],
        )

    @property
    def mirrored(self) -> Placement:
        """The placement of the mirrored picture that shows the same crop, mirrored."""
        return replace(self, left=self.resized[0] - (self.left + self.bucket[0]))


def fit(size: Size, bucket: Size) -> Placement:
    """The placement of a picture of `size` (width, height) in a bucket: scaled to cover it."""
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    resized = (max(bucket[0], round(size[0] * scale)), max(bucket[1], round(size[1] * scale)))
    return _centred(size, resized, bucket)


def place(size: Size, buckets: Sequence[Size]) -> Placement:
    """The placement of a picture of `size` (width, height) in the bucket of nearest shape."""
    return fit(size, choose_bucket(size, buckets))


def keep(size: Size, resolution: int, step: int) -> Placement:
    """The placement of a small picture that is not to be enlarged: as it is, cut in the middle to
    multiples of `step`.

    It is made smaller where it has more than resolution² pixels or a side over twice `resolution`
    (a strip), and enlarged only where a side is shorter than `step`.
    """
    longest = 2 * resolution // step * step
    scale = min(1.0, longest / max(size), resolution / math.sqrt(size[0] * size[1]))
    scale = max(scale, step / size[0], step / size[1])
    width, height = (max(step, round(side * scale)) for side in size)
    bucket = (min(longest, width // step * step), min(longest, height // step * step))
    return _centred(size, (width, height), bucket)


def _centred(size: Size, resized: Size, bucket: Size) -> Placement:
    return Placement(
        size, resized, (resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2, bucket
    )


def place_all(sizes: Sequence[Size], settings: DataSettings) -> tuple[Placement, ...]:
    """The placements of pictures of these sizes (width, height), sparse buckets merged."""
    s = settings
    return _place_all(tuple(sizes), s.resolution, s.bucket_step, s.upscale, s.smallest_bucket)


@lru_cache(maxsize=4)  # a form asks again whenever any setting changes
def _place_all(
    sizes: tuple[Size, ...], resolution: int, step: int, upscale: bool, smallest: int
) -> tuple[Placement, ...]:
    buckets = bucket_sizes(resolution, step)
    placed = {size: place(size, buckets) for size in set(sizes)}
    if not upscale:
        for size, placement in placed.items():
            if placement.resized[0] > size[0] or placement.resized[1] > size[1]:
                placed[size] = keep(size, resolution, step)
    return tuple(merge_sparse([placed[size] for size in sizes], smallest, upscale))


def merge_sparse(
    placements: Sequence[Placement], smallest: int, upscale: bool = True
) -> list[Placement]:
    """The placements with buckets of fewer than `smallest` pictures dissolved, the emptiest first:
    each of their pictures goes to the bucket of nearest shape that others are in.

    Without `upscale` only to one that it covers without being enlarged, the nearest in shape and
    area; pictures for which there is none stay.
    """
    merged, stuck = list(placements), set[Size]()
    rooms: dict[Size, list[int]] = defaultdict(list)
    for i, placement in enumerate(placements):
        rooms[placement.bucket].append(i)
    while sparse := [b for b in rooms if len(rooms[b]) < smallest and b not in stuck]:
        bucket = min(sparse, key=lambda b: (len(rooms[b]), b))
        stuck.add(bucket)
        others = [b for b in rooms if b != bucket]
        for i in rooms.pop(bucket):
            target = _nearest(merged[i], others, upscale)
            rooms[target or bucket].append(i)
            if target:
                merged[i] = fit(merged[i].original, target)
    return merged


def _nearest(placement: Placement, buckets: Sequence[Size], upscale: bool) -> Size | None:
    """The bucket that a picture moves to from the one it has; None if it can go to none."""
    size, own = placement.original, placement.bucket
    if upscale:
        return choose_bucket(size, buckets) if buckets else None
    shape, area = math.log(size[0] / size[1]), own[0] * own[1]
    return min(
        (b for b in buckets if b[0] <= size[0] and b[1] <= size[1]),
        key=lambda b: (
            abs(shape - math.log(b[0] / b[1])) + abs(math.log(b[0] * b[1] / area)),
            b,
        ),
        default=None,
    )


@dataclass(frozen=True)
class Plan:
    """What a run will do: a placement and repeats for each picture, and the knobs.

    A step takes `accumulation` batches. With `max_steps` the run has exactly so many steps, and
    `epochs` is how many are begun for that, whatever was given.
    """

    placements: tuple[Placement, ...]
    repeats: tuple[int, ...]
    batch_size: int
    epochs: int
    accumulation: int = 1
    max_steps: int = 0

    def __post_init__(self) -> None:
        if len(self.placements) != len(self.repeats):
            raise ValueError(f"{len(self.repeats)} repeats for {len(self.placements)} placements")
        if self.max_steps and self.placements:
            epochs = math.ceil(self.max_steps / self.steps_per_epoch)
            object.__setattr__(self, "epochs", epochs)

    @cached_property
    def buckets(self) -> dict[Size, int]:
        """Pictures (before repeats) in each bucket, fullest first."""
        counts = Counter(placement.bucket for placement in self.placements)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @cached_property
    def shown(self) -> dict[Size, int]:
        """How often pictures of each bucket are shown in an epoch, repeats counted."""
        counts = dict.fromkeys(self.buckets, 0)
        for placement, repeats in zip(self.placements, self.repeats, strict=True):
            counts[placement.bucket] += repeats
        return counts

    @cached_property
    def steps_per_epoch(self) -> int:
        made = sum(math.ceil(count / self.batch_size) for count in self.shown.values())
        return math.ceil(made / self.accumulation)

    @property
    def largest_batch(self) -> int:
        """The most pictures that any batch has."""
        return min(self.batch_size, max(self.shown.values(), default=0))

    @property
    def largest_size(self) -> Size:
        """The bucket with the most pixels."""
        return max(self.buckets, key=lambda size: (size[0] * size[1], size))

    @property
    def steps(self) -> int:
        return self.max_steps or self.epochs * self.steps_per_epoch

    def sentence(self, seconds_per_step: float | None = None) -> str:
        """The live line under the three knobs."""
        here = f", about {duration(self.steps * seconds_per_step)} here" if seconds_per_step else ""
        pictures = f"{len(self.placements)} picture{'s' if len(self.placements) != 1 else ''}"
        several = f", {self.accumulation} batches a step" if self.accumulation > 1 else ""
        epochs = self.max_steps / self.steps_per_epoch if self.max_steps else self.epochs
        return (
            f"{pictures} x {self._repeats()}, batch {self.batch_size}{several}: "
            f"{self.steps_per_epoch} steps an epoch x {epochs:.4g} epochs = {self.steps} steps"
            f"{here}"
        )

    def _repeats(self) -> str:
        """'4 repeats', or where pictures differ '1 to 6 repeats (35 shown in an epoch)'."""
        low, high = min(self.repeats, default=0), max(self.repeats, default=0)
        if low == high:
            return f"{low} repeats"
        return f"{low} to {high} repeats ({sum(self.repeats)} shown in an epoch)"


def make_plan(
    sizes: Sequence[Size], settings: TrainingSettings, repeats: Sequence[int] | None = None
) -> Plan:
    """The plan for pictures of these sizes (width, height). Without `repeats`, one number a
    picture, the setting holds for all.
    """
    return Plan(
        place_all(sizes, settings),
        tuple([settings.repeats] * len(sizes) if repeats is None else repeats),
        settings.batch_size,
        settings.epochs,
        settings.accumulation,
        settings.max_steps,
    )


def aim(
    plan: Plan, target: int, repeats_at: Callable[[int], Sequence[int]] | None = None
) -> tuple[int, Plan]:
    """The same pictures and batch with repeats and epochs that come near to `target` steps: what to
    set `repeats` to, and the plan.

    `repeats_at` gives each picture's repeats for a value of that setting (folders may have their
    own); without it, it holds for all. Prefers about 10 epochs, the trainers' usual number: enough
    files to choose from, none too alike.
    """
    repeats_at = repeats_at or (lambda knob: [knob] * len(plan.placements))
    best: tuple[float, int, Plan] | None = None
    for knob in range(1, min(MOST_REPEATS, max(2, target)) + 1):
        now = replace(plan, repeats=tuple(repeats_at(knob)), epochs=1, max_steps=0)
        if best and (now.steps_per_epoch > target or now.repeats == best[2].repeats):
            break
        for epochs in sorted({max(1, target // now.steps), target // now.steps + 1}):
            off = abs(epochs * now.steps - target) / target
            cost = 100 * off + 4 * abs(
                math.log(epochs / 10)
            )  # a per cent off is worth a quarter more or fewer epochs
            if best is None or cost < best[0]:
                best = (cost, knob, replace(now, epochs=epochs))
    assert best is not None
    return best[1], best[2]


def batches(plan: Plan, epoch: int, seed: int) -> list[list[int]]:
    """The batches of one epoch as lists of picture indices, one bucket a batch; the same for the
    same seed and epoch.

    Each picture is seen its `repeats` times; what does not fill a batch makes a smaller one.
    """
    rng = random.Random(seed * 1_000_003 + epoch)
    by_bucket: dict[Size, list[int]] = defaultdict(list)
    for index, placement in enumerate(plan.placements):
        by_bucket[placement.bucket] += [index] * plan.repeats[index]
    made = []
    for bucket in sorted(by_bucket):
        indices = by_bucket[bucket]
        rng.shuffle(indices)
        made += [indices[i : i + plan.batch_size] for i in range(0, len(indices), plan.batch_size)]
    rng.shuffle(made)
    return made
