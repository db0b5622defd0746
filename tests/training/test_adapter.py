"""The LoRA on the base: where it sits, what it does, and that its file does the same."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorakit.errors import LoraFileError, TrainingError
from lorakit.training import adapter
from lorakit.training.base import Base, load_base
from lorakit.training.config import AdapterSettings, PreviewSettings
from lorakit.training.names import kohya_name
from lorakit.training.preview import Prompt, draw

from .adapters import answer, shaken

FEW = PreviewSettings(steps=4)
PROMPTS = [Prompt("astrid", 1), Prompt("1girl, blue hair", 2)]

LORA = AdapterSettings(rank=4, alpha=2)
LOCON = AdapterSettings(rank=4, alpha=2, kind="locon", conv_rank=3, conv_alpha=1.5)
KINDS = {
    "lora": LORA,
    "rank-stabilised": AdapterSettings(rank=4, alpha=1.7, rank_stabilized=True),
    "locon": LOCON,
    "dora": AdapterSettings(rank=4, alpha=2, dora=True),
    "locon with dora": AdapterSettings(
        rank=4, alpha=2, kind="locon", conv_rank=3, conv_alpha=1.5, dora=True, text_rank=2
    ),
}
every_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)


def pixels(base: Base) -> torch.Tensor:
    import numpy as np

    return torch.stack(
        [torch.from_numpy(np.array(p)).float() for p in draw(base, PROMPTS, FEW, (128, 128))]
    )


def merged(tensors: dict[str, torch.Tensor], strength: float = 1.0) -> Base:
    """The embedded base with a LoRA file worked into its weights, as A1111 and ComfyUI do it."""
    base = load_base("demo")
    for part, module in base.parts.items():
        for path in adapter.targets(part, module, "locon"):
            name, layer = kohya_name(part, path), module.get_submodule(path)
            if f"{name}.alpha" in tensors:
                down, up, alpha = (
                    tensors[f"{name}.{end}"]
                    for end in ("lora_down.weight", "lora_up.weight", "alpha")
                )
                scale = tensors.get(f"{name}.dora_scale")
                whole = adapter.merged_weight(layer.weight, down, up, float(alpha), scale)
                layer.weight.data = torch.lerp(layer.weight.data, whole, strength)
    return base


@every_kind
def test_a_fresh_adapter_changes_nothing(base: Base, settings: AdapterSettings) -> None:
    before = answer(base)
    adapter.add_adapter(base.parts, settings, seed=3)
    assert torch.equal(answer(base), before)


@every_kind
def test_turning_the_adapter_off_shows_the_base_again(
    base: Base, settings: AdapterSettings
) -> None:
    before = answer(base)
    with_adapter = answer(shaken(base, settings))
    assert (with_adapter - before).abs().mean() > 0.02
    with adapter.without(base.parts):
        assert torch.equal(answer(base), before)
    assert torch.equal(answer(base), with_adapter)


@every_kind
def test_the_file_worked_into_the_weights_by_hand_gives_what_the_adapter_gives(
    base: Base, settings: AdapterSettings
) -> None:
    before = answer(base)
    shaken(base, settings)
    for strength in (1.0, 0.5):
        adapter.set_strength(base.parts, strength)
        wanted = answer(base)
        by_hand = answer(merged(adapter.tensors(base.parts, torch.float32), strength))
        assert (by_hand - wanted).abs().max() < 1e-3 * (wanted - before).abs().max()


def test_previews_drawn_with_the_adapter_are_those_of_the_merged_base(base: Base) -> None:
    shaken(base)
    wanted = pixels(base)
    by_hand = pixels(merged(adapter.tensors(base.parts, torch.float32)))
    assert (by_hand - wanted).abs().max() <= 2  # of 255: rounding of float32 sums


@every_kind
def test_a_written_file_read_back_is_the_same_adapter_and_can_be_trained_on(
    base: Base, tmp_path: Path, settings: AdapterSettings
) -> None:
    written = adapter.tensors(shaken(base, settings).parts)
    save_file(written, tmp_path / "a.safetensors")
    again = load_base("demo")
    adapter.load_adapter(again.parts, tmp_path / "a.safetensors")
    assert torch.equal(answer(again), answer(base))
    back = adapter.tensors(again.parts)
    assert list(back) == list(written)
    assert all(torch.equal(back[name], written[name]) for name in written)
    assert {n for n, p in again.unet.named_parameters() if p.requires_grad} == {
        n for n, p in base.unet.named_parameters() if p.requires_grad
    }


def test_only_the_adapter_is_trainable_and_it_is_float32(base: Base) -> None:
    adapter.add_adapter(base.parts, KINDS["locon with dora"], seed=3)
    for module in base.parts.values():
        free = {name for name, p in module.named_parameters() if p.requires_grad}
        assert free and all(".lora_" in name for name in free)
        assert len(free) == len(adapter.trainable(module))
        assert {p.dtype for p in adapter.trainable(module)} == {torch.float32}


@pytest.mark.parametrize("settings", [LOCON, KINDS["locon with dora"]], ids=["locon", "dora"])
def test_every_weight_of_a_trained_adapter_gets_a_gradient(
    base: Base, settings: AdapterSettings
) -> None:
    shaken(base, settings)
    answer.__wrapped__(base).square().mean().backward()
    silent = [name for name, p in adapter.named_weights(base.parts) if p.grad is None]
    # What the last layers of an encoder make of the tokens is not asked for: hidden state -2.
    assert {name.split(".")[0] for name in silent} <= {"te1", "te2"}
    assert all("layers.2." in name or "layers.1." in name for name in silent)


@every_kind
@pytest.mark.parametrize("autocast", [False, True], ids=["as it is", "under autocast"])
def test_a_base_in_half_precision_answers_nearly_as_the_one_in_full(
    base: Base, settings: AdapterSettings, autocast: bool
) -> None:
    before = answer(base)
    full = answer(shaken(base, settings))
    half = shaken(load_base("demo", torch.bfloat16), settings)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        said = answer(half)
    assert said.dtype == torch.bfloat16
    assert (said.float() - full).abs().mean() < 0.3 * (before - full).abs().mean()


def test_dropout_leaves_the_same_out_when_checkpointing_computes_a_part_twice(
    base: Base,
) -> None:
    settings = AdapterSettings(
        rank=4, alpha=2, kind="locon", dropout=0.2, rank_dropout=0.2, module_dropout=0.2
    )
    shaken(base, settings)
    gradients = []
    for checkpointing in (False, True):
        for module in base.parts.values():
            module.train()
        if checkpointing:
            base.unet.enable_gradient_checkpointing()
        torch.manual_seed(0)
        answer.__wrapped__(base).square().mean().backward()
        weights = adapter.trainable(base.unet)
        gradients.append([weight.grad.clone() for weight in weights])
        base.unet.zero_grad()
    for once, twice in zip(*gradients, strict=True):
        torch.testing.assert_close(once, twice)
    assert all(any(g.any() for g in half) for half in (gradients[0][::2], gradients[0][1::2]))


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(base: Base) -> None:
    adapter.add_adapter(base.parts, LORA, seed=3)
    first = adapter.state(base.parts)
    torch.rand(7)  # whatever else draws numbers
    for seed, same in ((3, True), (4, False)):
        other = load_base("demo")
        adapter.add_adapter(other.parts, LORA, seed)
        state = adapter.state(other.parts)
        downs = [name for name in first if name.endswith("down")]
        assert all(torch.equal(first[name], state[name]) == same for name in downs)


@pytest.mark.parametrize(
    ("part", "path", "size"),
    [
        ("unet", "mid_block.attentions.0.proj_in", (8, 4.0)),
        ("unet", "mid_block.resnets.0.conv1", (6, 3.0)),
        ("unet", "down_blocks.0.downsamplers.0.conv", (6, 3.0)),
        ("unet", "mid_block.resnets.0.time_emb_proj", (8, 4.0)),
        ("unet", "up_blocks.0.resnets.0.conv_shortcut", (8, 4.0)),
        ("te1", "encoder.layers.0.mlp.fc1", (2, 5.0)),
        ("te2", "encoder.layers.0.self_attn.q_proj", (2, 5.0)),
    ],
)
def test_linear_layers_convolutions_and_text_encoders_have_ranks_and_alphas_of_their_own(
    base: Base, part: str, path: str, size: tuple[int, float]
) -> None:
    settings = AdapterSettings(
        rank=8, alpha=4, kind="locon", conv_rank=6, conv_alpha=3, text_rank=2, text_alpha=5
    )
    adapter.add_adapter(base.parts, settings, seed=3)
    name, tensors = kohya_name(part, path), adapter.tensors(base.parts)
    rank = tensors[f"{name}.lora_down.weight"].shape[0]
    assert (rank, tensors[f"{name}.alpha"].item()) == size
    assert tensors[f"{name}.lora_up.weight"].shape[1] == rank


@pytest.mark.parametrize(
    ("changes", "first", "second"),
    [
        ({}, (8, 4.0), (8, 4.0)),
        ({"text_rank": 2, "text_alpha": 5}, (2, 5.0), (2, 5.0)),
        ({"text_rank": 2, "text_alpha": 5, "text_2_rank": 3}, (2, 5.0), (3, 5.0)),
        ({"text_2_rank": 3, "text_2_alpha": 1.5}, (8, 4.0), (3, 1.5)),
    ],
)
def test_the_second_text_encoder_has_the_firsts_rank_and_alpha_unless_told_its_own(
    base: Base,
    changes: dict[str, float],
    first: tuple[int, float],
    second: tuple[int, float],
) -> None:
    parts = {part: module for part, module in base.parts.items() if part != "unet"}
    adapter.add_adapter(parts, AdapterSettings(rank=8, alpha=4, **changes), seed=3)
    for part, size in (("te1", first), ("te2", second)):
        sizes = {
            (layer.r[adapter.NAME], layer.lora_alpha[adapter.NAME])
            for _, layer in adapter.lora_modules(parts[part])
        }
        assert sizes == {size}


def test_a_rank_stabilised_adapter_is_written_with_the_alpha_that_says_its_strength(
    base: Base,
) -> None:
    adapter.add_adapter(base.parts, AdapterSettings(rank=8, alpha=4, rank_stabilized=True), seed=3)
    for _, layer in adapter.lora_modules(base.unet):
        assert math.isclose(layer.scaling[adapter.NAME], 4 / math.sqrt(8))
    for name, tensor in adapter.tensors(base.parts).items():
        if name.endswith("alpha"):
            assert abs(tensor.item() / 8 - 4 / math.sqrt(8)) < 1e-7


@pytest.mark.parametrize(
    ("alpha", "dtype"), [(4, torch.float16), (0.5, torch.float16), (0.3, torch.float32)]
)
def test_an_alpha_that_half_precision_would_round_is_written_in_full(
    base: Base, alpha: float, dtype: torch.dtype
) -> None:
    adapter.add_adapter({"te1": base.encoders[0]}, AdapterSettings(alpha=alpha), seed=3)
    written = [t for n, t in adapter.tensors({"te1": base.encoders[0]}).items() if t.ndim == 0]
    assert {t.dtype for t in written} == {dtype}
    assert {t.item() for t in written} == {torch.tensor(float(alpha)).item()}


def test_each_part_learns_at_its_own_rate(base: Base) -> None:
    settings = AdapterSettings(unet_lr=3e-4, text_encoder_lr=2e-5, text_encoder_2_lr=1e-5)
    adapter.add_adapter(base.parts, settings, seed=3)
    groups = adapter.parameter_groups(base.parts, settings)
    assert [(g["part"], g["lr"]) for g in groups] == [
        ("unet", 3e-4),
        ("te1", 2e-5),
        ("te2", 1e-5),
    ]
    for group in groups:
        assert group["params"] == adapter.trainable(base.parts[group["part"]])


def test_lora_plus_gives_the_second_halves_a_rate_so_many_times_higher(base: Base) -> None:
    settings = AdapterSettings(unet_lr=1e-4, lora_plus=16, dora=True)
    parts = {"unet": base.unet}
    adapter.add_adapter(parts, settings, seed=3)
    slow, fast = adapter.parameter_groups(parts, settings)
    assert (slow["lr"], fast["lr"]) == (1e-4, 16e-4)
    names = {id(p): name.rsplit(".", 1)[1] for name, p in adapter.named_weights(parts)}
    assert {names[id(p)] for p in fast["params"]} == {"up"}
    assert {names[id(p)] for p in slow["params"]} == {"down", "dora_scale"}
    assert len(slow["params"]) + len(fast["params"]) == len(names)


def test_changes_larger_than_the_largest_norm_are_scaled_down_to_it_and_others_left(
    base: Base,
) -> None:
    parts = {"unet": shaken(base, LOCON).unet}
    before = adapter.tensors(parts, torch.float64)
    norms = change_norms(before)
    limit = sum(norms.values()) / len(norms)
    assert adapter.limit_norms(parts, limit) == sum(norm > limit for norm in norms.values())
    after = adapter.tensors(parts, torch.float64)
    for name, norm in change_norms(after).items():
        assert math.isclose(norm, min(norms[name], limit), rel_tol=1e-5)
        down = f"{name}.lora_down.weight"
        assert torch.equal(before[down], after[down]) == (norms[name] <= limit)


def change_norms(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """The norm of what each module adds to its weight, by the definition."""
    norms = {}
    for key in tensors:
        if key.endswith(".alpha"):
            name = key.removesuffix(".alpha")
            down, up = tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"]
            change = up.flatten(1) @ down.flatten(1) * (tensors[key] / len(down))
            norms[name] = float(change.norm())
    return norms


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_state_brings_back_the_very_same_weights(base: Base, dtype: torch.dtype) -> None:
    shaken(base, KINDS["locon with dora"])
    for _, weight in adapter.named_weights(base.parts):
        weight.data = (weight.data * math.pi).to(dtype)
    saved = adapter.state(base.parts)
    assert {t.dtype for t in saved.values()} == {dtype}
    other = shaken(load_base("demo"), KINDS["locon with dora"])
    adapter.load_state(other.parts, saved)
    again = adapter.state(other.parts)
    assert list(again) == list(saved)
    assert all(torch.equal(again[name], saved[name]) for name in saved)
    next(iter(adapter.named_weights(other.parts)))[1].data.zero_()
    assert all(t.any() for t in saved.values())  # a copy, not the weights themselves


def test_states_of_another_adapter_are_refused(base: Base) -> None:
    saved = adapter.state(shaken(base, LORA).parts)
    other = shaken(load_base("demo"), AdapterSettings(rank=5, alpha=2))
    with pytest.raises(TrainingError, match=r"another adapter \(456 of its tensors differ"):
        adapter.load_state(other.parts, saved)
    with pytest.raises(TrainingError, match="Keep kind, ranks and learning rates"):
        adapter.load_state({"unet": other.unet}, saved)


def test_peft_is_not_asked_about_torchao_which_colab_has_too_old(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    def old_torchao(*_: object, **__: object) -> None:
        raise ImportError("Found an incompatible version of torchao. Found version 0.10.0")

    monkeypatch.setattr("peft.tuners.lora.model.dispatch_torchao", old_torchao)
    adapter.add_adapter(base.parts, KINDS["locon with dora"], seed=3)
    assert len(list(adapter.lora_modules(base.unet))) == 258


def test_an_adapter_can_go_on_from_a_file_with_its_own_ranks_and_alphas(
    base: Base, tmp_path: Path
) -> None:
    written = adapter.tensors(shaken(base, KINDS["locon with dora"]).parts)
    save_file(written, tmp_path / "a.safetensors")
    settings = AdapterSettings(
        rank=64, alpha=64, continue_from=str(tmp_path / "a.safetensors"), dropout=0.5
    )
    again = load_base("demo")
    adapter.add_adapter(again.parts, settings, seed=3)
    back = adapter.tensors(again.parts)
    assert all(torch.equal(back[name], written[name]) for name in written)
    assert torch.equal(answer(again), answer(base))
    again.unet.train()
    assert not torch.equal(answer(again), answer(base))  # the settings' dropout is there


def test_a_part_that_the_file_has_no_lora_for_is_left_alone_and_said(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shaken(base)
    save_file(adapter.tensors({"unet": base.unet}), tmp_path / "a.safetensors")
    again = load_base("demo")
    adapter.load_adapter(again.parts, tmp_path / "a.safetensors")
    assert "has no LoRA for te1: that part stays as the base has it" in caplog.text
    assert list(adapter.tensors(again.parts)) == list(adapter.tensors({"unet": base.unet}))
    groups = adapter.parameter_groups(again.parts, AdapterSettings())
    assert [group["part"] for group in groups] == ["unet"]


def test_a_file_of_another_size_of_model_is_refused(base: Base, tmp_path: Path) -> None:
    shaken(base)
    tensors = {
        name: t[:, :-1].clone() if name.endswith("lora_down.weight") else t
        for name, t in adapter.tensors(base.parts).items()
    }
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(LoraFileError, match="does not fit this base"):
        adapter.load_adapter(load_base("demo").parts, tmp_path / "a.safetensors")
