"""Kohya's names, on both transformers layouts."""

import pytest

from lorakit.training.names import (
    kohya_name,
    unet_to_sgm,
    with_text_model,
    without_text_model,
)


@pytest.mark.parametrize(
    ("ours", "sgm"),
    [
        ("conv_in.weight", "input_blocks.0.0.weight"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1.bias", "label_emb.0.0.bias"),
        ("down_blocks.0.resnets.1.conv1", "input_blocks.2.0.in_layers.2"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("down_blocks.2.attentions.1.proj_in", "input_blocks.8.1.proj_in"),
        ("mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers.1"),
        ("mid_block.attentions.0.norm", "middle_block.1.norm"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
        (
            "up_blocks.1.attentions.2.transformer_blocks.1.ff.net.0.proj",
            "output_blocks.5.1.transformer_blocks.1.ff.net.0.proj",
        ),
        ("up_blocks.2.resnets.0.conv_shortcut", "output_blocks.6.0.skip_connection"),
        ("conv_out", "out.2"),
    ],
)
def test_unet_paths_take_sgm_block_numbers(ours: str, sgm: str) -> None:
    assert unet_to_sgm(ours) == sgm


def test_an_unknown_path_is_not_guessed() -> None:
    with pytest.raises(KeyError, match="down_blocks.0.surprise"):
        unet_to_sgm("down_blocks.0.surprise.0.conv1")


@pytest.mark.parametrize(
    "path", ["text_model.encoder.layers.3.mlp.fc1", "encoder.layers.3.mlp.fc1"]
)
def test_the_first_encoder_gets_the_same_name_with_and_without_its_text_model_level(
    path: str,
) -> None:
    assert kohya_name("te1", path) == "lora_te1_text_model_encoder_layers_3_mlp_fc1"


def test_the_second_encoders_projection_has_no_text_model_level() -> None:
    assert kohya_name("te2", "text_projection") == "lora_te2_text_projection"


@pytest.mark.parametrize("path", ["text_model.encoder.layers.3.mlp.fc1", "text_projection"])
def test_the_text_model_level_can_be_taken_away_and_put_back(path: str) -> None:
    assert with_text_model(without_text_model(path)) == path
    assert with_text_model(path) == path
