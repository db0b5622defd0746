"""How the embedded base model is made."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from lorakit.demo import base
from lorakit.demo.pictures import Drawings


def drawings(count: int = 12) -> Drawings:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Drawings((32, 32), pixels, [["1girl"]] * count)


def test_centring_changes_the_latents_scale_and_not_the_pictures() -> None:
    torch.manual_seed(0)
    vae, sets = AutoencoderKL(**base.VAE_CONFIG, mid_block_add_attention=False).eval(), [drawings()]
    x = base.as_tensor(sets[0].pixels)
    with torch.no_grad():
        before = vae.decode(vae.encode(x).latent_dist.mean).sample
        base.centre_latents(vae, sets)
        latents = vae.encode(x).latent_dist.mean * base.SCALING_FACTOR
        after = vae.decode(latents / base.SCALING_FACTOR).sample
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert (after - before).abs().max() < 1e-4


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    def trained(folder: Path, stops: list[int]) -> torch.Tensor:
        folder.mkdir()
        for stop in stops:
            torch.manual_seed(0)
            layer = torch.nn.Linear(3, 1)

            def loss_of(
                step: int, layer: torch.nn.Linear = layer, last: int = stop
            ) -> torch.Tensor:
                if step >= last:
                    raise KeyboardInterrupt
                x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
                return (layer(x) - x.sum(1, keepdim=True)).pow(2).mean()

            try:
                average = base.train_loop("line", layer, loss_of, 500, 1e-2, folder, 0.9)
            except KeyboardInterrupt:
                continue
        return average.weight.detach()

    whole, broken = trained(tmp_path / "a", [10**9]), trained(tmp_path / "b", [260, 499, 10**9])
    assert torch.equal(whole, broken)
    assert (whole - 1).abs().max() < 0.05  # and it learns: the sum's weights are ones


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
