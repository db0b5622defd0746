"""How the steps of a run fit into memory: how many pictures are computed at a time, and what is
computed twice so as to keep less (checkpointing, Chen et al. 2016).

Each way has its bytes, counted beforehand on shapes alone (see `memory`), and its time; the
quickest that fits is taken. When memory runs out all the same, the next smaller one is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from . import adapter, memory, optim, parts
from .base import ENCODERS, Base
from .config import TrainingSettings
from .device import free_memory
from .material import keeps_texts, trained_names
from .memory import RESNETS, TEXT, Trace
from .plan import Plan

GB = 2**30
ROOM = 0.94  # of the free memory: the rest is lost between the pieces
WORKING = 4  # tensors as large as the largest kept one that are there for a moment
# A step is two passes: forward, and back through the activations; what is checkpointed is passed
# through once more. The transformers share what these leave of a pass.
SHARES = {RESNETS: 0.25, TEXT: 0.05}
# What each turn costs beside its pictures, in pixels: a small batch does not fill a GPU.
TURN = {"cuda": 0.15 * 1024**2, "cpu": 0.0}


@dataclass(frozen=True)
class Way:
    """One way to compute a batch: `at_once` pictures at a time, with these stages checkpointed. It
    needs so many bytes beside what the process has, and takes so long (in passes of one picture).
    """

    at_once: int
    stages: tuple[str, ...]
    need: int
    time: float


@dataclass(frozen=True)
class Ways:
    """All ways for a run, the quickest first; `batch` is the most pictures of a step, `free`
    the bytes that may be used, `transformers` how many the U-Net has, `attention` how torch
    computes it here. (Latents need no place: they are mapped from their file.)
    """

    ways: tuple[Way, ...]
    batch: int
    free: int
    transformers: int
    attention: str = "fused attention"

    def best(self) -> Way:
        """The quickest way that fits; the smallest, if none does."""
        fitting = (way for way in self.ways if way.need <= self.free)
        return next(fitting, min(self.ways, key=lambda way: way.need))

    def smaller(self, than: Way) -> Way | None:
        """The quickest way that needs clearly less; None if there is none."""
        return next((way for way in self.ways if way.need < 0.95 * than.need), None)

    def sentence(self, way: Way) -> str:
        """'no checkpointing, flash attention, batch 4 (2 at a time), latents on disk, 13.2 GB of
        14.6 GB expected'.
        """
        deep = sum(stage not in SHARES for stage in way.stages)
        twice = [f"{deep} of {self.transformers} attention stages"] if deep else []
        twice += [f"the {stage}" for stage in way.stages if stage in SHARES]
        some = "" if way.at_once >= self.batch else f" ({way.at_once} at a time)"
        return (
            f"{'checkpointing on ' + ' and '.join(twice) if twice else 'no checkpointing'}, "
            f"{self.attention}, batch {self.batch}{some}, latents on disk, {way.need / GB:.1f} GB "
            f"of {self.free / GB:.1f} GB expected"
            f"{', more than is free' if way.need > self.free else ''}"
        )


def find_ways(
    base: Base, settings: TrainingSettings, plan: Plan, device: str, tokens: int, processes: int = 1
) -> Ways:
    """Every way to compute the batches of `plan` that the settings checkpointing and at_once leave.
    Reads no weights; `tokens` are those of the longest caption, a multiple of 77.
    Each of `processes` has its part of a batch.
    """
    shapes = _shapes(base, settings)
    one, size = _trace(shapes, settings, plan, tokens), plan.largest_size
    fixed = _fixed(base, shapes, settings, device)
    batch, order = math.ceil(plan.largest_batch / processes), one.stages
    counts = {"none": [0], "full": [len(order)]}.get(
        settings.checkpointing, list(range(len(order) + 1))
    )
    most = [settings.at_once] if settings.at_once else range(1, batch + 1)
    sizes = sorted({math.ceil(batch / math.ceil(batch / min(batch, n))) for n in most})
    ways = []
    for at_once in sizes:
        trace = one.times(at_once * (2 if settings.prior_weight else 1))
        for count in counts:
            stages = tuple(order[:count])
            need = fixed + trace.kept(stages) + WORKING * trace.largest
            turns = math.ceil(batch / at_once) * TURN[device] / (size[0] * size[1])
            ways.append(Way(at_once, stages, need, (batch + turns) * (2 + _again(order, stages))))
    ways.sort(key=lambda way: (way.time, -way.at_once, way.need))
    transformers = sum(stage not in SHARES for stage in order)
    free = int(ROOM * free_memory(device))
    return Ways(tuple(ways), batch, free, transformers, attention(device, base.dtype))


def attention(device: str, dtype: torch.dtype) -> str:
    """Which of its kernels torch takes for attention; none keeps the whole matrix, which `memory`
    relies on. Flash attention needs an Ampere GPU and half precision.
    """
    if device == "cpu":
        return "fused attention"
    flash = torch.cuda.get_device_capability() >= (8, 0) and dtype != torch.float32
    return "flash attention" if flash else "memory-efficient attention"


def _again(order: list[str], stages: tuple[str, ...]) -> float:
    """The share of a pass that is done again."""
    deep = [stage for stage in order if stage not in SHARES]
    each = (1 - sum(SHARES[stage] for stage in order if stage in SHARES)) / max(1, len(deep))
    return sum(SHARES.get(stage, each) for stage in stages)


def _shapes(base: Base, settings: TrainingSettings) -> dict[str, torch.nn.Module]:
    """The U-Net and what else is trained, with a LoRA, without weights."""
    trained = trained_names(settings)
    shapes = {}
    for name in dict.fromkeys(("unet", *trained)):
        config = base.parts[name].config
        plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
        shapes[name] = parts.empty(name, plain, settings.storage)
        for parameter in shapes[name].parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(base.dtype)
    adapter.add_adapter(
        {name: shapes[name] for name in trained}, replace(settings, continue_from=""), 0
    )
    return shapes


def _trace(
    shapes: dict[str, torch.nn.Module], settings: TrainingSettings, plan: Plan, tokens: int
) -> Trace:
    texts = [name for name in shapes if name in ENCODERS]
    whole = Trace((), 0, 0)
    for name in texts:
        whole += memory.trace_encoder(shapes[name], tokens // 77)
    return whole + memory.trace_unet(shapes["unet"], plan.largest_size, tokens, bool(texts))


def _fixed(
    base: Base, shapes: dict[str, torch.nn.Module], settings: TrainingSettings, device: str
) -> int:
    """The bytes of what will be there all the time: the frozen weights that are not there yet, and
    for each of the LoRA's its value, its gradient, what the optimiser notes and the running
    average.
    """
    resident = {"unet"} if keeps_texts(settings) else {"unet", *ENCODERS}
    frozen = 0
    for module in (base.parts[name] for name in resident if parts.is_empty(base.parts[name])):
        for tensor in module.parameters():
            whole = tensor.is_floating_point()  # what is packed already is as it will be
            frozen += tensor.numel() * (base.dtype.itemsize if whole else tensor.element_size())
        frozen += sum(tensor.nbytes for tensor in module.buffers())
    learned = [p for module in shapes.values() for p in adapter.trainable(module)]
    own = 2 if settings.lora_precision == "bf16" else 4
    each = 2 * own + optim.state_bytes(settings, device) + (own if settings.ema else 0)
    return int(frozen + sum(p.numel() for p in learned) * each)
