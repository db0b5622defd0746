"""The words of a model card, in Markdown with the YAML that the Hugging Face Hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import REPOSITORY
from ..settings import specs
from .config import TrainingSettings
from .markdown import block, code, front_matter, image, plain, table

STRENGTH = "0.7 to 1"


@dataclass(frozen=True)
class Preview:
    """A picture that the LoRA drew; `path` is relative to the card."""

    path: str
    prompt: str


@dataclass(frozen=True)
class Card:
    """What a card says. `base_repo` is the base model's id on the Hub, `repo` the LoRA's own; both
    may be unknown ('').
    """

    name: str
    lora_file: str
    activation_tag: str
    base_tags: tuple[str, ...]
    base_model: str
    base_repo: str
    base_licence: str
    prediction: str
    settings: Mapping[str, Any]
    numbers: Mapping[str, str]
    previews: tuple[Preview, ...]
    repo: str = ""


def card_text(card: Card) -> str:
    """The card: YAML for the Hub, then Markdown."""
    parts = [
        front_matter(_hub_values(card)),
        f"# {plain(card.name)}",
        _first_words(card),
        _pictures(card),
        "## How to use it",
        _usage(card),
        "### In diffusers",
        block(_diffusers(card), "python"),
        "(With transformers 5.6 or newer this takes diffusers 0.41 or newer, if the LoRA has a "
        "part for the first text encoder.)",
        "## How it was made",
        table(("", ""), [(plain(name), plain(value)) for name, value in card.numbers.items()]),
        table(("setting", "value", "meaning"), _settings(card.settings)),
        "## On Civitai",
        _civitai(card),
        f"Made with [lorakit]({REPOSITORY}). Every setting, and the project's "
        "whole `project.toml`, is in the LoRA file's own metadata: `python -m lorakit inspect "
        f"{card.lora_file}` shows it.",
    ]
    return "\n\n".join(part for part in parts if part)


def _hub_values(card: Card) -> dict[str, object]:
    tags = ["text-to-image", "stable-diffusion-xl", "lora", "template:sd-lora", "lorakit"]
    values: dict[str, object] = {"library_name": "diffusers", "pipeline_tag": "text-to-image"}
    if card.base_repo:
        values |= {"base_model": card.base_repo, "base_model_relation": "adapter"}
    if card.activation_tag:
        values["instance_prompt"] = card.activation_tag
    widget = [{"text": p.prompt, "output": {"url": p.path}} for p in card.previews]
    return values | {"tags": tags} | ({"widget": widget} if widget else {})


def _first_words(card: Card) -> str:
    tag = f" Its activation tag is {code(card.activation_tag)}." if card.activation_tag else ""
    base = f", trained on {plain(card.base_model)}" if card.base_model else ""
    licence = (
        f" What may be done with it depends on the base model's licence too: "
        f"{plain(card.base_licence)}."
        if card.base_licence
        else ""
    )
    return f"A LoRA for SDXL models{base}.{tag}{licence}"


def _pictures(card: Card) -> str:
    """The previews, each over its prompt, three in a row."""
    rows = []
    for start in range(0, len(card.previews), 3):
        row = card.previews[start : start + 3]
        rows.append([image(p.path, p.prompt or card.name) for p in row])
        rows.append([code(p.prompt) for p in row])
    if not rows:
        return ""
    width = len(rows[0])
    return table([""] * width, [cells + [""] * (width - len(cells)) for cells in rows])


def _usage(card: Card) -> str:
    words = [w for w in (card.activation_tag, *card.base_tags) if w]
    prompt = ", ".join(words).replace("(", r"\(").replace(")", r"\)")  # else they are weights
    name = card.lora_file.removesuffix(".safetensors")
    lines = [
        f"- Begin the prompt with {code(card.activation_tag)}." if card.activation_tag else "",
        f"- The character's own tags: {', '.join(map(code, card.base_tags))}."
        if card.base_tags
        else "",
        f"- Strength {STRENGTH} is a good start.",
        f"- A1111 and Forge: put {code(card.lora_file)} into `models/Lora` and write "
        f"{code(f'<lora:{name}:1> {prompt}'.strip())}.",
        f"- ComfyUI: put it into `models/loras`, add a *Load LoRA* node, and write {code(prompt)}."
        if prompt
        else "- ComfyUI: put it into `models/loras` and add a *Load LoRA* node.",
        "- It was trained for v-prediction: use it with a v-prediction model."
        if card.prediction == "v"
        else "",
    ]
    return "\n".join(filter(None, lines))


def _diffusers(card: Card) -> str:
    base = card.base_repo or "the base model's folder or id"
    prompt = ", ".join(w for w in (card.activation_tag, *card.base_tags) if w) or card.name
    return "\n".join(
        [
            "import torch",
            "from diffusers import StableDiffusionXLPipeline",
            "",
            "pipeline = StableDiffusionXLPipeline.from_pretrained(",
            f"    {base!r}, torch_dtype=torch.float16",
            ').to("cuda")',
            f"pipeline.load_lora_weights({card.repo or '.'!r}, weight_name={card.lora_file!r})",
            f"picture = pipeline({prompt!r}).images[0]",
        ]
    )


def _settings(settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What a user chooses first, and whatever else was not at its default."""
    known = {spec.name: spec for spec in specs(TrainingSettings)}
    return [
        (code(name), code(value), plain(known[name].help) if name in known else "")
        for name, value in settings.items()
        if name not in known or not known[name].advanced or value != known[name].default
    ]


def _civitai(card: Card) -> str:
    """What its upload form asks for; it has a type of its own for LoCon and DoRA."""
    kind = card.numbers.get("Kind", "")
    rows = {
        "Type": kind if kind in ("LoCon", "DoRA") else "LoRA",
        "Base model": plain(card.base_model),
        "Trigger words": ", ".join(code(w) for w in (card.activation_tag, *card.base_tags) if w),
        "Training parameters": plain(
            ", ".join(f"{k} {card.numbers[k]}" for k in ("Epochs", "Steps") if k in card.numbers)
        ),
        "Recommended strength": STRENGTH,
    }
    about = "Copy this into its upload form, and add the pictures from `previews/` there:"
    return f"{about}\n\n{table(('', ''), [(k, v) for k, v in rows.items() if v])}"
