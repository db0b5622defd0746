"""The LoRA file on disk: its bytes, its hashes, its number formats, that a full disk loses nothing,
and the same LoRA under diffusers' names.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata as installed
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from packaging.version import Version
from safetensors import safe_open
from safetensors.torch import load_file, save

from lorakit.errors import LoraFileError, SaveError
from lorakit.training import adapter, export
from lorakit.training.base import DEMO, Base, load_base
from lorakit.training.config import AdapterSettings

from .lora_files import CONV, LINEAR, added, random_lora

TENSORS = {
    "lora_unet_a.lora_down.weight": (torch.arange(1_000_000) % 999).reshape(4, -1).half(),
    "lora_unet_a.alpha": torch.tensor(2.0, dtype=torch.float16),
}
DETAILS = {"ss_v2": "False", "ss_output_name": 'Ástrid \u2013 "quoted"\n', "modelspec.title": "a"}


def test_a_file_is_byte_for_byte_the_same_each_time_and_safetensors_reads_it(
    tmp_path: Path,
) -> None:
    many = DETAILS | {f"ss_{i}": str(i) for i in range(50)}
    first = export.save_lora(tmp_path / "a.safetensors", TENSORS, many).read_bytes()
    for _ in range(3):
        again = export.save_lora(
            tmp_path / "b.safetensors", TENSORS, dict(reversed(many.items()))
        ).read_bytes()
        assert again == first
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert many.items() <= file.metadata().items()
        assert all(file.get_tensor(name).equal(tensor) for name, tensor in TENSORS.items())


def test_the_hashes_are_kohyas(tmp_path: Path) -> None:
    """As sd-scripts computes them: over what safetensors writes with the ss_* metadata alone."""
    path = export.save_lora(tmp_path / "a.safetensors", TENSORS, DETAILS)
    theirs = save(TENSORS, {key: value for key, value in DETAILS.items() if key[:3] == "ss_"})
    body = theirs[8 + int.from_bytes(theirs[:8], "little") :]
    with safe_open(path, framework="pt") as file:
        stored = file.metadata()
    assert stored["sshs_model_hash"] == hashlib.sha256(body).hexdigest()
    window = theirs[0x100000:0x110000]
    assert len(window) == 0x10000
    assert stored["sshs_legacy_hash"] == hashlib.sha256(window).hexdigest()[:8]


def test_the_model_hash_does_not_depend_on_the_metadata(tmp_path: Path) -> None:
    """So that A1111, which takes it over the file's data, finds a renamed file again."""
    for name, details in (("one", DETAILS), ("other", {})):
        data = export.save_lora(tmp_path / name, TENSORS, details).read_bytes()
        body = data[8 + int.from_bytes(data[:8], "little") :]
        with safe_open(tmp_path / name, framework="pt") as file:
            assert file.metadata()["sshs_model_hash"] == hashlib.sha256(body).hexdigest()


