"""Body order: the guide's list, the embedded world's tags, and the rules one by one."""

import csv
import time

import pytest

from lorakit.demo import world
from lorakit.errors import SettingsError
from lorakit.tagging import body, tags

# The guide's final list (chapter 3). `lipstick, black lips` were appended by hand after ordering.
GUIDE = tags.parse(
    "pantyhose, striped pantyhose, vertical-striped pantyhose, obi, sash, wide sleeves, nail "
    "polish, kimono, japanese clothes, striped clothes, vertical-striped clothes, frills, makeup, "
    "hair ornament, yellow hair ornament, purple eyes, eyeshadow, black hair, big hair, single "
    "hair bun, hair bun, lipstick, black lips, pale skin, white skin"
)
HAND_APPENDED = ["lipstick", "black lips"]


def test_the_guides_list_is_in_body_order_but_for_what_it_appended_by_hand():
    ordered = body.body_order(GUIDE)
    assert tags.remove(ordered, HAND_APPENDED) == tags.remove(GUIDE, HAND_APPENDED)
    assert ordered[ordered.index("makeup") : ordered.index("hair ornament")] == [
        "makeup",
        "lipstick",
        "black lips",
    ]


def test_order_does_not_depend_on_how_regions_were_mixed():
    backwards = [
        tag for region in reversed(body.REGIONS) for tag in GUIDE if body.region(tag) == region
    ]
    assert backwards != GUIDE
    assert body.body_order(backwards) == body.body_order(GUIDE)


WORLD = {
    "feet": "boots, shoes, sandals, barefoot",
    "legs": "pants, black thighhighs, thighhighs, pantyhose, black pantyhose, kneehighs, striped "
    "thighhighs, red pants",
    "hips and waist": "skirt, shorts, cat tail, green skirt",
    "arms and hands": "long sleeves, short sleeves, sleeveless, detached sleeves, wide sleeves",
    "torso": "shirt, sweater, dress, kimono, frills, apron, cape, white shirt, purple dress",
    "neck": "scarf, choker, necktie, bowtie",
    "head accessories": (
        "cat ears, rabbit ears, horns, pointy ears, witch hat, beret, crown, hairband, straw hat, "
        "hair bow, hair flower, star hair ornament, x hair ornament, crescent hair ornament"
    ),
    "eyes": "glasses, eyepatch, red eyes, aqua eyes",
    "hair": (
        "short hair, long hair, very long hair, twintails, ponytail, single hair bun, hair bun, "
        "double bun, "
        "twin braids, blunt bangs, parted bangs, hair over one eye, pink hair, blonde hair"
    ),
    "skin and whole body": "dark skin",
    "count and framing": "1girl, solo, full body, upper body, portrait, from side, from behind",
    "pose and expression": (
        "smile, open mouth, frown, expressionless, closed eyes, blush, arms up, hand on own hip, "
        "waving, arms behind back, looking at viewer"
    ),
    "background": "white background, simple background, night sky, outdoors, indoors, sunset",
}


@pytest.mark.parametrize("region", WORLD)
def test_every_tag_of_the_embedded_world_has_its_place(region):
    for tag in tags.parse(WORLD[region]):
        assert body.region(tag) == region, tag


def test_no_tag_of_the_embedded_world_is_unknown():
    assert [tag for tag in world.all_tags() if body.known_region(tags.key(tag)) is None] == []


@pytest.mark.parametrize(
    ("tag", "region"),
    [
        ("hair ribbon", "head accessories"),  # not hair,
        ("neck ribbon", "neck"),  # nor any ribbon
        ("hand on own hip", "pose and expression"),
        ("skirt lift", "pose and expression"),
        ("wide hips", "hips and waist"),
        ("holding sword", "objects"),
        ("holding hands", "pose and expression"),
        ("mole under eye", "face and mouth"),
        ("bow (weapon)", "objects"),
        ("red bow", "head accessories"),
        ("star (sky)", "background"),
        ("star (symbol)", "objects"),
        ("print bikini", "torso"),
        ("holding own hair", "pose and expression"),
        ("half-closed eyes", "pose and expression"),
        ("green eyes", "eyes"),
        ("sailor collar", "neck"),
        ("toenail polish", "feet"),
        ("wooden floor", "background"),
        ("multicolored hair", "hair"),
        ("artist name", "meta"),
        ("^_^", "pose and expression"),
        ("Long_Hair", "hair"),
        ("sakuragaoka high school uniform", "torso"),
        ("zzyzx", "objects"),
    ],
)
def test_the_noun_decides_unless_it_misleads(tag, region):
    assert body.region(tag) == region


def test_order_is_stable_and_loses_nothing():
    mixed = ["sky", "red hair", "smile", "blue hair", "boots", "smile", "zzyzx"]
    assert body.body_order(mixed) == [
        "boots",
        "red hair",
        "blue hair",
        "smile",
        "smile",
        "zzyzx",
        "sky",
    ]
    assert body.body_order([]) == []


def test_parts_between_separators_are_ordered_by_themselves():
    assert body.body_order(["astrid", "|||", "smile", "boots", "|||", "sky", "hat"]) == [
        "astrid",
        "|||",
        "boots",
        "smile",
        "|||",
        "hat",
        "sky",
    ]


def test_the_users_own_regions_win():
    own = {"Tomoe": "neck", "boots": "objects"}
    assert body.region("tomoe", own) == "neck"
    assert body.body_order(["boots", "tomoe", "kimono"], own) == ["kimono", "tomoe", "boots"]


def test_an_unknown_region_is_refused_with_the_nearest_one():
    with pytest.raises(SettingsError, match="no region 'hairs'; did you mean 'hair'?"):
        body.body_order(["a"], {"a": "hairs"})


def test_the_table_is_well_formed():
    with body.TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    phrases = [row["phrase"] for row in rows]
    assert len(set(phrases)) == len(phrases), "a phrase in two regions"
    assert {row["region"] for row in rows} == set(body.REGIONS)
    bare = [phrase.removesuffix(" *") for phrase in phrases]
    assert bare == [tags.key(phrase) for phrase in bare], (
        "phrases are compared as tags.key gives them"
    )


def test_ten_thousand_captions_are_ordered_in_a_second():
    captions = [world.all_tags()[i % 90 : i % 90 + 30] for i in range(10_000)]
    started = time.perf_counter()
    for caption in captions:
        body.body_order(caption)
    assert (
        time.perf_counter() - started < 3
    )  # a quarter of a second on an idle core; the rest is room for busy ones
