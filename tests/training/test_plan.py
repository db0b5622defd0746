"""Buckets and steps: the number shown before a run is the number of steps it takes."""

import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageOps

from lorakit.training.config import TrainingSettings
from lorakit.training.plan import (
    Placement,
    Plan,
    Size,
    aim,
    batches,
    bucket_sizes,
    choose_bucket,
    fit,
    keep,
    make_plan,
    merge_sparse,
    place,
    place_all,
)


def settings(**changes: object) -> TrainingSettings:
    """Small buckets, a batch of 4, one repeat, one epoch."""
    usual: dict[str, object] = {
        "resolution": 512,
        "repeats": 1,
        "batch_size": 4,
        "epochs": 1,
        **changes,
    }
    return TrainingSettings(**usual)  # type: ignore[arg-type]


def shapes(*counts: tuple[Size, int]) -> list[Size]:
    """So many pictures of each size."""
    return [size for size, count in counts for _ in range(count)]


EIGHT = shapes(((512, 512), 5), ((512, 768), 3))

# --- buckets and placements -----------------------------------------------------------------------


def test_buckets_of_1024_are_kohyas_33_between_half_and_twice() -> None:
    sizes = bucket_sizes(1024, 64)
    assert len(sizes) == 33
    assert {(704, 1408), (768, 1344), (832, 1216), (896, 1152), (1024, 1024), (1216, 832)} <= set(
        sizes
    )
    assert all(w % 64 == h % 64 == 0 and w * h <= 1024 * 1024 for w, h in sizes)


@pytest.mark.parametrize("resolution", [512, 700, 768, 1000, 1100, 1536])
def test_every_bucket_has_its_transpose_and_the_square_is_there(resolution: int) -> None:
    sizes = bucket_sizes(resolution, 64)
    side = resolution // 64 * 64
    assert (side, side) in sizes
    assert {(h, w) for w, h in sizes} == set(sizes)


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1000, 1500), (832, 1216)),
        ((1500, 1000), (1216, 832)),
        ((500, 500), (1024, 1024)),
        ((1920, 1080), (1344, 768)),
    ],
)
def test_a_picture_goes_to_the_bucket_of_nearest_shape(
    size: tuple[int, int], bucket: tuple[int, int]
) -> None:
    assert choose_bucket(size, bucket_sizes(1024, 64)) == bucket


def test_crop_coordinates_are_those_of_the_true_crop() -> None:
    placed = place(
        (1000, 1500), bucket_sizes(1024, 64)
    )  # the worked example sd-scripts gets wrong (its issue 1443)
    assert (placed.resized, placed.left, placed.top) == ((832, 1248), 0, 16)
    assert placed.time_ids == (1500, 1000, 16, 0, 1216, 832)


@pytest.mark.parametrize("size", [(1000, 1500), (1500, 1000), (1333, 777), (999, 2047), (640, 640)])
def test_the_mirrored_placement_crops_the_mirrored_picture_to_the_same_pixels(size: Size) -> None:
    marked = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8))
    placed = place(size, bucket_sizes(1024, 64))
    placed = Placement(
        size, placed.resized, max(0, placed.left - 3), max(0, placed.top - 5), placed.bucket
    )

    def crop(image: Image.Image, placement: Placement) -> Image.Image:
        left, top = placement.left, placement.top
        return image.crop((left, top, left + placement.bucket[0], top + placement.bucket[1]))

    resized = marked.resize(placed.resized)
    mirrored = crop(ImageOps.mirror(resized), placed.mirrored)
    assert np.array_equal(np.array(mirrored), np.array(ImageOps.mirror(crop(resized, placed))))
    assert placed.mirrored.mirrored == placed
    assert placed.mirrored.time_ids[2] == placed.time_ids[2]  # what is above does not change
    assert placed.mirrored.time_ids[3] == placed.resized[0] - placed.bucket[0] - placed.time_ids[3]


@pytest.mark.parametrize("resolution", [512, 700, 1024, 1100, 1536])
@pytest.mark.parametrize("upscale", [True, False])
def test_every_picture_covers_its_bucket_and_no_side_is_off_the_step(
    resolution: int, upscale: bool
) -> None:
    dice = random.Random(resolution)
    sizes = [(dice.randrange(20, 4000), dice.randrange(20, 4000)) for _ in range(300)]
    chosen = settings(resolution=resolution, upscale=upscale)
    for size, placed in zip(sizes, place_all(sizes, chosen), strict=True):
        (width, height), (true_width, true_height) = placed.bucket, placed.resized
        assert placed.original == size
        assert width % 64 == height % 64 == 0 and min(width, height) >= 64
        assert 0 <= placed.left and placed.left + width <= true_width
        assert 0 <= placed.top and placed.top + height <= true_height
        assert abs(2 * placed.left + width - true_width) <= 1, "cut in the middle"
        assert abs(2 * placed.top + height - true_height) <= 1
        assert width * height <= resolution**2
        assert max(width, height) <= 2 * resolution
        if not upscale and min(size) >= 64:
            assert true_width <= size[0] and true_height <= size[1], "enlarged"


