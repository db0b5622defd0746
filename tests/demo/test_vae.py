"""How the embedded VAE is made."""

import numpy as np
import torch
from diffusers import AutoencoderKL

from lorakit.demo import vae as made
from lorakit.demo.fit import as_tensor
from lorakit.demo.pictures import Drawings


def drawings(count: int = 12) -> Drawings:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Drawings((32, 32), pixels, [["1girl"]] * count)


def test_centring_changes_the_latents_scale_and_not_the_pictures() -> None:
    torch.manual_seed(0)
    vae, sets = AutoencoderKL(**made.VAE_CONFIG, mid_block_add_attention=False).eval(), [drawings()]
    x = as_tensor(sets[0].pixels)
    with torch.no_grad():
        before = vae.decode(vae.encode(x).latent_dist.mean).sample
        made.centre_latents(vae, sets)
        latents = vae.encode(x).latent_dist.mean * made.SCALING_FACTOR
        after = vae.decode(latents / made.SCALING_FACTOR).sample
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert (after - before).abs().max() < 1e-4
