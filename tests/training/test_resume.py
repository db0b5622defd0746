"""kill -9 at any moment of a run, then the same command again: the final file is bit for bit that
of a run that was left alone.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorakit.demo.sample import good_picture
from lorakit.project import Project, find
from lorakit.training.config import PreviewSettings, TrainingSettings

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("LORAKIT_KILLS", "2"))
SETTINGS = TrainingSettings(
    repeats=3,
    batch_size=1,
    epochs=2,
    resolution=64,
    bucket_step=32,
    optimizer="AdamW",
    text_encoder_lr=1e-3,
    text_encoder_2_lr=1e-3,
    unet_lr=1e-3,
    ema=0.9,
    dropout=0.1,
    tag_dropout=0.3,
    flip=True,
    state_every=1,
    save_every_steps=5,
)


def project_at(folder: Path) -> Project:
    made = find(str(folder)).create()
    for i in range(4):
        good_picture(i).resize((100, 80 + 20 * (i % 2))).save(made.dataset / f"{i}.png")
        (made.dataset / f"{i}.txt").write_text("astrid, smile, red kimono, horns\n")
    made.save(SETTINGS)
    made.save(PreviewSettings(count=0))
    return made


def start(project: Project, cache: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": str(ROOT),
        "SOURCE_DATE_EPOCH": "1700000000",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "lorakit", "train", str(project.settings_file.parent)]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT
    )


def finished(project: Project, cache: Path) -> dict[str, bytes]:
    """Runs to the end; every LoRA file's bytes."""
    assert start(project, cache).wait() == 0
    return {p.name: p.read_bytes() for p in project.output.glob("*.safetensors")}


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    wanted = finished(project_at(tmp_path / "left_alone" / "astrid"), tmp_path / "cache")
    assert len(wanted) >= 4
    moments = random.Random(1)
    for number in range(KILLS):
        project = project_at(tmp_path / str(number) / "astrid")
        run = start(project, tmp_path / "cache")
        state = project.output / "state" / "astrid.safetensors"
        while not state.exists() and run.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 4))
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert finished(project, tmp_path / "cache") == wanted, number
        shutil.rmtree(project.settings_file.parent)