@pytest.mark.parametrize(
    ("size", "resized", "bucket", "crop"),
    [
        ((640, 640), (640, 640), (640, 640), (0, 0)),
        ((700, 500), (700, 500), (640, 448), (30, 26)),  # as it is, cut to multiples of 64
        ((1000, 1000), (1000, 1000), (960, 960), (20, 20)),
        ((1000, 1500), (832, 1248), (832, 1216), (0, 16)),  # large enough: as ever
        ((300, 6000), (102, 2048), (64, 2048), (19, 0)),  # a strip: at most twice the resolution
        ((40, 500), (64, 800), (64, 768), (0, 16)),  # below the step, it must grow after all
    ],
)
def test_without_upscaling_small_pictures_keep_their_pixels(
    size: Size, resized: Size, bucket: Size, crop: Size
) -> None:
    [placed] = place_all([size], settings(resolution=1024, upscale=False))
    assert (placed.resized, placed.bucket, (placed.left, placed.top)) == (resized, bucket, crop)
    assert placed.time_ids == (size[1], size[0], crop[1], crop[0], bucket[1], bucket[0])


def test_keeping_a_picture_never_takes_more_pixels_than_the_resolution_has() -> None:
    placed = keep((3000, 1500), 1024, 64)
    assert placed.resized == (1448, 724) and placed.bucket == (1408, 704)


# --- sparse buckets -------------------------------------------------------------------------------


def test_a_sparse_bucket_joins_the_one_of_nearest_shape() -> None:
    sizes = shapes(((512, 512), 6), ((512, 768), 5), ((500, 700), 1))
    alone = place_all(sizes, settings())
    assert Counter(p.bucket for p in alone) == {(512, 512): 6, (384, 640): 5, (448, 576): 1}
    merged = place_all(sizes, settings(smallest_bucket=2))
    assert Counter(p.bucket for p in merged) == {(512, 512): 6, (384, 640): 6}
    assert merged[-1] == fit((500, 700), (384, 640))
    assert merged[:-1] == alone[:-1], "the others stay as they are"


def test_merging_goes_on_until_no_bucket_is_too_small() -> None:
    dice = random.Random(5)
    sizes = [(dice.randrange(500, 2000), dice.randrange(500, 2000)) for _ in range(200)]
    for smallest in (2, 5, 20, 60):
        merged = place_all(sizes, settings(smallest_bucket=smallest))
        assert min(Counter(p.bucket for p in merged).values()) >= smallest
        assert [p.original for p in merged] == sizes


def test_with_fewer_pictures_than_a_bucket_needs_all_share_one() -> None:
    merged = place_all(shapes(((512, 512), 2), ((512, 768), 1)), settings(smallest_bucket=9))
    assert {p.bucket for p in merged} == {(512, 512)}


def test_merging_without_upscaling_enlarges_nothing_and_loses_little() -> None:
    small = [keep(size, 1024, 64) for size in shapes(((640, 640), 9), ((700, 650), 1))]
    assert [p.bucket for p in merge_sparse(small, 2, upscale=False)] == [(640, 640)] * 10
    lonely = [keep(size, 1024, 64) for size in shapes(((640, 640), 9), ((320, 320), 1))]
    assert merge_sparse(lonely, 2, upscale=False) == lonely, "320 pixels cannot become 640"
    assert merge_sparse(lonely, 2, upscale=True)[-1].bucket == (640, 640)


# --- steps ----------------------------------------------------------------------------------------


def counted(plan: Plan) -> int:
    """The steps of a run, counted by going through all its batches."""
    done = 0
    for epoch in range(1, plan.epochs + 1):
        made = batches(plan, epoch, seed=3)
        done += len([made[i] for i in range(0, len(made), plan.accumulation)])
    return done


def test_steps_count_every_bucket_rounded_up_by_itself() -> None:
    plan = make_plan(EIGHT, settings(repeats=2, epochs=3))
    assert plan.steps_per_epoch == math.ceil(10 / 4) + math.ceil(6 / 4) == 5
    assert plan.steps == 15


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8, 64])
@pytest.mark.parametrize("accumulation", [1, 2, 5])
@pytest.mark.parametrize("repeats", [None, [1, 2, 3, 4, 5, 6, 7, 1000], [1] * 7 + [9]])
def test_the_plan_is_as_long_as_its_batches_counted_one_by_one(
    batch_size: int, accumulation: int, repeats: list[int] | None
) -> None:
    chosen = settings(batch_size=batch_size, accumulation=accumulation, repeats=3, epochs=2)
    plan = make_plan(EIGHT, chosen, repeats)
    assert plan.steps == counted(plan)


def test_each_picture_is_shown_as_often_as_its_repeats_say_in_batches_of_one_bucket() -> None:
    repeats = [1, 2, 3, 1, 1, 4, 2, 2]
    plan = make_plan(EIGHT, settings(), repeats)
    made = batches(plan, epoch=1, seed=0)
    assert Counter(i for batch in made for i in batch) == dict(enumerate(repeats))
    assert all(len({plan.placements[i].bucket for i in batch}) == 1 for batch in made)
    assert all(1 <= len(batch) <= 4 for batch in made)


