"""Buckets and steps: the number shown before a run is the number of steps it takes."""

import math

import pytest

from lorakit.training.plan import aim, batches, bucket_sizes, choose_bucket, make_plan, place


def test_buckets_of_1024_are_kohyas_33_between_half_and_twice() -> None:
    sizes = bucket_sizes(1024, 64)
    assert len(sizes) == 33
    assert {(704, 1408), (768, 1344), (832, 1216), (896, 1152), (1024, 1024), (1216, 832)} <= set(
        sizes
    )
    assert all(w % 64 == h % 64 == 0 and w * h <= 1024 * 1024 for w, h in sizes)


@pytest.mark.parametrize("resolution", [512, 768, 1000, 1536])
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


def test_steps_count_every_bucket_rounded_up_by_itself() -> None:
    plan = make_plan(
        [(512, 512)] * 5 + [(512, 768)] * 3, 512, 64, repeats=2, batch_size=4, epochs=3
    )
    assert plan.steps_per_epoch == math.ceil(10 / 4) + math.ceil(6 / 4) == 5
    assert plan.steps == 15
    assert (
        plan.sentence(2.0)
        == "8 pictures x 2 repeats, batch 4: 5 steps an epoch x 3 epochs = 15 steps, about 30 s "
        "here"
    )


def test_an_epoch_has_as_many_batches_as_the_plan_says_and_shows_each_picture_repeats_times() -> (
    None
):
    plan = make_plan(
        [(512, 512)] * 5 + [(512, 768)] * 3, 512, 64, repeats=2, batch_size=4, epochs=3
    )
    made = batches(plan, epoch=1, seed=0)
    assert len(made) == plan.steps_per_epoch
    assert sorted(i for batch in made for i in batch) == sorted([*range(8)] * 2)
    assert all(len({plan.placements[i].bucket for i in batch}) == 1 for batch in made)


def test_batches_repeat_with_the_seed_and_differ_between_epochs() -> None:
    plan = make_plan([(512, 512)] * 9, 512, 64, repeats=2, batch_size=4, epochs=3)
    assert batches(plan, 1, 7) == batches(plan, 1, 7)
    assert batches(plan, 1, 7) != batches(plan, 2, 7)
    assert batches(plan, 1, 7) != batches(plan, 1, 8)


@pytest.mark.parametrize("pictures", [1, 5, 13, 26, 60])
@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_aiming_for_450_steps_comes_within_a_tenth(pictures: int, batch: int) -> None:
    plan = aim(make_plan([(512, 512)] * pictures, 512, 64, 1, batch, 1), 450)
    assert abs(plan.steps - 450) <= 45
    assert plan.epochs >= 2


def test_aiming_with_more_pictures_than_steps_takes_the_nearest_whole_epochs() -> None:
    assert aim(make_plan([(512, 512)] * 200, 512, 64, 4, 1, 9), 450).steps == 400
    assert aim(make_plan([(512, 512)] * 1000, 512, 64, 4, 1, 9), 450).steps == 1000


def test_aiming_prefers_about_ten_epochs() -> None:
    plan = aim(make_plan([(512, 512)] * 26, 512, 64, 1, 4, 1), 450)
    assert 8 <= plan.epochs <= 16
