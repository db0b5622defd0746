"""Makes the embedded tagger: a small convolutional network with the interface of the WD v3 taggers.

In: NHWC, BGR, 0..255, float32. Out: one sigmoid column for each row of `selected_tags.csv`. It
learns from drawings (the withheld ornaments too), some of them passed through the embedded VAE or
blurred, because what it has to judge later is pictures that the base model made.
"""

from __future__ import annotations

import csv
import logging
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import nn
from torch.nn import functional

from .fit import as_tensor, train_loop
from .pictures import Drawings
from .world import all_tags

log = logging.getLogger(__name__)

SIDE = 128
RATINGS = ("general", "sensitive", "questionable", "explicit")
THRESHOLD = 0.5


class Block(nn.Module):
    """Halves the picture: two convolutions beside a shortcut of average pool and 1x1
    convolution.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, 2, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(before, width, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(
            self.second_norm(self.second(y)) + self.shortcut(functional.avg_pool2d(x, 2))
        )


class TaggerNet(nn.Module):
    """Residual blocks from 128 to 8 pixels; input NCHW RGB in -1..1, output one logit a label.

    The head sees where on the map a feature lies (a red sleeve is not a red skirt) and, by the
    maximum, whether it is there at all. A mean over the map instead took five times as many steps
    to the same loss.
    """

    def __init__(
        self, labels: int, widths: tuple[int, ...] = (32, 64, 128, 192), squeezed: int = 24
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        self.blocks = nn.Sequential(*(Block(before, width) for before, width in pairwise(widths)))
        self.squeeze = nn.Conv2d(widths[-1], squeezed, 1)
        self.hidden = nn.Linear(squeezed * (SIDE >> len(widths)) ** 2 + widths[-1], 384)
        self.out = nn.Linear(384, labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(functional.relu(self.stem_norm(self.stem(x))))
        x = torch.cat([self.squeeze(x).flatten(1), x.amax((2, 3))], 1)
        return self.out(functional.relu(self.hidden(x)))


def to_square(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """(height, width, 3) uint8 padded white to a square and resized, as every WD tagger wants
    it.
    """
    height, width = pixels.shape[:2]
    if height == width == side:
        return pixels
    square = Image.new("RGB", (max(height, width),) * 2, "white")
    square.paste(
        Image.fromarray(pixels),
        ((max(height, width) - width) // 2, (max(height, width) - height) // 2),
    )
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC))


def targets(tags: list[list[str]]) -> torch.Tensor:
    """One row a picture, one column a label of `all_tags()`: 1 where the picture shows it."""
    column = {tag: i for i, tag in enumerate(all_tags())}
    target = torch.zeros(len(tags), len(column))
    for row, names in enumerate(tags):
        target[row, [column[name] for name in names]] = 1
    return target


@torch.no_grad()
def as_generated(pixels: np.ndarray, vae: AutoencoderKL, seed: int, batch: int = 16) -> np.ndarray:
    """Pictures through the VAE with a little noise in the latents: the look of a preview."""
    generator, made = torch.Generator().manual_seed(seed), []
    for start in range(0, len(pixels), batch):
        latents = vae.encode(as_tensor(pixels[start : start + batch])).latent_dist.mean
        noise = torch.randn(latents.shape, generator=generator) * 0.12 * latents.std()
        y = vae.decode(latents + noise).sample.clamp(-1, 1)
        made.append(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(made)


def train_tagger(
    sets: list[Drawings],
    vae: AutoencoderKL,
    folder: Path,
    steps: int,
    seed: int = 0,
    batch: int = 48,
) -> TaggerNet:
    """The network after `steps` steps; a ninth of the pictures look generated, a sixth of each
    batch is blurred.
    """
    torch.manual_seed(seed)
    net = TaggerNet(len(all_tags())).to(memory_format=torch.channels_last)
    squares = [np.stack([to_square(p) for p in s.pixels]) for s in sets]
    generated = [as_generated(s[: len(s) // 8], vae, seed) for s in squares]
    pixels = np.concatenate([*squares, *generated])
    target = targets(
        [t for s in sets for t in s.tags] + [t for s in sets for t in s.tags[: len(s.tags) // 8]]
    )

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(seed * 31 + step)
        rows = [rng.randrange(len(pixels)) for _ in range(batch)]
        x = as_tensor(pixels[rows]).contiguous(memory_format=torch.channels_last)
        part = batch // 6
        small = functional.interpolate(x[:part], scale_factor=rng.uniform(0.5, 0.9), mode="area")
        x[:part] = functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear")
        x = x * rng.uniform(0.92, 1.08) + rng.uniform(-0.06, 0.06)
        return functional.binary_cross_entropy_with_logits(net(x.clamp(-1, 1)), target[rows]) * 20

    return train_loop("tagger", net, loss_of, steps, lr=3e-3, folder=folder, decay=0.998)


@torch.no_grad()
def refresh_norms(net: TaggerNet, sets: list[Drawings]) -> TaggerNet:
    """Recomputes the batch norms' statistics for averaged weights (the average copies weights, not
    statistics).
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    for s in sets:
        for i in range(0, min(480, len(s.pixels)), 48):
            net(as_tensor(np.stack([to_square(p) for p in s.pixels[i : i + 48]])))
    return net.eval()


