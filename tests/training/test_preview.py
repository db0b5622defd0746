"""Which previews are drawn, and with what."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lorakit.errors import SettingsError
from lorakit.training.config import PreviewSettings
from lorakit.training.config.preview import SAMPLERS
from lorakit.training.preview import (
    Prompt,
    evenly,
    make_sampler,
    parameters,
    prompts,
    read_prompts,
    save_picture,
)

SDXL = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def test_the_activation_tag_comes_first_then_own_prompts_each_with_the_next_seed() -> None:
    settings = PreviewSettings(count=2, prompts=("1girl, smile",), seed=10)
    assert prompts(settings, "astrid") == [
        Prompt("astrid", 10),
        Prompt("astrid", 11),
        Prompt("1girl, smile", 12),
    ]


def test_a_prompts_file_is_read_as_kohya_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(
        "# what I like\n\nastrid, beach --n lowres, blurry\nastrid --d 7 --n bad\nx-- y"
    )
    assert read_prompts(path, 100) == [
        Prompt("astrid, beach", 100, "lowres, blurry"),
        Prompt("astrid", 7, "bad"),
        Prompt("x-- y", 102),
    ]
    settings = PreviewSettings(count=1, prompts_file=str(path), seed=50)
    assert [p.seed for p in prompts(settings, "astrid")] == [50, 51, 7, 53]


@pytest.mark.parametrize("option", ["--w 512", "--d seven", "--l 7"])
def test_an_option_that_is_not_understood_is_named_with_its_line(
    tmp_path: Path, option: str
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(f"astrid\nastrid {option}\n")
    with pytest.raises(SettingsError, match=f"prompts.txt, line 2: '{option}' is not understood"):
        read_prompts(path, 0)


def test_a_prompts_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SettingsError, match="prompts_file nowhere.txt cannot be read"):
        prompts(PreviewSettings(prompts_file="nowhere.txt"), "astrid")


def test_captions_of_the_dataset_are_prompts_evenly_chosen_and_each_once() -> None:
    captions = [f"astrid, {i:02d}" for i in range(10)] + ["astrid, 00", ""]
    settings = PreviewSettings(count=0, from_captions=3)
    assert [p.text for p in prompts(settings, "astrid", captions)] == [
        "astrid, 00",
        "astrid, 03",
        "astrid, 06",
    ]
    assert evenly(["a", "b"], 5) == ["a", "b"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_the_base_model_s_schedule_and_prediction(name: str) -> None:
    sampler = make_sampler(name, SDXL)
    assert sampler.config.prediction_type == "v_prediction"
    assert sampler.config.beta_end == 0.012
    assert sampler.config.rescale_betas_zero_snr is True
    sampler.set_timesteps(5)
    assert len(sampler.timesteps) == 5


def test_a_saved_preview_says_how_it_was_drawn_as_a1111_does(tmp_path: Path) -> None:
    settings = PreviewSettings(steps=30, cfg=4.0, negative="blurry")
    text = parameters(Prompt("astrid, été", 7), settings, (128, 96))
    path = save_picture(Image.new("RGB", (8, 8)), tmp_path / "a.png", text)
    with Image.open(path) as picture:
        assert picture.info["parameters"] == (
            "astrid, été\nNegative prompt: blurry\n"
            "Steps: 30, Sampler: euler_a, CFG scale: 4, Seed: 7, Size: 128x96"
        )
