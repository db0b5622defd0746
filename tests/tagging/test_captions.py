"""The guide's method, first on its own worked example, then over a project whose tagger is a
table.
"""

import dataclasses
import gzip

import pytest

from lorakit import dataset, project
from lorakit.dataset import Picture
from lorakit.errors import DatasetError, SettingsError
from lorakit.tagging import body, captions, glossary, scores, tags
from lorakit.tagging.captions import TaggingSettings
from lorakit.tagging.glossary import Entry

# --- the guide, chapter 3: the kimono character ---------------------------------------------------

UNNECESSARY = tags.parse("1girl, solo, white background, simple background, smile, open mouth")
RAW = tags.parse(
    "pantyhose, striped pantyhose, vertical-striped pantyhose, obi, sash, wide sleeves, nail "
    "polish, kimono, japanese clothes, striped clothes, vertical-striped clothes, frills, makeup, "
    "horns, purple eyes, eyeshadow, black hair, long hair, ponytail, high ponytail"
)
FINAL = tags.parse(
    "pantyhose, striped pantyhose, vertical-striped pantyhose, obi, sash, wide sleeves, nail "
    "polish, kimono, japanese clothes, striped clothes, vertical-striped clothes, frills, makeup, "
    "hair ornament, yellow hair ornament, purple eyes, eyeshadow, black hair, big hair, single "
    "hair bun, hair bun, lipstick, black lips, pale skin, white skin"
)
REPLACEMENTS = glossary.glossary_of(
    [
        Entry("horns", "hair ornament, yellow hair ornament"),
        Entry("long hair", "big hair"),
        Entry("ponytail", "single hair bun"),
        Entry("high ponytail", "hair bun"),
    ]
)
BY_HAND = ["lipstick", "black lips", "pale skin", "white skin"]


def as_the_tagger_says_it():
    """The guide's raw list with scores, from head to feet, the unnecessary tags in between."""
    backwards = [
        tag for region in reversed(body.REGIONS) for tag in RAW if body.region(tag) == region
    ]
    mixed = UNNECESSARY[:3] + backwards[:9] + UNNECESSARY[3:] + backwards[9:]
    return {tag: round(0.99 - 0.02 * i, 4) for i, tag in enumerate(mixed)}


def test_the_guides_example_comes_out_exactly():
    sheet = captions.base_tags_from(as_the_tagger_says_it(), captions.SHEET_REMOVE, REPLACEMENTS)
    assert tags.add(sheet, BY_HAND) == FINAL


def test_the_guides_list_after_removing_comes_out_exactly():
    assert captions.base_tags_from(as_the_tagger_says_it()) == RAW


def test_the_sheet_leaves_out_what_belongs_to_the_picture_even_when_nobody_listed_it():
    found = ["2girls", "waving", "night sky", "comic", "boots", "katana"]
    assert captions.base_tags_from(found, remove=()) == ["boots", "katana"]


# --- one caption ----------------------------------------------------------------------------------

SEEN = {"smile": 0.9, "red hair": 0.8, "outdoors": 0.7, "boots": 0.6, "horns": 0.5, "cosplay": 0.4}
BASE = ("horns", "red hair", "black thighhighs")


def propose(found=SEEN, words=None, counts=None, **changes):
    return captions.propose(found, dataclasses.replace(TaggingSettings(), **changes), words, counts)


def test_pruning_lets_the_activation_tag_stand_for_the_character():
    assert propose(activation_tag="astrid", base_tags=BASE) == [
        "astrid",
        "boots",
        "smile",
        "outdoors",
    ]


def test_pruning_takes_what_a_base_tag_implies_too():
    found = dict.fromkeys(
        ["thighhighs", "black thighhighs", "hair", "white thighhighs", "long hair"], 1.0
    )
    assert propose(found, base_tags=BASE) == ["white thighhighs", "long hair"]


def test_fixed_base_tags_are_given_to_every_picture():
    assert propose(activation_tag="astrid", base_tags=BASE, base_mode="fixed") == [
        "astrid",
        "boots",
        "black thighhighs",
        "horns",
        "red hair",
        "smile",
        "outdoors",
    ]


def test_keep_leaves_what_the_tagger_saw():
    kept = propose(base_tags=BASE, base_mode="keep")
    assert kept == ["boots", "horns", "red hair", "smile", "outdoors"]


