"""Several processes on one LoRA."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from lorakit.demo.sample import good_picture
from lorakit.project import find
from lorakit.training import parallel
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


def both_of(rank: int, count: int, meeting: str) -> None:
    """One of the processes of the test below."""
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=count)
    world = World(rank, count)
    shared, lone, unused = (torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(3))
    rounded = torch.nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
    shared.grad = torch.full((2, 3), 1.0 + 10 * rank)
    if rank == 1:  # the other has no picture for it
        lone.grad = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    rounded.grad = torch.tensor([1.0, 2, 3, 4], dtype=torch.bfloat16) * (rank + 1)
    parallel.sum_gradients([shared, unused, lone, rounded], world)
    assert torch.equal(shared.grad, torch.full((2, 3), 12.0))  # 1 + 11
    assert torch.equal(lone.grad, torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
    assert unused.grad is None  # as in one process
    assert rounded.grad.dtype == torch.bfloat16 and rounded.grad.tolist() == [3, 6, 9, 12]
    loss = torch.tensor(0.25 + rank)
    assert float(parallel.total(loss, world)) == 1.5
    assert float(loss) == 0.25 + rank  # its own is left as it was
    dist.destroy_process_group()


def test_gradients_and_losses_of_all_processes_are_added_up(tmp_path: Path) -> None:
    """Added, not averaged: each process's share of the loss is over the whole batch already."""
    torch.multiprocessing.spawn(both_of, (2, str(tmp_path / "meeting")), nprocs=2)


def test_one_process_keeps_its_gradients_and_its_loss() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    parallel.sum_gradients([weight], World())
    assert weight.grad is None
    assert float(parallel.total(torch.tensor(0.25), World())) == 0.25


SETTINGS = TrainingSettings(
    repeats=2,
    batch_size=3,  # a batch that does not part evenly
    epochs=2,
    resolution=128,
    bucket_step=32,
    unet_lr=1.0,
    text_encoder_lr=0.2,
    text_encoder_2_lr=0.2,
    optimizer="SGD",  # its steps are as long as its gradients, which Adam's are not
    gradient_clip=0.0,
    accumulation=2,
    prior_weight=0.5,
    flip=True,
    save_precision="fp32",
)


def trained(folder: Path, launcher: list[str]) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The LoRA of four pictures and the losses of its steps, by the command line."""
    project = find(str(folder)).create()
    for i in range(4):
        size = (160, 160) if i % 2 else (128, 192)
        good_picture(i).resize(size).save(project.dataset / f"{i}.png")
        (project.dataset / f"{i}.txt").write_text("astrid, smile, red kimono\n")
    project.save(SETTINGS)
    project.save(PreviewSettings(count=0))
    environment = os.environ | {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", *launcher, "lorakit", "train", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = csv.DictReader((project.output / "log.csv").read_text().splitlines())
    lora = load_file(project.output / f"{folder.name}.safetensors")
    return lora, [float(row["loss"]) for row in rows if row["loss"]]


@pytest.mark.slow
def test_two_processes_give_the_lora_of_one_within_the_rounding_that_the_readme_states(
    tmp_path: Path,
) -> None:
    """Two processes on the CPU (gloo), started as `accelerate launch` starts those of many GPUs;
    by itself it starts but one on a CPU. Text encoders, prior and accumulation are on.
    """
    logs = tmp_path / "logs"
    launcher = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"]
    launcher += ["--log-dir", str(logs), "--tee", "3", "-m"]
    one, losses = trained(tmp_path / "one", [])
    two, their_losses = trained(tmp_path / "two", launcher)
    assert {path.parent.name for path in logs.rglob("stderr.log")} == {"0", "1"}, "it was two"
    assert len(losses) == 4
    assert their_losses == pytest.approx(losses, rel=1e-5)
    assert one.keys() == two.keys()
    for part in ("unet", "te1", "te2"):
        for half in ("lora_down", "lora_up"):
            names = [name for name in one if f"lora_{part}" in name and half in name]
            largest = max(float(one[name].abs().max()) for name in names)
            worst = max(float((one[name] - two[name]).abs().max()) for name in names)
            assert largest > 0 and worst < 1e-5 * largest, (part, half)
