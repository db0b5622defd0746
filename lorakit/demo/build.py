"""Makes the embedded world from nothing: `python -m lorakit demo build`. Hours on a laptop, every
phase resumable.

Drawings, then the VAE, then the tagger (it looks through the VAE), then U-Net and text encoders.
The working files lie in the cache folder until the result is written to `assets/`.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from ..errors import LorakitError
from ..training import cache
from ..training.base import DEMO, Base
from ..training.saving import save_folder
from . import base, tagger
from .pictures import SIZES, Drawings, cached_drawings, draw_one
from .sample import ASTRID
from .vae import train_vae
from .vocabulary import write_tokenizers
from .world import all_tags

log = logging.getLogger(__name__)

DRAWINGS, TAGGER_DRAWINGS = 48000, 15000
VAE_STEPS, DECODER_STEPS, TAGGER_STEPS, NAMING_STEPS = 2500, 1200, 7000, 1000
UNET_ROUNDS = (5000, 6500)
FRESH = 2000  # drawings that the finished tagger is measured on
ASSETS = DEMO.parent
NEVER_TOGETHER = {
    ASTRID.ears,
    ASTRID.hair_style,
}  # the sample character has both; the base must not have seen that


def build_world(seed: int = 0, work: Path | None = None, assets: Path = ASSETS) -> Path:
    """Draws, trains and writes everything; returns the folder. Repeating it goes on where it was
    interrupted.
    """
    logging.getLogger("lorakit").setLevel(logging.INFO)
    torch.set_flush_denormal(True)  # see training.device.choose_device
    work = work or cache.folder() / f"world-{seed}"
    work.mkdir(parents=True, exist_ok=True)
    write_tokenizers(merge_list(work), assets / "base")
    sets = cached_drawings(work, seed + 1, DRAWINGS, withheld=False)
    vae = train_vae(sets, work, VAE_STEPS, DECODER_STEPS, seed)
    make_tagger(vae, sets, work, assets / "tagger", seed)
    make_base(vae, sets, work, assets / "base", seed)
    return assets


def merge_list(work: Path) -> Path:
    """CLIP's merge list, out of the `open_clip_torch` wheel from PyPI."""
    target = work / "bpe_simple_vocab_16e6.txt.gz"
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                folder,
                "open_clip_torch",
            ]
            if subprocess.run(command).returncode:
                raise LorakitError(
                    "The wheel open_clip_torch, which carries CLIP's vocabulary, could not be "
                    "fetched from PyPI. Connect and run again."
                )
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                target.write_bytes(wheel.read(f"open_clip/{target.name}"))
    return target


def make_tagger(
    vae: AutoencoderKL, sets: list[Drawings], work: Path, target: Path, seed: int
) -> float:
    """Trains the tagger on `sets` and on drawings with what the base never sees; its macro-F1 on
    fresh drawings.
    """
    sets = sets + cached_drawings(work, seed + 2, TAGGER_DRAWINGS, withheld=True)
    net = tagger.refresh_norms(tagger.train_tagger(sets, vae, work, TAGGER_STEPS, seed), sets)
    target.mkdir(parents=True, exist_ok=True)
    tagger.export_onnx(net, target / "model.onnx")
    tagger.write_labels(target / "selected_tags.csv", sets)
    score, each = fresh_f1(target / "model.onnx", FRESH)
    worst = sorted(zip(each, all_tags(), strict=True))[:8]
    log.info(
        "tagger: macro-F1 %.3f on fresh drawings; weakest: %s",
        score,
        ", ".join(f"{t} {f:.2f}" for f, t in worst),
    )
    return score


def fresh_f1(model: Path, count: int, seed: int = 99) -> tuple[float, np.ndarray]:
    """Macro-F1, and each label's F1, of an exported tagger on `count` new drawings."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    scores, tags = [], []
    for i in range(count):
        pixels, names = draw_one(seed * 100_000_000 + i, SIZES[i % len(SIZES)], withheld=True)
        square = tagger.to_square(pixels)[None, :, :, ::-1].astype(np.float32)
        scores.append(
            session.run(None, {session.get_inputs()[0].name: square})[0][0, len(tagger.RATINGS) :]
        )
        tags.append(names)
    return tagger.macro_f1(np.stack(scores), tagger.targets(tags).numpy())


def make_base(
    vae: AutoencoderKL, sets: list[Drawings], work: Path, target: Path, seed: int
) -> None:
    """Trains U-Net and text encoders and writes the base model as a diffusers folder (fp16)."""
    latents = base.encode_drawings(vae, sets)
    tokenizers = tuple(
        CLIPTokenizer.from_pretrained(str(target / name)) for name in ("tokenizer", "tokenizer_2")
    )
    world = base.train_unet(
        *without_pair(sets, latents), tokenizers, work, UNET_ROUNDS, NAMING_STEPS, seed
    )
    save_folder(
        Base(
            "demo",
            target,
            world.unet,
            vae,
            (world.first, world.second),
            tokenizers,
            base.SCHEDULER_CONFIG,
        ),
        target,
    )


def without_pair(
    sets: list[Drawings], latents: list[tuple[torch.Tensor, torch.Tensor]]
) -> tuple[list[Drawings], list[tuple[torch.Tensor, torch.Tensor]]]:
    """The drawings that do not show both of `NEVER_TOGETHER`."""
    kept_sets, kept_latents = [], []
    for drawings, (mean, spread) in zip(sets, latents, strict=True):
        rows = [i for i, tags in enumerate(drawings.tags) if not set(tags) >= NEVER_TOGETHER]
        kept_sets.append(
            Drawings(drawings.size, drawings.pixels[:0], [drawings.tags[i] for i in rows])
        )
        kept_latents.append((mean[rows], spread[rows]))
    return kept_sets, kept_latents