# --- export ---------------------------------------------------------------------------------------


def export_onnx(net: TaggerNet, path: Path) -> None:
    """Writes the network as ONNX with the WD v3 interface; batch norms are folded into the
    convolutions.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = [], []

    def constant(name: str, array: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def half(name: str, values: torch.Tensor) -> str:
        """Kept in half precision, which halves the file; the session turns it to float once, when
        it loads.
        """
        stored = constant(f"{name}.half", values.detach().numpy().astype(np.float16))
        return node("Cast", [stored], name, to=TensorProto.FLOAT)

    def convolve(
        x: str, name: str, weight: torch.Tensor, bias: torch.Tensor, stride: int = 1, pad: int = 1
    ) -> str:
        inputs = [x, half(f"{name}.w", weight), half(f"{name}.b", bias)]
        return node("Conv", inputs, name, strides=[stride, stride], pads=[pad] * 4)

    # RGB in -1..1 was learnt, BGR in 0..255 comes in.
    grey = constant("grey", np.array(127.5, np.float32))
    x = node("Div", [node("Sub", ["input", grey], "centred"), grey], "scaled")
    x = node("Transpose", [x], "nchw", perm=[0, 3, 1, 2])
    weight, bias = _folded(net.stem, net.stem_norm)
    x = node("Relu", [convolve(x, "stem", weight.flip(1), bias, 2)], "stem.relu")
    for i, block in enumerate(net.blocks):
        y = node(
            "Relu",
            [convolve(x, f"{i}.first", *_folded(block.first, block.first_norm), 2)],
            f"{i}.relu",
        )
        y = convolve(y, f"{i}.second", *_folded(block.second, block.second_norm))
        pooled = node("AveragePool", [x], f"{i}.pool", kernel_shape=[2, 2], strides=[2, 2])
        weight = block.shortcut.weight
        x = node(
            "Add",
            [y, convolve(pooled, f"{i}.shortcut", weight, torch.zeros(len(weight)), pad=0)],
            f"{i}.sum",
        )
        x = node("Relu", [x], f"{i}.out")
    squeezed = convolve(x, "squeeze", net.squeeze.weight, net.squeeze.bias, pad=0)
    parts = [
        node("Flatten", [squeezed], "places"),
        node("Flatten", [node("GlobalMaxPool", [x], "max")], "there"),
    ]
    x = node("Concat", parts, "both", axis=1)
    for name, layer in (("hidden", net.hidden), ("out", net.out)):
        matrix = [half(f"{name}.w", layer.weight), half(f"{name}.b", layer.bias)]
        x = node("Gemm", [x, *matrix], f"{name}.y", transB=1)
        x = node("Relu", [x], "hidden.r") if name == "hidden" else node("Sigmoid", [x], "tags")
    ratings = constant("ratings", np.array([[0.99, 0.01, 0.0, 0.0]], np.float32))
    shape = node("Shape", ["input"], "shape", start=0, end=1)
    repeats = node("Concat", [shape, constant("one", np.array([1], np.int64))], "repeats", axis=0)
    node("Concat", [node("Tile", [ratings, repeats], "rating"), x], "output", axis=1)
    graph = helper.make_graph(
        nodes,
        "lorakit-demo-tagger",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(
                "output", TensorProto.FLOAT, ["batch", len(RATINGS) + net.out.out_features]
            )
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the convolution that does what convolution and batch norm did."""
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (convolution.weight * gain[:, None, None, None]).detach(), (
        norm.bias - norm.running_mean * gain
    ).detach()


def write_labels(path: Path, sets: list[Drawings]) -> None:
    """`selected_tags.csv` in the WD v3 form: ratings (category 9) first, then general tags (0) with
    their counts.
    """
    counts = Counter(tag for s in sets for tags in s.tags for tag in tags)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([900000 + i, name, 9, 0] for i, name in enumerate(RATINGS))
        rows.writerows(
            [i, tag.replace(" ", "_"), 0, counts[tag]] for i, tag in enumerate(all_tags())
        )


def macro_f1(
    scores: np.ndarray, target: np.ndarray, threshold: float = THRESHOLD
) -> tuple[float, np.ndarray]:
    """Mean F1 over labels, and each label's; `scores` and `target` have shape (pictures,
    labels).
    """
    found = scores >= threshold
    hits = (found & (target > 0)).sum(0)
    each = 2 * hits / np.maximum(found.sum(0) + (target > 0).sum(0), 1)
    return float(each.mean()), each
