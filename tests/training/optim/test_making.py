"""Choosing an optimiser: what it is given, what it refuses, and what takes its place."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import bitsandbytes
import pytest
import torch

from lorakit.errors import DatasetError, SettingsError, TrainingError
from lorakit.project import find
from lorakit.settings import specs
from lorakit.training import optim, run
from lorakit.training.config import OptimizerSettings, PreviewSettings, TrainingSettings
from lorakit.training.config.optimizer import ARGUMENTS, OPTIMIZERS, RECOMMENDED
from lorakit.training.optim import (
    check_arguments,
    departures,
    making,
    parse_arguments,
    recommended,
)
from lorakit.training.optim.making import optimizer_class

from .toy import learner, settings_for, weights

# Arguments as they are written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("d_coef=2", {"d_coef": 2}),
        (
            "betas=0.9,0.99 d_coef=2 use_bias_correction=true",
            {"betas": (0.9, 0.99), "d_coef": 2, "use_bias_correction": True},
        ),
        ("betas=[0.9, 0.99], eps = 1e-8", {"betas": (0.9, 0.99), "eps": 1e-8}),
        ("betas=(0.9,0.99);eps=None", {"betas": (0.9, 0.99), "eps": None}),
        ("betas=0.9, 0.99, d_coef=-1", {"betas": (0.9, 0.99), "d_coef": -1}),
        ("growth_rate=inf amsgrad=False", {"growth_rate": float("inf"), "amsgrad": False}),
    ],
)
def test_arguments_are_read_in_the_ways_people_write_them(text: str, expected: dict) -> None:
    assert parse_arguments(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fast", "'fast' is no argument. Write name=value, like betas=0.9,0.99 d_coef=2."),
        ("d_coef 2", "'d_coef 2' is no argument"),
        ("d_coef=", "d_coef is ''; it takes a number, true, false, none, or several numbers"),
        ("d_coef=two", "d_coef is 'two'"),
        ("betas=0.9 0.99", "betas is '0.9 0.99'"),
        ("betas=0.9,x", "betas is '0.9,x'"),
        ("eps='1'", "eps is ''1''"),
        ("eps=__import__('os').getcwd()", "eps is '__import__"),
        ("eps=9**9**9", "eps is '9**9**9'"),
        ("eps=[]", "eps is '[]'"),
        ("eps=1 eps=2", "eps is given twice"),
    ],
)
def test_what_is_no_argument_is_refused_as_soon_as_it_is_typed(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        OptimizerSettings(optimizer_arguments=text)
    assert str(refusal.value).startswith("optimizer_arguments: ")
    assert complaint in str(refusal.value)


# Arguments an optimiser takes


@pytest.mark.parametrize(
    ("optimizer", "text", "complaint"),
    [
        ("Prodigy", "d_coeff=2", "Prodigy takes no 'd_coeff'; did you mean 'd_coef'?"),
        ("AdamW", "bettas=0.9,0.99", "AdamW takes no 'bettas'; did you mean 'betas'?"),
        ("Adafactor", "clip=1", "Adafactor takes no 'clip'"),
        ("SGD", "d_coef=2", "SGD takes no 'd_coef' (there are: momentum, dampening, nesterov)."),
        ("AdamW", "fused=false", "AdamW takes no 'fused'"),
        (  # it trained nothing, without a word
            "ProdigyPlusScheduleFree",
            "fused_back_pass=true",
            "ProdigyPlusScheduleFree takes no 'fused_back_pass'",
        ),
        (
            "Lion",
            "lr=1e-4",
            "lr has settings of its own. Remove it here and set unet_lr, text_encoder_lr.",
        ),
        (
            "CAME",
            "weight_decay=1",
            "weight_decay has a setting of its own. Remove it here and set that.",
        ),
        ("Prodigy", "betas=0.9", "Prodigy refuses betas=0.9 ("),
        ("AdamW", "betas=0.9,1.5 eps=1e-9", "AdamW refuses betas=(0.9, 1.5) (Invalid beta"),
        ("CAME", "betas=0.9,0.99", "CAME refuses betas=(0.9, 0.99) ("),
        ("SGD", "momentum=0", "SGD refuses momentum=0 (Nesterov"),
        ("Adafactor", "relative_step=true", "Adafactor refuses relative_step=True ("),
        ("ProdigyPlusScheduleFree", "d0=0", "ProdigyPlusScheduleFree refuses d0=0 (Invalid d0"),
    ],
)
def test_what_an_optimiser_does_not_take_is_refused_before_anything_is_loaded(
    optimizer: str, text: str, complaint: str
) -> None:
    settings = OptimizerSettings(optimizer=optimizer, optimizer_arguments=text)
    with pytest.raises(SettingsError) as refusal:
        check_arguments(settings, "cpu")
    assert str(refusal.value).startswith("optimizer_arguments: ")
    assert complaint in str(refusal.value)
    with pytest.raises(SettingsError):
        learner(weights(), settings_for(optimizer, optimizer_arguments=text))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_arguments_are_always_right(optimizer: str) -> None:
    check_arguments(OptimizerSettings(optimizer=optimizer), "cpu")


@pytest.mark.parametrize(
    ("optimizer", "text", "option", "value"),
    [
        ("AdamW", "", "betas", (0.9, 0.99)),
        ("AdamW", "betas=0.8,0.9", "betas", (0.8, 0.9)),
        ("Prodigy", "", "safeguard_warmup", True),
        ("Prodigy", "d_coef=2", "d_coef", 2),
        ("Prodigy", "use_bias_correction=true", "bias_correction", True),
        ("Prodigy", "decouple=false", "weight_decouple", False),
        ("ProdigyPlusScheduleFree", "use_bias_correction=true", "use_bias_correction", True),
        ("ProdigyPlusScheduleFree", "d_coef=0.5", "d_coef", 0.5),
        ("DAdaptAdam", "", "weight_decouple", True),
        ("Adafactor", "clip_threshold=2", "clip_threshold", 2),
        ("Adafactor", "", "scale_parameter", False),
        ("SGD", "", "nesterov", True),
        ("SGD", "nesterov=false momentum=0.5", "momentum", 0.5),
        ("CAME", "betas=0.8,0.9,0.99", "betas", (0.8, 0.9, 0.99)),
        ("AdamWScheduleFree", "r=1", "r", 1),
    ],
)
def test_arguments_reach_the_optimiser(
    optimizer: str, text: str, option: str, value: object
) -> None:
    made = learner(weights(), settings_for(optimizer, optimizer_arguments=text))
    assert [group[option] for group in made.param_groups] == [value, value]


PAGED = OptimizerSettings(
    optimizer="AdamW8bit", optimizer_arguments="is_paged=true min_8bit_size=8192"
)


def test_a_run_on_a_gpu_takes_the_arguments_that_only_bitsandbytes_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not what is wrong with a project without pictures."""
    monkeypatch.setattr(run, "choose_device", lambda *_: ("cuda", torch.float16, "a GPU"))
    monkeypatch.setattr(making, "_problem", lambda *_: "")  # there is no GPU to try them on
    settings = TrainingSettings(
        optimizer="AdamW8bit", optimizer_arguments=PAGED.optimizer_arguments
    )
    with pytest.raises(DatasetError):
        next(run.train_project(find(str(tmp_path)).create(), settings, PreviewSettings()))


