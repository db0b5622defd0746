"""Both notebooks, run from the first cell to the last in a real kernel, nothing chosen: on the
sample project.

With LORAKIT_FAKE_COLAB set (as `make colab-test` does), only with a google.colab that behaves; else
with and without.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import pytest
from build_notebooks import NOTEBOOKS, ROOT
from nbformat.v4 import new_code_cell
from nbmake.nb_run import NotebookRun
from PIL import Image
from safetensors.torch import load_file

from lorakit.dataset import read_caption, scan
from lorakit.demo.run import PREVIEW, TAGGING, TRAINING
from lorakit.project import Project, named

MAKER, TRAINER = "Dataset_Maker", "XL_LoRA_Trainer"
PLACES = ["colab"] if os.environ.get("LORAKIT_FAKE_COLAB") else ["jupyter", "colab"]
PRETEND = """
import os, pathlib, sys
os.chdir({notebooks!r})
sys.path.insert(0, {root!r})
from tests import fakes
fakes.pretend(pathlib.Path({content!r}))
"""


@dataclass
class Place:
    """Where notebooks run: `content` is what /content is on Colab, `home` holds the projects."""

    name: str
    content: Path
    home: Path

    def run(self, name: str) -> str:
        """Runs a notebook from the first cell to the last; returns what its cells printed."""
        result = NotebookRun(self.file(name), default_timeout=900).execute()
        assert not result.error, result.error.trace
        self.widgets = result.nb.metadata["widgets"]["application/vnd.jupyter.widget-state+json"][
            "state"
        ]
        return "".join(
            output.text for output in outputs(result.nb) if output.output_type == "stream"
        )

    def refusal(self, name: str) -> list[str]:
        """Runs a notebook that is to stop; returns the lines shown in place of a traceback."""
        result = NotebookRun(self.file(name), default_timeout=900).execute()
        (error,) = [output for output in outputs(result.nb) if output.output_type == "error"]
        return error.traceback

    def file(self, name: str) -> Path:
        """The notebook to run; for Colab a copy with one cell more in front, which makes it believe
        to be there.
        """
        original = NOTEBOOKS / f"{name}.ipynb"
        if self.name != "colab":
            return original
        notebook = nbformat.read(original, as_version=4)
        names = {"notebooks": str(NOTEBOOKS), "root": str(ROOT), "content": str(self.content)}
        notebook.cells.insert(0, new_code_cell(PRETEND.format(**names)))
        nbformat.write(notebook, self.content / original.name)
        return self.content / original.name

    def shown(self, hook: str) -> str:
        """The value of the one widget that has the test hook."""
        (state,) = [
            w["state"] for w in self.widgets.values() if hook in w["state"].get("_dom_classes", ())
        ]
        return state["value"]


def outputs(notebook) -> list:
    return [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "colab":
        monkeypatch.delenv("LORAKIT_HOME", raising=False)
        return Place("colab", tmp_path, tmp_path / "drive" / "MyDrive" / "Loras")
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path / "Loras"))
    return Place("jupyter", tmp_path, tmp_path / "Loras")


@pytest.fixture
def sample(place: Place) -> Project:
    """The sample project's settings file, with a run short enough for a test."""
    project = named("demo", place.home).create()
    project.save(TAGGING)
    project.save(replace(TRAINING, repeats=1, epochs=2, save_every=1))
    project.save(replace(PREVIEW, count=2, every=1, steps=3))
    return project


@pytest.mark.slow
def test_run_all_with_nothing_chosen(place: Place, sample: Project):
    said = place.run(MAKER)
    assert "lorakit" in said and "disk free" in said
    assert (f"Drive: projects are in {place.home}" in said) == (place.name == "colab")
    pictures = scan(sample.dataset)
    assert len(pictures) >= 24
    assert all(read_caption(picture).startswith("astrid") for picture in pictures)
    assert {"broken.png", "astrid_copy_small.jpg"} <= {
        path.name for path in sample.removed.iterdir()
    }
    assert "near-duplicate of" in place.shown("lk-removed")
    assert f"{len(pictures)} captions written" in place.shown("lk-tag-line")

    place.run(TRAINER)
    lora = sample.output / "demo.safetensors"
    assert lora.stat().st_size > 10_000
    assert f"{len(pictures)} pictures x 1 repeats" in place.shown("lk-plan")
    assert "Done: " in place.shown("lk-status") and str(lora) in place.shown("lk-status")
    assert str(lora) in place.shown("lk-result") and "likeness 0." in place.shown("lk-result")
    assert "epoch 1" in place.shown("lk-epochs") and "demo-000001.safetensors" in place.shown(
        "lk-epochs"
    )
    assert "step 0, likeness" in place.shown("lk-previews")
    assert "Previews: epoch 2, likeness" in (sample.output / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.skipif("jupyter" not in PLACES, reason="run once, in the ordinary environment")
@pytest.mark.parametrize("place", ["jupyter"], indirect=True)
def test_the_trainer_alone_prepares_the_sample_and_a_second_run_trains_again(
    place: Place, sample: Project
):
    place.run(TRAINER)
    first = load_file(sample.output / "demo.safetensors")
    captions = [read_caption(picture) for picture in scan(sample.dataset)]
    place.run(TRAINER)
    assert [read_caption(picture) for picture in scan(sample.dataset)] == captions
    assert load_file(sample.output / "demo.safetensors").keys() == first.keys()
    assert (sample.output / "log.txt").read_text().count("Done: ") == 2


@pytest.mark.slow
def test_a_chosen_project_without_pictures_is_refused_in_one_sentence(place: Place):
    named("mila", place.home).create()
    (place.home / ".last-project").write_text("mila")
    assert place.refusal(MAKER) == [
        f"There are no pictures in {place.home / 'mila' / 'dataset'}. "
        "Put some there (avif, bmp, gif, jpeg, jpg, png, tif, tiff, webp) and run again."
    ]


@pytest.mark.slow
@pytest.mark.skipif("jupyter" not in PLACES, reason="run once, in the ordinary environment")
@pytest.mark.parametrize("place", ["jupyter"], indirect=True)
def test_a_chosen_project_is_the_one_that_is_worked_on(place: Place):
    project = named("mila", place.home).create()
    for number in range(2):
        Image.effect_noise((200, 200), 20 + 60 * number).save(project.dataset / f"{number}.png")
    project.save(TAGGING)
    (place.home / ".last-project").write_text("mila")
    place.run(MAKER)
    assert all(read_caption(picture).startswith("astrid") for picture in scan(project.dataset))
    assert not (place.home / "demo").exists()
