"""The LoRA on the base: where it sits, what it does, and that its file does the same."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorakit.errors import LoraFileError
from lorakit.training import adapter
from lorakit.training.base import Base, load_base
from lorakit.training.config import PreviewSettings
from lorakit.training.names import kohya_name
from lorakit.training.preview import Prompt, draw

FEW = PreviewSettings(steps=4)
PROMPTS = [Prompt("astrid", 1), Prompt("1girl, blue hair", 2)]


def shaken(base: Base, rank: int = 4, alpha: float = 2) -> Base:
    """The base with a LoRA whose effect is plain to see."""
    adapter.add_adapter(base.parts, rank, alpha, seed=3)
    generator = torch.Generator().manual_seed(0)
    for module in base.parts.values():
        for parameter in adapter.trainable(module):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return base


def pixels(base: Base) -> torch.Tensor:
    import numpy as np

    return torch.stack(
        [torch.from_numpy(np.array(p)).float() for p in draw(base, PROMPTS, FEW, (128, 128))]
    )


def test_a_fresh_adapter_changes_nothing(base: Base) -> None:
    before = pixels(base)
    adapter.add_adapter(base.parts, 4, 2, seed=3)
    assert torch.equal(pixels(base), before)


def test_turning_the_adapter_off_shows_the_base_again(base: Base) -> None:
    before = pixels(base)
    shaken(base)
    assert (pixels(base) - before).abs().mean() > 1
    with adapter.without(base.parts):
        assert torch.equal(pixels(base), before)


def test_only_the_adapter_is_trainable_and_it_is_float32(base: Base) -> None:
    adapter.add_adapter(base.parts, 4, 2, seed=3)
    for module in base.parts.values():
        free = {name for name, p in module.named_parameters() if p.requires_grad}
        assert free and all(".lora_" in name for name in free)
        assert len(free) == len(adapter.trainable(module))
        assert {p.dtype for p in adapter.trainable(module)} == {torch.float32}


def test_merging_by_hand_gives_the_previews_that_the_adapter_gives(base: Base) -> None:
    shaken(base)
    with_adapter, tensors = pixels(base), adapter.tensors(base.parts, torch.float32)
    merged = load_base("demo")
    for part, module in merged.parts.items():
        for path in adapter.targets(part, module):
            name, layer = kohya_name(part, path), module.get_submodule(path)
            down, up, alpha = (
                tensors[f"{name}.{end}"] for end in ("lora_down.weight", "lora_up.weight", "alpha")
            )
            layer.weight.data = adapter.merged_weight(layer.weight, down, up, float(alpha))
    assert (pixels(merged) - with_adapter).abs().max() <= 2  # of 255: rounding of float32 sums


def test_a_written_file_read_back_draws_the_same_pictures(base: Base, tmp_path: Path) -> None:
    shaken(base)
    wanted, path = pixels(base), tmp_path / "a.safetensors"
    save_file(adapter.tensors(base.parts, torch.float32), path)
    again = load_base("demo")
    adapter.load_adapter(again.parts, path)
    assert torch.equal(pixels(again), wanted)


def test_a_file_with_a_tensor_that_fits_nowhere_is_refused(base: Base, tmp_path: Path) -> None:
    shaken(base)
    tensors = adapter.tensors(base.parts) | {
        "lora_unet_surprise.lora_down.weight": torch.zeros(4, 4)
    }
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(
        LoraFileError, match="1 tensors that this base has no place for .lora_unet_surprise"
    ):
        adapter.load_adapter(load_base("demo").parts, tmp_path / "a.safetensors")


def test_a_file_of_another_size_of_model_is_refused(base: Base, tmp_path: Path) -> None:
    shaken(base)
    tensors = {
        name: t[:, :-1].clone() if name.endswith("lora_down.weight") else t
        for name, t in adapter.tensors(base.parts).items()
    }
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(LoraFileError, match="does not fit this base"):
        adapter.load_adapter(load_base("demo").parts, tmp_path / "a.safetensors")


def test_a_missing_and_a_damaged_file_say_so(base: Base, tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match="There is no LoRA file at"):
        adapter.load_adapter(base.parts, tmp_path / "no.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a model at all")
    with pytest.raises(LoraFileError, match="is not a safetensors file"):
        adapter.load_adapter(base.parts, tmp_path / "bad.safetensors")
