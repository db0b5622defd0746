"""How much memory a run's steps need: every tensor that the backward pass keeps is counted, on a
U-Net that has shapes and no weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Block:
    """A transformer block of the U-Net: the bytes it keeps for the backward pass, and those of its
    input alone, which is all that is kept of it under checkpointing. `stage` is the path of the
    transformer it is in.
    """

    stage: str
    kept: int
    input: int


@dataclass(frozen=True)
class Trace:
    """What one step of one batch keeps: in its transformer blocks, in the rest of the U-Net, and
    the bytes of the largest single tensor.
    """

    blocks: tuple[Block, ...]
    rest: int
    largest: int

    @property
    def stages(self) -> list[str]:
        """The paths of the transformers, in the order in which they are gone through."""
        return list(dict.fromkeys(block.stage for block in self.blocks))

    def kept(self, checkpointed: Collection[str] = ()) -> int:
        """The bytes kept at the end of the forward pass, and while the first checkpointed block is
        computed again, if these stages are checkpointed.
        """
        again = [block for block in self.blocks if block.stage in checkpointed]
        whole = [block for block in self.blocks if block.stage not in checkpointed]
        return (
            self.rest
            + sum(block.kept for block in whole)
            + sum(block.input for block in again)
            + max((block.kept for block in again), default=0)
        )


def trace(
    unet: torch.nn.Module,
    dtype: torch.dtype,
    size: Size,
    pictures: int,
    tokens: int,
    trains_text: bool = False,
) -> Trace:
    """Goes through a U-Net on the meta device (with its LoRA, if it gets one) as a step would,
    with so many pictures of `size` in pixels and captions of so many tokens.
    """
    counted = _Counted(unet)
    width, pooled = unet.config.cross_attention_dim, pooled_width(unet.config)
    empty: Callable[..., Any] = torch.empty
    hidden = empty(pictures, tokens, width, dtype=dtype, device="meta", requires_grad=trains_text)
    conditions = {
        "text_embeds": empty(pictures, pooled, dtype=dtype, device="meta"),
        "time_ids": empty(pictures, 6, device="meta"),
    }
    noisy = empty(pictures, 4, size[1] // 8, size[0] // 8, dtype=dtype, device="meta")
    times = empty(pictures, dtype=torch.long, device="meta")
    with counted, _Fused():
        unet(noisy, times, hidden, added_cond_kwargs=conditions)
    return counted.trace()


def pooled_width(config: Mapping[str, Any]) -> int:
    """The width of the second encoder's pooled output: what is left of the U-Net's input for it
    beside six numbers.
    """
    whole = int(config["projection_class_embeddings_input_dim"])
    return whole - 6 * int(config["addition_time_embed_dim"])


class _Counted:
    """While it is entered, every tensor that autograd keeps is counted once, for the innermost
    transformer block that it was made in.
    """

    def __init__(self, unet: torch.nn.Module) -> None:
        self.unet = unet
        self.kept: dict[str, int] = defaultdict(int)
        self.inputs: dict[str, int] = {}
        self.largest, self.now = 0, ""
        self.seen: dict[int, torch.UntypedStorage] = {}  # alive, so that no number comes twice
        self.handles: list[Any] = []
        self.saved = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)

    def __enter__(self) -> None:
        for tensor in (*self.unet.parameters(), *self.unet.buffers()):
            self.seen[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        for path, module in self.unet.named_modules():
            if path.rpartition(".")[0].endswith("transformer_blocks"):
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
            Block(path.partition(".transformer_blocks.")[0], self.kept[path], size)
            for path, size in self.inputs.items()
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
