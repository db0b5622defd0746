"""Several processes on one LoRA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lorakit.demo.sample import good_picture
from lorakit.project import find
from lorakit.training.config import PreviewSettings, TrainingSettings
from lorakit.training.parallel import World

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("pictures", [0, 1, 4, 7])
def test_every_picture_of_a_batch_is_one_process_s(count: int, pictures: int) -> None:
    rows = list(range(pictures))
    shares = [rows[World(rank, count).share(pictures)] for rank in range(count)]
    assert sum(shares, []) == rows
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.slow
def test_two_processes_give_the_lora_of_one(tmp_path: Path) -> None:
    """`accelerate launch` on two CPU processes (gloo), text encoders, prior and accumulation on."""
    settings = TrainingSettings(
        repeats=2,
        batch_size=3,  # a batch that does not part evenly
        epochs=2,
        resolution=128,
        bucket_step=32,
        unet_lr=1e-3,
        text_encoder_lr=1e-3,
        text_encoder_2_lr=1e-3,
        optimizer="AdamW",
        accumulation=2,
        prior_weight=0.5,
        flip=True,
        save_precision="fp32",
    )
    files = []
    for name, launcher in (("one", []), ("two", ["accelerate.commands.launch", *LAUNCH, "-m"])):
        project = find(str(tmp_path / name)).create()
        for i in range(4):
            good_picture(i).resize((160, 160) if i % 2 else (128, 192)).save(
                project.dataset / f"{i}.png"
            )
            (project.dataset / f"{i}.txt").write_text("astrid, smile, red kimono\n")
        project.save(settings)
        project.save(PreviewSettings(count=0))
        command = [sys.executable, "-m", *launcher, "lorakit", "train", str(tmp_path / name)]
        environment = os.environ | {
            "XDG_CACHE_HOME": str(tmp_path / "cache" / name),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        files.append(load_file(project.output / f"{name}.safetensors"))
    one, two = files
    assert one.keys() == two.keys()
    assert sum(float(t.abs().sum()) for k, t in one.items() if "lora_up" in k) > 0
    worst = max(float((one[key] - two[key]).abs().max()) for key in one)
    largest = max(float(t.abs().max()) for k, t in one.items() if "lora_up" in k)
    assert worst < 0.02 * largest, (worst, largest)


LAUNCH = ["--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
LAUNCH += ["--dynamo_backend", "no", "--main_process_port", "29517"]
