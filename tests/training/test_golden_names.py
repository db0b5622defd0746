"""For full-size SDXL lorakit writes exactly the tensors that sd-scripts writes: names, shapes,
alphas.
"""

from pathlib import Path

import pytest
import torch

from lorakit.training import adapter
from lorakit.training.config import AdapterSettings
from lorakit.training.parts import empty
from lorakit.training.single_file import sdxl_configs

GOLDEN = Path(__file__).parents[1] / "golden"


def full_size() -> dict[str, torch.nn.Module]:
    """SDXL's three parts without their weights."""
    configs = sdxl_configs()
    return {part: empty(part, configs[part]) for part in ("unet", "te1", "te2")}


def lines(tensors: dict[str, torch.Tensor]) -> list[str]:
    """What sd-scripts' file was listed as: name, shape, and the value of each alpha."""
    return [
        f"{name} {tuple(tensor.shape)}" if tensor.ndim else f"{name} () value={tensor.item():g}"
        for name, tensor in tensors.items()
    ]


@pytest.mark.parametrize("kind", ["lora", "locon"])
def test_the_written_names_and_shapes_equal_the_golden_list_line_for_line(kind: str) -> None:
    parts = full_size()
    settings = AdapterSettings(rank=8, alpha=4, kind=kind, conv_rank=16, conv_alpha=8)
    adapter.add_adapter(parts, settings, seed=0)
    assert lines(adapter.tensors(parts)) == (GOLDEN / f"sdxl_{kind}.txt").read_text().splitlines()


def test_a_part_that_is_not_trained_is_not_written() -> None:
    parts = {"te1": full_size()["te1"]}
    adapter.add_adapter(parts, AdapterSettings(), seed=0)
    names = list(adapter.tensors(parts))
    assert len(names) == 3 * 72 and all(name.startswith("lora_te1_") for name in names)


def test_full_size_sdxl_has_722_targets_788_with_convolutions_and_72_and_192_in_the_encoders() -> (
    None
):
    configs = sdxl_configs()
    assert [adapter.expected_count(part, configs[part]) for part in ("unet", "te1", "te2")] == [
        722,
        72,
        192,
    ]
    assert adapter.expected_count("unet", configs["unet"], "locon") == 788
