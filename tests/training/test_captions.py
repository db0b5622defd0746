"""What becomes of a caption at each step."""

import random

from lorakit.training.captions import prior_caption, shown_caption
from lorakit.training.config import TrainingSettings

CAPTION = "astrid, smile, outdoors, full body, waving"


def many(**changes: object) -> list[str]:
    settings = TrainingSettings(**changes)  # type: ignore[arg-type]
    return [shown_caption(CAPTION, settings, random.Random(i)) for i in range(200)]


def test_the_activation_tag_stays_first_while_the_others_are_shuffled() -> None:
    shown = many()
    assert all(caption.startswith("astrid, ") for caption in shown)
    assert len(set(shown)) == 24
    assert all(sorted(caption.split(", ")) == sorted(CAPTION.split(", ")) for caption in shown)


def test_without_shuffling_the_caption_is_as_written() -> None:
    assert set(many(shuffle_tags=False)) == {CAPTION}


def test_tag_dropout_thins_out_the_others_only() -> None:
    shown = many(tag_dropout=0.5)
    assert all(caption.split(", ")[0] == "astrid" for caption in shown)
    assert 2.7 < sum(len(caption.split(", ")) for caption in shown) / len(shown) < 3.3


def test_caption_dropout_leaves_some_pictures_without_any_words() -> None:
    assert 0.2 < many(caption_dropout=0.3).count("") / 200 < 0.4


def test_a_prior_caption_has_every_tag_but_the_activation_tag() -> None:
    settings = TrainingSettings(tag_dropout=0.9, caption_dropout=0.5)
    made = [prior_caption(CAPTION, settings, random.Random(i)) for i in range(50)]
    assert all(sorted(c.split(", ")) == ["full body", "outdoors", "smile", "waving"] for c in made)
    assert len(set(made)) > 10
    kept_order = prior_caption(CAPTION, TrainingSettings(shuffle_tags=False), random.Random(0))
    assert kept_order == "smile, outdoors, full body, waving"
