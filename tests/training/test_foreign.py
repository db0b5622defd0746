"""LoRA files of other tools, written where possible by those tools' own code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.loaders import lora_conversion_utils as diffusers_reader
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import layer as peft_layer
from safetensors.torch import save_file

from lorakit.errors import LoraFileError
from lorakit.training import adapter, foreign
from lorakit.training.base import Base, load_base
from lorakit.training.config import AdapterSettings

from .adapters import answer, shaken

Tensors = dict[str, torch.Tensor]

# Alpha is the rank: several tools write none.
LOCON = AdapterSettings(rank=4, alpha=4, kind="locon", conv_rank=3, conv_alpha=3)
LORA = AdapterSettings(rank=4, alpha=4)
DORA = AdapterSettings(rank=4, alpha=4, kind="locon", conv_rank=3, conv_alpha=3, dora=True)
FOLDERS = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}
WORDS = (
    "input_blocks middle_block output_blocks transformer_blocks proj_in proj_out to_q to_k to_v "
    "to_out in_layers out_layers emb_layers skip_connection text_model self_attn q_proj k_proj "
    "v_proj out_proj"
).split()


def peft_names(base: Base) -> Tensors:
    """What peft says the adapter is, under the prefixes that diffusers puts before it."""
    return {
        f"{FOLDERS[part]}.{key}": tensor.half()
        for part, module in base.parts.items()
        for key, tensor in get_peft_model_state_dict(module, adapter_name=adapter.NAME).items()
    }


def with_text_model(tensors: Tensors, add: bool) -> Tensors:
    """Names with (transformers up to 5.5) or without (since) the encoders' `text_model` level."""
    plain = {key.replace(".text_model.", "."): tensor for key, tensor in tensors.items()}
    if not add:
        return plain
    return {key.replace(".encoder.", ".text_model.encoder."): t for key, t in plain.items()}


def wrapped(base: Base) -> Tensors:
    """peft's names with the level that a PeftModel adds."""
    named = peft_names(base).items()
    return {".base_model.model.".join(key.split(".", 1)): tensor for key, tensor in named}


def diffusers_names(base: Base) -> Tensors:
    """`.lora.down.weight` and, in the encoders, `.lora_linear_layer.down.weight`."""
    made = convert_state_dict_to_diffusers(peft_names(base))
    assert any(".to_q.lora.down.weight" in key for key in made)
    assert any(".q_proj.lora_linear_layer.up.weight" in key for key in made)
    return made


def ai_toolkit_names(base: Base) -> Tensors:
    """diffusers' block names with underscores; OneTrainer calls these LEGACY_LORA."""
    made = convert_state_dict_to_kohya(with_text_model(peft_names(base), True))
    assert "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight" in made
    assert "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha" in made
    return made


def ai_toolkit_names_without_text_model(base: Base) -> Tensors:
    """The same as diffusers' converter writes it under transformers 5.6 and later."""
    made = convert_state_dict_to_kohya(with_text_model(peft_names(base), False))
    assert "lora_te1_encoder_layers_0_mlp_fc1.alpha" in made
    return made


def onetrainer_own_names(base: Base) -> Tensors:
    """OneTrainer's names before any conversion: kohya's beginnings and ends around full paths."""
    heads = {"unet.": "lora_unet.", "text_encoder.": "lora_te1.", "text_encoder_2.": "lora_te2."}
    made = {}
    for key, tensor in with_text_model(peft_names(base), True).items():
        for theirs, ours in heads.items():
            if key.startswith(theirs):
                key = ours + key.removeprefix(theirs)
        key = key.replace("lora_A", "lora_down").replace("lora_B", "lora_up")
        made[key.replace("lora_magnitude_vector", "dora_scale")] = tensor
    return made


def dotted(name: str) -> str:
    """A name with underscores for dots, put back by the words that have underscores themselves."""
    for word in WORDS:
        name = name.replace(word, word.replace("_", "~"))
    return name.replace("_", ".").replace("~", "_")


