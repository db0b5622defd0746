"""Turns the embedded base into one that predicts v: `python scripts/v_base.py FOLDER [STEPS]`.

The U-Net alone learns on, from noise prediction to v (Salimans & Ho 2022, section 4), the way
v-prediction checkpoints of SDXL were made. About 15 minutes on two cores; repeating it goes on.
"""

from __future__ import annotations

import logging
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DDPMScheduler

from lorakit.demo import base as making
from lorakit.demo.build import without_pair
from lorakit.demo.fit import train_loop
from lorakit.demo.pictures import cached_drawings
from lorakit.training import objective
from lorakit.training.base import DEMO, load_base
from lorakit.training.saving import save_folder
from lorakit.training.text import encode_captions

DRAWINGS, STEPS, BATCH, LR = 9000, 1500, 32, 5e-4
TOKENIZERS = ("tokenizer", "tokenizer_2")


def main() -> None:
    folder = Path(sys.argv[1])
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else STEPS
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_flush_denormal(True)  # see training.device.choose_device
    if not (folder / "model_index.json").exists():
        make(folder, steps)
    print(f"The v-prediction base is in {folder}.")


def make(folder: Path, steps: int) -> None:
    """Converts the embedded base; its working files lie in `folder` until it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZERS:
        shutil.copytree(DEMO / name, folder / name, dirs_exist_ok=True)
    base = load_base("demo")
    sets = cached_drawings(folder, 11, DRAWINGS, withheld=False)
    sets, latents = without_pair(sets, making.encode_drawings(base.vae, sets))
    kept = DDPMScheduler(**making.SCHEDULER_CONFIG).alphas_cumprod

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(step)
        torch.manual_seed(step)
        which = rng.randrange(len(sets))
        rows = [rng.randrange(len(sets[which].tags)) for _ in range(BATCH)]
        captions = [making.caption_of(sets[which].tags[row], rng) for row in rows]
        mean, spread = (part[rows] for part in latents[which])
        x = mean + spread * torch.randn_like(mean)
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (BATCH,))
        ids = torch.tensor([making.size_ids(sets[which].size, rng) for _ in rows])
        with making.fast_bfloat16():
            with torch.no_grad():
                hidden, pooled = encode_captions(base.tokenizers, base.encoders, captions)
            guess = base.unet(
                objective.add_noise(x, noise, kept[t]),
                t,
                hidden,
                added_cond_kwargs={"text_embeds": pooled, "time_ids": ids},
            ).sample
        wanted = objective.target(x, noise, kept[t], "v_prediction")
        return (guess.float() - wanted).pow(2).mean()

    base.unet.requires_grad_(True)
    unet = train_loop("v", base.unet, loss_of, steps, LR, folder, decay=0.995)
    scheduler = {**base.scheduler, "prediction_type": "v_prediction"}
    save_folder(replace(base, unet=unet, scheduler=scheduler), folder)
    for leftover in (folder / "v.ckpt", *folder.glob("drawings-*.npz")):
        leftover.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
