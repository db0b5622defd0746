"""Makes the embedded VAE: the factor and channels of SDXL's, narrower, trained on random crops."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from .fit import as_tensor, train_loop
from .pictures import Drawings

# SDXL's own; the VAE's latents are brought to the spread that it expects.
SCALING_FACTOR = 0.13025

VAE_CONFIG = dict(
    in_channels=3,
    out_channels=3,
    down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4,
    block_out_channels=[24, 48, 96, 128],
    layers_per_block=1,
    latent_channels=4,
    # few groups: with many, a flat colour is normalised away and hue is learnt last
    norm_num_groups=2,
    sample_size=128,
    scaling_factor=SCALING_FACTOR,
)


def train_vae(
    sets: list[Drawings],
    folder: Path,
    steps: int,
    decoder_steps: int = 0,
    seed: int = 0,
    batch: int = 16,
    crop: int = 64,
) -> AutoencoderKL:
    """AutoencoderKL (factor 8, 4 channels) on random crops; latents centred and scaled for
    `SCALING_FACTOR`.

    For the last `decoder_steps` the encoder stays as it is, so that others can already learn from
    its latents.
    """
    torch.manual_seed(seed)
    vae = AutoencoderKL(**VAE_CONFIG, mid_block_add_attention=False).to(
        memory_format=torch.channels_last
    )

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(seed * 7919 + step)
        torch.manual_seed(seed * 7919 + step)
        x = as_tensor(np.stack([_random_crop(rng.choice(sets), crop, rng) for _ in range(batch)]))
        x = x.to(memory_format=torch.channels_last)
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        return (y - x).abs().mean() + (y - x).pow(2).mean() + 0.5 * _edges(y - x) + 2e-4 * kl

    vae = train_loop("vae", vae, loss_of, steps, lr=1.5e-3, folder=folder, decay=0.998)
    vae = centre_latents(vae, sets)
    return sharpen_decoder(vae, sets, folder, decoder_steps, seed) if decoder_steps else vae


def sharpen_decoder(
    vae: AutoencoderKL,
    sets: list[Drawings],
    folder: Path,
    steps: int,
    seed: int = 0,
    batch: int = 6,
) -> AutoencoderKL:
    """Trains the decoder alone, on whole pictures, as it will be used; the latents keep their
    meaning.
    """
    decoder = torch.nn.ModuleDict(
        {"post": vae.post_quant_conv, "decoder": vae.decoder}
    ).requires_grad_(True)

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(seed * 6007 + step)
        torch.manual_seed(seed * 6007 + step)
        drawings = rng.choice(sets)
        x = as_tensor(drawings.pixels[[rng.randrange(len(drawings.pixels)) for _ in range(batch)]])
        x = x.to(memory_format=torch.channels_last)
        with torch.no_grad():
            z = vae.encode(x).latent_dist.mean
            z = (
                z + rng.uniform(0, 0.08) * torch.randn_like(z) / SCALING_FACTOR
            )  # what a sampler makes is never quite right
        difference = decoder["decoder"](decoder["post"](z)) - x
        return difference.abs().mean() + difference.pow(2).mean() + 0.5 * _edges(difference)

    average = train_loop("decoder", decoder, loss_of, steps, lr=6e-4, folder=folder, decay=0.998)
    vae.post_quant_conv.load_state_dict(average["post"].state_dict())
    vae.decoder.load_state_dict(average["decoder"].state_dict())
    return vae.eval()


def _random_crop(drawings: Drawings, crop: int, rng: random.Random) -> np.ndarray:
    picture = drawings.pixels[rng.randrange(len(drawings.pixels))]
    y, x = rng.randrange(picture.shape[0] - crop + 1), rng.randrange(picture.shape[1] - crop + 1)
    return picture[y : y + crop, x : x + crop]


def _edges(difference: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbours: keeps outlines crisp."""
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


@torch.no_grad()
def centre_latents(vae: AutoencoderKL, sets: list[Drawings]) -> AutoencoderKL:
    """Folds a shift and scale of each latent channel into the 1x1 convolutions around it.

    Afterwards latents times `SCALING_FACTOR` have mean 0 and deviation 1 over the drawn world;
    pictures are unchanged.
    """
    means = torch.cat(
        [
            vae.encode(as_tensor(s.pixels[:200])).latent_dist.mean.permute(1, 0, 2, 3).flatten(1)
            for s in sets
        ],
        1,
    )
    shift, spread = means.mean(1), means.std(1) * SCALING_FACTOR  # new = (old - shift) / spread
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:4].div_(spread[:, None, None, None])
    quant.bias[:4].sub_(shift).div_(spread)
    quant.bias[4:].sub_(2 * spread.log())
    post.bias.add_(post.weight[:, :, 0, 0] @ shift)
    post.weight.mul_(spread[None, :, None, None])
    return vae