def omi_names(base: Base) -> Tensors:
    """OneTrainer's interchange format: the original SDXL's paths under `unet`, `clip_l`,
    `clip_g`.
    """
    heads = {"lora_unet_": "unet.", "lora_te1_": "clip_l.", "lora_te2_": "clip_g."}
    made = {}
    for key, tensor in adapter.tensors(base.parts).items():
        name, end = key.split(".", 1)
        head = next(head for head in heads if name.startswith(head))
        made[f"{heads[head]}{dotted(name.removeprefix(head))}.{end}"] = tensor
    assert "unet.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0.alpha" in made
    return made


def kohya_names(base: Base) -> Tensors:
    return adapter.tensors(base.parts)


def reread(tensors: Tensors, path: Path, metadata: dict[str, str] | None = None) -> Base:
    """A fresh base with these tensors as its adapter, through a file."""
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path, metadata)
    base = load_base("demo")
    adapter.load_adapter(base.parts, path)
    return base


def same(ours: Tensors, theirs: Tensors) -> bool:
    return list(ours) == list(theirs) and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    "naming",
    [
        kohya_names,
        peft_names,
        wrapped,
        diffusers_names,
        ai_toolkit_names,
        ai_toolkit_names_without_text_model,
        onetrainer_own_names,
        omi_names,
    ],
)
def test_an_adapter_comes_back_to_the_bit_from_every_tools_names(
    base: Base, tmp_path: Path, naming: Callable[[Base], Tensors]
) -> None:
    shaken(base, LOCON)
    again = reread(naming(base), tmp_path / "theirs.safetensors")
    assert same(adapter.tensors(again.parts), adapter.tensors(base.parts))


def test_what_diffusers_itself_makes_of_our_file_comes_back_to_the_bit(
    base: Base, tmp_path: Path
) -> None:
    """Its converter is an independent table from kohya's SDXL names to diffusers' (of 2023)."""
    written = adapter.tensors(shaken(base, LORA).parts)
    mapped = diffusers_reader._maybe_map_sgm_blocks_to_diffusers(dict(written), base.unet.config)
    theirs, _ = diffusers_reader._convert_non_diffusers_lora_to_diffusers(mapped)
    assert any(".processor.to_q_lora.down.weight" in key for key in theirs)
    again = reread(theirs, tmp_path / "theirs.safetensors")
    assert same(adapter.tensors(again.parts), written)


def test_alphas_of_a_file_count_whatever_its_naming(base: Base, tmp_path: Path) -> None:
    shaken(base, AdapterSettings(rank=4, alpha=1.5))
    written = adapter.tensors(base.parts)
    theirs = peft_names(base) | {
        f"{key.removesuffix('.lora_A.weight')}.alpha": torch.tensor(1.5)
        for key in peft_names(base)
        if key.endswith(".lora_A.weight")
    }
    assert same(adapter.tensors(reread(theirs, tmp_path / "a.safetensors").parts), written)


def test_a_file_without_alphas_has_strength_1(base: Base, tmp_path: Path) -> None:
    written = adapter.tensors(shaken(base, AdapterSettings(rank=4, alpha=1)).parts)
    bare = {key: tensor for key, tensor in written.items() if not key.endswith(".alpha")}
    again = adapter.tensors(reread(bare, tmp_path / "a.safetensors").parts)
    assert {t.item() for key, t in again.items() if key.endswith(".alpha")} == {4.0}


PATTERNS = {
    "unet.lora_alpha": 2.0,
    "unet.r": 4,
    "unet.use_rslora": True,
    "unet.alpha_pattern": {r"mid_block.*to_q": 8.0, "to_k": 3.0},
    "text_encoder.lora_alpha": 1.0,
}


