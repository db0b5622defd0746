"""Previews: pictures the model draws while it learns, always from the same seeds, and grids of
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ..errors import SettingsError
from ..files import write_safely
from ..progress import Progress, silent
from .base import ENCODERS, Base
from .config import PreviewSettings
from .text import encode_texts, pad_chunks


@dataclass(frozen=True)
class Prompt:
    """What a preview is drawn from; an empty `negative` is the settings' own."""

    text: str
    seed: int
    negative: str = ""


def prompts(
    settings: PreviewSettings, activation_tag: str, captions: Sequence[str] = ()
) -> list[Prompt]:
    """The activation tag alone, `count` times, then the user's own prompts, those of the prompts
    file and some of the dataset's captions; each preview has the next seed. Raises SettingsError.
    """
    texts = [activation_tag] * settings.count + list(settings.prompts)
    wanted = [Prompt(text, settings.seed + i) for i, text in enumerate(texts)]
    if settings.prompts_file:
        wanted += read_prompts(Path(settings.prompts_file), settings.seed + len(wanted))
    first = settings.seed + len(wanted)
    chosen = evenly(sorted(set(filter(None, captions))), settings.from_captions)
    return wanted + [Prompt(text, first + i) for i, text in enumerate(chosen)]


def evenly(items: Sequence[str], count: int) -> list[str]:
    """At most `count` of the items, evenly spread over all."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def read_prompts(path: Path, seed: int) -> list[Prompt]:
    """The prompts of a text file, one a line, as kohya writes them: `text --n negative --d seed`.

    Empty lines and those that begin with # are left out. Raises SettingsError.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"preview: prompts_file {path} cannot be read ({error}). Give a text file with one "
            "prompt a line."
        ) from error
    kept = [(i, line) for i, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#"]
    return [_prompt(line, seed + n, f"{path}, line {i}") for n, (i, line) in enumerate(kept)]


def _prompt(line: str, seed: int, where: str) -> Prompt:
    text, *options = re.split(r"\s--(?=\w)", f" {line.strip()}")
    values = {"n": "", "d": str(seed)}
    for option in options:
        name, _, value = option.partition(" ")
        if name not in values or (name == "d" and not value.strip().isdecimal()):
            raise SettingsError(
                f"{where}: '--{option}' is not understood; there are '--n WORDS' for the negative "
                "prompt and '--d NUMBER' for the seed."
            )
        values[name] = value.strip()
    return Prompt(text.strip(), int(values["d"]), values["n"])


def make_sampler(name: str, scheduler: Mapping[str, Any]) -> Any:
    """diffusers' scheduler for one of `config.preview.SAMPLERS`, with the base model's own noise
    schedule and prediction.
    """
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "euler_a": ("EulerAncestralDiscreteScheduler", {}),
        "euler": ("EulerDiscreteScheduler", {}),
        "dpmpp_2m": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
        "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    }
    kind, options = kinds[name]
    return getattr(diffusers, kind).from_config({**scheduler, **options})


States = Mapping[str, tuple[torch.Tensor, torch.Tensor]]


def encode_prompts(base: Base, wanted: Sequence[Prompt], settings: PreviewSettings) -> States:
    """What the text encoders make of each prompt and negative prompt, by its text."""
    texts = [p.text for p in wanted] + [p.negative or settings.negative for p in wanted]
    with base.present(*ENCODERS):
        once = list(dict.fromkeys(["", *texts]))
        return dict(zip(once, encode_texts(base.tokenizers, base.encoders, once), strict=True))


@torch.no_grad()
def draw(
    base: Base,
    wanted: Sequence[Prompt],
    settings: PreviewSettings,
    size: tuple[int, int],
    progress: Progress = silent,
    batch: int = 0,
    states: States | None = None,
) -> list[Image.Image]:
    """One picture of `size` (width, height) for each prompt, drawn by the weights as they are now;
    `states` are the prompts', if they are known already.

    Each prompt's noise depends on its seed alone, so the batch size changes nothing but speed.
    """
    states = states or encode_prompts(base, wanted, settings)
    nothing = (None,) * 5  # VAE, encoders and tokenizers do their part outside
    pipeline = StableDiffusionXLPipeline(
        *nothing,
        base.unet,
        make_sampler(settings.sampler, base.scheduler),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    batch = batch or max(1, 16 * 128 * 128 // (size[0] * size[1]))
    pictures: list[Image.Image] = []
    progress("Drawing previews", 0, len(wanted))
    with base.present("unet", "vae"):
        for start in range(0, len(wanted), batch):
            part = wanted[start : start + batch]
            pictures += _decode(base, _latents(pipeline, base, part, settings, size, states))
            progress("Drawing previews", len(pictures), len(wanted))
    return pictures


def _latents(
    pipeline: StableDiffusionXLPipeline,
    base: Base,
    part: Sequence[Prompt],
    settings: PreviewSettings,
    size: tuple[int, int],
    states: States,
) -> torch.Tensor:
    texts = [p.text for p in part] + [p.negative or settings.negative for p in part]
    device, dtype = base.unet.device, base.dtype
    hidden = pad_chunks([states[text][0] for text in texts], states[""][0]).to(device, dtype)
    pooled = torch.stack([states[text][1] for text in texts]).to(device, dtype)
    return pipeline(
        prompt_embeds=hidden[: len(part)],
        negative_prompt_embeds=hidden[len(part) :],
        pooled_prompt_embeds=pooled[: len(part)],
        negative_pooled_prompt_embeds=pooled[len(part) :],
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


def parameters(prompt: Prompt, settings: PreviewSettings, size: tuple[int, int]) -> str:
    """How a preview was drawn, as A1111 and those that read its pictures write it."""
    negative = prompt.negative or settings.negative
    lines = [prompt.text, *([f"Negative prompt: {negative}"] if negative else [])]
    lines.append(
        f"Steps: {settings.steps}, Sampler: {settings.sampler}, CFG scale: {settings.cfg:g}, "
        f"Seed: {prompt.seed}, Size: {size[0]}x{size[1]}"
    )
    return "\n".join(lines)


def save_picture(picture: Image.Image, path: Path, text: str = "") -> Path:
    """Writes a PNG or JPEG safely; a PNG keeps `text` under 'parameters', as A1111's do."""
    details = PngInfo()
    if text:
        details.add_itxt("parameters", text)
    return write_safely(
        path, lambda temporary: picture.save(temporary, quality=92, pnginfo=details)
    )
