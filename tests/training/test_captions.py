"""What becomes of a caption at each step."""

import random
from collections import Counter

import pytest

from lorakit.training.captions import prior_caption, shown_caption
from lorakit.training.config import CaptionSettings, TrainingSettings

CAPTION = "astrid, smile, outdoors, full body, waving"
SEPARATED = "astrid, horns ||| smile, outdoors, waving ||| best quality"
STILL = {"shuffle_tags": False}


def many(caption: str = CAPTION, own: int | None = None, **changes: object) -> list[str]:
    """The caption as it is shown 200 times; `own` is the keep_tags of its subset."""
    settings = CaptionSettings(**changes)  # type: ignore[arg-type]
    return [shown_caption(caption, settings, random.Random(i), own) for i in range(200)]


def priors(caption: str = CAPTION, own: int | None = None, **changes: object) -> list[str]:
    settings = CaptionSettings(**changes)  # type: ignore[arg-type]
    return [prior_caption(caption, settings, random.Random(i), own) for i in range(200)]


def test_the_activation_tag_stays_first_while_the_others_are_shuffled() -> None:
    shown = many()
    assert all(caption.startswith("astrid, ") for caption in shown)
    assert len(set(shown)) == 24
    assert all(sorted(caption.split(", ")) == sorted(CAPTION.split(", ")) for caption in shown)


@pytest.mark.parametrize(
    ("caption", "changes", "shown"),
    [
        (CAPTION, STILL, CAPTION),
        (" astrid ,smile,, outdoors, ", STILL, "astrid, smile, outdoors"),
        ("", STILL, ""),
        ("astrid, smile\noutdoors", STILL, "astrid, smile, outdoors"),
        # prefix and suffix
        (CAPTION, STILL | {"caption_prefix": "score_9, score_8"}, f"score_9, score_8, {CAPTION}"),
        (CAPTION, STILL | {"caption_suffix": "best quality"}, f"{CAPTION}, best quality"),
        ("", STILL | {"caption_prefix": "astrid", "caption_suffix": "sky"}, "astrid, sky"),
        # the separator
        (SEPARATED, STILL, "astrid, horns, smile, outdoors, waving, best quality"),
        ("astrid|||smile", STILL, "astrid, smile"),
        ("|||smile|||sky", STILL, "smile, sky"),
        ("astrid|||smile|||a|||b", STILL, "astrid, smile, a, b"),
        ("astrid;smile", STILL | {"keep_separator": ";"}, "astrid, smile"),
        ("astrid|||smile", STILL | {"keep_separator": ""}, "astrid|||smile"),
        # sentences stay as they are
        ("A girl, on a hill. She waves.", {"sentences": True}, "A girl, on a hill. She waves."),
        ("A girl\n on a hill", {"sentences": True}, "A girl on a hill"),
        ("astrid ||| A girl.", {"sentences": True}, "astrid, A girl."),
        (
            "A girl.",
            {"sentences": True, "caption_prefix": "astrid", "caption_suffix": "a sketch"},
            "astrid, A girl. a sketch",
        ),
        # without wildcards, braces are as good as any other sign
        ("astrid, {red|blue} dress", STILL, "astrid, {red|blue} dress"),
    ],
)
def test_a_caption_is_shown_as_it_is_meant(
    caption: str, changes: dict[str, object], shown: str
) -> None:
    assert set(many(caption, **changes)) == {shown}


@pytest.mark.parametrize(("keep", "fixed"), [(0, 0), (2, 2), (5, 5), (9, 5)])
def test_so_many_tags_stay_in_place_as_are_to_be_kept(keep: int, fixed: int) -> None:
    orders = [120, 24, 6, 2, 1, 1][fixed]
    for shown in (many(keep_tags=keep), many(own=keep, keep_tags=3)):
        starts = {tuple(caption.split(", ")[:fixed]) for caption in shown}
        assert starts == {tuple(CAPTION.split(", ")[:fixed])}
        assert len(set(shown)) > 0.7 * orders


def test_what_stands_outside_the_separators_never_moves_nor_goes() -> None:
    shown = many(SEPARATED, keep_tags=0, tag_dropout=0.5)
    assert all(c.startswith("astrid, horns") and c.endswith("best quality") for c in shown)
    middles = {c.removeprefix("astrid, horns").removesuffix(", best quality") for c in shown}
    assert "" in middles and ", waving, smile" in middles and len(middles) == 16


def test_prefix_and_suffix_stay_while_the_tags_between_are_shuffled() -> None:
    shown = many(keep_tags=0, caption_prefix="p", caption_suffix="s", tag_dropout=1.0)
    assert set(shown) == {"p, s"}
    shown = many(keep_tags=0, caption_prefix="p", caption_suffix="s")
    assert {(c[:3], c[-3:]) for c in shown} == {("p, ", ", s")} and len(set(shown)) > 80


