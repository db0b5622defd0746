"""How the embedded base model is made."""

import random

import pytest
import torch

from lorakit.demo import base


def test_a_caption_is_a_shuffled_part_of_the_tags_and_now_and_then_empty() -> None:
    tags = ["1girl", "solo", "smile", "red hair", "blue eyes"]
    captions = [base.caption_of(tags, random.Random(i)) for i in range(400)]
    assert all(set(caption.split(", ")) <= set(tags) for caption in captions if caption)
    assert len(set(captions)) > 100
    assert 0.07 < captions.count("") / 400 < 0.2
    assert sum(len(caption.split(", ")) == 5 for caption in captions) > 120  # all five tags in many


def test_size_ids_are_height_first_as_sdxl_has_them_and_never_smaller_than_the_picture() -> None:
    for i in range(50):
        height, width, top, left, crop_height, crop_width = base.size_ids(
            (96, 160), random.Random(i)
        )
        assert (top, left, crop_height, crop_width) == (0, 0, 160, 96)
        assert height >= 160 and width >= 96 and height / width == pytest.approx(160 / 96, rel=0.01)


def test_the_naming_loss_falls_when_the_heads_name_the_right_tags() -> None:
    torch.manual_seed(0)
    world = base.World()
    hidden, pooled = torch.randn(2, 77, 160), torch.randn(2, 96)
    random_loss = world.naming_loss(hidden, pooled, ["horns", "horns"])
    for head in (world.names_hidden, world.names_pooled):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.constant_(head.bias, -9.0)
        head.bias.data[base.all_tags().index("horns")] = 9.0
    assert world.naming_loss(hidden, pooled, ["horns", "horns"]) < 0.01 < random_loss
    assert world.naming_loss(hidden, pooled, ["horns", ""]) > 0.5  # one of the two is named wrongly
