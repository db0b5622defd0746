"""The written file in diffusers, in a fresh process: the same pictures as lorakit's own previews.

Where diffusers itself cannot (it does not know the first encoder's names since transformers 5.6,
its issue 13984; peft from 0.19 on refuses to work beside Colab's torchao 0.10) the process says so
and loads through lorakit.
"""

from __future__ import annotations

import importlib.metadata as installed
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packaging.version import Version

from lorakit.training import adapter, preview
from lorakit.training.base import DEMO, Base
from lorakit.training.config import AdapterSettings, PreviewSettings
from lorakit.training.export import save_lora

from .adapters import shaken

PROMPTS = ["astrid", "1girl, blue hair, smile"]
SETTINGS = PreviewSettings(steps=5, cfg=4.0)

OTHER = """
import json, sys
import numpy as np, torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline

base, lora = sys.argv[1:3]
wanted, prompts = np.load(sys.argv[3]), json.loads(sys.argv[4])

def draw(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    euler_a = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.scheduler = euler_a
    settings = dict(num_inference_steps=5, guidance_scale=4.0, width=128, height=128)
    settings["negative_prompt"] = ""
    seeds = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    made = [pipeline(p, generator=g, **settings).images[0] for p, g in zip(prompts, seeds)]
    return np.abs(np.stack([np.array(m) for m in made]).astype(float) - wanted).max()

def load():
    settings = dict(torch_dtype=torch.float32, add_watermarker=False)
    return StableDiffusionXLPipeline.from_pretrained(base, **settings)

through, reason, error = "diffusers", "", 255.0
try:
    pipeline = load()
    pipeline.load_lora_weights(lora)
    error = draw(pipeline)
    reason = "" if error <= 3 else f"its pictures differ by up to {error:.0f} of 255"
except Exception as problem:
    reason = f"{type(problem).__name__}: {problem}"
if reason:
    from pathlib import Path
    from lorakit.training import adapter
    pipeline, through = load(), "lorakit"
    parts = {"unet": pipeline.unet, "te1": pipeline.text_encoder, "te2": pipeline.text_encoder_2}
    adapter.load_adapter(parts, Path(lora))
    error = draw(pipeline)
print(json.dumps({"through": through, "reason": reason, "error": float(error)}))
"""


def diffusers_is_whole() -> bool:
    """Whether diffusers can be expected to read the file by itself here."""
    flat = Version(installed.version("transformers")) >= Version("5.6")
    try:
        old_torchao = Version(installed.version("torchao")) < Version("0.16")
    except installed.PackageNotFoundError:
        old_torchao = False
    return not flat and not (old_torchao and Version(installed.version("peft")) >= Version("0.19"))


@pytest.mark.parametrize(
    "settings",
    [
        AdapterSettings(rank=4, alpha=2),
        AdapterSettings(
            rank=4, alpha=2, kind="locon", conv_rank=3, conv_alpha=1.5, rank_stabilized=True
        ),
    ],
    ids=["lora", "rank-stabilised locon"],
)
def test_diffusers_draws_what_lorakit_draws(
    base: Base, tmp_path: Path, settings: AdapterSettings
) -> None:
    shaken(base, settings, spread=0.05)
    wanted = [preview.Prompt(text, seed) for seed, text in enumerate(PROMPTS)]
    pictures = preview.draw(base, wanted, SETTINGS, (128, 128))
    with adapter.without(base.parts):
        plain = preview.draw(base, wanted, SETTINGS, (128, 128))
    effect = np.abs(
        np.stack(
            [np.array(a, float) - np.array(b, float) for a, b in zip(pictures, plain, strict=True)]
        )
    ).max()
    assert effect > 30
    np.save(tmp_path / "wanted.npy", np.stack([np.array(p) for p in pictures]))
    lora = save_lora(tmp_path / "astrid.safetensors", adapter.tensors(base.parts), {})
    words = [
        sys.executable,
        "-c",
        OTHER,
        str(DEMO),
        str(lora),
        str(tmp_path / "wanted.npy"),
        json.dumps(PROMPTS),
    ]
    said = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr[-2000:]
    result = json.loads(said.stdout.strip().splitlines()[-1])
    print(result)
    assert result["error"] <= 3, result
    assert result["through"] == "diffusers" or not diffusers_is_whole(), result
