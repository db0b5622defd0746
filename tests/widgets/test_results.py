"""What a run left behind, read back from disk."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from lorakit.widgets import results


@pytest.fixture
def trained(project):
    """Two epochs' previews, two LoRA files, and pictures of an older, longer run."""
    folder = project.output / "previews"
    folder.mkdir()
    for age, epoch in [(100, 7), (50, 0), (40, 1), (30, 2)]:
        for number in range(2):
            path = folder / f"epoch-{epoch:03d}-{number:02d}.png"
            Image.new("RGB", (64, 64), (0, 30 * epoch, 0)).save(path)
            os.utime(path, (1e9 - age, 1e9 - age))
    for age, name in [(20, "mila-000001"), (10, "mila")]:
        path = project.output / f"{name}.safetensors"
        path.write_bytes(b"x" * 1_500_000)
        os.utime(path, (1e9 - age, 1e9 - age))
    return project


def test_previews_of_an_older_run_are_not_mixed_in(trained):
    assert {epoch: len(paths) for epoch, paths in results.previews(trained).items()} == {
        0: 2,
        1: 2,
        2: 2,
    }


def test_the_result_shows_before_and_after_and_the_newest_file(trained):
    html = results.result(trained, {0: 0.1, 2: 0.9}).value
    assert f"LoRA file: <code>{trained.output / 'mila.safetensors'}</code> (1.5 MB)" in html
    assert (
        "before, likeness 0.10" in html
        and "epoch 2, likeness 0.90" in html
        and "epoch 1" not in html
    )
    assert html.count("<img ") == 4


def test_every_epoch_is_there_to_compare(trained):
    html = results.epochs(trained, {1: 0.5}).value
    assert "epoch 1, likeness 0.50" in html and ">epoch 2<" in html and html.count("<img ") == 6
    assert html.index("mila.safetensors") < html.index("mila-000001.safetensors")


def test_before_the_first_run_the_result_says_what_to_do(project):
    assert "No LoRA file in" in results.result(project, {}).value
    assert "drew no previews" in results.epochs(project, {}).value


def test_a_run_without_previews_still_has_its_file(project):
    (project.output / "mila.safetensors").write_bytes(b"x")
    html = results.result(project, {}).value
    assert "mila.safetensors" in html and "drew no previews" in html
