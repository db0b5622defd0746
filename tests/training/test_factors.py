"""What is read from a LoRA file of each module, and what is written of it."""

import pytest
import torch

from lorakit.errors import LoraFileError
from lorakit.training import factors

from .lora_files import CONV, LINEAR, POINT, SHAPES, added, random_lora


def test_every_module_is_read_with_its_rank_strength_and_shape() -> None:
    found = factors.modules(random_lora(0, rank=6, alpha=3), "a.safetensors")
    assert {name: f.added_shape for name, f in found.items()} == SHAPES
    assert [(f.rank, f.scale, f.alpha) for f in found.values()] == [(6, 0.5, 3.0)] * 3
    assert [name for name, f in found.items() if f.convolution] == [CONV]


def test_a_module_without_alpha_has_strength_1() -> None:
    tensors = random_lora(0, rank=6)
    del tensors[f"{LINEAR}.alpha"]
    assert factors.modules(tensors, "a")[LINEAR].scale == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_packing_keeps_the_strength_although_the_format_would_round_alpha(
    dtype: torch.dtype,
) -> None:
    tensors = random_lora(1, alpha=22.62741699797)  # rank-stabilised: not a round number
    packed = factors.pack(factors.modules(tensors, "a"), dtype)
    assert {t.dtype for t in packed.values()} == {dtype, torch.float32}
    before, after = added(tensors, POINT), added(packed, POINT)
    ratio = (before * after).sum() / (before * before).sum()  # how strong it is now, all in all
    assert abs(ratio - 1) < torch.finfo(dtype).eps / 10


def test_packing_what_was_read_gives_the_same_tensors() -> None:
    tensors = random_lora(2, dtype=torch.float16)
    packed = factors.pack(factors.modules(tensors, "a"))
    assert list(packed) == list(tensors)
    assert all(packed[k].equal(t) and packed[k].dtype == t.dtype for k, t in tensors.items())


def test_a_dora_is_refused_with_the_reason() -> None:
    tensors = random_lora(0) | {f"{LINEAR}.dora_scale": torch.ones(1, 16)}
    with pytest.raises(LoraFileError, match="a.safetensors is a DoRA: what it adds depends on the"):
        factors.modules(tensors, "a.safetensors")


@pytest.mark.parametrize("name", ["x.hada_w1_a", "x.lokr_w1", f"{CONV}.lora_mid.weight"])
def test_other_kinds_of_adapter_are_refused_by_name(name: str) -> None:
    with pytest.raises(LoraFileError, match=rf"1 tensors that are not a plain LoRA's .*\({name}\)"):
        factors.modules(random_lora(0) | {name: torch.ones(1)}, "a")


def test_a_file_whose_halves_do_not_fit_is_called_damaged() -> None:
    tensors = random_lora(0)
    tensors[f"{LINEAR}.lora_up.weight"] = torch.ones(24, 5)
    with pytest.raises(LoraFileError, match=f"the two halves of {LINEAR} do not fit"):
        factors.modules(tensors, "a")
    with pytest.raises(LoraFileError, match="a holds no LoRA"):
        factors.modules({}, "a")


def test_kohyas_numbers_come_from_the_tensors() -> None:
    details = factors.network_details(random_lora(0, rank=6, alpha=3))
    assert details == {
        "ss_network_module": "networks.lora",
        "ss_network_dim": 6,
        "ss_network_alpha": 3.0,
        "ss_network_args": {"conv_dim": "6", "conv_alpha": "3.0"},
    }


def test_ranks_that_differ_are_called_dynamic_and_text_encoders_do_not_count() -> None:
    tensors = random_lora(0, rank=6, alpha=3)
    tensors["lora_te1_a.lora_down.weight"] = torch.ones(2, 3)
    assert factors.network_details(tensors)["ss_network_dim"] == 6
    tensors["lora_unet_b.lora_down.weight"] = torch.ones(2, 3)
    details = factors.network_details(tensors)
    assert (details["ss_network_dim"], details["ss_network_alpha"]) == ("Dynamic", "Dynamic")
    only_text = {"lora_te1_a.lora_down.weight": torch.ones(2, 3)}
    assert factors.network_details(only_text)["ss_network_dim"] == 2


def test_a_value_that_is_not_finite_is_found_by_name() -> None:
    tensors = random_lora(0)
    assert factors.finite(tensors) == ""
    tensors[f"{CONV}.lora_up.weight"][0, 0] = float("inf")
    assert factors.finite(tensors) == f"{CONV}.lora_up.weight"
