"""The model card: a README.md beside the LoRA that says what it is, how to use it and how it was
made, ready for the Hugging Face Hub and, by copying, for Civitai.

It is made from the LoRA file's own metadata, so it says what was trained and not what project.toml
says today. A card that the user has changed is not written over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import BaseModelError, LoraFileError, SettingsError
from ..files import write_text
from ..progress import duration
from ..project import Project
from ..tagging.captions import TaggingSettings
from .card_text import Card, Preview, card_text
from .config import PreviewSettings
from .inspect import describe
from .links import listed, parse
from .metadata import stored
from .provenance import source_name

FILE = "README.md"
MARK = re.compile(r"<!-- lorakit card ([0-9a-f]{16}) -->\n\Z")
PREVIEW = re.compile(r"(epoch|step)-(\d+)-(\d+)\.(?:png|jpe?g|webp)")


def write_card(project: Project, repo: str = "", overwrite: bool = False) -> Path:
    """Writes `output/README.md` and returns it. Raises LoraFileError if nothing is trained yet,
    SettingsError if the card there was changed by hand, SaveError.
    """
    path = project.output / FILE
    if not overwrite and changed_by_hand(path):
        raise SettingsError(
            f"{path} was written or changed by hand, so it stays as it is. Move it away, or use "
            "--overwrite."
        )
    return write_text(path, marked(card_text(read_card(project, repo))))


def refresh_card(project: Project, repo: str = "") -> Path:
    """`write_card`, but a card that was changed by hand is left as it is."""
    path = project.output / FILE
    return path if changed_by_hand(path) else write_card(project, repo)


def marked(text: str) -> str:
    """`text` with a last line from which it can be told whether it was changed since."""
    return f"{text}\n\n<!-- lorakit card {_digest(text)} -->\n"


def changed_by_hand(path: Path) -> bool:
    """Whether there is a card that is not, or no longer, what lorakit wrote."""
    if not path.exists():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    found = MARK.search(text)
    return not found or found[1] != _digest(text[: found.start() - 2])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- reading --------------------------------------------------------------------------------------


def read_card(project: Project, repo: str = "") -> Card:
    """What there is to say of the project's LoRA. Raises LoraFileError."""
    path = project.output / f"{project.name}.safetensors"
    if not path.is_file():
        raise LoraFileError(
            f"There is no LoRA file at {path} yet. Train first: python -m lorakit train "
            f"{project.name}"
        )
    known = describe(path)
    details, settings = known["metadata"], known.get("settings", {})
    tagging, preview = project.load(TaggingSettings), project.load(PreviewSettings)
    tag = details.get("modelspec.trigger_phrase") or tagging.activation_tag
    base = str(settings.get("base_model") or details.get("ss_sd_model_name", ""))
    row = listed(base)
    repo_of_base = hub_id(row.where if row else base)
    shown = row.name if row else repo_of_base or source_name(base)
    return Card(
        name=project.name,
        lora_file=path.name,
        activation_tag=tag,
        base_tags=tagging.base_tags,
        base_model=shown,
        base_repo=repo_of_base,
        base_licence=row.licence if row else "",
        prediction=details.get("modelspec.prediction_type", ""),
        settings=settings | _without_paths(settings) | {"base_model": shown},
        numbers=numbers(known),
        previews=tuple(
            previews(
                project.output,
                [tag] * preview.count + list(preview.prompts),
                _number(details, "ss_training_started_at"),
            )
        ),
        repo=repo,
    )


def _without_paths(settings: Mapping[str, Any]) -> dict[str, str]:
    """Files and folders by their name alone: where they lie is nobody's business."""
    names = ("models_folder", "vae", "continue_from")
    return {name: source_name(str(settings[name])) for name in names if settings.get(name)}


def hub_id(base_model: str) -> str:
    """The id on the Hub of what `base_model` names, or ''."""
    try:
        source = parse(base_model)
    except BaseModelError:
        return ""
    return source.repo if source.kind == "hub" else ""


def numbers(known: Mapping[str, Any]) -> dict[str, str]:
    """What was measured and counted, from what `describe` says of the file."""
    details = known["metadata"]
    seconds = _number(details, "ss_training_finished_at") - _number(
        details, "ss_training_started_at"
    )
    folders = stored(details, "ss_dataset_dirs").values()
    pictures = sum(int(f.get("img_count", 0)) for f in folders if isinstance(f, dict))
    found = {
        "Pictures": str(pictures or ""),
        "Steps": details.get("ss_steps", ""),
        "Epochs": details.get("ss_epoch", ""),
        "Likeness": _likeness(details),
        "Training time": duration(seconds) if seconds > 0 else "",
        "Rank / alpha": " / ".join(
            filter(None, (details.get("ss_network_dim"), details.get("ss_network_alpha")))
        ),
        "Kind": known["kind"],
        "File size": f"{known['bytes'] / 1e6:.1f} MB",
        "AutoV2, AutoV3": f"{known['hashes']['AutoV2']}, {known['hashes']['AutoV3']}",
    }
    return {name: value for name, value in found.items() if value}


def _number(details: Mapping[str, str], key: str) -> float:
    try:
        return float(details.get(key, 0))
    except ValueError:
        return 0.0


def _likeness(details: Mapping[str, str]) -> str:
    value = _number(details, "lorakit.likeness")
    means = "share of the base tags that a tagger finds in previews of the activation tag alone"
    return f"{value:.2f} ({means})" if value else ""


def previews(output: Path, prompts: Sequence[str], since: float = 0.0) -> list[Preview]:
    """The last pictures drawn while training, `previews/epoch-010-00.png` and so on, each with its
    prompt: what the file itself says, else the one of its number. Those from before `since`, in
    seconds since 1970, are of an earlier run.
    """
    found = [
        (match, path)
        for path, match in _matches(output / "previews")
        if int(match[2]) and path.stat().st_mtime >= since
    ]
    if not found:
        return []
    kind, last = max(((m[1] == "epoch", int(m[2])) for m, _ in found))
    chosen = [(m, p) for m, p in found if (m[1] == "epoch", int(m[2])) == (kind, last)]
    return [
        Preview(f"previews/{path.name}", _prompt(path, int(match[3]), prompts))
        for match, path in sorted(chosen, key=lambda each: int(each[0][3]))
    ]


def _matches(folder: Path) -> Iterable[tuple[Path, re.Match[str]]]:
    for path in folder.glob("*"):
        match = PREVIEW.fullmatch(path.name)
        if match:
            yield path, match


def _prompt(path: Path, number: int, prompts: Sequence[str]) -> str:
    """A1111 keeps the prompt in the picture, under 'parameters'."""
    with Image.open(path) as picture:
        text = str(picture.info.get("parameters", "")).partition("\n")[0]
    return text or (prompts[number] if number < len(prompts) else "")
