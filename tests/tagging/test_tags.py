"""Edits on lists of tags, told as a user would: what goes in, what must come out."""

import pytest

from lorakit.errors import SettingsError
from lorakit.tagging import tags


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("1girl, solo,smile", ["1girl", "solo", "smile"]),
        ("  red  hair ,, , smile, ", ["red hair", "smile"]),
        ("", []),
        (" , ,", []),
        ("smile, smile", ["smile", "smile"]),  # parse tells what is there; dedupe is another step
        ("miku, 1girl ||| smile, sky", ["miku", "1girl", "|||", "smile", "sky"]),
        ("miku|||smile", ["miku", "|||", "smile"]),
        (r"saber \(fate\), ^_^", ["saber (fate)", "^_^"]),
        ("||_||, |_|", ["||_||", "|_|"]),
        (r"\m/, \o/", [r"\m/", r"\o/"]),
        ("long_hair", ["long_hair"]),  # whoever wrote underscores keeps them
        ("1girl\nsmile\r\nsky", ["1girl", "smile", "sky"]),
    ],
)
def test_reading_a_caption(caption, expected):
    assert tags.parse(caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "1girl, solo, smile",
        "miku, 1girl ||| smile, sky",
        "a ||| b ||| c",
        "^_^, saber (fate)",
        "",
        "||| a",
    ],
)
def test_writing_what_was_read_gives_the_same_caption(caption):
    assert tags.join(tags.parse(caption)) == caption


@pytest.mark.parametrize("tag", ["red, hair", "red\nhair"])
def test_a_tag_with_a_comma_or_a_line_end_is_refused_in_a_sentence(tag):
    with pytest.raises(
        SettingsError,
        match="is not one tag: it holds a comma or a line end. Give its parts one by one",
    ):
        tags.join(["smile", tag])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("long_hair", "long hair"),
        ("saber_(fate)", "saber (fate)"),
        (r"saber_\(fate\)", "saber (fate)"),
        ("^_^", "^_^"),
        ("(o)_(o)", "(o)_(o)"),
        ("<|>_<|>", "<|>_<|>"),
        ("||_||", "||_||"),
        ("  a__b ", "a b"),
        (r"\m/", r"\m/"),
    ],
)
def test_names_lose_their_underscores_but_faces_keep_them(name, expected):
    assert tags.tidy(name) == expected


def test_all_nineteen_faces_survive():
    assert len(tags.KAOMOJI) == 19
    assert [tags.tidy(face) for face in tags.KAOMOJI] == list(tags.KAOMOJI)


def test_removing_duplicates_keeps_the_first_and_the_order():
    assert tags.dedupe(["miku", "Smile", "sky", "smile", "long_hair", "long hair"]) == [
        "miku",
        "Smile",
        "sky",
        "long_hair",
    ]
    assert tags.dedupe(["a", "|||", "b", "|||", "c", "a"]) == ["a", "|||", "b", "|||", "c"]


def test_removing_knows_other_spellings():
    assert tags.remove(["Long_Hair", "smile", "sky"], ["long hair", "SKY"]) == ["smile"]


def test_replacing_puts_the_new_tags_where_the_old_one_was():
    changes = {"horns": ["hair ornament", "yellow hair ornament"], "smile": []}
    assert tags.replace(["makeup", "horns", "smile", "eyes"], changes) == [
        "makeup",
        "hair ornament",
        "yellow hair ornament",
        "eyes",
    ]


def test_replacing_can_swap_and_does_not_double():
    assert tags.replace(["a", "b"], {"a": ["b"], "b": ["a"]}) == ["b", "a"]
    assert tags.replace(["bow", "ribbon"], {"ribbon": ["bow"]}) == ["bow"]


def test_adding_leaves_what_is_there_alone():
    assert tags.add(["smile", "sky"], ["Sky", "hat", "hat"]) == ["smile", "sky", "hat"]
    assert tags.add(["smile", "sky"], ["sky", "hat"], first=True) == ["hat", "smile", "sky"]


@pytest.mark.parametrize(
    ("before", "activation", "after"),
    [
        (["smile", "sky"], "astrid", ["astrid", "smile", "sky"]),
        (["smile", "Astrid", "sky"], "astrid", ["astrid", "smile", "sky"]),
        (["smile"], "", ["smile"]),
        (["smile"], "astrid, winter astrid", ["astrid", "winter astrid", "smile"]),
        (["smile", "|||", "sky"], "astrid", ["astrid", "smile", "|||", "sky"]),
    ],
)
def test_the_activation_tag_is_always_first_and_there_once(before, activation, after):
    assert tags.activation_first(before, activation) == after


def test_the_opinions_of_several_taggers_are_merged():
    one, two = {"smile": 0.9, "hat": 0.4}, {"smile": 0.5, "sky": 0.6}
    assert tags.union([one, two]) == {"smile": 0.9, "sky": 0.6, "hat": 0.4}
    assert list(tags.union([one, two])) == ["smile", "sky", "hat"], "best first"
    assert tags.intersection([one, two]) == {"smile": 0.5}
    assert tags.mean([one, two]) == pytest.approx({"smile": 0.7, "sky": 0.3, "hat": 0.2})
    assert tags.union([]) == {}


def test_frequencies_count_a_tag_once_for_each_caption():
    counts = tags.frequencies(["smile, smile, sky", ["Smile", "|||", "hat"], "hat"])
    assert counts == {"hat": 2, "smile": 2, "sky": 1}
    assert list(counts) == ["hat", "smile", "sky"], "most frequent first, then a to z"


def test_likeness_is_the_share_of_base_tags_found_averaged_over_pictures():
    base = ["red_hair", "horns", "dress", "boots"]
    assert tags.likeness([["red hair", "horns", "smile"], ["Dress"]], base) == pytest.approx(
        (2 / 4 + 1 / 4) / 2
    )
    assert tags.likeness([[]], base) == 0
    assert tags.likeness([base], base) == 1


def test_likeness_says_what_it_lacks():
    with pytest.raises(SettingsError, match="choose the tags that make up the character first"):
        tags.likeness([["smile"]], [])
    with pytest.raises(SettingsError, match="at least one picture"):
        tags.likeness([], ["smile"])


def test_edits_leave_the_list_they_were_given_alone():
    given = ["b", "a", "b"]
    (
        tags.dedupe(given),
        tags.remove(given, ["a"]),
        tags.replace(given, {"a": ["c"]}),
        tags.add(given, ["d"]),
    )
    tags.activation_first(given, "a")
    assert given == ["b", "a", "b"]