def test_a_disk_that_fills_up_while_saving_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export.save_lora(tmp_path / "a.safetensors", TENSORS, DETAILS)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        SaveError, match="Could not write .*a.safetensors: No space left on device. Free some space"
    ):
        export.save_lora(path, TENSORS, DETAILS)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_no_program_could_use_are_not_saved(tmp_path: Path, value: float) -> None:
    tensors = random_lora(0, dtype=torch.float16)
    tensors[f"{CONV}.lora_up.weight"][3] = value
    with pytest.raises(
        SaveError, match=rf"was not written: {CONV}.lora_up.weight .* torch.float16"
    ):
        export.save_lora(tmp_path / "a.safetensors", tensors, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp32"])
def test_each_number_format_is_written_as_it_is(tmp_path: Path, name: str) -> None:
    adapter_ = random_lora(0, dtype=export.DTYPES[name])
    path = export.save_lora(tmp_path / "a.safetensors", adapter_, {})
    assert {tensor.dtype for tensor in load_file(path).values()} == {export.DTYPES[name]}


# --- diffusers' names -----------------------------------------------------------------------------


def test_alpha_is_folded_in_and_smaller_ranks_are_filled_up_with_what_adds_nothing() -> None:
    tensors = random_lora(0, rank=6, alpha=3)
    wider = random_lora(1, rank=9, alpha=2.5)
    tensors |= {key: tensor for key, tensor in wider.items() if key.startswith(CONV)}
    paths = {LINEAR: "unet.a", CONV: "unet.b"}
    tensors = {key: t for key, t in tensors.items() if key.startswith((LINEAR, CONV))}
    found = export.diffusers_tensors(tensors, paths)
    assert sorted(found) == [f"unet.{m}.lora_{f}.weight" for m in "ab" for f in "AB"]
    for name, path in paths.items():
        down, up = found[f"{path}.lora_A.weight"], found[f"{path}.lora_B.weight"]
        assert (
            down.shape[0] == up.shape[1] == 9
        )  # diffusers takes one rank for all: its issue 14409
        as_kohya = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        torch.testing.assert_close(
            added(as_kohya, name), added(tensors, name), atol=1e-6, rtol=1e-6
        )


def test_a_module_that_the_base_has_not_is_refused() -> None:
    with pytest.raises(LoraFileError, match="lora_unet_.* of this LoRA is not a module of this"):
        export.diffusers_tensors(random_lora(0), {})


def test_diffusers_names_have_the_level_that_transformers_may_have_dropped(base: Base) -> None:
    paths = export.diffusers_paths(base.parts)
    for part, number in (("te1", ""), ("te2", "_2")):
        assert paths[f"lora_{part}_text_model_encoder_layers_0_mlp_fc1"] == (
            f"text_encoder{number}.text_model.encoder.layers.0.mlp.fc1"
        )
    assert paths["lora_unet_input_blocks_4_1_proj_in"] == "unet.down_blocks.1.attentions.0.proj_in"
    assert set(paths.values()) >= {"unet.down_blocks.0.resnets.0.conv1", "unet.conv_in"}


def version(package: str) -> Version:
    try:
        return Version(installed.version(package))
    except installed.PackageNotFoundError:
        return Version("999")


# peft from 0.19 on refuses to work beside the torchao that Colab ships
NO_PEFT = version("peft") >= Version("0.19") and version("torchao") < Version("0.16")
# transformers 5.6 dropped a level of the first encoder's names; diffusers 0.41 knows it
TE1_WORKS = version("transformers") < Version("5.6") or version("diffusers") >= Version("0.41")


@pytest.mark.skipif(NO_PEFT, reason="diffusers cannot load any LoRA beside this torchao")
@pytest.mark.filterwarnings("ignore")  # of diffusers' own making, another with each release
def test_diffusers_loads_the_file_by_itself_and_computes_the_same(
    base: Base, tmp_path: Path
) -> None:
    parts = {p: m for p, m in base.parts.items() if p != "te1" or TE1_WORKS}
    adapter.add_adapter(parts, AdapterSettings(rank=4, alpha=6, kind="locon"), seed=3)
    generator = torch.Generator().manual_seed(0)
    for module in parts.values():
        for weight in adapter.trainable(module):
            weight.data = torch.randn(weight.shape, generator=generator) * 0.05
    tensors = adapter.tensors(parts, torch.float32)
    path = export.save_diffusers(tmp_path / "a.safetensors", tensors, DETAILS, base.parts)
    pipeline = StableDiffusionXLPipeline.from_pretrained(DEMO, add_watermarker=False).to(
        torch.float32
    )
    pipeline.load_lora_weights(path)
    theirs = {"unet": pipeline.unet, "te1": pipeline.text_encoder, "te2": pipeline.text_encoder_2}
    plain = load_base("demo").parts
    for part in parts:
        wanted, got, without = (run(part, m[part]) for m in (base.parts, theirs, plain))
        assert (wanted - without).abs().max() > 0.05, part
        torch.testing.assert_close(got, wanted, atol=2e-4, rtol=1e-3)


@torch.no_grad()
def run(part: str, module: torch.nn.Module) -> torch.Tensor:
    """What a part of the base makes of a fixed input."""
    generator = torch.Generator().manual_seed(7)
    if part != "unet":
        return module(torch.arange(77)[None]).last_hidden_state
    context = torch.randn(1, 77, module.config.cross_attention_dim, generator=generator)
    pooled = module.config.projection_class_embeddings_input_dim
    pooled -= 6 * module.config.addition_time_embed_dim
    conditions = {
        "text_embeds": torch.randn(1, pooled, generator=generator),
        "time_ids": torch.tensor([[128.0, 128, 0, 0, 128, 128]]),
    }
    noisy = torch.randn(1, 4, 16, 16, generator=generator)
    return module(noisy, 500, context, added_cond_kwargs=conditions).sample
