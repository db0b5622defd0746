"""The whole path on pictures nobody here drew: Debian's `renpy-thequestion`, sprites laid over its
own backgrounds.

The pictures need not come out well; nothing may break. The package is fetched at test time, none of
it is kept.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from lorakit.clean.sweep import sweep
from lorakit.dataset import scan
from lorakit.demo.run import TRAINING
from lorakit.project import Project, find
from lorakit.tagging.captions import TaggingSettings, tag_dataset
from lorakit.training.config import PreviewSettings
from lorakit.training.examples import survey
from lorakit.training.run import Finished, train_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("apt-get"):
        pytest.skip("this system has no apt-get to fetch the pictures with")
    folder = tmp_path_factory.mktemp("deb")
    if subprocess.run(
        ["apt-get", "download", "renpy-thequestion"], cwd=folder, capture_output=True
    ).returncode:
        subprocess.run(["apt-get", "update"], capture_output=True)
        if subprocess.run(
            ["apt-get", "download", "renpy-thequestion"], cwd=folder, capture_output=True
        ).returncode:
            pytest.skip("Debian's package renpy-thequestion cannot be fetched here")
    subprocess.run(["dpkg", "-x", next(folder.glob("*.deb")), folder / "out"], check=True)
    return folder / "out"


def make_dataset(images: Path, project: Project) -> int:
    """Every sprite over every background, as a person would put them together."""
    sprites = sorted(p for p in images.rglob("sylvie*.png"))
    backgrounds = sorted(p for p in images.rglob("bg*.*") if p.suffix in (".jpg", ".png", ".webp"))
    assert len(sprites) >= 8 and len(backgrounds) >= 2
    for b, background in enumerate(backgrounds):
        for sprite in sprites[b % 2 :: 2]:
            scene, girl = Image.open(background).convert("RGB"), Image.open(sprite).convert("RGBA")
            scene.paste(girl, ((scene.width - girl.width) // 2, scene.height - girl.height), girl)
            left = max(0, scene.width // 2 - 420 + 90 * b)
            scene.crop((left, 0, left + 840, scene.height)).save(
                project.dataset / f"{sprite.stem.replace(' ', '_')}_{b}.jpg"
            )
    return len(scan(project.dataset))


def test_real_pictures_are_swept_tagged_trained_on_and_exported(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    project = find(str(tmp_path / "sylvie")).create()
    count = make_dataset(images, project)
    sweep(project)
    left = len(scan(project.dataset))
    assert 4 <= left <= count
    report = tag_dataset(project, TaggingSettings(tagger="demo", activation_tag="sylvie"))
    assert report.captions == left
    settings = replace(survey(project).aim(TRAINING, 50), save_every=1000)
    *_, finished = train_project(
        project, settings, PreviewSettings(count=2, steps=4, every=0), "sylvie"
    )
    assert isinstance(finished, Finished)
    assert 45 <= finished.steps <= 55
    with safe_open(finished.lora_file, framework="pt") as file:
        assert file.metadata()["modelspec.trigger_phrase"] == "sylvie"