def test_bitsandbytes_itself_takes_its_arguments() -> None:
    assert making._given(PAGED, bitsandbytes.optim.AdamW8bit) == {
        "is_paged": True,
        "min_8bit_size": 8192,
    }
    assert making._problem(bitsandbytes.optim.AdamW8bit, {"min_8bit_size": 8192}, "cpu") == ""


def test_without_a_gpu_they_are_refused_in_the_twins_name() -> None:
    with pytest.raises(SettingsError, match=": AdamW takes no 'is_paged'"):
        check_arguments(PAGED, "cpu")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_part_keeps_its_learning_rate_and_its_name(optimizer: str) -> None:
    settings = settings_for(optimizer, unet_lr=0.5, text_encoder_lr=0.25)
    made = learner(weights(), settings)
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.25]
    assert [group["part"] for group in made.param_groups] == ["unet", "te1"]


def test_the_groups_handed_in_are_left_as_they_are() -> None:
    values, settings = weights(), settings_for("Prodigy")
    group = {"params": values, "lr": 1.0}
    optim.make_optimizer(settings, [group], "cpu")
    assert group.keys() == {"params", "lr"}


# What is not there


@pytest.mark.parametrize(("eight_bit", "twin"), [("AdamW8bit", "AdamW"), ("Lion8bit", "Lion")])
def test_without_a_gpu_the_32_bit_twin_takes_over_and_says_so(
    eight_bit: str, twin: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        made = learner(weights(), settings_for(eight_bit))
    assert type(made).__name__ == twin
    assert [record.message for record in caplog.records] == [
        f"{eight_bit} needs a GPU: using {twin} in float32 instead; the result is the same or "
        "better."
    ]


@pytest.mark.parametrize(("eight_bit", "twin"), [("AdamW8bit", "AdamW"), ("Lion8bit", "Lion")])
def test_without_bitsandbytes_the_32_bit_twin_takes_over_and_says_so(
    eight_bit: str, twin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls, note = optimizer_class(eight_bit, "cuda")
    assert (cls, note) == (getattr(bitsandbytes.optim, eight_bit), "")
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    cls, note = optimizer_class(eight_bit, "cuda")
    assert cls.__name__ == twin
    assert note.startswith(f"{eight_bit} needs bitsandbytes, which does not load here (")
    assert note.endswith(f": using {twin}, a little more memory.")


@pytest.mark.parametrize(
    ("optimizer", "module", "package"),
    [
        ("Prodigy", "pytorch_optimizer", "pytorch-optimizer"),
        ("CAME", "pytorch_optimizer", "pytorch-optimizer"),
        ("Lion8bit", "pytorch_optimizer", "pytorch-optimizer"),
        ("ProdigyPlusScheduleFree", "prodigyplus", "prodigy-plus-schedule-free"),
    ],
)
def test_a_missing_package_is_named_with_the_way_to_get_it(
    optimizer: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TrainingError, match=f"needs the package {package}.*pip install {package}"):
        check_arguments(OptimizerSettings(optimizer=optimizer), "cpu")


def test_optimisers_of_torch_alone_need_no_other_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pytorch_optimizer", "prodigyplus", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("AdamW", "AdamW8bit", "SGD"):
        learner(weights(), settings_for(name))


def test_an_optimiser_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no optimiser 'Adam9'; there are: AdamW8bit, AdamW, "):
        optimizer_class("Adam9", "cpu")


# What is recommended


def test_every_optimiser_has_its_values_and_every_value_is_a_setting_in_its_range() -> None:
    names = {spec.name for spec in specs(TrainingSettings)}
    assert set(RECOMMENDED) == set(ARGUMENTS) == set(OPTIMIZERS)
    for optimizer in OPTIMIZERS:
        values = recommended(optimizer)
        assert {"unet_lr", "text_encoder_lr", "text_encoder_2_lr", "schedule"} <= values.keys()
        assert values.keys() <= names
        assert departures(TrainingSettings(optimizer=optimizer, **values)) == ""


def test_the_defaults_are_what_is_recommended_for_the_default_optimiser() -> None:
    assert departures(TrainingSettings()) == ""


def test_settings_that_do_not_suit_the_optimiser_are_named_in_one_sentence() -> None:
    assert departures(TrainingSettings(optimizer="Prodigy", text_encoder_2_lr=0)) == (
        "Recommended for Prodigy: unet_lr 1 (now 0.0003), text_encoder_lr 0.5 (now 6e-05)."
    )
    assert departures(TrainingSettings(optimizer="AdamW", schedule="rex")) == (
        "Recommended for AdamW: schedule cosine (now rex)."
    )


def test_what_is_recommended_is_a_copy() -> None:
    recommended("AdamW")["unet_lr"] = 7
    assert recommended("AdamW")["unet_lr"] == 3e-4


def test_torch_moves_all_weights_of_adamw_at_once() -> None:
    """A LoRA has two thousand small tensors: one by one they cost more than the arithmetic."""
    made = learner(weights(), settings_for("AdamW"))
    assert isinstance(made, torch.optim.AdamW) and made.defaults["fused"]
