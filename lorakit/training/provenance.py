"""Where a LoRA file comes from: what is written down of a run when it starts and when it saves."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from PIL import Image

from ..project import Project
from .base import Base
from .config import TrainingSettings
from .examples import Example
from .plan import Plan

SECRET = re.compile(r"(?i)([?&](?:access_token|api_key|apikey|key|token)=)[^&\s\"'\\]+")
PASSWORD = re.compile(r"(?<=://)[^/\s\"'@]+@")


@dataclass(frozen=True)
class Provenance:
    """Where a run's LoRA files come from: the same for all of them.

    `examples` are the pictures of the plan, without those held out. `started` counts seconds since
    1970. `optimizer` is what really ran where it is not what the settings ask for.
    """

    project: Project
    settings: TrainingSettings
    plan: Plan
    examples: Sequence[Example]
    activation_tag: str = ""
    project_text: str = ""
    base_name: str = ""
    base_hash: str = ""
    prediction: str = "epsilon"
    zero_terminal_snr: bool = False
    precision: torch.dtype = torch.float32
    optimizer: str = ""
    started: float = 0.0


@dataclass(frozen=True)
class Moment:
    """When in a run a file is saved, and under which name (without suffix)."""

    name: str
    epoch: int
    step: int
    finished: float  # seconds since 1970
    likeness: float | None = None


def provenance(
    project: Project,
    base: Base,
    settings: TrainingSettings,
    plan: Plan,
    examples: Sequence[Example],
    activation_tag: str,
    started: float,
) -> Provenance:
    """Reads together what is known when a run starts."""
    single_file = base.path.is_file()
    text = project.settings_file.read_text("utf-8-sig") if project.settings_file.exists() else ""
    return Provenance(
        project,
        settings,
        plan,
        examples,
        activation_tag,
        project_text=text,
        base_name=base.path.name if single_file else source_name(settings.base_model),
        base_hash=legacy_hash(base.path) if single_file else "",
        prediction=base.prediction,
        zero_terminal_snr=bool(base.scheduler.get("rescale_betas_zero_snr")),
        precision=base.dtype,
        started=started,
    )


def redacted(text: str) -> str:
    """`text` without the tokens and passwords in its links: a LoRA file is given to others."""
    return PASSWORD.sub("", SECRET.sub(r"\1...", text))


def source_name(source: str) -> str:
    """The last part of a link, an id or a path, which is what A1111 shows as the base model."""
    path = urlsplit(source).path if "://" in source else source
    return Path(path).name or source


def legacy_hash(path: Path) -> str:
    """A1111's first hash, by which kohya names a base model: of 64 KiB of the file, 1 MiB in."""
    with path.open("rb") as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def cover(picture: Image.Image, side: int = 256) -> dict[str, str]:
    """A small picture inside the file's metadata, where ComfyUI's browser (ssmd_cover_images) and
    those that go by modelspec.thumbnail look for one.
    """
    small, data = picture.convert("RGB"), io.BytesIO()
    small.thumbnail((side, side))
    small.save(data, "JPEG", quality=85)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    return {
        "ssmd_cover_images": json.dumps([text]),
        "modelspec.thumbnail": f"data:image/jpeg;base64,{text}",
    }