def test_the_remove_list_can_be_edited():
    assert "cosplay" not in propose(base_mode="keep")
    assert "cosplay" in propose(base_mode="keep", remove_tags=("smile",))
    assert "smile" not in propose(base_mode="keep", remove_tags=("Smile",))


def test_a_threshold_drops_what_scores_less():
    assert propose(base_mode="keep", threshold=0.7) == ["red hair", "smile", "outdoors"]


def test_the_glossary_speaks_before_the_base_tags():
    words = glossary.glossary_of([Entry("horns", "hair ornament")])
    assert propose(words=words, base_tags=("hair ornament",), threshold=0.5) == [
        "boots",
        "red hair",
        "smile",
        "outdoors",
    ]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("body", ["astrid", "boots", "hat", "red hair", "smile"]),
        (
            "score",
            ["astrid", "hat", "smile", "red hair", "boots"],
        ),  # hat was given by hand: certain
        ("a-z", ["astrid", "boots", "hat", "red hair", "smile"]),
        ("frequency", ["astrid", "boots", "red hair", "smile", "hat"]),
        ("keep", ["astrid", "hat", "smile", "red hair", "boots"]),
    ],
)
def test_every_order_keeps_the_activation_tag_first(order, expected):
    found = {"red hair": 0.8, "boots": 0.6, "smile": 0.9}
    counts = {"boots": 5, "red hair": 4, "smile": 3}
    got = propose(
        found,
        None,
        counts,
        order=order,
        base_tags=("hat",),
        base_mode="fixed",
        activation_tag="astrid",
    )
    assert got == expected


# --- base tags nobody chose -----------------------------------------------------------------------


def test_tags_of_most_pictures_are_suggested_as_base_tags():
    found = [["red hair", "smile", "outdoors", "hat"], ["red hair", "smile"], ["red hair", "frown"]]
    assert captions.suggest_base_tags(found) == ["red hair"], (
        "smile is on most pictures, but not the character's"
    )


def test_boots_count_where_feet_are_seen():
    portrait, standing = ["red hair"], ["red hair", "boots"]
    assert captions.suggest_base_tags([portrait] * 7 + [standing] * 3) == ["boots", "red hair"]
    changing = [standing, standing, ["red hair", "shoes"], ["red hair", "shoes"]]
    assert captions.suggest_base_tags([portrait] * 6 + changing) == ["red hair"]


def test_one_odd_picture_suggests_nothing():
    assert captions.suggest_base_tags([["red hair"]] * 19 + [["red hair", "boots"]]) == ["red hair"]
    assert captions.suggest_base_tags([]) == []


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.5}, "tagging: threshold is 1.5; it must be from 0 to 1"),
        ({"base_mode": "pruned"}, "tagging: base_mode is 'pruned'; did you mean 'prune'?"),
        ({"order": "z-a"}, "tagging: order is 'z-a'"),
        ({"base_tags": ("a, b",)}, "'a, b' is not one tag"),
        ({"tagger": " "}, "tagging: tagger is empty; choose one of demo, "),
    ],
)
def test_impossible_settings_are_refused_at_once(changes, message):
    with pytest.raises(SettingsError, match=message):
        TaggingSettings(**changes)


def test_settings_survive_project_toml(tmp_path):
    here = project.find("astrid", tmp_path).create()
    chosen = TaggingSettings(
        activation_tag="astrid", base_tags=BASE, base_mode="fixed", threshold=0.4
    )
    here.save(chosen)
    assert here.load(TaggingSettings) == chosen


# --- a whole project ------------------------------------------------------------------------------


class TableTagger:
    """A tagger that finds in a picture what a table says for its first byte, and counts how often
    it is asked.
    """

    characters = frozenset({"hatsune miku"})
    general, character = 0.35, 0.85

    def __init__(self, table, name="table", identity="table-1"):
        self.table, self.name, self.identity, self.asked = table, name, identity, 0

    def scores(self, images, progress=None):
        self.asked += len(images)
        return [dict(self.table[path.read_bytes()[:1].decode()]) for path in images]


TABLE = {
    "a": {"1girl": 0.99, "red hair": 0.9, "smile": 0.8, "boots": 0.3, "hatsune miku": 0.95},
    "b": {"1girl": 0.98, "red hair": 0.6, "outdoors": 0.5},
    "c": {"1girl": 0.97, "red hair": 0.7, "boots": 0.6, "smile": 0.36},
}
CHOSEN = TaggingSettings(activation_tag="astrid", base_tags=("red hair",))


