"""Near-duplicates on drawings: copies are found, different pictures of one character are not."""

import dataclasses
import io
import random
import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from lorakit import dataset, project
from lorakit.clean import duplicates
from lorakit.clean.duplicates import near_duplicates
from lorakit.dataset import Picture
from lorakit.demo.draw import draw
from lorakit.demo.world import Shot, random_character

SIZE = (384, 512)
SMILING = Shot("smile", "", "", "white background", "upper body", "", "", False)


def drawing(shot=SMILING, seed=1, size=SIZE):
    """Always the same character; the same `seed` gives the same lines and colours."""
    return draw(random_character(random.Random(5)), shot, size, random.Random(seed))


def as_jpeg(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


COPIES = {
    "a poor jpeg": lambda i: as_jpeg(i, 25),
    "half the size": lambda i: i.resize((i.width // 2, i.height // 2)),
    "larger": lambda i: i.resize((i.width * 2, i.height * 2), Image.Resampling.BICUBIC),
    "small and a jpeg": lambda i: as_jpeg(i.resize((i.width // 2, i.height // 2)), 60),
    "lighter": lambda i: ImageEnhance.Brightness(i).enhance(1.1),
    "darker": lambda i: ImageEnhance.Brightness(i).enhance(0.85),
    "blurred": lambda i: i.filter(ImageFilter.GaussianBlur(2)),
    "cropped all round": lambda i: i.crop((8, 10, i.width - 8, i.height - 10)),
    "cropped on one side": lambda i: i.crop((10, 0, i.width, i.height)),
}
OTHERS = {
    "another expression": dataclasses.replace(SMILING, expression="open mouth"),
    "closed eyes": dataclasses.replace(SMILING, eyes="closed eyes"),
    "another pose": dataclasses.replace(SMILING, pose="arms up"),
    "another background": dataclasses.replace(SMILING, background="night sky"),
    "turned round": dataclasses.replace(SMILING, view="from behind"),
}


@pytest.fixture
def save(tmp_path):
    """Saves a picture under a name and returns it."""

    def saving(name, image, **options):
        image.save(tmp_path / name, **options)
        return Picture(tmp_path / name)

    return saving


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found(save, name):
    original = save("original.png", drawing())
    copy = save("copy.png", COPIES[name](drawing()))
    (group,) = near_duplicates([original, copy])
    assert {group.best, *group.others} == {original, copy}


@pytest.mark.parametrize("name", OTHERS)
def test_another_picture_of_the_same_character_is_no_copy(save, name):
    assert near_duplicates([save("a.png", drawing()), save("b.png", drawing(OTHERS[name]))]) == []


def test_expressions_stay_apart_in_jpegs_too(save):
    """Sprites of visual novels: one pose, many faces, all worth learning."""
    faces = [dataclasses.replace(SMILING, expression=e) for e in ("smile", "open mouth", "frown")]
    pictures = [save(f"{i}.jpg", drawing(face), quality=85) for i, face in enumerate(faces)]
    assert near_duplicates(pictures) == []


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (drawing(), drawing().resize((192, 256))),
        (drawing(), drawing().filter(ImageFilter.GaussianBlur(1.5))),
    ],
    ids=["more pixels", "sharper"],
)
def test_the_best_copy_is_kept_whichever_comes_first(save, better, worse):
    good, bad = save("b.png", better), save("a.png", worse)
    for order in ([good, bad], [bad, good]):
        (group,) = near_duplicates(order)
        assert (group.best, group.others) == (good, (bad,))


def test_of_two_jpegs_the_less_compressed_is_kept(save):
    poor, fine = save("a.jpg", drawing(), quality=30), save("b.jpg", drawing(), quality=95)
    (group,) = near_duplicates([poor, fine])
    assert group.best == fine


def test_equal_files_match_even_if_nothing_else_may(save):
    copies = [save(f"{name}.png", drawing()) for name in "abc"]
    (group,) = near_duplicates(copies, distance=0)
    assert group.best == copies[0] and group.others == (copies[1], copies[2])


def test_groups_come_in_the_order_of_the_pictures(save):
    a, b = drawing(), drawing(OTHERS["another pose"])
    pictures = [save("1.png", b), save("2.png", a), save("3.jpg", a), save("4.jpg", b)]
    groups = near_duplicates(pictures)
    assert [(group.best.name, [other.name for other in group.others]) for group in groups] == [
        ("1.png", ["4.jpg"]),
        ("2.png", ["3.jpg"]),
    ]


def test_a_slow_change_does_not_chain_its_ends_together(save):
    """Frames of a film: each is nearly its neighbour, the first is nothing like the last."""
    wide = drawing(size=(768, 512))
    frames = [save(f"{i:02}.png", wide.crop((i * 6, 0, i * 6 + 384, 512))) for i in range(12)]
    groups = near_duplicates(frames)
    assert len(groups) > 1, "otherwise one frame would stand for all"
    for group in groups:
        for other in group.others:
            assert abs(int(group.best.path.stem) - int(other.path.stem)) <= 3


def test_pictures_that_cannot_be_read_are_left_out(save, tmp_path):
    broken = Picture(tmp_path / "broken.png")
    broken.path.write_bytes(b"\x89PNG but not really")
    assert near_duplicates([broken, broken, save("a.png", drawing())]) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (9, 9)])
def test_tiny_pictures_do_no_harm(save, size):
    pictures = [save(f"{i}.png", Image.new("RGB", size, (i, 100, 200))) for i in range(2)]
    assert len(near_duplicates(pictures)) <= 1


def test_nothing_in_nothing_out():
    assert near_duplicates([]) == []


def test_progress_counts_the_pictures(save):
    seen = []
    pictures = [save("a.png", drawing()), save("b.jpg", drawing())]
    near_duplicates(pictures, progress=lambda what, done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_removing_moves_the_copies_and_says_why(tmp_path):
    here = project.find("astrid", tmp_path).create()
    drawing().save(here.dataset / "best.png")
    drawing().save(here.dataset / "copy.jpg")
    (here.dataset / "copy.txt").write_text("smile")
    moved = duplicates.remove_duplicates(here, near_duplicates(dataset.scan(here.dataset)))
    assert moved == [here.removed / "copy.jpg"]
    assert [path.name for path in here.dataset.iterdir()] == ["best.png"]
    assert (here.removed / "copy.txt").read_text() == "smile"
    assert dataset.removals(here)[0]["reason"] == "near-duplicate of best.png"
    assert dataset.restore(here, "copy.jpg").path.exists()


def test_five_thousand_pictures_are_compared_in_seconds():
    """12.5 million pairs of fingerprints; the rest of the time is reading the files."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**63, (5000, 2)).tolist()
    looks = [
        duplicates.Look(tuple(pair), (512, 768), 1.0, 1, str(i)) for i, pair in enumerate(numbers)
    ]
    looks[4321] = dataclasses.replace(looks[77], sha256="another")
    started = time.perf_counter()
    assert list(duplicates._candidates(looks, duplicates.DISTANCE)) == [(77, 4321, False)]
    assert time.perf_counter() - started < 6  # one second on an idle core
