"""How much memory the steps of a run keep: every tensor that autograd holds for the backward pass
is counted, on modules that have shapes and no weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .text import CHUNK, encode

Size = tuple[int, int]  # width, height
RESNETS, TEXT = "resnets", "text encoders"


@dataclass(frozen=True)
class Block:
    """A transformer block or ResNet of the U-Net, or a layer of a text encoder: the bytes that it
    keeps, and those of its input alone, which is all that is kept of it under checkpointing.
    `stage` is the path of the transformer it is in, or RESNETS or TEXT.
    """

    stage: str
    kept: int
    input: int


@dataclass(frozen=True)
class Trace:
    """What a step keeps: in its blocks, in the order in which they are computed, outside of them,
    and the bytes of the largest tensor.
    """

    blocks: tuple[Block, ...]
    rest: int
    largest: int

    @property
    def stages(self) -> list[str]:
        """What can be checkpointed: the U-Net's transformers, those that keep most first, then its
        ResNets, then the text encoders if they are trained.
        """
        sizes: dict[str, int] = defaultdict(int)
        for block in self.blocks:
            sizes[block.stage] += block.kept
        last = [RESNETS, TEXT]
        first = sorted(sizes.keys() - set(last), key=lambda stage: (-sizes[stage], stage))
        return first + [stage for stage in last if stage in sizes]

    def kept(self, checkpointed: Collection[str] = ()) -> int:
        """The bytes kept if these stages are checkpointed, at the moment when there are most: at
        the end of the forward pass, or on the way back, while a block is computed again and what
        came after it is done with.
        """
        before, most = self.rest, 0
        for block in self.blocks:
            if block.stage in checkpointed:
                before += block.input
                most = max(most, before + block.kept)
            else:
                before += block.kept
        return max(before, most)

    def times(self, count: int) -> Trace:
        """The same for so many times as many pictures."""
        blocks = (Block(b.stage, b.kept * count, b.input * count) for b in self.blocks)
        return Trace(tuple(blocks), self.rest * count, self.largest * count)

    def __add__(self, other: Trace) -> Trace:
        largest = max(self.largest, other.largest)
        return Trace(self.blocks + other.blocks, self.rest + other.rest, largest)


def trace_unet(unet: torch.nn.Module, size: Size, tokens: int, trains_text: bool) -> Trace:
    """What a U-Net on the meta device, with its LoRA, keeps for one picture of `size` in pixels
    with a caption of so many tokens.
    """
    config, dtype = unet.config, next(unet.parameters()).dtype
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim

    def empty(*shape: int, of: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=of, device="meta")

    hidden = empty(1, tokens, config.cross_attention_dim).requires_grad_(trains_text)
    conditions = {"text_embeds": empty(1, pooled), "time_ids": empty(1, 6, of=torch.float32)}
    noisy, t = empty(1, 4, size[1] // 8, size[0] // 8), empty(1, of=torch.long)
    counted = _Counted(unet)
    with counted, _Fused():
        unet(noisy, t, hidden, added_cond_kwargs=conditions)
    return counted.trace()


def trace_encoder(encoder: torch.nn.Module, chunks: int) -> Trace:
    """What a text encoder on the meta device, with its LoRA, keeps for one caption of so many
    chunks.
    """
    counted = _Counted(encoder)
    with counted, _Fused():
        encode(encoder, torch.zeros(1, chunks, CHUNK + 2, dtype=torch.long, device="meta"))
    return counted.trace()


def stage_of(path: str) -> str:
    """The stage of the module at `path` if it is a block, else ''."""
    above = path.rpartition(".")[0]
    if above.endswith(".transformer_blocks"):
        return above.removesuffix(".transformer_blocks")
    if above.endswith(".resnets"):
        return RESNETS
    return TEXT if above.endswith("encoder.layers") else ""


class _Counted:
    """While it is entered, every tensor that autograd keeps is counted once, for the block that it
    was made in.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.kept: dict[str, int] = defaultdict(int)
        self.inputs: dict[str, int] = {}
        self.largest, self.now = 0, ""
        self.seen: dict[int, torch.UntypedStorage] = {}  # alive, so that no number comes twice
        self.handles: list[Any] = []
        self.saved = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)

    def __enter__(self) -> None:
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            self.seen[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        for path, module in self.module.named_modules():
            if stage_of(path):
                self.handles += [
                    module.register_forward_pre_hook(self._enters(path), with_kwargs=True),
                    module.register_forward_hook(self._leaves),
                ]
        self.saved.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.saved.__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def trace(self) -> Trace:
        blocks = [
            Block(stage_of(path), self.kept[path], size) for path, size in self.inputs.items()
        ]
        return Trace(tuple(blocks), self.kept[""], self.largest)

    def _enters(self, path: str) -> Callable[..., None]:
        def enter(module: Any, inputs: Any, named: Mapping[str, Any]) -> None:
            self.now = path
            first = inputs[0] if inputs else named["hidden_states"]
            self.inputs[path] = first.nbytes

        return enter

    def _leaves(self, *_: Any) -> None:
        self.now = ""

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen[storage._cdata] = storage
            self.kept[self.now] += storage.nbytes()
            self.largest = max(self.largest, storage.nbytes())
        return tensor


class _Fused(TorchFunctionMode):
    """Attention as the fused kernels do it (Dao et al. 2022): they keep their inputs, their output
    and a number a row. On the meta device torch would take the plain one, which keeps the matrix.
    """

    def __torch_function__(
        self, called: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        if called is functional.scaled_dot_product_attention:
            return _Attention.apply(*arguments[:3])
        return called(*arguments, **(named or {}))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, query: Any, key: Any, value: Any) -> torch.Tensor:  # type: ignore[override]
        output = torch.empty_like(query)
        rows = torch.empty(query.shape[:-1], device=query.device)
        context.save_for_backward(query, key, value, output, rows)
        return output