def test_batches_repeat_with_the_seed_and_differ_between_epochs() -> None:
    plan = make_plan([(512, 512)] * 9, settings(repeats=2))
    assert batches(plan, 1, 7) == batches(plan, 1, 7)
    assert batches(plan, 1, 7) != batches(plan, 2, 7)
    assert batches(plan, 1, 7) != batches(plan, 1, 8)


@pytest.mark.parametrize(("most", "epochs"), [(1, 1), (5, 1), (6, 2), (15, 3), (16, 4)])
def test_a_number_of_steps_is_kept_exactly_and_begins_as_many_epochs_as_it_takes(
    most: int, epochs: int
) -> None:
    plan = make_plan(EIGHT, settings(repeats=2, epochs=7, max_steps=most))
    assert (plan.steps, plan.epochs, plan.steps_per_epoch) == (most, epochs, 5)
    assert counted(plan) - most < plan.steps_per_epoch


@pytest.mark.parametrize(
    ("changes", "repeats", "sentence"),
    [
        (
            {"repeats": 2, "epochs": 3},
            None,
            "8 pictures x 2 repeats, batch 4: 5 steps an epoch x 3 epochs = 15 steps",
        ),
        (
            {"epochs": 3},
            [1, 1, 1, 1, 6, 1, 1, 1],
            "8 pictures x 1 to 6 repeats (13 shown in an epoch), batch 4: 4 steps an epoch x 3 "
            "epochs = 12 steps",
        ),
        (
            {"repeats": 2, "accumulation": 3},
            None,
            "8 pictures x 2 repeats, batch 4, 3 batches a step: 2 steps an epoch x 1 epochs = 2 "
            "steps",
        ),
        (
            {"repeats": 2, "max_steps": 12},
            None,
            "8 pictures x 2 repeats, batch 4: 5 steps an epoch x 2.4 epochs = 12 steps",
        ),
    ],
)
def test_the_sentence_says_all_that_the_number_of_steps_comes_from(
    changes: dict[str, object], repeats: list[int] | None, sentence: str
) -> None:
    plan = make_plan(EIGHT, settings(**changes), repeats)
    assert plan.sentence() == sentence
    assert plan.sentence(2.0).startswith(sentence + ", about ")


def test_one_picture_and_the_time_it_takes_are_told() -> None:
    plan = make_plan([(512, 512)], settings(epochs=15))
    assert plan.sentence(2.0) == (
        "1 picture x 1 repeats, batch 4: 1 steps an epoch x 15 epochs = 15 steps, about 30 s here"
    )


def test_a_plan_needs_repeats_for_every_picture() -> None:
    with pytest.raises(ValueError, match="2 repeats for 8 placements"):
        make_plan(EIGHT, settings(), [1, 2])


# --- aiming ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pictures", [1, 5, 13, 26, 60])
@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_aiming_for_450_steps_comes_within_a_tenth(pictures: int, batch: int) -> None:
    repeats, plan = aim(make_plan([(512, 512)] * pictures, settings(batch_size=batch)), 450)
    assert abs(plan.steps - 450) <= 45
    assert plan.epochs >= 2
    assert set(plan.repeats) == {repeats}


def test_aiming_with_more_pictures_than_steps_takes_the_nearest_whole_epochs() -> None:
    one = settings(batch_size=1, repeats=4, epochs=9)
    assert aim(make_plan([(512, 512)] * 200, one), 450)[1].steps == 400
    assert aim(make_plan([(512, 512)] * 1000, one), 450)[1].steps == 1000


def test_aiming_prefers_about_ten_epochs() -> None:
    _, plan = aim(make_plan([(512, 512)] * 26, settings()), 450)
    assert 8 <= plan.epochs <= 16


def test_aiming_leaves_alone_the_repeats_that_folders_have_of_their_own() -> None:
    plan = make_plan(EIGHT, settings(max_steps=5))
    repeats, aimed = aim(plan, 100, lambda knob: [knob] * 5 + [7] * 3)
    assert aimed.repeats == (repeats,) * 5 + (7,) * 3
    assert abs(aimed.steps - 100) <= 10
    assert aimed.max_steps == 0
    _, fixed = aim(plan, 100, lambda knob: [7] * 8)
    assert fixed.repeats == (7,) * 8 and abs(fixed.steps - 100) <= 10


def test_the_share_of_pictures_seen_by_each_epoch_is_what_the_repeats_ask_for() -> None:
    plan = make_plan([(512, 512)] * 4, settings(batch_size=3), [1, 2, 3, 4])
    seen = Counter(i for epoch in range(1, 11) for b in batches(plan, epoch, 1) for i in b)
    assert {i: Fraction(n, 100) for i, n in seen.items()} == {
        i: Fraction(i + 1, 10) for i in range(4)
    }
