"""Where shots end: cuts, fades and flashes, from grids alone."""

from __future__ import annotations

import numpy as np
import pytest

from lorakit.collect.videos.changes import BLOCK, Change, Watcher, changes

RNG = np.random.default_rng(5)
SCENES = RNG.integers(20, 236, (8, 9, 16, 3)).astype(float)


def still(scene: int, length: int, gain: float = 1.0) -> list[np.ndarray]:
    return [SCENES[scene] * gain] * length


def moving(scene: int, length: int, speed: float) -> list[np.ndarray]:
    """The scene blurred as a wide view would be, moving by `speed` cells a frame."""
    wide = np.concatenate([SCENES[scene], SCENES[scene][:, ::-1]] * 20, 1)
    for _ in range(2):
        wide = sum(np.roll(wide, k, 1) for k in range(-2, 3)) / 5
    shifts = speed * np.arange(length)
    return [
        (1 - shift % 1) * wide[:, int(shift) : int(shift) + 16]
        + shift % 1 * wide[:, int(shift) + 1 : int(shift) + 17]
        for shift in shifts
    ]


def melt(one: np.ndarray, other: np.ndarray, length: int) -> list[np.ndarray]:
    parts = np.arange(1, length + 1) / (length + 1)
    return [one * (1 - part) + other * part for part in parts]


def found(*parts: list[np.ndarray]) -> list[Change]:
    frames = [frame for part in parts for frame in part]
    return changes(np.stack(frames).clip(0, 255).astype(np.uint8))


BLACK = np.full((9, 16, 3), 16.0)


def test_a_cut_is_found_where_it_is() -> None:
    assert found(still(0, 30), still(1, 30)) == [Change("cut", 30, 29)]


def test_cuts_that_follow_one_another_closely_are_all_found() -> None:
    parts = [still(n, 10) for n in range(5)]
    assert [change.first for change in found(*parts)] == [10, 20, 30, 40]


@pytest.mark.parametrize("length", [1, 3, 6])
def test_a_flash_parts_no_shot_but_its_frames_are_known(length: int) -> None:
    white = [SCENES[0] * 0.2 + 200] * length
    assert found(still(0, 30), white, still(0, 30)) == [Change("flash", 30, 29 + length)]


@pytest.mark.parametrize("length", [4, 6, 12, 18, 24, 36, 48])
def test_a_cross_fade_is_one_change_that_covers_it(length: int) -> None:
    (change,) = found(still(0, 60), melt(SCENES[0], SCENES[1], length), still(1, 60))
    assert change.kind == "melt"
    assert change.first <= 62 and change.last >= 57 + length  # its faintest frames may lie outside
    assert change.last - change.first <= 1.5 * length + 8


def test_two_shots_with_a_blended_frame_between_them_are_two() -> None:
    (change,) = found(still(0, 30), melt(SCENES[0], SCENES[1], 1), still(1, 30))
    assert change.first <= 30 <= change.last


def test_a_fade_to_black_and_back_is_two_changes() -> None:
    out, back = melt(SCENES[0], BLACK, 10), melt(BLACK, SCENES[1], 10)
    both = found(still(0, 40), out, [BLACK] * 8, back, still(1, 40))
    assert [change.kind for change in both] == ["melt", "melt"]
    assert both[0].last < 56 and both[1].first > 42


@pytest.mark.parametrize("speed", [0.02, 0.1, 0.4, 1.5])
def test_a_pan_is_one_shot(speed: float) -> None:
    assert found(moving(0, 150, speed)) == []


def test_a_light_that_goes_down_slowly_is_one_shot() -> None:
    dimmed = [SCENES[0] * gain for gain in np.linspace(1, 0.5, 24)]
    assert found(still(0, 40), dimmed, still(0, 40, 0.5)) == []


def test_a_cut_between_a_still_picture_and_a_shaking_camera_is_found() -> None:
    def shaken(scene: int) -> list[np.ndarray]:
        return [np.roll(SCENES[scene], n * 5 % 3, 1) * 0.5 for n in range(24)]

    assert [c.first for c in found(still(0, 30), shaken(1), still(2, 30))] == [30, 54]


def test_a_film_is_judged_in_blocks_as_if_it_were_one() -> None:
    rng, frames = np.random.default_rng(1), []
    while len(frames) < 3.3 * BLOCK:
        one, other = rng.choice(8, 2, replace=False)
        frames += still(one, int(rng.integers(20, 60)))
        if rng.random() < 0.5:
            frames += melt(SCENES[one], SCENES[other], 12) + still(other, 40)
    grids = np.stack(frames).astype(np.uint8)
    watcher = Watcher()
    for grid in grids:
        watcher.add(grid)
    assert watcher.finish() == changes(grids) and len(watcher.changes) > 60


def test_a_film_of_one_frame_or_none_has_no_changes() -> None:
    assert found(still(0, 1)) == [] and Watcher().finish() == []
