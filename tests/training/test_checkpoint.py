"""The VAE of the user's own, in every layout, and checkpoints that are not quite SDXL."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file

from lorakit.errors import BaseModelError
from lorakit.training import base as base_module
from lorakit.training import single_file
from lorakit.training.base import DEMO, Base, load_base, open_base
from lorakit.training.checkpoint import open_checkpoint, open_vae
from lorakit.training.config import BaseSettings
from lorakit.training.parts import build
from lorakit.training.saving import save_single_file

VAE_CONFIG = json.loads((DEMO / "vae" / "config.json").read_text())
# as SDXL's: with attention in the middle, which the embedded base's VAE has not
ATTENTIVE = VAE_CONFIG | {"mid_block_add_attention": True}


@pytest.fixture
def vae() -> dict[str, torch.Tensor]:
    """Another VAE for the embedded base, under diffusers' names."""
    other = load_file(DEMO / "vae" / "diffusion_pytorch_model.safetensors")
    return {name: tensor.float() * 1.5 for name, tensor in other.items()}


def original(vae: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {single_file.vae_name(name, 4): tensor.contiguous() for name, tensor in vae.items()}


def opened(path: Path) -> Base:
    base = open_base(BaseSettings(base_model="demo", vae=str(path)))
    base.fetch("unet", "vae")
    return base


def same(base: Base, vae: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(base.vae.state_dict()[name], tensor) for name, tensor in vae.items())


def test_a_vae_file_is_read_in_the_original_and_in_diffusers_layout(
    vae: dict[str, torch.Tensor], tmp_path: Path, base: Base
) -> None:
    assert not same(base, vae)
    save_file(vae, tmp_path / "diffusers.safetensors")
    save_file(original(vae), tmp_path / "original.safetensors")
    for path in sorted(tmp_path.iterdir()):
        other = opened(path)
        assert same(other, vae) and other.vae.dtype == torch.float32
        assert other.notes[-1] == f"VAE: {path} in place of the base model's own, in fp32."
        assert torch.equal(other.unet.conv_in.weight, base.unet.conv_in.weight)
    assert base.notes[-1] == "VAE: its own, in fp32."


def test_a_vae_may_come_from_a_folder_or_a_whole_checkpoint(
    vae: dict[str, torch.Tensor], tmp_path: Path, base: Base
) -> None:
    for folder in (tmp_path / "alone", tmp_path / "model" / "vae"):
        folder.mkdir(parents=True)
        save_file(vae, folder / "diffusion_pytorch_model.safetensors")
        (folder / "config.json").write_text(json.dumps(VAE_CONFIG))
    assert same(opened(tmp_path / "alone"), vae)
    assert same(opened(tmp_path / "model"), vae)
    whole = save_single_file("demo", tmp_path / "whole.safetensors")
    own = {name: tensor for name, tensor in base.vae.state_dict().items()}
    assert same(opened(whole), own)


@pytest.mark.parametrize(
    "name, value, said",
    [("scaling_factor", 0.18215, "its scaling_factor is 0.18215"), ("latent_channels", 16, "16")],
)
def test_a_vae_for_another_kind_of_model_is_refused(
    vae: dict[str, torch.Tensor], tmp_path: Path, name: str, value: float, said: str
) -> None:
    save_file(vae, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(VAE_CONFIG | {name: value}))
    with pytest.raises(BaseModelError, match="a VAE for another kind of model") as error:
        opened(tmp_path)
    assert said in str(error.value)


def test_a_file_without_a_vae_or_with_one_of_another_shape_is_refused(
    vae: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(BaseModelError, match="holds no VAE for SDXL"):
        opened(tmp_path / "none.safetensors")
    vae["encoder.conv_in.weight"] = torch.zeros(7, 3, 3, 3)
    save_file(vae, tmp_path / "wide.safetensors")
    with pytest.raises(BaseModelError, match=r"another shape than SDXL \(vae: encoder.conv_in"):
        opened(tmp_path / "wide.safetensors")


def test_the_vaes_attention_is_a_matrix_here_and_a_convolution_in_the_original_layout(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    state = AutoencoderKL.from_config(ATTENTIVE).state_dict()
    file = single_file.to_single_file({"unet": {}, "vae": state, "te1": {}, "te2": {}}, 4)
    assert file["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (128, 128, 1, 1)
    theirs = convert_ldm_vae_checkpoint(dict(file), ATTENTIVE)
    assert theirs.keys() == state.keys()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in state.items())
    save_file(file, tmp_path / "vae.safetensors")
    with open_vae(tmp_path / "vae.safetensors", ATTENTIVE) as checkpoint:
        ours = build("vae", ATTENTIVE, checkpoint, torch.float32, "cpu").state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in state.items())


def test_the_older_names_of_the_vaes_attention_are_read_too(tmp_path: Path) -> None:
    state = AutoencoderKL.from_config(ATTENTIVE).state_dict()
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    pattern = re.compile(r"(?<=attentions\.0\.)(to_q|to_k|to_v|to_out\.0)(?=\.)")
    old = {pattern.sub(lambda m: names[m[1]], name): tensor for name, tensor in state.items()}
    assert "encoder.mid_block.attentions.0.query.weight" in old
    save_file(old, tmp_path / "vae.safetensors")
    with open_vae(tmp_path / "vae.safetensors", ATTENTIVE) as checkpoint:
        ours = build("vae", ATTENTIVE, checkpoint, torch.float32, "cpu").state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    "choice, dtype, device, wanted",
    [
        ("", torch.float16, "cuda", torch.float32),
        ("sdxl", torch.bfloat16, "cuda", torch.float32),
        ("fp16-fix", torch.float16, "cuda", torch.float16),
        ("fp16-fix", torch.bfloat16, "cuda:1", torch.float16),
        ("fp16-fix", torch.float32, "cuda", torch.float32),
        ("fp16-fix", torch.bfloat16, "cpu", torch.float32),
        ("madebyollin/sdxl-vae-fp16-fix", torch.float16, "cuda", torch.float16),
        ("/models/sdxl_vae_fp16_fix.safetensors", torch.float16, "cuda", torch.float16),
    ],
)
def test_only_the_vae_mended_for_it_works_in_half_precision(
    choice: str, dtype: torch.dtype, device: str, wanted: torch.dtype
) -> None:
    assert base_module.vae_dtype(choice, dtype, device) == wanted


def test_no_tensor_keeps_more_memory_than_its_own(tmp_path: Path) -> None:
    whole = save_single_file("demo", tmp_path / "whole.safetensors")
    base = load_base(str(whole), torch.float16)
    for module in base.parts.values():
        for tensor in module.state_dict().values():
            assert tensor.untyped_storage().nbytes() == tensor.nbytes
            assert tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)


