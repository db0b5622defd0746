"""Where a LoRA file comes from, as it is noted when a run starts."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from lorakit.project import Project
from lorakit.training import provenance
from lorakit.training.config import TrainingSettings
from lorakit.training.plan import Plan


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("demo", "demo"),
        ("OnomaAIResearch/Illustrious-xl-early-release-v0", "Illustrious-xl-early-release-v0"),
        ("https://civitai.com/api/download/models/290640?type=Model&token=abc", "290640"),
        ("/content/drive/MyDrive/pony.safetensors", "pony.safetensors"),
        ("NoobAI XL V-Pred 1.0", "NoobAI XL V-Pred 1.0"),
    ],
)
def test_the_base_models_name_is_the_last_part_of_its_source(source: str, name: str) -> None:
    assert provenance.source_name(source) == name


def test_a_run_is_described_from_its_project_base_and_plan(tmp_path: Path) -> None:
    checkpoint = tmp_path / "pony.safetensors"
    checkpoint.write_bytes(bytes(0x100000) + b"m" * 0x10000 + b"z")
    (tmp_path / "project.toml").write_text("[training]\nepochs = 3\n")
    project = Project("astrid", tmp_path, tmp_path, tmp_path, tmp_path / "project.toml")
    base = SimpleNamespace(
        path=checkpoint,
        prediction="v_prediction",
        scheduler={"rescale_betas_zero_snr": True},
        dtype=torch.bfloat16,
    )
    settings, plan = TrainingSettings(), Plan((), (), 4, 10)
    made = provenance.provenance(project, base, settings, plan, [], "astrid", 7.0)
    assert (made.base_name, made.prediction) == ("pony.safetensors", "v_prediction")
    assert made.base_hash == hashlib.sha256(b"m" * 0x10000).hexdigest()[:8]
    assert (made.zero_terminal_snr, made.precision) == (True, torch.bfloat16)
    assert (made.project_text, made.started) == ("[training]\nepochs = 3\n", 7.0)
    base.path = tmp_path  # a diffusers folder has no hash
    folder = provenance.provenance(project, base, settings, plan, [], "astrid", 7.0)
    assert (folder.base_name, folder.base_hash) == ("demo", "")


def test_a_cover_is_a_small_jpeg_where_comfyui_and_modelspec_look_for_it() -> None:
    details = provenance.cover(Image.new("RGBA", (1024, 512), "red"))
    (picture,) = json.loads(details["ssmd_cover_images"])
    with Image.open(io.BytesIO(base64.b64decode(picture))) as small:
        assert (small.format, small.size) == ("JPEG", (256, 128))
    assert details["modelspec.thumbnail"] == f"data:image/jpeg;base64,{picture}"
