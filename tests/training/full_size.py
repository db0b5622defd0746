"""Full-size SDXL with random weights: a checkpoint in the original layout, about 7 GB, and a short
run on it that says how much memory and time it took.

    python -m tests.training.full_size write FILE
    python -m tests.training.full_size train FILE FOLDER --precision bf16

`test_full_size.py` calls both. The file is written tensor by tensor, the same for the same seed;
the weights are of such a size that what the parts put out stays finite.
"""

from __future__ import annotations

import time

STARTED = time.time()  # before the imports: they are part of the time to the end of step 1

import argparse  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from lorakit.training import single_file  # noqa: E402
from lorakit.training.parts import canonical, empty  # noqa: E402

BLOCK = 2**22 + 1  # random numbers, used again from another place for each tensor
PARTS = ("unet", "vae", "te1", "te2")
SIDE = 256
STEPS = 4


def shapes(configs: dict[str, Any]) -> dict[str, torch.Size]:
    """Name and shape of every tensor that a checkpoint with these configurations has."""
    states = {}
    for part in PARTS:
        weights = empty(part, configs[part]).state_dict()
        states[part] = {canonical(part, name): tensor for name, tensor in weights.items()}
    blocks = len(configs["vae"]["block_out_channels"])
    named = single_file.to_single_file(states, blocks)
    return {name: tensor.shape for name, tensor in named.items()}


def write_checkpoint(path: Path, configs: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """Writes a random checkpoint in float16; without `configs` that of full-size SDXL, which then
    does not say its configuration, as real ones do not.
    """
    wanted = shapes(configs or single_file.sdxl_configs())
    metadata = {"format": "pt", "modelspec.architecture": "stable-diffusion-xl-v1-base"}
    if configs:
        metadata[single_file.CONFIG_KEY] = json.dumps(configs)
    header, end = {"__metadata__": metadata}, 0
    for name, shape in wanted.items():
        start, end = end, end + 2 * shape.numel()
        entry = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
        header[name] = entry  # type: ignore[assignment]
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in _values(wanted, seed):
            file.write(memoryview(values.numpy()))
    return path


def _values(wanted: dict[str, torch.Size], seed: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(BLOCK, generator=generator)
    for name, shape in wanted.items():
        start = int(torch.randint(BLOCK, (1,), generator=generator))
        yield _filled(block, start, shape.numel(), _scale(name, shape), _middle(name, shape))


def _filled(
    block: torch.Tensor, start: int, count: int, scale: float, middle: float
) -> torch.Tensor:
    """`count` numbers in float16: those of `block` from `start` on, round and round."""
    values, done = torch.empty(count, dtype=torch.float16), 0
    while done < count:
        taken = min(count - done, len(block) - start)
        values[done : done + taken] = block[start : start + taken] * scale + middle
        done, start = done + taken, 0
    return values


def _scale(name: str, shape: torch.Size) -> float:
    """Embeddings as CLIP draws them, vectors (norms, biases) hardly spread, all else so that a
    layer puts out about as much as it takes in.
    """
    if "embedding" in name and "label_emb" not in name:
        return 0.02
    return 0.01 if len(shape) < 2 else 1 / math.sqrt(math.prod(shape[1:]))


def _middle(name: str, shape: torch.Size) -> float:
    return 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0


def train(file: Path, folder: Path, precision: str) -> dict[str, Any]:
    """A run of four steps at 256 pixels with U-Net and both encoders, as a user would start it;
    what it took. The LoRA file is the last value.
    """
    from lorakit.project import find
    from lorakit.training import run
    from lorakit.training.config import PreviewSettings, TrainingSettings

    project = find(str(folder)).create()
    generator = torch.Generator().manual_seed(1)
    for i in range(STEPS):
        pixels = torch.randint(256, (SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(project.dataset / f"{i}.png")
        (project.dataset / f"{i}.txt").write_text("astrid, 1girl, smile\n")
    settings = TrainingSettings(
        base_model=str(file),
        precision=precision,
        resolution=SIDE,
        repeats=1,
        batch_size=1,
        epochs=1,
        rank=8,
        alpha=4,
        optimizer="AdamW",
    )
    first, losses, notes = 0.0, [], []
    lora = Path()
    for event in run.train_project(project, settings, PreviewSettings(count=0), "astrid"):
        if isinstance(event, run.StepDone):
            first = first or time.time() - STARTED
            losses.append(event.loss)
        elif isinstance(event, run.Note):
            notes.append(event.text)
        elif isinstance(event, run.Finished):
            lora = event.lora_file
    return {
        "precision": precision,
        "peak_gib": peak_gib(),
        "seconds_to_the_end_of_step_1": first,
        "seconds": time.time() - STARTED,
        "losses": losses,
        "notes": notes,
        "file": str(lora),
    }


def peak_gib() -> float:
    """The most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="write the checkpoint")
    write.add_argument("file", type=Path)
    short = commands.add_parser("train", help="train four steps on it")
    short.add_argument("file", type=Path)
    short.add_argument("folder", type=Path, help="the project's folder, made if missing")
    short.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    if options.command == "write":
        print(write_checkpoint(options.file))
    else:
        print(json.dumps(train(options.file, options.folder, options.precision)))


if __name__ == "__main__":
    main()