@pytest.fixture
def here(tmp_path):
    """A project with the 'pictures' a, b and c; the table tagger does not mind that they are
    none.
    """
    made = project.find("astrid", tmp_path).create()
    for letter in "abc":
        (made.dataset / f"{letter}.png").write_text(letter)
    return made


def written(here):
    return {path.stem: path.read_text() for path in sorted(here.dataset.glob("*.txt"))}


def tag(here, chosen=CHOSEN, **options):
    options.setdefault("scorers", [TableTagger(TABLE)])
    return captions.tag_dataset(here, chosen, words={}, **options)


def test_every_picture_gets_a_caption(here):
    report = tag(here)
    assert written(here) == {
        "a": "astrid, 1girl, smile\n",
        "b": "astrid, 1girl, outdoors\n",
        "c": "astrid, boots, 1girl, smile\n",
    }
    assert (report.pictures, report.captions, report.base_tags) == (3, 3, ("red hair",))
    assert report.top == {"1girl": 3, "astrid": 3, "smile": 2, "boots": 1, "outdoors": 1}
    assert str(report).startswith(
        "3 of 3 pictures got a caption. Most frequent: 1girl 3, astrid 3, smile 2"
    )
    assert all(file.exists() for file in report.scores_files)


def test_it_is_one_edit_that_can_be_taken_back(here):
    (here.dataset / "a.txt").write_text("mine, and dear\n")
    report = tag(here)
    assert report.record.exists() and written(here)["a"] != "mine, and dear\n"
    assert dataset.undo_captions(here) == 3
    assert written(here) == {"a": "mine, and dear\n"}


def test_a_plan_writes_no_caption(here):
    plan = captions.plan_captions(here, CHOSEN, scorers=[TableTagger(TABLE)], words={})
    assert plan.captions[Picture(here.dataset / "b.png")] == "astrid, 1girl, outdoors"
    assert written(here) == {}


def test_existing_captions_are_skipped_or_appended_to_as_wished(here):
    (here.dataset / "a.txt").write_text("blue sky, Smile")
    (here.dataset / "b.txt").write_text("")
    skipped = tag(here, dataclasses.replace(CHOSEN, existing="skip"))
    assert (
        written(here)["a"] == "blue sky, Smile"
        and written(here)["b"] == "astrid, 1girl, outdoors\n"
    )
    assert (skipped.pictures, skipped.captions) == (3, 2)
    tag(here, dataclasses.replace(CHOSEN, existing="append"))
    assert written(here)["a"] == "astrid, blue sky, Smile, 1girl\n"


def test_skipping_everything_does_not_even_fetch_the_tagger(here, monkeypatch):
    for letter in "abc":
        (here.dataset / f"{letter}.txt").write_text("smile")
    monkeypatch.setattr(
        captions.taggers, "load", lambda name: pytest.fail("nothing is to be tagged")
    )
    report = tag(here, dataclasses.replace(CHOSEN, existing="skip"), scorers=None)
    assert (report.captions, report.record) == (0, None)


def test_names_of_characters_are_left_out_unless_asked_for(here):
    tag(here)
    assert "miku" not in written(here)["a"]
    tag(here, dataclasses.replace(CHOSEN, character_threshold=0.0))
    assert "hatsune miku" in written(here)["a"]
    tag(here, dataclasses.replace(CHOSEN, character_threshold=0.96))
    assert "miku" not in written(here)["a"]


def test_without_base_tags_those_of_most_pictures_are_taken(here):
    report = tag(here, TaggingSettings(activation_tag="astrid"))
    assert report.base_tags == ("red hair",)
    assert "red hair" not in "".join(written(here).values())


def test_several_taggers_are_united_each_with_its_own_threshold(here):
    strict = TableTagger({k: {"sky": 0.5, "smile": 0.9} for k in "abc"}, "strict")
    strict.general = 0.6
    tag(here, scorers=[TableTagger(TABLE), strict])
    assert written(here)["b"] == "astrid, 1girl, smile, outdoors\n"