@pytest.mark.parametrize(
    ("spot", "alpha"),
    [
        (("unet", "down_blocks.1.attentions.0.proj_in"), 4.0),  # 2 / sqrt(4) is 4 / 4
        (("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"), 16.0),
        (("unet", "up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"), 4.0),
        (("unet", "up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"), 6.0),
        (("te1", "encoder.layers.0.mlp.fc1"), 1.0),
        (("te2", "encoder.layers.0.mlp.fc1"), 4.0),  # nothing said: the rank
    ],
)
def test_alphas_that_diffusers_keeps_in_the_files_header_are_read(
    spot: tuple[str, str], alpha: float
) -> None:
    assert foreign.peft_alpha(PATTERNS, spot, rank=4) == alpha


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_an_adapter_that_peft_trained_answers_here_as_it_does_there(
    base: Base, tmp_path: Path, dora: bool
) -> None:
    """Ranks and alphas by pattern, rank-stabilised, DoRA of rows, convolutions too."""
    config = LoraConfig(
        r=4,
        lora_alpha=2,
        use_rslora=not dora,
        use_dora=dora,
        rank_pattern={"conv1": 3, "to_q": 6},
        alpha_pattern={"conv1": 1.5, "to_v": 3},
        target_modules=["to_q", "to_v", "conv1", "conv_shortcut", "time_emb_proj", "linear_1"],
    )
    config._register_custom_module(  # for Colab's torchao, see layers.inject
        {torch.nn.Linear: peft_layer.Linear, torch.nn.Conv2d: peft_layer.Conv2d}
    )
    inject_adapter_in_model(config, base.unet, adapter_name="default")
    generator = torch.Generator().manual_seed(0)
    for name, weight in base.unet.named_parameters():
        if ".lora_" in name:
            noise = 0.1 * torch.randn(weight.shape, generator=generator)
            weight.data = weight.data * (1 + noise) if "magnitude" in name else noise
    state = get_peft_model_state_dict(base.unet, adapter_name="default")
    said = {f"unet.{key}": getattr(config, key) for key in ("lora_alpha", "alpha_pattern", "r")}
    header = {"lora_adapter_metadata": json.dumps(said | {"unet.use_rslora": not dora})}
    theirs = {f"unet.{key}": tensor for key, tensor in state.items()}
    again = reread(theirs, tmp_path / "a.safetensors", header)
    wanted = answer(base)
    assert (wanted - answer(load_base("demo"))).abs().max() > 0.05
    torch.testing.assert_close(answer(again), wanted, atol=1e-4, rtol=1e-4)


def test_dora_comes_back_to_the_bit_with_sizes_of_columns_and_of_rows(
    base: Base, tmp_path: Path
) -> None:
    written = adapter.tensors(shaken(base, DORA).parts)
    columns = reread(onetrainer_own_names(base), tmp_path / "columns.safetensors")
    assert same(adapter.tensors(columns.parts), written)
    rows = dict(written)
    for key in written:
        if key.endswith(".dora_scale"):
            up = written[key.replace("dora_scale", "lora_up.weight")]
            rows[key] = torch.rand(len(up), *(1 for _ in up.shape[1:])).half()
    again = reread(rows, tmp_path / "rows.safetensors")
    assert same(adapter.tensors(again.parts), rows)


def test_a_mixture_of_dora_and_plain_modules_stays_one(base: Base, tmp_path: Path) -> None:
    written = adapter.tensors(shaken(base, DORA).parts)
    mixed = {k: t for k, t in written.items() if not (k.endswith("dora_scale") and "attn" in k)}
    assert 0 < len(written) - len(mixed) < sum(k.endswith("dora_scale") for k in written)
    again = reread(mixed, tmp_path / "a.safetensors")
    assert same(adapter.tensors(again.parts), mixed)


def test_flattened_1x1_convolutions_and_layers_beyond_our_targets_are_taken(
    base: Base, tmp_path: Path
) -> None:
    theirs = {
        "unet.up_blocks.0.resnets.0.conv_shortcut.lora_A.weight": torch.rand(2, 320).half(),
        "unet.up_blocks.0.resnets.0.conv_shortcut.lora_B.weight": torch.rand(160, 2).half(),
        "unet.time_embedding.linear_1.lora_A.weight": torch.rand(2, 64).half(),
        "unet.time_embedding.linear_1.lora_B.weight": torch.rand(256, 2).half(),
    }
    written = adapter.tensors(reread(theirs, tmp_path / "a.safetensors").parts)
    name = "lora_unet_output_blocks_0_0_skip_connection.lora_down.weight"
    assert written[name].shape == (2, 320, 1, 1)
    down = theirs["unet.time_embedding.linear_1.lora_A.weight"]
    assert torch.equal(written["lora_unet_time_embed_0.lora_down.weight"], down)


