"""Makes the embedded tagger: a small convolutional network with the interface of the WD v3 taggers.

In: NHWC, BGR, 0..255, float32. Out: one sigmoid column for each row of `selected_tags.csv`.
It learns from drawings (the withheld ornaments too), some of them passed through the embedded VAE or blurred,
because what it has to judge later is pictures that the base model made.
"""

from __future__ import annotations

import csv
import logging
import random
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import nn
from torch.nn import functional

from .base import as_tensor, train_loop
from .pictures import Drawings
from .world import all_tags

log = logging.getLogger(__name__)

SIDE = 128
RATINGS = ("general", "sensitive", "questionable", "explicit")
THRESHOLD = 0.5


class TaggerNet(nn.Module):
    """Convolutions from 128 to 4 pixels, then mean and maximum over the picture; input NCHW RGB in -1..1."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        widths = (32, 64, 96, 128, 160)
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            if width > 32:
                layers += [nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(2 * widths[-1], 320)
        self.out = nn.Linear(320, labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return self.out(functional.relu(self.hidden(x)))


def to_square(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """(height, width, 3) uint8 padded white to a square and resized, as every WD tagger wants it."""
    height, width = pixels.shape[:2]
    if height == width == side:
        return pixels
    square = Image.new("RGB", (max(height, width),) * 2, "white")
    square.paste(Image.fromarray(pixels), ((max(height, width) - width) // 2, (max(height, width) - height) // 2))
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
    sets: list[Drawings], vae: AutoencoderKL, folder: Path, steps: int, seed: int = 0, batch: int = 48
) -> TaggerNet:
    """The network after `steps` steps; a ninth of the pictures look generated, a sixth of each batch is blurred."""
    torch.manual_seed(seed)
    net = TaggerNet(len(all_tags()))
    squares = [np.stack([to_square(p) for p in s.pixels]) for s in sets]
    generated = [as_generated(s[: len(s) // 8], vae, seed) for s in squares]
    pixels = np.concatenate([*squares, *generated])
    target = targets([t for s in sets for t in s.tags] + [t for s in sets for t in s.tags[: len(s.tags) // 8]])

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(seed * 31 + step)
        rows = [rng.randrange(len(pixels)) for _ in range(batch)]
        x = as_tensor(pixels[rows])
        part = batch // 6
        small = functional.interpolate(x[:part], scale_factor=rng.uniform(0.5, 0.9), mode="area")
        x[:part] = functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear")
        x = x * rng.uniform(0.92, 1.08) + rng.uniform(-0.06, 0.06)
        return functional.binary_cross_entropy_with_logits(net(x.clamp(-1, 1)), target[rows]) * 20

    return train_loop("tagger", net, loss_of, steps, lr=3e-3, folder=folder, decay=0.998)


@torch.no_grad()
def refresh_norms(net: TaggerNet, sets: list[Drawings]) -> TaggerNet:
    """Recomputes the batch norms' statistics for averaged weights (the average copies weights, not statistics)."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    for s in sets:
        for i in range(0, 480, 48):
            net(as_tensor(np.stack([to_square(p) for p in s.pixels[i : i + 48]])))
    return net.eval()


# --- export ------------------------------------------------------------------------------------------------------


def export_onnx(net: TaggerNet, path: Path) -> None:
    """Writes the network as ONNX with the WD v3 interface; batch norms are folded into the convolutions."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = [], []

    def constant(name: str, array: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    x = node("Transpose", ["input"], "nchw", perm=[0, 3, 1, 2])
    layers = list(net.features)
    for i in range(0, len(layers), 3):
        weight, bias = _folded(layers[i], layers[i + 1])
        if i == 0:  # RGB in -1..1 was learnt, BGR in 0..255 comes in
            bias = bias - weight.sum((1, 2, 3))
            weight = weight.flip(1) / 127.5
        names = [constant(f"w{i}", weight.numpy()), constant(f"b{i}", bias.numpy())]
        if i == 0:  # padding must stand for the middle grey that zero was: pad with 127.5 first
            pads = constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
            x = node("Pad", [x, pads, constant("grey", np.array(127.5, np.float32))], "padded")
        x = node("Conv", [x, *names], f"c{i}", strides=list(layers[i].stride), pads=[0 if i == 0 else 1] * 4)
        x = node("Relu", [x], f"r{i}")
    x = node("Concat", [node("GlobalAveragePool", [x], "mean"), node("GlobalMaxPool", [x], "max")], "both", axis=1)
    x = node("Flatten", [x], "flat", axis=1)
    for name, layer in (("hidden", net.hidden), ("out", net.out)):
        matrix = [
            constant(f"{name}.w", layer.weight.detach().numpy()),
            constant(f"{name}.b", layer.bias.detach().numpy()),
        ]
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
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", len(RATINGS) + net.out.out_features])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the convolution that does what convolution and batch norm did."""
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (convolution.weight * gain[:, None, None, None]).detach(), (norm.bias - norm.running_mean * gain).detach()


def write_labels(path: Path, sets: list[Drawings]) -> None:
    """`selected_tags.csv` in the WD v3 form: ratings (category 9) first, then general tags (0) with their counts."""
    counts = Counter(tag for s in sets for tags in s.tags for tag in tags)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([900000 + i, name, 9, 0] for i, name in enumerate(RATINGS))
        rows.writerows([i, tag.replace(" ", "_"), 0, counts[tag]] for i, tag in enumerate(all_tags()))


def macro_f1(scores: np.ndarray, target: np.ndarray, threshold: float = THRESHOLD) -> tuple[float, np.ndarray]:
    """Mean F1 over labels, and each label's; `scores` and `target` have shape (pictures, labels)."""
    found = scores >= threshold
    hits = (found & (target > 0)).sum(0)
    each = 2 * hits / np.maximum(found.sum(0) + (target > 0).sum(0), 1)
    return float(each.mean()), each
