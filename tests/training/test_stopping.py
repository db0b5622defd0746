"""Ctrl-C while several processes train one LoRA: all of them end, at the same step."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lorakit.demo.sample import good_picture
from lorakit.project import Project, find
from lorakit.training.config import PreviewSettings, TrainingSettings

ROOT = Path(__file__).parents[2]
SETTINGS = TrainingSettings(
    repeats=1, batch_size=2, epochs=20, resolution=64, bucket_step=32, optimizer="AdamW"
)
# Rank 0 alone hears the interrupt, twice and while it draws, when rank 1 is in the next step.
PROGRAM = """
import os, signal, sys
from lorakit.project import find
from lorakit.training import artist, parallel, run
from lorakit.training.config import PreviewSettings, TrainingSettings

here, real = find(sys.argv[1]), artist.Artist.draw

def draw(self, epoch, step, name):
    if epoch == 1:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    yield from real(self, epoch, step, name)

artist.Artist.draw = draw
for event in run.train_project(here, here.load(TrainingSettings), here.load(PreviewSettings)):
    if isinstance(event, run.Finished):
        print("stopped", event.stopped, "after", event.steps)
"""


@pytest.mark.slow
def test_an_interrupt_that_one_process_hears_ends_all_at_the_same_step(tmp_path: Path) -> None:
    project = project_at(tmp_path / "astrid")
    runs = [start(project, rank) for rank in range(2)]
    try:
        said = [run.communicate(timeout=300) for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], said
    ends = [re.findall(r"stopped True after (\d+)", out) for out, _ in said]
    assert ends[0] == ends[1] == [str(4 // SETTINGS.batch_size)]
    assert (project.output / "astrid.safetensors").exists()


def project_at(folder: Path) -> Project:
    made = find(str(folder)).create()
    for i in range(4):
        good_picture(i).resize((96, 96)).save(made.dataset / f"{i}.png")
        (made.dataset / f"{i}.txt").write_text("astrid, smile\n")
    made.save(SETTINGS)
    made.save(PreviewSettings(count=1, steps=1))
    return made


def start(project: Project, rank: int) -> subprocess.Popen[str]:
    """A process as `accelerate launch` starts them."""
    environment = os.environ | {
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29518",
        "ACCELERATE_USE_CPU": "true",
        "XDG_CACHE_HOME": str(project.output.parent.parent / "cache"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", PROGRAM, str(project.output.parent)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