@pytest.mark.parametrize(
    ("name", "spot"),
    [
        ("lora_unet_middle_block_1_proj_in", ("unet", "mid_block.attentions.0.proj_in")),
        ("lycoris_mid_block_attentions_0_proj_in", ("unet", "mid_block.attentions.0.proj_in")),
        ("diffusion_model.middle_block.1.proj_in", ("unet", "mid_block.attentions.0.proj_in")),
        ("mid_block.attentions.0.proj_in", ("unet", "mid_block.attentions.0.proj_in")),
        ("lora_unet_label_emb_0_2", ("unet", "add_embedding.linear_2")),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", ("te1", "encoder.layers.0.mlp.fc1")),
        (
            "text_encoder_2.text_model.encoder.layers.1.self_attn.to_out",
            ("te2", "encoder.layers.1.self_attn.out_proj"),
        ),
        (
            "text_encoders.clip_g.transformer.text_model.encoder.layers.1.mlp.fc2",
            ("te2", "encoder.layers.1.mlp.fc2"),
        ),
        ("lora_te2_text_projection", ("te2", "text_projection")),
    ],
)
def test_names_seen_in_the_wild_are_known(base: Base, name: str, spot: tuple[str, str]) -> None:
    part, path = foreign.places(base.parts)[name]
    assert (part, path.removeprefix("text_model.")) == spot


@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("lora_unet_out_2.lora_down.weight", ("lora_unet_out_2", "down")),
        ("unet.conv_out.lora_B.weight", ("unet.conv_out", "up")),
        ("unet.conv_out.lora_A.default.weight", ("unet.conv_out", "down")),
        ("base_model.model.conv_out.lora_A.default_0.weight", ("conv_out", "down")),
        ("unet.conv_out.lora.up.weight", ("unet.conv_out", "up")),
        ("unet.a.attn1.processor.to_q_lora.down.weight", ("unet.a.attn1.to_q", "down")),
        ("text_encoder.q_proj.lora_linear_layer.up.weight", ("text_encoder.q_proj", "up")),
        ("lora_unet_out_2.alpha", ("lora_unet_out_2", "alpha")),
        ("lora_unet_out_2.dora_scale", ("lora_unet_out_2", "dora_scale")),
        ("lora_unet_out_2.magnitude", ("lora_unet_out_2", "dora_scale")),  # ai-toolkit
        ("unet.conv_out.lora_magnitude_vector", ("unet.conv_out", "dora_scale")),
        ("unet.conv_out.lora_magnitude_vector.default.weight", ("unet.conv_out", "dora_scale")),
        ("unet.conv_out.weight", ("unet.conv_out.weight", "")),
    ],
)
def test_a_tensors_name_says_its_module_and_what_it_is_to_it(
    key: str, meaning: tuple[str, str]
) -> None:
    assert foreign.role(key) == meaning


def test_no_name_means_two_modules(base: Base) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for part, module in base.parts.items():
        for path in foreign.layers(module):
            for name in foreign.spellings(part, path):
                assert seen.setdefault(name, (part, path)) == (part, path)
    assert len(seen) > 2000


def refusal(tensors: Tensors, path: Path, parts: dict[str, torch.nn.Module]) -> str:
    save_file(tensors, path)
    with pytest.raises(LoraFileError) as error:
        adapter.load_adapter(parts, path)
    assert not any(list(adapter.lora_modules(module)) for module in parts.values())
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_middle_block_1_proj_in.hada_w1_a", "is a LoHa (lora_unet_middle_block_1"),
        ("lora_unet_middle_block_1_proj_in.lokr_w1", "is a LoKr"),
        ("lora_unet_middle_block_1_proj_in.oft_blocks", "is an OFT"),
        ("lora_unet_middle_block_0_in_layers_2.lora_mid.weight", "with Tucker decomposition"),
        ("lora_unet_middle_block_1_proj_in.a1.weight", "is a GLoRA"),
        ("lora_unet_middle_block_1_proj_in.on_input", "is an IA3"),
        ("unet.mid_block.attentions.0.proj_in.lora_B.bias", "with trained biases"),
        ("lora_unet_middle_block_1_proj_in.diff", "with whole trained weights"),
        ("lora_unet_middle_block_1_proj_in.scalar", "with scalars"),
        ("bundle_emb.astrid.clip_l", "with trained words"),
    ],
)
def test_other_kinds_of_adapter_are_refused_by_their_name(
    base: Base, tmp_path: Path, key: str, kind: str
) -> None:
    tensors = {key: torch.zeros(4, 4), "lora_unet_middle_block_1_proj_in.alpha": torch.tensor(4.0)}
    said = refusal(tensors, tmp_path / "a.safetensors", base.parts)
    assert kind in said and "goes on from LoRA, LoCon and DoRA files only" in said


