"""The drawn world: what its tags promise, and that no two pictures are alike."""

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lorakit.dataset import broken, scan
from lorakit.demo import draw, sample, world
from lorakit.demo.sample import ASTRID, BASE_TAGS, make_sample
from lorakit.project import find


def many(count: int, withheld: bool = False) -> list[tuple[world.Character, world.Shot]]:
    rng = random.Random(5)
    return [(world.random_character(rng, withheld), world.random_shot(rng)) for _ in range(count)]


def test_the_world_has_well_over_sixty_tags_and_shows_each_of_them() -> None:
    shown = {tag for look, shot in many(6000, withheld=True) for tag in world.tags_of(look, shot)}
    assert len(world.all_tags()) > 150
    assert shown == set(world.all_tags())


def test_the_withheld_ornament_is_never_in_the_bases_world() -> None:
    assert not any(
        "crescent hair ornament" in world.tags_of(look, shot) for look, shot in many(2000)
    )


def test_a_portrait_shows_no_boots_and_a_back_no_eyes() -> None:
    look = replace(ASTRID, footwear="boots")
    shot = world.Shot("smile", "", "", "white background", "portrait", "", "")
    assert not {"boots", "dress", "black dress"} & set(world.tags_of(look, shot))
    behind = world.tags_of(look, replace(shot, view="from behind"))
    assert not {"yellow eyes", "smile", "looking at viewer", "choker"} & set(behind)


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (640, 400)])
def test_pictures_have_the_size_asked_for_and_differ(size: tuple[int, int]) -> None:
    pictures = [
        draw.draw(look, shot, size, random.Random(i)) for i, (look, shot) in enumerate(many(12))
    ]
    assert {p.size for p in pictures} == {size}
    assert len({p.tobytes() for p in pictures}) == 12


def test_the_same_seed_draws_the_same_picture() -> None:
    assert sample.good_picture(3).tobytes() == sample.good_picture(3).tobytes()


def test_a_tag_shows_in_the_picture() -> None:
    shot = world.Shot("smile", "", "", "white background", "full body", "", "")
    with_horns, without = (
        np.asarray(draw.draw(replace(ASTRID, ears=e), shot, (256, 384), random.Random(0)), float)
        for e in ("horns", "")
    )
    changed = np.abs(with_horns - without).sum(2) > 60
    rows, columns = np.nonzero(changed)
    assert 200 < changed.sum() < 6000
    assert (
        rows.max() < 384 * 0.35 and 256 * 0.2 < columns.min() < columns.max() < 256 * 0.8
    )  # on the head, and nowhere else


def test_the_sample_project_holds_what_every_later_step_needs(tmp_path) -> None:  # type: ignore[no-untyped-def]
    project = find(str(tmp_path / "demo"))
    names = {p.name for p in make_sample(project)}
    assert 24 <= len(names) <= 40
    assert {
        "astrid_copy_small.jpg",
        "letterboxed.png",
        "blurred.jpg",
        "broken.png",
        "with_a_friend.png",
        "sprite_sheet.png",
    } <= names
    assert [p.name for p in broken(scan(project.dataset))] == ["broken.png"]
    with Image.open(project.dataset / "sprite_sheet.png") as sheet:
        assert sheet.mode == "RGBA"


def test_the_base_never_saw_the_characters_horns_with_its_twintails() -> None:
    from lorakit.demo.build import NEVER_TOGETHER

    assert {"horns", "twintails"} == NEVER_TOGETHER
    assert NEVER_TOGETHER < set(BASE_TAGS) < set(world.all_tags())
