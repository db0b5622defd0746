"""Previews: pictures the model draws while it learns, always from the same seeds, and grids of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline
from PIL import Image, ImageDraw, ImageFont

from ..files import write_safely
from ..progress import Progress, silent
from .base import Base
from .config import PreviewSettings
from .text import encode_captions


@dataclass(frozen=True)
class Prompt:
    """What a preview is drawn from."""

    text: str
    seed: int


def prompts(settings: PreviewSettings, activation_tag: str) -> list[Prompt]:
    """The activation tag alone, `count` times, then the user's own prompts; each preview has the
    next seed.
    """
    texts = [activation_tag] * settings.count + list(settings.prompts)
    return [Prompt(text, settings.seed + i) for i, text in enumerate(texts)]


@torch.no_grad()
def draw(
    base: Base,
    wanted: Sequence[Prompt],
    settings: PreviewSettings,
    size: tuple[int, int],
    progress: Progress = silent,
    batch: int = 0,
) -> list[Image.Image]:
    """One picture of `size` (width, height) for each prompt, drawn by the weights as they are now.

    Each prompt's noise depends on its seed alone, so the batch size changes nothing but speed.
    """
    pipeline = StableDiffusionXLPipeline(
        base.vae,
        *base.encoders,
        *base.tokenizers,
        base.unet,
        EulerAncestralDiscreteScheduler.from_config(base.scheduler),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    batch = batch or max(1, 16 * 128 * 128 // (size[0] * size[1]))
    pictures: list[Image.Image] = []
    progress("Drawing previews", 0, len(wanted))
    for start in range(0, len(wanted), batch):
        part = wanted[start : start + batch]
        latents = _latents(pipeline, base, part, settings, size)
        pictures += _decode(base, latents)
        progress("Drawing previews", len(pictures), len(wanted))
    return pictures


def _latents(
    pipeline: StableDiffusionXLPipeline,
    base: Base,
    part: Sequence[Prompt],
    settings: PreviewSettings,
    size: tuple[int, int],
) -> torch.Tensor:
    texts = [p.text for p in part] + [settings.negative] * len(part)
    hidden, pooled = encode_captions(base.tokenizers, base.encoders, texts)
    device, dtype = base.unet.device, base.unet.dtype
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return pipeline(
            prompt_embeds=hidden[: len(part)].to(dtype),
            negative_prompt_embeds=hidden[len(part) :].to(dtype),
            pooled_prompt_embeds=pooled[: len(part)].to(dtype),
            negative_pooled_prompt_embeds=pooled[len(part) :].to(dtype),
            generator=[torch.Generator().manual_seed(p.seed) for p in part],
            width=size[0],
            height=size[1],
            num_inference_steps=settings.steps,
            guidance_scale=settings.cfg,
            output_type="latent",
        ).images


def _decode(base: Base, latents: torch.Tensor) -> list[Image.Image]:
    """Pictures from scaled latents; the VAE works in float32, where SDXL's does not overflow."""
    x = base.vae.decode(
        latents.to(base.vae.device, base.vae.dtype) / base.vae.config.scaling_factor
    ).sample
    pixels = (
        ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    )
    return [Image.fromarray(p) for p in pixels]


def grid(
    rows: Sequence[Sequence[Image.Image]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    tile: int = 256,
) -> Image.Image:
    """Pictures in rows and columns with labels above and to the left; each fitted into a square of
    `tile` pixels.
    """
    font = ImageFont.load_default(max(12, tile // 14))
    side = tile * 2 // 5 if row_labels else 0
    above = [_wrapped(label, tile, font) for label in column_labels]
    head = max((text.count("\n") + 1 for text in above), default=0) * (max(12, tile // 14) + 5) + (
        6 if above else 0
    )
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (side + columns * tile, head + len(rows) * tile), "white")
    pen = ImageDraw.Draw(sheet)
    for c, text in enumerate(above):
        pen.text(
            (side + c * tile + tile / 2, head / 2),
            text,
            fill="black",
            font=font,
            anchor="mm",
            align="center",
        )
    for r, row in enumerate(rows):
        if row_labels:
            pen.text(
                (side / 2, head + r * tile + tile / 2),
                _wrapped(row_labels[r], side, font),
                fill="black",
                font=font,
                anchor="mm",
                align="center",
            )
        for c, picture in enumerate(row):
            scale = (tile - 4) / max(picture.size)
            small = picture.resize(
                (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
                Image.Resampling.LANCZOS,
            )
            sheet.paste(
                small,
                (
                    side + c * tile + (tile - small.width) // 2,
                    head + r * tile + (tile - small.height) // 2,
                ),
            )
    return sheet


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = (
            [longer] if font.getlength(longer) <= width - 8 or not lines[-1] else [lines[-1], word]
        )
    return "\n".join(lines[:7])


def save_picture(picture: Image.Image, path: Path) -> Path:
    """Writes a PNG or JPEG safely."""
    return write_safely(path, lambda temporary: picture.save(temporary, quality=92))