def test_tensors_without_a_place_are_counted_and_listed(base: Base, tmp_path: Path) -> None:
    tensors = adapter.tensors(shaken(load_base("demo")).parts) | {
        "lora_unet_surprise.lora_down.weight": torch.zeros(4, 4)
    }
    said = refusal(tensors, tmp_path / "a.safetensors", base.parts)
    assert "no place for (lora_unet_surprise.lora_down.weight). It was made for another" in said


def test_twenty_of_many_tensors_without_a_place_are_named_and_the_others_counted(
    base: Base, tmp_path: Path
) -> None:
    names = [f"lora_unet_surprise_{i:02}.lora_down.weight" for i in range(25)]
    strange = {name: torch.zeros(4, 4) for name in names}
    said = refusal(strange, tmp_path / "a.safetensors", base.parts)
    listed = ", ".join(names[:20])
    assert f"has 25 tensors that this base has no place for ({listed} and 5 more). It was" in said


def test_a_module_that_is_there_under_two_names_is_refused(base: Base, tmp_path: Path) -> None:
    shaken(other := load_base("demo"), LORA)
    theirs = adapter.tensors(other.parts) | ai_toolkit_names(other)
    said = refusal(theirs, tmp_path / "a.safetensors", base.parts)
    assert "tensors that this base has no place for" in said


def test_half_a_lora_is_refused_as_damaged(base: Base, tmp_path: Path) -> None:
    tensors = adapter.tensors(shaken(load_base("demo")).parts)
    del tensors["lora_unet_middle_block_1_proj_in.lora_up.weight"]
    said = refusal(tensors, tmp_path / "a.safetensors", base.parts)
    module = "lora_unet_middle_block_1_proj_in"
    assert f"of its tensors lack the other half of their LoRA ({module}.alpha, {module}.lor" in said


def test_a_lora_of_an_encoder_that_is_not_trained_is_refused_with_the_setting_to_change(
    base: Base, tmp_path: Path
) -> None:
    tensors = adapter.tensors(shaken(load_base("demo")).parts)
    parts = {"unet": base.unet, "te2": base.encoders[1]}
    said = refusal(tensors, tmp_path / "a.safetensors", parts)
    assert "has 54 tensors for the first text encoder, which is not trained here" in said
    assert "Set text_encoder_lr above 0" in said


def test_a_file_without_any_lora_is_refused(base: Base, tmp_path: Path) -> None:
    assert "has no LoRA in it" in refusal({}, tmp_path / "a.safetensors", base.parts)


def test_dora_sizes_that_fit_neither_axis_are_refused(base: Base, tmp_path: Path) -> None:
    tensors = adapter.tensors(shaken(load_base("demo"), DORA).parts)
    tensors["lora_unet_middle_block_1_proj_in.dora_scale"] = torch.ones(1, 7)
    said = refusal(tensors, tmp_path / "a.safetensors", base.parts)
    assert "lora_unet_middle_block_1_proj_in.dora_scale does not fit this base" in said


def test_a_missing_and_a_damaged_file_say_so(base: Base, tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match="There is no LoRA file at"):
        adapter.load_adapter(base.parts, tmp_path / "no.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a model at all")
    with pytest.raises(LoraFileError, match="is not a safetensors file"):
        adapter.load_adapter(base.parts, tmp_path / "bad.safetensors")


def test_a_header_that_is_not_json_is_refused(base: Base, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = adapter.tensors(shaken(load_base("demo")).parts)
    save_file(tensors, path, {"lora_adapter_metadata": "{"})
    with pytest.raises(LoraFileError, match="lora_adapter_metadata in its header is not JSON"):
        adapter.load_adapter(base.parts, path)