def test_the_users_glossary_is_used(here, monkeypatch, tmp_path):
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    glossary.save(glossary.glossary_of([Entry("outdoors", "night sky")]))
    captions.tag_dataset(here, CHOSEN, scorers=[TableTagger(TABLE)])
    assert written(here)["b"] == "astrid, 1girl, night sky\n"


def test_an_empty_folder_is_answered_in_a_sentence(tmp_path):
    with pytest.raises(DatasetError, match="There are no pictures in .*Put some there"):
        tag(project.find("empty", tmp_path).create())


def test_a_broken_picture_is_named_and_nothing_is_written(here):
    from lorakit.tagging import taggers

    if not taggers.DEMO_FOLDER.joinpath("model.onnx").exists():
        pytest.skip("the embedded tagger is not built")
    with pytest.raises(DatasetError, match=r"a\.png cannot be read as a picture"):
        captions.tag_dataset(here, dataclasses.replace(CHOSEN, tagger="demo"), words={})
    assert written(here) == {}


# --- kept scores ----------------------------------------------------------------------------------


def test_another_threshold_does_not_run_the_tagger_again(here):
    tagger = TableTagger(TABLE)
    tag(here, scorers=[tagger])
    tag(here, dataclasses.replace(CHOSEN, threshold=0.2), scorers=[tagger])
    assert tagger.asked == 3
    assert written(here)["a"] == "astrid, boots, 1girl, smile\n", "boots have 0.3"


def test_a_renamed_or_copied_picture_keeps_its_scores_and_a_changed_one_does_not(here):
    tagger = TableTagger(TABLE)
    tag(here, scorers=[tagger])
    (here.dataset / "a.png").rename(here.dataset / "z.png")
    (here.dataset / "copy.png").write_text("b")
    tag(here, scorers=[tagger])
    assert tagger.asked == 3
    assert written(here)["z"] == "astrid, 1girl, smile\n"
    (here.dataset / "b.png").write_text("c now")
    tag(here, scorers=[tagger])
    assert tagger.asked == 4
    assert written(here)["b"] == "astrid, boots, 1girl, smile\n"


def test_other_weights_are_asked_anew(here):
    tag(here)
    retrained = TableTagger({k: {"sky": 0.9} for k in "abc"}, identity="table-2")
    tag(here, scorers=[retrained])
    assert retrained.asked == 3
    assert written(here)["a"] == "astrid, sky\n"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:30],
        lambda data: b"",
        lambda data: data[:20] + b"\xff" * 40,
        lambda data: gzip.compress(b"[1]"),
    ],
    ids=["cut off", "empty", "overwritten", "not scores"],
)
def test_a_damaged_file_of_scores_is_made_again(here, caplog, damage):
    tag(here)
    file = scores.scores_file(here, "table")
    file.write_bytes(damage(file.read_bytes()))
    tagger = TableTagger(TABLE)
    tag(here, scorers=[tagger])
    assert tagger.asked == 3
    assert "is damaged" in caplog.text and "tagged again" in caplog.text


def test_what_was_scored_before_a_failure_is_kept(here, monkeypatch):
    monkeypatch.setattr(scores, "CHUNK", 1)
    failing = TableTagger({"a": TABLE["a"], "b": TABLE["b"]})
    with pytest.raises(KeyError):
        tag(here, scorers=[failing])
    again = TableTagger(TABLE)
    tag(here, scorers=[again])
    assert again.asked == 1, "only c was left"


def test_a_long_run_saves_as_it_goes(here, monkeypatch):
    """Killed outright, it loses no more than the pictures since the last save."""
    there = []

    class Looking(TableTagger):
        def scores(self, images, progress=None):
            there.append(
                len(scores.load(scores.scores_file(here, self.name), self.identity).pictures)
            )
            return super().scores(images)

    monkeypatch.setattr(scores, "CHUNK", 1)
    monkeypatch.setattr(scores, "SAVE_EVERY", -1)
    tag(here, scorers=[Looking(TABLE)])
    assert there == [0, 1, 2]


def test_progress_runs_over_the_whole_set(here, monkeypatch):
    class Telling(TableTagger):
        def scores(self, images, progress=None):
            progress("Tagging", len(images), len(images))
            return super().scores(images)

    monkeypatch.setattr(scores, "CHUNK", 2)
    seen = []
    tag(
        here,
        scorers=[Telling(TABLE)],
        progress=lambda what, done, total: seen.append((done, total)),
    )
    assert seen == [(2, 3), (3, 3)]
