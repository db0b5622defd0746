"""LoRA files made of LoRA files: what is in them, what they say of themselves, and that no file is
lost.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorakit.errors import LoraFileError, SettingsError
from lorakit.training import combine, export
from lorakit.training.merge import Goal

from .lora_files import CONV, LINEAR, POINT, added, random_lora

NAMES = (LINEAR, CONV, POINT)
DETAILS = {
    "ss_base_model_version": "sdxl_base_v1-0",
    "ss_output_name": "astrid",
    "ss_network_dim": "6",
    "ss_network_alpha": "3.0",
    "ss_steps": "450",
    "ss_sd_model_name": "pony.safetensors",
    "ss_training_comment": "None",
    "ss_tag_frequency": json.dumps({"4_astrid": {"astrid": 26, "smile": 4}}),
    "sshs_model_hash": "of the old file",
    "modelspec.title": "astrid",
    "modelspec.trigger_phrase": "astrid",
    "modelspec.prediction_type": "epsilon",
    "modelspec.hash_sha256": "of the old file",
    "lorakit.project": "[training]\nrank = 6\n",
}
DIFFUSERS = {
    LINEAR: "unet.down_blocks.1.attentions.0.proj_in",
    CONV: "unet.down_blocks.0.resnets.0.conv1",
    POINT: "unet.down_blocks.1.resnets.0.conv_shortcut",
}


def a_file(path: Path, seed: int = 0, details: dict[str, str] = DETAILS, **kind: float) -> Path:
    save_file(random_lora(seed, **kind), path, details)  # type: ignore[arg-type]
    return path


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_a_resized_file_adds_nearly_the_same_and_is_told_by_its_new_rank(tmp_path: Path) -> None:
    source = a_file(tmp_path / "astrid.safetensors")
    before = source.read_bytes()
    made = combine.resize_file(source, tmp_path / "small.safetensors", Goal(5, 4))
    assert source.read_bytes() == before
    tensors = load_file(made.path)
    assert (made.ranks, made.bytes) == ({4: 1, 5: 2}, made.path.stat().st_size)
    shares = []
    for name in NAMES:
        wanted, got = added(random_lora(0), name), added(tensors, name)
        shares.append(1 - float((got - wanted).square().sum() / wanted.square().sum()))
    assert made.least_kept == pytest.approx(min(shares))
    assert made.mean_kept == pytest.approx(sum(shares) / 3)
    assert 0.5 < min(shares) < 1


def test_a_resized_file_keeps_what_is_still_true_of_it(tmp_path: Path) -> None:
    source = a_file(tmp_path / "astrid.safetensors")
    made = combine.resize_file(source, tmp_path / "small.safetensors", Goal(4, 4))
    values = metadata(made.path)
    for key in ("ss_steps", "ss_sd_model_name", "ss_tag_frequency", "lorakit.project"):
        assert values[key] == DETAILS[key]
    assert (values["ss_network_dim"], values["ss_network_alpha"]) == ("4", "2.0")
    assert values["ss_output_name"] == values["modelspec.title"] == "small"
    assert values["ss_training_comment"] == "dimension is resized from 6 to 4; "
    assert "modelspec.hash_sha256" not in values
    assert (
        values["sshs_model_hash"] == export.hashes(load_file(made.path), values)["sshs_model_hash"]
    )


def test_a_share_of_the_energy_gives_each_module_its_own_rank(tmp_path: Path) -> None:
    source = a_file(tmp_path / "a.safetensors")
    made = combine.resize_file(source, tmp_path / "b.safetensors", Goal(6, 6, energy=0.7))
    assert len(made.ranks) > 1 and made.least_kept >= 0.7
    assert metadata(made.path)["ss_network_dim"] == "Dynamic"


def test_a_file_without_metadata_becomes_one_that_a1111_shows(tmp_path: Path) -> None:
    source = a_file(tmp_path / "a.safetensors", details={})
    made = combine.resize_file(source, tmp_path / "b.safetensors", Goal(4, 4))
    assert metadata(made.path)["ss_base_model_version"].startswith("sdxl_")


def test_a_file_under_diffusers_names_is_resized_too_and_gets_kohyas(tmp_path: Path) -> None:
    tensors = export.diffusers_tensors(random_lora(0), DIFFUSERS)
    save_file(tensors, tmp_path / "theirs.safetensors")
    made = combine.resize_file(
        tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors", Goal(5, 5)
    )
    ours = combine.resize_file(
        a_file(tmp_path / "a.safetensors"), tmp_path / "b.safetensors", Goal(5, 5)
    )
    for name in NAMES:
        got, wanted = (added(load_file(m.path), name) for m in (made, ours))
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_the_number_format_can_be_chosen(tmp_path: Path, precision: str) -> None:
    source = a_file(tmp_path / "a.safetensors")
    dtype = export.DTYPES[precision]
    made = combine.resize_file(source, tmp_path / "b.safetensors", Goal(4, 4), dtype)
    assert {tensor.dtype for tensor in load_file(made.path).values()} == {dtype}


def test_nothing_to_make_smaller_is_said(tmp_path: Path) -> None:
    source = a_file(tmp_path / "a.safetensors")
    with pytest.raises(SettingsError, match="No rank in .*a.safetensors is above 8, the highest"):
        combine.resize_file(source, tmp_path / "b.safetensors", Goal(8, 8))
    assert not (tmp_path / "b.safetensors").exists()


# --- merging --------------------------------------------------------------------------------------


def test_files_of_two_tools_are_merged_exactly_under_kohyas_names(tmp_path: Path) -> None:
    one = a_file(tmp_path / "one.safetensors", 0)
    theirs = export.diffusers_tensors(random_lora(1), DIFFUSERS)
    save_file(theirs, tmp_path / "two.safetensors", {"format": "pt"})
    made = combine.merge_files(
        [(one, 0.75), (tmp_path / "two.safetensors", -0.5)], tmp_path / "both.safetensors"
    )
    assert (made.ranks, made.least_kept) == ({12: 3}, 1.0)
    for name in NAMES:
        wanted = 0.75 * added(random_lora(0), name) - 0.5 * added(random_lora(1), name)
        got = added(load_file(made.path), name)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_a_1x1_convolution_that_one_tool_writes_as_a_matrix_is_merged_too(tmp_path: Path) -> None:
    one, two = random_lora(0), random_lora(1)
    flat = {k: t.flatten(1) if k.startswith(POINT) and t.ndim else t for k, t in two.items()}
    save_file(one, tmp_path / "one.safetensors")
    save_file(flat, tmp_path / "flat.safetensors")
    for order in (("one", "flat"), ("flat", "one")):
        sources = [(tmp_path / f"{name}.safetensors", 0.5) for name in order]
        made = combine.merge_files(sources, tmp_path / f"{order[0]}-both.safetensors")
        tensors = load_file(made.path)
        wanted = (added(one, POINT) + added(two, POINT)) / 2
        assert tensors[f"{POINT}.lora_down.weight"].shape == (12, 8, 1, 1)
        torch.testing.assert_close(added(tensors, POINT), wanted)


def test_a_merge_can_be_cut_back_to_a_rank(tmp_path: Path) -> None:
    sources = [(a_file(tmp_path / f"{n}.safetensors", n), 1.0) for n in (1, 2)]
    made = combine.merge_files(sources, tmp_path / "both.safetensors", Goal(6, 6))
    assert made.ranks == {6: 3}
    assert 0.3 < made.least_kept < made.mean_kept < 1


def test_a_merge_says_only_what_is_true_of_all_and_what_it_is_made_of(tmp_path: Path) -> None:
    other = DETAILS | {
        "ss_tag_frequency": json.dumps({"4_astrid": {"astrid": 1}, "2_birk": {"birk": 9}}),
        "modelspec.title": "Birk",
        "modelspec.trigger_phrase": "birk",
        "sshs_model_hash": "two",
    }
    one = a_file(tmp_path / "one.safetensors", 1)
    two = a_file(tmp_path / "two.safetensors", 2, other)
    made = combine.merge_files([(one, 1), (two, 0.5)], tmp_path / "both.safetensors")
    values = metadata(made.path)
    assert made.notes == ()
    assert values["ss_base_model_version"] == "sdxl_base_v1-0"
    assert (values["ss_network_dim"], values["ss_output_name"]) == ("12", "both")
    assert values["ss_sd_model_name"] == "pony.safetensors"
    assert values["modelspec.prediction_type"] == "epsilon"
    assert values["modelspec.trigger_phrase"] == "astrid, birk"
    assert values["modelspec.merged_from"] == "astrid, Birk"
    assert values["ss_training_comment"] == "merged: one x 1, two x 0.5"
    assert json.loads(values["ss_tag_frequency"]) == {
        "4_astrid": {"astrid": 27, "smile": 4},
        "2_birk": {"birk": 9},
    }
    assert json.loads(values["lorakit.merged"]) == [
        {"name": "one", "weight": 1, "sshs_model_hash": "of the old file"},
        {"name": "two", "weight": 0.5, "sshs_model_hash": "two"},
    ]
    assert not {"ss_steps", "lorakit.project", "lorakit.settings"} & set(values)


def test_files_for_different_bases_are_merged_with_a_word_about_it(tmp_path: Path) -> None:
    other = DETAILS | {
        "modelspec.prediction_type": "v",
        "ss_sd_model_name": "noob.safetensors",
        "ss_tag_frequency": "not JSON",
    }
    one = a_file(tmp_path / "one.safetensors", 1)
    two = a_file(tmp_path / "two.safetensors", 2, other)
    made = combine.merge_files([(one, 1), (two, 1)], tmp_path / "both.safetensors")
    assert made.notes == (
        "These LoRAs were trained for different kinds of prediction: epsilon, v.",
        "These LoRAs were trained for different base models: pony.safetensors, noob.safetensors.",
    )
    assert not {"modelspec.prediction_type", "ss_sd_model_name"} & set(metadata(made.path))


@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf")])
def test_a_weight_that_means_nothing_is_refused(tmp_path: Path, weight: float) -> None:
    one = a_file(tmp_path / "one.safetensors")
    with pytest.raises(
        SettingsError, match=r"The weight of .*one.safetensors is .*: give a number"
    ):
        combine.merge_files([(one, weight)], tmp_path / "both.safetensors")


# --- what is refused ------------------------------------------------------------------------------


def test_no_file_that_is_there_is_ever_written_over(tmp_path: Path) -> None:
    one, two = (a_file(tmp_path / f"{n}.safetensors", n) for n in (1, 2))
    before = one.read_bytes()
    with pytest.raises(SettingsError, match="is what is read from; give the result another name"):
        combine.resize_file(one, tmp_path / "x" / ".." / "1.safetensors", Goal(4, 4))
    with pytest.raises(SettingsError, match="2.safetensors is there already; give another name"):
        combine.merge_files([(one, 1.0)], two)
    with pytest.raises(SettingsError, match="small.ckpt does not end in .safetensors"):
        combine.resize_file(one, tmp_path / "small.ckpt", Goal(4, 4))
    assert one.read_bytes() == before


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({f"{LINEAR}.dora_scale": torch.ones(1, 640)}, "is a DoRA: what it adds depends on"),
        ({f"{LINEAR}.hada_w1_a": torch.ones(2, 2)}, "is a LoHa"),
        (
            {"lora_te_text_model_x.lora_down.weight": torch.ones(2, 2)},
            "has 1 tensors that this base has no place for",
        ),
    ],
)
def test_what_is_not_a_plain_lora_for_sdxl_is_refused_with_the_reason(
    tmp_path: Path, extra: dict[str, torch.Tensor], said: str
) -> None:
    save_file(random_lora(0) | extra, tmp_path / "a.safetensors")
    for make in (
        lambda: combine.resize_file(
            tmp_path / "a.safetensors", tmp_path / "b.safetensors", Goal(4, 4)
        ),
        lambda: combine.merge_files([(tmp_path / "a.safetensors", 1)], tmp_path / "b.safetensors"),
    ):
        with pytest.raises(LoraFileError, match=f"a.safetensors {said}"):
            make()
    assert not (tmp_path / "b.safetensors").exists()


def test_a_missing_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match="There is no LoRA file at .*gone.safetensors"):
        combine.resize_file(tmp_path / "gone.safetensors", tmp_path / "b.safetensors", Goal(4, 4))
    tensors = random_lora(0) | {f"{LINEAR}.lora_up.weight": torch.ones(24, 5)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(LoraFileError, match="is damaged: the two halves of .*proj_in do not fit"):
        combine.resize_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors", Goal(4, 4))
