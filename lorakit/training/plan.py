"""Bucket and step arithmetic: which picture is trained at which size, in which batch, and how many
steps that makes.

All pure; `steps = epochs x sum over buckets of ceil(pictures x repeats / batch)`, exactly.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..progress import duration

Size = tuple[int, int]  # width, height


def bucket_sizes(resolution: int, step: int) -> list[Size]:
    """The sizes that pictures may be trained at: about resolution² pixels, sides multiples of
    `step`.

    Sides run from half to twice the resolution (kohya's list, without its extreme ratios).
    """
    area, longest = resolution * resolution, 2 * resolution
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


def place(size: Size, buckets: Sequence[Size]) -> Placement:
    """The placement of a picture of `size` (width, height)."""
    bucket = choose_bucket(size, buckets)
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    resized = (max(bucket[0], round(size[0] * scale)), max(bucket[1], round(size[1] * scale)))
    return Placement(
        size, resized, (resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2, bucket
    )


@dataclass(frozen=True)
class Plan:
    """What a run will do: one placement a picture, and the three knobs."""

    placements: tuple[Placement, ...]
    repeats: int
    batch_size: int
    epochs: int

    @property
    def buckets(self) -> dict[Size, int]:
        """Pictures (before repeats) in each bucket, fullest first."""
        counts: dict[Size, int] = defaultdict(int)
        for placement in self.placements:
            counts[placement.bucket] += 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def steps_per_epoch(self) -> int:
        return sum(
            math.ceil(count * self.repeats / self.batch_size) for count in self.buckets.values()
        )

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def sentence(self, seconds_per_step: float | None = None) -> str:
        """The live line under the three knobs."""
        here = f", about {duration(self.steps * seconds_per_step)} here" if seconds_per_step else ""
        pictures = f"{len(self.placements)} picture{'s' if len(self.placements) != 1 else ''}"
        return (
            f"{pictures} x {self.repeats} repeats, batch {self.batch_size}: {self.steps_per_epoch} "
            f"steps an epoch x {self.epochs} epochs = {self.steps} steps{here}"
        )


def make_plan(
    sizes: Sequence[Size], resolution: int, step: int, repeats: int, batch_size: int, epochs: int
) -> Plan:
    """The plan for pictures of these sizes (width, height)."""
    buckets = bucket_sizes(resolution, step)
    return Plan(tuple(place(size, buckets) for size in sizes), repeats, batch_size, epochs)


def aim(plan: Plan, target: int) -> Plan:
    """The same pictures and batch with repeats and epochs that come near to `target` steps.

    Prefers about 10 epochs, the trainers' usual number: enough files to choose from, none too
    alike.
    """
    best: tuple[float, Plan] | None = None
    for repeats in range(1, max(2, target) + 1):
        steps_per_epoch = Plan(plan.placements, repeats, plan.batch_size, 1).steps_per_epoch
        if steps_per_epoch > target and best:
            break
        for epochs in sorted({max(1, target // steps_per_epoch), target // steps_per_epoch + 1}):
            off = abs(epochs * steps_per_epoch - target) / target
            cost = 100 * off + 4 * abs(
                math.log(epochs / 10)
            )  # a per cent off is worth a quarter more or fewer epochs
            if best is None or cost < best[0]:
                best = (cost, Plan(plan.placements, repeats, plan.batch_size, epochs))
    assert best is not None
    return best[1]


def batches(plan: Plan, epoch: int, seed: int) -> list[list[int]]:
    """The batches of one epoch as lists of picture indices, one bucket a batch; the same for the
    same seed and epoch.

    Each picture is seen `repeats` times; what does not fill a batch makes a smaller one.
    """
    rng = random.Random(seed * 1_000_003 + epoch)
    by_bucket: dict[Size, list[int]] = defaultdict(list)
    for index, placement in enumerate(plan.placements):
        by_bucket[placement.bucket] += [index] * plan.repeats
    made = []
    for bucket in sorted(by_bucket):
        indices = by_bucket[bucket]
        rng.shuffle(indices)
        made += [indices[i : i + plan.batch_size] for i in range(0, len(indices), plan.batch_size)]
    rng.shuffle(made)
    return made
