"""Loading the base: folder and single file are the same model, and what is not a base says so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorakit.errors import BaseModelError
from lorakit.training import parts, sources
from lorakit.training.base import DEMO, Base, load_base, open_base
from lorakit.training.checkpoint import FOLDERS
from lorakit.training.config import BaseSettings
from lorakit.training.saving import save_single_file


def test_the_single_file_in_sdxls_layout_holds_the_same_model_as_the_folder(
    base: Base, tmp_path: Path
) -> None:
    single = load_base(str(save_single_file("demo", tmp_path / "base.safetensors")))
    for part, module in {**base.parts, "vae": base.vae}.items():
        other = {**single.parts, "vae": single.vae}[part].state_dict()
        assert module.state_dict().keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in module.state_dict().items())


def test_the_base_is_frozen_and_predicts_noise(base: Base) -> None:
    assert not any(
        p.requires_grad for m in (*base.parts.values(), base.vae) for p in m.parameters()
    )
    assert base.prediction == "epsilon"


def test_a_half_precision_base_keeps_its_vae_in_float32() -> None:
    base = load_base("demo", torch.bfloat16)
    assert base.unet.dtype == base.encoders[0].dtype == torch.bfloat16
    assert base.vae.dtype == torch.float32


def test_both_tokenizers_have_clips_vocabulary(base: Base) -> None:
    words = "1girl, crescent hair ornament"
    for tokenizer in base.tokenizers:
        assert len(tokenizer) == 49408
        assert tokenizer(words).input_ids == [49406, 272, 1611, 267, 18211, 2225, 23409, 49407]
    assert [t.pad_token_id for t in base.tokenizers] == [49407, 0]


def refused(source: Path | str) -> str:
    with pytest.raises(BaseModelError) as error:
        load_base(str(source))
    return str(error.value)


def test_what_is_not_a_base_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert "There is no base model at" in refused(tmp_path / "nowhere")
    assert "is not a diffusers folder" in refused(tmp_path)
    (tmp_path / "page.safetensors").write_text("<html>sign in first</html>")
    assert "is not a safetensors file (26 bytes" in refused(tmp_path / "page.safetensors")
    (tmp_path / "old.ckpt").write_bytes(b"pickle")
    assert "is a pickle, which can run code" in refused(tmp_path / "old.ckpt")


def test_a_stable_diffusion_1_checkpoint_is_named_as_such(tmp_path: Path) -> None:
    save_file(
        {
            "cond_stage_model.transformer.x": torch.zeros(1),
            "model.diffusion_model.y": torch.zeros(1),
        },
        tmp_path / "sd15.safetensors",
    )
    assert "looks like Stable Diffusion 1 or 2" in refused(tmp_path / "sd15.safetensors")


def test_an_incomplete_folder_names_the_missing_tensor(tmp_path: Path) -> None:
    for part in ("unet", "vae", "text_encoder", "text_encoder_2", "scheduler"):
        (tmp_path / part).mkdir()
        for file in (DEMO / part).iterdir():
            (tmp_path / part / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({"conv_in.weight": torch.zeros(64, 4, 3, 3)}, path)
    assert "lacks the tensor 'conv_in.bias'" in refused(tmp_path)
    (tmp_path / "unet" / "config.json").write_text(json.dumps({})[:-1])
    assert "config.json cannot be read" in refused(tmp_path)


def test_a_folder_saved_without_tokenizers_borrows_clips_vocabulary(
    tmp_path: Path, base: Base
) -> None:
    for part in DEMO.iterdir():
        if not part.name.startswith("tokenizer"):
            (tmp_path / part.name).symlink_to(part)
    for ours, theirs in zip(load_base(str(tmp_path)).tokenizers, base.tokenizers, strict=True):
        assert ours("astrid, purple hair").input_ids == theirs("astrid, purple hair").input_ids
        assert ours.pad_token_id == theirs.pad_token_id


def test_an_opened_base_has_no_weights_until_they_are_asked_for() -> None:
    base = open_base(BaseSettings())
    assert all(parts.is_empty(module) for module in modules(base).values())
    assert base.fetch("te1", "vae") == ["te1", "vae"]
    assert {n for n, module in modules(base).items() if not parts.is_empty(module)} == {
        "te1",
        "vae",
    }
    assert base.fetch("te1") == [], "it is there already"


def test_a_part_put_down_and_read_again_is_the_same_and_still_frozen(base: Base) -> None:
    other = open_base(BaseSettings())
    other.fetch(*FOLDERS)
    for name, module in modules(other).items():
        other.release(name)
        assert parts.is_empty(module)
        other.fetch(name)
        wanted = modules(base)[name].state_dict()
        assert all(torch.equal(tensor, wanted[k]) for k, tensor in module.state_dict().items())
        assert not any(p.requires_grad for p in module.parameters())


def test_parts_are_present_while_needed_and_those_that_were_there_stay() -> None:
    base = open_base(BaseSettings())
    base.fetch("vae")
    with pytest.raises(KeyError), base.present("vae", "te2"):
        assert not parts.is_empty(base.vae) and not parts.is_empty(base.encoders[1])
        raise KeyError
    assert not parts.is_empty(base.vae) and parts.is_empty(base.encoders[1])


def test_a_vae_of_another_place_is_read_again_from_there(tmp_path: Path) -> None:
    with torch.no_grad():
        other = load_base("demo").vae
        other.quant_conv.bias.fill_(7)
        other.save_pretrained(tmp_path)
    base = open_base(BaseSettings(vae=str(tmp_path)))
    for _ in range(2):
        with base.present("vae"):
            assert (base.vae.quant_conv.bias == 7).all()


def test_a_base_that_came_from_no_file_keeps_its_parts(base: Base) -> None:
    alone = replace(base, store=None)
    alone.release("vae")
    assert not parts.is_empty(base.vae)


def modules(base: Base) -> dict[str, torch.nn.Module]:
    return {**base.parts, "vae": base.vae}


def test_loading_says_how_far_it_is() -> None:
    seen: list[tuple[str, int, int]] = []
    base = open_base(BaseSettings())
    base.fetch("te1", "vae", progress=lambda *said: seen.append(said))
    for label, part in (("the first text encoder", base.encoders[0]), ("the VAE", base.vae)):
        count = len(part.state_dict())
        told = [said[1:] for said in seen if said[0] == f"Loading {label}"]
        assert told == [(done, count) for done in range(count + 1)]


def test_a_tensor_of_another_shape_is_told_before_anything_is_read(tmp_path: Path) -> None:
    for part in DEMO.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / "unet").unlink()
    (tmp_path / "unet").mkdir()
    file = "diffusion_pytorch_model.safetensors"
    weights = load_file(DEMO / "unet" / file)
    weights["conv_in.weight"] = torch.zeros(64, 9, 3, 3)  # as inpainting checkpoints have it
    save_file(weights, tmp_path / "unet" / file)
    (tmp_path / "unet" / "config.json").symlink_to(DEMO / "unet" / "config.json")
    with pytest.raises(BaseModelError, match="conv_in.weight is 64x9x3x3, not 64x4x3x3"):
        open_base(BaseSettings(base_model=str(tmp_path)))


def test_a_base_of_the_menu_is_what_it_is_known_for_and_says_its_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_single_file("demo", tmp_path / "base.safetensors")
    monkeypatch.setattr(sources, "resolve", lambda *_: file)
    base = open_base(BaseSettings(base_model="NoobAI V-Pred 1.0"))
    assert base.notes[-1].startswith("Licence of NoobAI V-Pred 1.0: Fair AI Public License")
    assert base.name == "NoobAI V-Pred 1.0" and base.path == file
    assert base.prediction == "epsilon", "what the file itself says counts more than the menu"


def test_the_settings_of_the_base_model_reach_the_place_that_fetches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str]] = []

    def resolve(text: str, folder: str, progress: object) -> Path:
        asked.append((text, folder))
        return DEMO

    monkeypatch.setattr(sources, "resolve", resolve)
    monkeypatch.setattr(sources, "resolve_vae", resolve)
    open_base(BaseSettings(base_model="owner/name", models_folder="/here", vae="owner/vae"))
    assert asked == [("owner/name", "/here"), ("owner/vae", "/here")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolutions_of_a_half_precision_base_are_laid_out_as_matrix_units_take_them(
    dtype: torch.dtype,
) -> None:
    weight = load_base("demo", dtype).unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == (dtype != torch.float32)
