"""kill -9 at any moment of a run, then the same command again: the final file is bit for bit that
of a run that was left alone.
"""

from __future__ import annotations

import os
import random
import re
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
STATE_EVERY, STEPS = 4, 24
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
    state_every=STATE_EVERY,  # several: steps since the last state happen twice
    save_every_steps=5,
    keep_last=2,
)


def project_at(folder: Path) -> Project:
    made = find(str(folder)).create()
    for i in range(4):
        good_picture(i).resize((100, 80 + 20 * (i % 2))).save(made.dataset / f"{i}.png")
        (made.dataset / f"{i}.txt").write_text("astrid, smile, red kimono, horns\n")
    made.save(SETTINGS)
    made.save(PreviewSettings(count=0))
    return made


def start(project: Project, cache: Path) -> subprocess.Popen[str]:
    environment = os.environ | {
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": str(ROOT),
        "SOURCE_DATE_EPOCH": "1700000000",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "lorakit", "train", str(project.settings_file.parent)]
    return subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
    )


def finished(project: Project, cache: Path) -> tuple[dict[str, bytes], str]:
    """Runs to the end; every LoRA file's bytes, and what the terminal said."""
    run = start(project, cache)
    said = run.communicate()[1]
    assert run.returncode == 0, said
    return {p.name: p.read_bytes() for p in project.output.glob("*.safetensors")}, said


def logged(project: Project) -> list[int]:
    """The steps in the table of the run, as far as it has come."""
    path = project.output / "log.csv"
    rows = path.read_text().splitlines()[1:] if path.exists() else []
    return [int(row.partition(",")[0]) for row in rows if ",," not in row[:12]]


def killed_at(project: Project, cache: Path, step: int, pause: float) -> list[int]:
    """Kills a run so many seconds after it did a step; the steps that its log has then."""
    run = start(project, cache)
    while step not in logged(project) and run.poll() is None:
        time.sleep(0.02)
    time.sleep(pause)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL, "it was over before it was killed"
    return logged(project)


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    wanted, said = finished(project_at(tmp_path / "left_alone" / "astrid"), tmp_path / "cache")
    assert len(wanted) == 3 and "Going on" not in said  # the older ones of five were deleted
    moments = random.Random(1)
    for number in range(KILLS):
        project = project_at(tmp_path / str(number) / "astrid")
        step, pause = moments.randrange(STATE_EVERY + 1, STEPS - 2), moments.uniform(0, 0.1)
        done = killed_at(project, tmp_path / "cache", step, pause)
        assert done == list(range(1, len(done) + 1))  # the kill erased nothing
        files, said = finished(project, tmp_path / "cache")
        assert files == wanted, number
        told = re.search(rf"Going on from step (\d+) of {STEPS}\.", said)
        assert told and 0 < int(told[1]) <= len(done) and int(told[1]) % STATE_EVERY == 0
        assert logged(project) == list(range(1, STEPS + 1))  # those done twice are there once
        shutil.rmtree(project.settings_file.parent)
