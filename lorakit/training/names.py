"""Kohya's names for SDXL's modules, and back: the names under which A1111, Forge, ComfyUI and
Civitai read a LoRA.

Inside lorakit a module is known by its part (`unet`, `te1`, `te2`) and its diffusers / transformers
path. Kohya's files use the original SDXL ("SGM") block numbers for the U-Net and the `text_model.`
level for both encoders, whether or not the transformers release at hand still has that level (5.6
and later dropped it from the first encoder).
"""

from __future__ import annotations

import re

PREFIXES = {"unet": "lora_unet", "te1": "lora_te1", "te2": "lora_te2"}

# What is called differently below a ResNet block; transformer blocks have the same names in both
# worlds.
RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "norm1": "in_layers.0",
    "norm2": "out_layers.0",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def unet_to_sgm(path: str) -> str:
    """A U-Net module's (or tensor's) SGM path from its diffusers path. Raises KeyError for an
    unknown one.

    >>> unet_to_sgm("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q")
    'input_blocks.4.1.transformer_blocks.0.attn1.to_q'
    """
    for ours, theirs in ENDS.items():
        if path == ours or path.startswith(ours + "."):
            return theirs + path[len(ours) :]
    match = re.fullmatch(
        r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)",
        path,
    )
    if match:
        side, block, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
        return _block(side, block, kind, index) + "." + _below(kind, rest)
    match = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", path)
    if match:
        number = 1 if match[1] == "attentions" else 2 * int(match[2])
        return f"middle_block.{number}." + _below(match[1], match[3])
    raise KeyError(path)


def _block(side: str, block: int, kind: str, index: int) -> str:
    """SDXL has two ResNets a stage on the way down and three on the way up, so stages are three
    numbers apart.
    """
    if side == "down_blocks":
        number = 3 * (block + 1) if kind == "downsamplers" else 1 + 3 * block + index
        return f"input_blocks.{number}.{1 if kind == 'attentions' else 0}"
    if kind == "upsamplers":
        return f"output_blocks.{3 * block + 2}.2"
    return f"output_blocks.{3 * block + index}.{1 if kind == 'attentions' else 0}"


def _below(kind: str, rest: str) -> str:
    if kind == "resnets":
        head, _, tail = rest.partition(".")
        return RESNET[head] + (f".{tail}" if tail else "")
    if kind == "downsamplers":
        return rest.replace("conv", "op", 1)
    return rest


def kohya_name(part: str, path: str) -> str:
    """The name of a module in a kohya file, without the tensor's name behind it.

    >>> kohya_name("te1", "encoder.layers.0.mlp.fc1")
    'lora_te1_text_model_encoder_layers_0_mlp_fc1'
    """
    path = unet_to_sgm(path) if part == "unet" else with_text_model(path)
    return f"{PREFIXES[part]}_{path.replace('.', '_')}"


def with_text_model(path: str) -> str:
    """An encoder's path as kohya and older transformers have it.

    >>> with_text_model("encoder.layers.0.mlp.fc1")
    'text_model.encoder.layers.0.mlp.fc1'
    """
    path = without_text_model(path)
    return path if path == "text_projection" else f"text_model.{path}"


def without_text_model(path: str) -> str:
    """A path as transformers 5.6 and later have it for the first encoder.

    >>> without_text_model("text_model.encoder.layers.0.mlp.fc1")
    'encoder.layers.0.mlp.fc1'
    """
    return path.removeprefix("text_model.")
