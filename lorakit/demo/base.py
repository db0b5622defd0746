"""Makes the embedded base model: SDXL's exact shape, only narrower and shallower, trained from
nothing.

Two phases, each resumable: the VAE on random crops, then U-Net and both text encoders together on
its latents.
"""

from __future__ import annotations

import copy
import logging
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from .pictures import Drawings
from .world import all_tags

log = logging.getLogger(__name__)

SCALING_FACTOR = 0.13025  # SDXL's own; the VAE's latents are brought to the spread that it expects
VOCABULARY = 49408

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


def train_loop(
    name: str,
    module: torch.nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    steps: int,
    lr: float,
    folder: Path,
    decay: float,
) -> torch.nn.Module:
    """Trains `module` with AdamW, warm-up and cosine; returns its exponential moving average.
    Resumes from `folder`.
    """
    module.train()
    average = copy.deepcopy(module).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    path, first = folder / f"{name}.ckpt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        module.load_state_dict(saved["module"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    started, recent = time.time(), []
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = (
                lr
                * min(1, (step + 1) / 100)
                * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            )
        loss = loss_of(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _follow(average, module, min(decay, (step + 1) / (step + 10)))
        recent.append(loss.item())
        if step % 50 == 49:
            pace = (time.time() - started) / (step + 1 - first)
            log.info(
                "%s step %d/%d loss %.4f, %.2f s a step, %.0f min left",
                name,
                step + 1,
                steps,
                np.mean(recent[-50:]),
                pace,
                pace * (steps - step) / 60,
            )
        if step % 250 == 249 or step == steps - 1:
            state = {
                "module": module.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            torch.save(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
    return average.eval()


@torch.no_grad()
def _follow(average: torch.nn.Module, module: torch.nn.Module, decay: float) -> None:
    """One step of the exponential moving average of the weights."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 NHWC to float NCHW in -1..1."""
    return (
        torch.from_numpy(np.ascontiguousarray(pixels))
        .permute(0, 3, 1, 2)
        .float()
        .div_(127.5)
        .sub_(1)
    )


# --- the VAE --------------------------------------------------------------------------------------


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


# --- U-Net and text encoders ----------------------------------------------------------------------

TEXT_CONFIGS = (
    dict(
        hidden_size=64,
        intermediate_size=256,
        num_attention_heads=2,
        hidden_act="quick_gelu",
        projection_dim=64,
    ),
    dict(
        hidden_size=96,
        intermediate_size=384,
        num_attention_heads=3,
        hidden_act="gelu",
        projection_dim=96,
    ),
)
UNET_CONFIG = dict(
    sample_size=16,
    in_channels=4,
    out_channels=4,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    block_out_channels=[64, 96, 160],
    layers_per_block=2,
    transformer_layers_per_block=[1, 1, 2],
    attention_head_dim=[2, 3, 5],
    cross_attention_dim=64 + 96,
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=32,
    projection_class_embeddings_input_dim=96 + 6 * 32,
    norm_num_groups=16,
)
SCHEDULER_CONFIG = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    prediction_type="epsilon",
    clip_sample=False,
    steps_offset=1,
    timestep_spacing="leading",
)


def text_encoders() -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Both CLIP text encoders, narrow, with the real vocabulary; random weights."""
    shared = dict(
        vocab_size=VOCABULARY,
        num_hidden_layers=3,
        max_position_embeddings=77,
        bos_token_id=49406,
        eos_token_id=49407,
    )
    first, second = (
        CLIPTextConfig(**shared, pad_token_id=pad, **own)
        for pad, own in zip((1, 0), TEXT_CONFIGS, strict=True)
    )
    return CLIPTextModel(first), CLIPTextModelWithProjection(second)


class World(torch.nn.Module):
    """U-Net and text encoders as one module, so that one optimiser and one average hold them all.

    The two heads only exist while training: from the encoders' outputs they name the caption's tags
    again. That teaches the encoders within minutes what the picture loss alone takes hours to,
    above all which colour goes with what.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(**UNET_CONFIG)
        self.first, self.second = text_encoders()
        self.names_hidden = torch.nn.Linear(UNET_CONFIG["cross_attention_dim"], len(all_tags()))
        self.names_pooled = torch.nn.Linear(TEXT_CONFIGS[1]["projection_dim"], len(all_tags()))

    def naming_loss(
        self, hidden: torch.Tensor, pooled: torch.Tensor, captions: list[str]
    ) -> torch.Tensor:
        """How badly the heads name the tags of `captions` from what the encoders made of them."""
        column = {tag: i for i, tag in enumerate(all_tags())}
        target = torch.zeros(len(captions), len(column))
        for row, caption in enumerate(captions):
            target[row, [column[tag] for tag in caption.split(", ") if tag]] = 1
        guesses = self.names_hidden(hidden.mean(1)), self.names_pooled(pooled)
        return (
            sum(functional.binary_cross_entropy_with_logits(guess, target) for guess in guesses)
            * 20
        )


@torch.no_grad()
def encode_drawings(
    vae: AutoencoderKL, sets: list[Drawings], batch: int = 32
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Posterior mean and deviation of every drawing, times `SCALING_FACTOR`, one pair a size."""
    latents = []
    for drawings in sets:
        means, spreads = [], []
        for i in range(0, len(drawings.pixels), batch):
            posterior = vae.encode(
                as_tensor(drawings.pixels[i : i + batch]).to(memory_format=torch.channels_last)
            ).latent_dist
            means.append(posterior.mean.half())
            spreads.append(posterior.std.half())
        latents.append(
            (torch.cat(means).float() * SCALING_FACTOR, torch.cat(spreads).float() * SCALING_FACTOR)
        )
    return latents


def caption_of(tags: list[str], rng: random.Random) -> str:
    """A training caption: tags shuffled, some left out, now and then none at all (for
    classifier-free guidance).
    """
    if rng.random() < 0.1:
        return ""
    keep = rng.uniform(0.35, 1.0) if rng.random() < 0.6 else 1.0
    kept = [tag for tag in tags if rng.random() < keep]
    rng.shuffle(kept)
    return ", ".join(kept)


def size_ids(size: tuple[int, int], rng: random.Random) -> list[float]:
    """SDXL's six numbers. The picture could have been drawn at any larger size, so the original
    size says so.
    """
    width, height = size
    factor = rng.uniform(1, 8) if rng.random() < 0.7 else 1.0
    return [round(height * factor), round(width * factor), 0, 0, height, width]


def train_unet(
    sets: list[Drawings],
    latents: list[tuple[torch.Tensor, torch.Tensor]],
    tokenizers: tuple[object, object],
    folder: Path,
    steps: int,
    naming_steps: int,
    seed: int = 0,
    batch: int = 32,
    lr: float = 1e-3,
) -> World:
    """Text encoders first, then U-Net and encoders together: noise prediction, min-SNR 5 weights
    (Hang et al. 2023).
    """
    from ..training.text import encode_captions

    torch.manual_seed(seed)
    world = World()
    scheduler = DDPMScheduler(**SCHEDULER_CONFIG)
    kept = scheduler.alphas_cumprod
    snr = kept / (1 - kept)

    def captions_of(which: int, rows: list[int], rng: random.Random) -> list[str]:
        return [caption_of(sets[which].tags[row], rng) for row in rows]

    def naming_loss_of(step: int) -> torch.Tensor:
        rng = random.Random(seed * 15485863 + step)
        which = rng.randrange(len(sets))
        captions = captions_of(
            which, [rng.randrange(len(sets[which].tags)) for _ in range(2 * batch)], rng
        )
        return world.naming_loss(
            *encode_captions(tokenizers, (world.first, world.second), captions), captions
        )

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(seed * 104729 + step)
        torch.manual_seed(seed * 104729 + step)
        which = rng.randrange(len(sets))
        rows = [rng.randrange(len(sets[which].tags)) for _ in range(batch)]
        captions = captions_of(which, rows, rng)
        mean, spread = (part[rows] for part in latents[which])
        x = mean + spread * torch.randn_like(mean)
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (batch,))
        hidden, pooled = encode_captions(tokenizers, (world.first, world.second), captions)
        ids = torch.tensor([size_ids(sets[which].size, rng) for _ in rows])
        conditions = {"text_embeds": pooled, "time_ids": ids}
        guess = world.unet(
            scheduler.add_noise(x, noise, t), t, hidden, added_cond_kwargs=conditions
        ).sample
        weight = snr[t].clamp(max=5) / snr[t]
        naming = 0.02 * world.naming_loss(hidden, pooled, captions)
        return ((guess - noise).pow(2).mean((1, 2, 3)) * weight).mean() + naming

    named = train_loop(
        "naming", world, naming_loss_of, naming_steps, lr=2e-3, folder=folder, decay=0.9
    )
    world.load_state_dict(named.state_dict())
    return train_loop("unet", world, loss_of, steps, lr=lr, folder=folder, decay=0.999)
