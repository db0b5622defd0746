"""For full-size SDXL lorakit writes exactly the tensors that sd-scripts writes: names, shapes,
alphas.
"""

from pathlib import Path

import pytest
import torch

from lorakit.training import adapter
from lorakit.training.base import build
from lorakit.training.single_file import sdxl_configs

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def full_size() -> dict[str, torch.nn.Module]:
    configs = sdxl_configs()
    return {
        part: build(part, configs[part], None, torch.float32, "meta")
        for part in ("unet", "te1", "te2")
    }


def test_the_written_names_and_shapes_equal_the_golden_list_line_for_line(
    full_size: dict[str, torch.nn.Module],
) -> None:
    adapter.add_adapter(full_size, rank=8, alpha=4, seed=0)
    lines = []
    for name, tensor in adapter.tensors(full_size).items():
        shape = "()" if tensor.ndim == 0 else f"{tuple(tensor.shape)}"
        lines.append(f"{name} {shape}" + (f" value={tensor.item():g}" if tensor.ndim == 0 else ""))
    assert lines == (GOLDEN / "sdxl_lora.txt").read_text().splitlines()


def test_full_size_sdxl_has_722_72_and_192_targets() -> None:
    configs = sdxl_configs()
    assert [adapter.expected_count(part, configs[part]) for part in ("unet", "te1", "te2")] == [
        722,
        72,
        192,
    ]
