"""What a LoRA file says of each module: two factors and a strength, of linear layers and of
convolutions alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import LoraFileError

Tensors = Mapping[str, torch.Tensor]

DOWN, UP, ALPHA, DORA = ".lora_down.weight", ".lora_up.weight", ".alpha", ".dora_scale"


@dataclass(frozen=True)
class Factors:
    """What one module adds to its weight: scale * up @ down (Hu et al. 2021, section 4.1).

    `down` is (rank, inputs) or, of a convolution, (rank, inputs, height, width); `up` is (outputs,
    rank) or (outputs, rank, 1, 1). `scale` is alpha / rank.
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def alpha(self) -> float:
        return self.scale * self.rank

    @property
    def convolution(self) -> bool:
        """Whether this is a convolution that kohya's conv_dim is about: one wider than 1 x 1."""
        return self.down.ndim == 4 and tuple(self.down.shape[2:]) != (1, 1)

    @property
    def added_shape(self) -> tuple[int, ...]:
        """The shape of the weight that this is added to."""
        return (self.up.shape[0], *self.down.shape[1:])


def modules(tensors: Tensors, where: object) -> dict[str, Factors]:
    """The factors of every module of a LoRA file with kohya's tensor names; `where` is named in
    errors.

    A module without alpha has strength 1, as every reader has it. Raises LoraFileError for whatever
    is not a plain LoRA or LoCon, because its parts cannot be added up.
    """
    refuse_others(tensors, where)
    names = sorted(key.removesuffix(DOWN) for key in tensors if key.endswith(DOWN))
    if not names:
        raise LoraFileError(f"{where} holds no LoRA. Give a LoRA file with kohya's names.")
    return {name: _factors(name, tensors, where) for name in names}


def refuse_others(tensors: Iterable[str], where: object) -> None:
    """Raises LoraFileError if there is a tensor that a plain LoRA or LoCon does not have."""
    strange = sorted(key for key in tensors if not key.endswith((DOWN, UP, ALPHA)))
    if any(key.endswith(DORA) for key in strange):
        raise dora_error(where)
    if strange:
        some = ", ".join(strange[:3])
        raise LoraFileError(
            f"{where} has {len(strange)} tensors that are not a plain LoRA's or LoCon's under "
            f"kohya's names ({some}{' ...' if len(strange) > 3 else ''}). Give another file."
        )


def dora_error(where: object) -> LoraFileError:
    """Why a DoRA is not taken."""
    return LoraFileError(
        f"{where} is a DoRA: what it adds depends on the base model's own weights, so it can be "
        "neither resized nor merged nor renamed on its own. Train without dora for that."
    )


def _factors(name: str, tensors: Tensors, where: object) -> Factors:
    down, up, alpha = tensors[name + DOWN], tensors.get(name + UP), tensors.get(name + ALPHA)
    if up is None:
        raise LoraFileError(f"{where} is damaged: {name} lacks its second half. Get it again.")
    return checked(name, down, up, float(alpha) if alpha is not None else len(down), where)


def checked(
    name: str, down: torch.Tensor, up: torch.Tensor, alpha: float, where: object
) -> Factors:
    """The factors of a module. Raises LoraFileError if its halves do not belong together."""
    if up.ndim != down.ndim or up.ndim < 2 or up.shape[1] != down.shape[0]:
        raise LoraFileError(
            f"{where} is damaged: the two halves of {name} do not fit each other. Get it again."
        )
    return Factors(down, up, alpha / len(down))


def pack(found: Mapping[str, Factors], dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a LoRA file with kohya's names, in `dtype` or as they are. An alpha that would
    be rounded is written in float32, like adapter.tensors does.
    """
    result = {}
    for name, factors in found.items():
        kind = dtype or torch.promote_types(factors.down.dtype, factors.up.dtype)
        alpha = torch.tensor(factors.alpha, dtype=torch.promote_types(kind, torch.float32))
        result[name + ALPHA] = alpha.to(kind) if alpha.to(kind) == alpha else alpha
        result[name + DOWN] = factors.down.to(kind).contiguous()
        result[name + UP] = factors.up.to(kind).contiguous()
    return dict(sorted(result.items()))


def network_details(tensors: Tensors) -> dict[str, Any]:
    """Kohya's `ss_network_*` as the tensors themselves have it, which also holds for a run that
    went on from a file with other ranks; 'Dynamic', kohya's word, where modules differ.

    The numbers are the U-Net's where there is one: kohya has no others for the text encoders.
    """
    shapes = {key: tensor.shape for key, tensor in tensors.items() if key.endswith(DOWN)}
    unet = {key for key in shapes if key.startswith("lora_unet")} or set(shapes)
    wide = {key for key in unet if len(shapes[key]) == 4 and tuple(shapes[key][2:]) != (1, 1)}
    plain = _rank_and_alpha(tensors, (unet - wide) or unet)
    arguments = {}
    if wide and unet - wide:
        conv = _rank_and_alpha(tensors, wide)
        arguments = {"conv_dim": str(conv[0]), "conv_alpha": str(conv[1])}
    if any(key.endswith(DORA) for key in tensors):
        arguments["dora_wd"] = "True"
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": plain[0],
        "ss_network_alpha": plain[1],
        "ss_network_args": arguments,
    }


def _rank_and_alpha(tensors: Tensors, downs: Iterable[str]) -> tuple[int | str, float | str]:
    ranks, alphas = set(), set()
    for key in downs:
        rank = tensors[key].shape[0]
        alpha = tensors.get(key.removesuffix(DOWN) + ALPHA)
        ranks.add(rank)
        alphas.add(float(alpha) if alpha is not None else float(rank))
    rank_ = next(iter(ranks)) if len(ranks) == 1 else "Dynamic"
    alpha_ = next(iter(alphas)) if len(alphas) == 1 else "Dynamic"
    return rank_, alpha_


def finite(tensors: Tensors) -> str:
    """The name of the first tensor with a value that is not a number or not finite, or ''."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            return name
    return ""
