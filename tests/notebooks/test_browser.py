"""Both notebooks as a person meets them: in a real browser, on the classic notebook that Colab is
built on.

Needs chromium, playwright, notebook 6.5.7 and ipywidgets 7.7.1, which `make browser-test` puts in
front of .venv. Screenshots go to the folder LORAKIT_SCREENSHOTS, or beside the test's other files.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from build_notebooks import NOTEBOOKS

from lorakit.dataset import read_caption, scan
from lorakit.demo.run import PREVIEW, TAGGING, TRAINING
from lorakit.demo.sample import BASE_TAGS, good_picture, make_sample
from lorakit.project import Project, named
from lorakit.training.config import SubsetSettings, TrainingSettings

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SECOND = 1000  # what playwright counts in
LONG = 400 * SECOND


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The sample project's settings, with a run that is long enough to be stopped."""
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path / "Loras"))
    project = named("demo").create()
    project.save(TAGGING)
    project.save(replace(TRAINING, repeats=1, epochs=2, save_every=1))
    project.save(replace(PREVIEW, count=4, every=1, steps=6))
    return project


@pytest.fixture
def server(tmp_path: Path, sample: Project) -> Iterator[str]:
    """The address of a classic notebook server with copies of both notebooks."""
    pytest.importorskip("notebook", "6", reason="needs notebook 6, see make browser-test")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for path in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(path, folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    private = {
        "HOME": tmp_path,
        "JUPYTER_CONFIG_DIR": tmp_path / "config",
        "JUPYTER_RUNTIME_DIR": tmp_path / "runtime",
    }
    environment = os.environ | {name: str(path) for name, path in private.items()}
    command = [sys.executable, "-m", "notebook", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--NotebookApp.token=", f"--notebook-dir={folder}"]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield answering(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def answering(address: str) -> str:
    """`address`, once a server answers there."""
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            return address
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the notebook server does not answer")


@dataclass
class Notebook:
    """An open notebook: runs its code cells by number, finds widgets by their hook."""

    page: object
    shots: Path

    def open(self, address: str) -> None:
        self.page.goto(address)
        ready = "Jupyter.notebook.kernel.comm_manager.targets['jupyter.widget']"
        self.page.wait_for_function(
            f"window.Jupyter?.notebook?.kernel?.is_connected() && {ready} !== undefined"
        )
        self.page.wait_for_timeout(
            2.5 * SECOND
        )  # the widgets' first handshake clears cells that run during it

    def start(self, number: int) -> None:
        """Runs code cell `number` (from 0) without waiting for its end."""
        cells = "Jupyter.notebook.get_cells()"
        find = (
            f"{cells}.map((c, i) => c.cell_type == 'code' ? i : -1).filter(i => i >= 0)[{number}]"
        )
        self.page.evaluate(f"Jupyter.notebook.execute_cells([{find}])")

    def run(self, *numbers: int) -> None:
        for number in numbers:
            self.start(number)
            self.page.wait_for_timeout(0.3 * SECOND)
            self.page.wait_for_function(
                "!document.querySelector('.code_cell.running')", timeout=LONG
            )

    def says(self, hook: str, text: str) -> None:
        """Waits until the widget `hook` shows `text`."""
        self.page.locator(f".{hook}", has_text=text).first.wait_for(timeout=LONG)

    def fill(self, hook: str, value: str) -> None:
        field = self.page.locator(f".{hook} input, .{hook} textarea").first
        field.fill(value)
        field.press("Tab")

    def shoot(self, hook: str, name: str) -> None:
        """A screenshot of the output that holds the widget `hook`."""
        output = self.page.locator(".output_wrapper", has=self.page.locator(f".{hook}")).first
        output.scroll_into_view_if_needed()
        output.screenshot(path=self.shots / f"{name}.png")

    def pictures(self, hook: str) -> int:
        """How many pictures in the widget `hook` are really drawn."""
        script = (
            f"[...document.querySelectorAll('.{hook} img')].filter(i => i.naturalWidth > 8).length"
        )
        return self.page.evaluate(script)


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright, see make browser-test"
    )
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs chromium: apt-get install chromium")
    shots = Path(os.environ.get("LORAKIT_SCREENSHOTS", tmp_path / "screenshots"))
    shots.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield Notebook(browser.new_page(viewport={"width": 1280, "height": 1600}), shots)
        browser.close()


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    """Two pictures of one's own, one with a caption."""
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in (40, 41):
            good_picture(i).save(tmp_path / f"own{i}.png")
            archive.write(tmp_path / f"own{i}.png", f"own{i}.png")
        archive.writestr("own40.txt", "astrid, smile")
    return path


def test_dataset_maker(server: str, notebook: Notebook, sample: Project, zipped: Path) -> None:
    notebook.open(f"{server}/notebooks/Dataset_Maker.ipynb")
    notebook.run(0, 1, 2)
    notebook.page.locator(".lk-source select").select_option("Your own: zips, folders, links")
    notebook.page.locator(".lk-items textarea").fill(str(zipped))
    notebook.page.locator(".lk-look").click()
    notebook.says("lk-collect-line", "2 new pictures of 2.")
    assert notebook.pictures("lk-offer") == 2
    assert not list(sample.dataset.glob("own*"))
    notebook.shoot("lk-source", "collect")
    notebook.page.locator(".lk-take").click()
    notebook.says("lk-collect-line", "2 new pictures. They are in ")
    assert (sample.dataset / "own40.txt").read_text() == "astrid, smile\n"

    notebook.run(3)
    notebook.says("lk-gallery", "33 pictures")
    assert notebook.pictures("lk-gallery") == 32  # the broken one has a box instead
    notebook.shoot("lk-gallery", "gallery")

    notebook.run(4)
    notebook.says("lk-clean-line", "1 broken and ")
    notebook.page.locator(".lk-removed-list select").select_option("astrid_copy_small.jpg")
    notebook.page.locator(".lk-bring-back").click()
    notebook.says("lk-clean-line", "astrid_copy_small.jpg brought back")
    notebook.shoot("lk-clean-line", "cleaning")
    assert (sample.dataset / "astrid_copy_small.jpg").exists()

    notebook.run(5)
    notebook.page.locator(".lk-propose").click()
    notebook.page.wait_for_timeout(2 * SECOND)
    notebook.shoot("lk-propose", "tagging")
    notebook.fill("lk-tagging-base_tags", ", ".join(TAGGING.base_tags))
    notebook.run(6)
    notebook.says(
        "lk-tag-line", f"captions written. Activation tag: astrid. Base tags: {BASE_TAGS[0]}"
    )
    notebook.shoot("lk-tag-line", "review")
    assert all(read_caption(picture).startswith("astrid") for picture in scan(sample.dataset))


def test_trainer(server: str, notebook: Notebook, sample: Project) -> None:
    notebook.open(f"{server}/notebooks/XL_LoRA_Trainer.ipynb")
    notebook.run(0, 1, 2)
    notebook.says("lk-plan", "x 2 epochs = ")
    notebook.fill("lk-training-epochs", "0")
    notebook.says("lk-training-epochs-problem", "epochs is 0; it must be from 1 to 1000")
    notebook.shoot("lk-plan", "form_with_a_mistake")
    notebook.page.locator(".lk-aim").click()
    notebook.says("lk-plan", "= 45")
    notebook.fill("lk-training-repeats", "1")
    notebook.fill("lk-training-epochs", "2")
    notebook.says("lk-plan", "x 2 epochs = ")
    notebook.page.get_by_text("Advanced").first.click()
    notebook.page.get_by_text("Length, saving, logs").first.click()
    notebook.page.locator(".lk-training-seed").wait_for(timeout=10 * SECOND)
    notebook.shoot("lk-plan", "form")
    assert sample.load(TrainingSettings).epochs == 2

    notebook.run(3)
    notebook.says("lk-status", "Done: ")
    assert (
        notebook.pictures("lk-previews") == 8
        and notebook.pictures("lk-loss") + notebook.page.locator("img.lk-loss").count()
    )
    notebook.shoot("lk-status", "panel")
    notebook.run(4, 5)
    assert notebook.pictures("lk-result") == 8 and notebook.pictures("lk-epochs") == 12
    notebook.shoot("lk-result", "result")
    notebook.shoot("lk-epochs", "epochs")
    assert (sample.output / "demo.safetensors").exists()


def test_folders_and_base_models_have_their_place_in_the_form(
    server: str, notebook: Notebook, sample: Project
) -> None:
    make_sample(sample)
    closeups = sample.dataset / "3_closeups"
    closeups.mkdir()
    for number in range(2):
        good_picture(number).save(closeups / f"{number}.png")
    notebook.open(f"{server}/notebooks/XL_LoRA_Trainer.ipynb")
    notebook.run(0, 1, 2)
    notebook.says("lk-plan", "1 to 3 repeats")
    notebook.page.get_by_text("Folders", exact=True).first.click()
    repeats = notebook.page.locator(".lk-subset-repeats input").last
    repeats.fill("7")
    repeats.press("Tab")
    notebook.says("lk-plan", "1 to 7 repeats")
    assert sample.load_all(SubsetSettings) == (SubsetSettings(folder="3_closeups", repeats=7),)
    names = notebook.page.locator(".lk-training-base_model option")
    assert "Illustrious XL 0.1" in [
        names.nth(i).get_attribute("data-value") or names.nth(i).get_attribute("value")
        for i in range(names.count())
    ]
    notebook.fill("lk-training-base_model", "SDXL 1.0")
    notebook.says("lk-advice", "Recommended for AdamW: unet_lr 0.0003")
    notebook.shoot("lk-plan", "folders")
    assert sample.load(TrainingSettings).base_model == "SDXL 1.0"


def test_the_stop_button_saves_what_is_learnt(
    server: str, notebook: Notebook, sample: Project
) -> None:
    sample.save(replace(TRAINING, repeats=4, epochs=50, save_every=50))
    notebook.open(f"{server}/notebooks/XL_LoRA_Trainer.ipynb")
    notebook.run(0, 1, 2)
    notebook.start(3)
    notebook.says("lk-status", "s a step")
    notebook.page.locator(".lk-stop:not([disabled])").click()
    notebook.says("lk-status", "Stopped: ")
    assert (sample.output / "demo.safetensors").exists()