def test_in_half_precision_the_numbers_of_a_half_precision_file_are_untouched(
    tmp_path: Path,
) -> None:
    whole = save_single_file("demo", tmp_path / "whole.safetensors")
    base = load_base(str(whole), torch.float16)
    stored = load_file(whole)["model.diffusion_model.input_blocks.0.0.weight"]
    assert stored.dtype == torch.float16
    assert torch.equal(base.unet.conv_in.weight, stored)


@pytest.mark.parametrize(
    "keys, said",
    [
        (["cond_stage_model.x"], "looks like Stable Diffusion 1 or 2"),
        (["edm_vpred.sigma_max", "model.diffusion_model.x"], "is of the EDM kind"),
        (["lora_unet_x.lora_down.weight"], "looks like a LoRA file"),
        (["unet.x.lora_A.weight"], "looks like a LoRA file"),
        (["model.diffusion_model.double_blocks.0.x"], "looks like Flux or Stable Diffusion 3"),
        (
            [
                "model.diffusion_model.input_blocks.0.0.weight",
                "conditioner.embedders.0.model.ln_final.weight",
            ],
            "looks like the SDXL refiner",
        ),
        (["model.diffusion_model.label_emb.0.0.weight"], "lacks the text encoders"),
        (["down_blocks.0.x"], "holds other things"),
    ],
)
def test_what_is_not_sdxl_is_named(keys: list[str], said: str) -> None:
    with pytest.raises(BaseModelError, match="is not an SDXL checkpoint") as error:
        single_file.configs_of("it", keys, {})
    assert said in str(error.value)


def test_a_folder_of_stable_diffusion_1_is_named_as_not_sdxl(tmp_path: Path) -> None:
    for part in DEMO.iterdir():
        if not part.name.endswith("_2"):
            (tmp_path / part.name).symlink_to(part)
    with pytest.raises(BaseModelError, match="is not SDXL: it has no second text encoder"):
        load_base(str(tmp_path))


def test_a_part_in_pieces_and_a_half_precision_variant_are_found(tmp_path: Path) -> None:
    for part in DEMO.iterdir():
        if part.name not in ("unet", "text_encoder"):
            (tmp_path / part.name).symlink_to(part)
    for part in ("unet", "text_encoder"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").symlink_to(DEMO / part / "config.json")
    unet = load_file(DEMO / "unet" / "diffusion_pytorch_model.safetensors")
    names = sorted(unet)
    for i, half in enumerate((names[:100], names[100:]), 1):
        target = f"diffusion_pytorch_model-0000{i}-of-00002.safetensors"
        save_file({name: unet[name] for name in half}, tmp_path / "unet" / target)
    (tmp_path / "text_encoder" / "model.fp16.safetensors").symlink_to(
        DEMO / "text_encoder" / "model.safetensors"
    )
    with open_checkpoint(tmp_path) as checkpoint:
        assert torch.equal(checkpoint.read("unet", names[-1]), unet[names[-1]])
        assert checkpoint.read("te1", "text_model.final_layer_norm.weight").shape == (64,)