def test_tag_dropout_thins_out_the_others_only() -> None:
    shown = many(tag_dropout=0.5)
    assert all(caption.split(", ")[0] == "astrid" for caption in shown)
    assert 2.7 < sum(len(caption.split(", ")) for caption in shown) / len(shown) < 3.3
    assert set(many(tag_dropout=1.0)) == {"astrid"}


def test_caption_dropout_leaves_some_pictures_without_any_words() -> None:
    assert 0.2 < many(caption_dropout=0.3).count("") / 200 < 0.4
    assert set(many(caption_dropout=1.0, caption_prefix="p", caption_suffix="s")) == {""}
    assert set(many(caption_dropout=1.0, sentences=True)) == {""}


def test_sentences_are_neither_shuffled_nor_thinned() -> None:
    assert set(many(sentences=True, tag_dropout=0.9)) == {CAPTION}


# --- wildcards ------------------------------------------------------------------------------------


def test_each_wildcard_takes_each_of_its_choices_about_as_often() -> None:
    shown = many("astrid, {red|blue|{light|dark} green} dress", wildcards=True, **STILL)
    counts = Counter(caption.removeprefix("astrid, ") for caption in shown)
    expected = {"red dress": 67, "blue dress": 67, "light green dress": 33, "dark green dress": 33}
    assert counts.keys() == expected.keys()
    assert all(abs(counts[choice] - count) < 30 for choice, count in expected.items())


def test_a_choice_may_be_nothing_or_several_tags() -> None:
    assert set(many("astrid, {|hat, scarf}", wildcards=True, **STILL)) == {
        "astrid",
        "astrid, hat, scarf",
    }


def test_smileys_in_braces_are_no_wildcards() -> None:
    assert set(many("astrid, :{, }:", wildcards=True, **STILL)) == {"astrid, :{, }:"}


def test_of_several_lines_one_is_taken_if_wildcards_are_on() -> None:
    lines = "astrid, smile\n\nastrid, a ||| b\n"
    assert set(many(lines, wildcards=True, **STILL)) == {"astrid, smile", "astrid, a, b"}
    assert set(many("", wildcards=True)) == {""}


# --- without what calls the LoRA ------------------------------------------------------------------


def test_a_prior_caption_has_every_tag_but_the_activation_tag() -> None:
    settings = TrainingSettings(tag_dropout=0.9, caption_dropout=0.5)
    made = [prior_caption(CAPTION, settings, random.Random(i)) for i in range(50)]
    assert all(sorted(c.split(", ")) == ["full body", "outdoors", "smile", "waving"] for c in made)
    assert len(set(made)) > 10


@pytest.mark.parametrize(
    ("caption", "keep", "changes", "prior"),
    [
        (CAPTION, None, STILL, "smile, outdoors, full body, waving"),
        (CAPTION, 3, STILL, "full body, waving"),
        (
            CAPTION,
            4,
            STILL | {"caption_prefix": "astrid2", "caption_suffix": "sketch"},
            "waving, sketch",
        ),
        (SEPARATED, 0, STILL, "smile, outdoors, waving, best quality"),
        ("astrid, {a|a} dress, sky", 1, STILL | {"wildcards": True}, "a dress, sky"),
        ("astrid, A girl, on a hill.", 1, {"sentences": True}, "A girl, on a hill."),
        ("astrid ||| A girl.", 0, {"sentences": True, "caption_prefix": "p"}, "A girl."),
    ],
)
def test_a_prior_leaves_out_all_that_is_kept_at_the_start(
    caption: str, keep: int | None, changes: dict[str, object], prior: str
) -> None:
    assert set(priors(caption, keep, **changes)) == {prior}


@pytest.mark.parametrize("changes", [{}, {"sentences": True}])
def test_a_regularisation_caption_has_no_prefix_and_nothing_to_leave_out(
    changes: dict[str, object],
) -> None:
    settings = CaptionSettings(caption_prefix="astrid", **(STILL | changes))  # type: ignore[arg-type]
    for made in (shown_caption, prior_caption):
        assert made("1girl, smile", settings, random.Random(0), 1, True) == "1girl, smile"


@pytest.mark.parametrize("made", [shown_caption, prior_caption])
def test_the_same_dice_give_the_same_caption(made) -> None:  # type: ignore[no-untyped-def]
    settings = CaptionSettings(tag_dropout=0.3, caption_dropout=0.2, wildcards=True)
    text = "astrid, {a|b|c}, d, e, f\nastrid, g, h, i"
    first = [made(text, settings, random.Random(i)) for i in range(50)]
    assert first == [made(text, settings, random.Random(i)) for i in range(50)]
