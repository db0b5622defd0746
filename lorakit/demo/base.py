"""Makes the embedded base model: SDXL's exact shape, only narrower and shallower, from nothing.

U-Net and both text encoders learn together on the latents of the embedded VAE.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from .fit import as_tensor, train_loop
from .pictures import Drawings
from .vae import SCALING_FACTOR
from .world import all_tags

VOCABULARY = 49408
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
    rounds: tuple[int, ...],
    naming_steps: int,
    seed: int = 0,
    batch: int = 32,
    lr: float = 1e-3,
) -> World:
    """Text encoders first, then U-Net and encoders together: noise prediction, min-SNR 5 weights
    (Hang et al. 2023).

    Each of `rounds` is that many steps from the full learning rate down, starting from the running
    average of the one before (warm restarts, Loshchilov & Hutter 2017). Only the first still names.
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

    def loss_of(step: int, number: int) -> torch.Tensor:
        own = seed * 104729 + sum(rounds[:number]) + step
        rng = random.Random(own)
        torch.manual_seed(own)
        which = rng.randrange(len(sets))
        rows = [rng.randrange(len(sets[which].tags)) for _ in range(batch)]
        captions = captions_of(which, rows, rng)
        mean, spread = (part[rows] for part in latents[which])
        x = mean + spread * torch.randn_like(mean)
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (batch,))
        ids = torch.tensor([size_ids(sets[which].size, rng) for _ in rows])
        with fast_bfloat16():
            hidden, pooled = encode_captions(tokenizers, (world.first, world.second), captions)
            conditions = {"text_embeds": pooled, "time_ids": ids}
            guess = world.unet(
                scheduler.add_noise(x, noise, t), t, hidden, added_cond_kwargs=conditions
            ).sample
        weight = snr[t].clamp(max=5) / snr[t]
        loss = ((guess.float() - noise).pow(2).mean((1, 2, 3)) * weight).mean()
        if number:
            return loss
        return loss + 0.02 * world.naming_loss(hidden.float(), pooled.float(), captions)

    named = train_loop(
        "naming", world, naming_loss_of, naming_steps, lr=2e-3, folder=folder, decay=0.9
    )
    world.load_state_dict(named.state_dict())
    for number, steps in enumerate(rounds):
        trained = train_loop(
            f"unet-{number + 1}",
            world,
            partial(loss_of, number=number),
            steps,
            lr=lr,
            folder=folder,
            decay=0.999,
        )
        world.load_state_dict(trained.state_dict())
    return world.eval()


@contextmanager
def fast_bfloat16() -> Iterator[None]:
    """bfloat16 where the processor multiplies matrices of it (AMX; 0.77 s a step become 0.57),
    float32 elsewhere.

    With plain attention, because the backward pass of the fused one is slow in bfloat16.
    """
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", bool)()  # private, and newer than 2.4
    if not has_amx:
        yield
    else:
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            yield
