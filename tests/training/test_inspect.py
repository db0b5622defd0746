"""What is said of a file one has: its kind, who will show it, whether it is what it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorakit.errors import BaseModelError, LoraFileError
from lorakit.settings import to_mapping
from lorakit.training import export, inspect
from lorakit.training.config import TrainingSettings

from .lora_files import CONV, LINEAR, POINT, random_lora

SDXL = {"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False"}


def lora_file(path: Path, details: dict[str, str] | None = None) -> Path:
    """A LoRA of rank 8 in the U-Net and rank 4 in the first encoder. It has 1.3 MB, because the
    legacy hash is of the second megabyte.
    """
    tensors = {}
    for name, rank, width in (
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 8, 2048),
        ("lora_unet_input_blocks_4_1_proj_in", 8, 80_000),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", 4, 16),
    ):
        tensors[f"{name}.alpha"] = torch.tensor(rank / 2).half()
        tensors[f"{name}.lora_down.weight"] = (
            (torch.arange(rank * width) % 7).reshape(rank, -1).half()
        )
        tensors[f"{name}.lora_up.weight"] = torch.ones(16, rank).half()
    return export.save_lora(path, tensors, SDXL if details is None else details)


def test_a_lora_is_told_by_kind_parts_ranks_alphas_format_and_whom_it_is_for(
    tmp_path: Path,
) -> None:
    found = inspect.describe(lora_file(tmp_path / "a.safetensors"))
    assert (found["kind"], found["naming"], found["made_for"]) == ("LoRA", "kohya's", "SDXL")
    assert found["modules"] == {"te1": 1, "unet": 2}
    assert found["ranks"] == {8: 2, 4: 1}
    assert found["alphas"] == {"4": 2, "2": 1}
    assert found["formats"] == {"fp16": 6}
    for line in (
        "a.safetensors: LoRA, 1.3 MB, 9 tensors",
        "  modules: text encoder 1 (1), U-Net (2)",
        "  ranks: 8 (2), 4 (1)",
        "  A1111 and Forge: show it for SDXL: ss_base_model_version is sdxl_base_v1-0",
    ):
        assert line in found["text"]


def test_hashes_are_computed_anew_and_compared_with_the_stored_ones(tmp_path: Path) -> None:
    path = lora_file(tmp_path / "a.safetensors", SDXL | {"modelspec.title": "Ástrid"})
    found = inspect.describe(path)["hashes"]
    data = path.read_bytes()
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert found["AutoV2"] == found["sha256"][:10].upper()
    assert found["agrees"] is True
    body = data[8 + int.from_bytes(data[:8], "little") :]
    assert found["AutoV3"] == hashlib.sha256(body).hexdigest()[:12].upper()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # one bit
    changed = inspect.describe(path)
    assert changed["hashes"]["agrees"] is False
    assert "NOT as stored: it was changed since" in changed["text"]


def test_both_stored_hashes_are_compared(tmp_path: Path) -> None:
    path = lora_file(tmp_path / "a.safetensors")
    data = path.read_bytes()
    old = inspect.describe(path)["hashes"]["sshs_legacy_hash"].encode()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, b"00000000"))
    assert inspect.describe(path)["hashes"]["agrees"] is False


@pytest.mark.parametrize(
    ("details", "shown", "because"),
    [
        (SDXL, True, "ss_base_model_version is sdxl_base_v1-0"),
        ({"ss_base_model_version": "sdxl_1.0"}, True, "ss_base_model_version is sdxl_1.0"),
        ({}, True, "it has no metadata"),
        ({"format": "pt"}, False, "taken for Stable Diffusion 1"),
        ({"ss_v2": "True"}, False, "taken for Stable Diffusion 2"),
        ({"ss_base_model_version": "sd_v1"}, False, "taken for Stable Diffusion 1"),
    ],
)
def test_whether_a1111_shows_it_for_sdxl(
    details: dict[str, str], shown: bool, because: str
) -> None:
    found, why = inspect.a1111(details)
    assert found is shown and because in why


def test_a_file_that_a1111_hides_is_said_to_be(tmp_path: Path) -> None:
    save_file(random_lora(0, dtype=torch.float32), tmp_path / "a.safetensors", {"format": "pt"})
    assert "do NOT show it for SDXL" in inspect.describe(tmp_path / "a.safetensors")["text"]


NAMES = {
    "kohya's": LINEAR,
    "kohya's with diffusers' block numbers (ai-toolkit, some diffusers scripts)": (
        "lora_unet_down_blocks_1_attentions_0_proj_in"
    ),
    "diffusers'": "unet.down_blocks.1.attentions.0.proj_in",
    "OneTrainer's": "lora_unet.down_blocks.1.attentions.0.proj_in",
    "ComfyUI's": "diffusion_model.input_blocks.4.1.proj_in",
    "LyCORIS'": "lycoris_input_blocks_4_1_proj_in",
    "unknown": "model.layers.0.mlp",
}


@pytest.mark.parametrize(("whose", "name"), NAMES.items())
def test_whose_names_they_are(whose: str, name: str) -> None:
    assert inspect.naming([name]) == whose


def test_a_lora_of_the_text_encoders_alone_has_kohyas_names_too() -> None:
    assert inspect.naming(["lora_te2_text_model_encoder_layers_0_mlp_fc1"]) == "kohya's"


@pytest.mark.parametrize(
    ("extra", "kind"),
    [
        ({}, "LoCon"),
        ({f"{LINEAR}.dora_scale": torch.ones(1, 16)}, "DoRA"),
        ({f"{LINEAR}.hada_w1_a": torch.ones(2, 2)}, "LoHa"),
        ({f"{LINEAR}.lokr_w1": torch.ones(2, 2)}, "LoKr"),
    ],
)
def test_kinds_of_adapter_are_told_apart(
    tmp_path: Path, extra: dict[str, torch.Tensor], kind: str
) -> None:
    save_file(random_lora(0) | extra, tmp_path / "a.safetensors")
    assert inspect.describe(tmp_path / "a.safetensors")["kind"] == kind


def test_a_lora_with_1x1_convolutions_only_is_no_locon(tmp_path: Path) -> None:
    tensors = {k: t for k, t in random_lora(0).items() if not k.startswith(CONV)}
    assert any(key.startswith(POINT) for key in tensors)
    save_file(tensors, tmp_path / "a.safetensors")
    assert inspect.describe(tmp_path / "a.safetensors")["kind"] == "LoRA"


@pytest.mark.parametrize(("width", "name"), [(768, "Stable Diffusion 1"), (2048, "SDXL"), (99, "")])
def test_the_base_it_fits_is_known_by_the_width_of_its_cross_attention(
    tmp_path: Path, width: int, name: str
) -> None:
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {
        f"{module}.lora_down.weight": torch.ones(4, width),
        f"{module}.lora_up.weight": torch.ones(320, 4),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    found = inspect.describe(tmp_path / "a.safetensors")
    assert found["made_for"] == name
    assert "alphas: none: strength 1" in found["text"]


def test_settings_that_are_not_the_default_tags_and_steps_are_shown(tmp_path: Path) -> None:
    details = SDXL | {
        "lorakit.settings": json.dumps(to_mapping(TrainingSettings(rank=16, repeats=7))),
        "ss_tag_frequency": json.dumps({"7_a": {"astrid": 20, "smile": 3}, "2_b": {"astrid": 5}}),
        "ss_steps": "450",
        "ss_training_comment": "None",
    }
    found = inspect.describe(lora_file(tmp_path / "a.safetensors", details))
    assert found["settings"]["rank"] == 16
    assert "  settings that are not the default: repeats=7 rank=16" in found["text"]
    assert "  tags: astrid (25), smile (3)" in found["text"]
    assert "  ss_steps: 450" in found["text"] and "ss_training_comment" not in found["text"]


def test_spoilt_metadata_do_not_keep_the_rest_from_being_shown(tmp_path: Path) -> None:
    details = SDXL | {"lorakit.settings": "[1]", "ss_tag_frequency": '{"a": 3, "b": {"c": "x"}}'}
    found = inspect.describe(lora_file(tmp_path / "a.safetensors", details))
    assert found["settings"] == {} and "tags:" not in found["text"]


def test_a_base_checkpoint_and_something_else_are_called_what_they_are(tmp_path: Path) -> None:
    base = {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2)}
    save_file(base, tmp_path / "base.safetensors", {"modelspec.title": "x"})
    found = inspect.describe(tmp_path / "base.safetensors")
    assert found["kind"] == "base checkpoint" and "hashes" not in found
    save_file({"encoder.weight": torch.ones(2)}, tmp_path / "vae.safetensors")
    found = inspect.describe(tmp_path / "vae.safetensors")
    assert found["kind"] == "neither a LoRA nor a base checkpoint"


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match="There is no file at"):
        inspect.describe(tmp_path / "gone.safetensors")
    (tmp_path / "a.ckpt").write_bytes(b"\x80")
    with pytest.raises(BaseModelError, match="is a pickle"):
        inspect.describe(tmp_path / "a.ckpt")
