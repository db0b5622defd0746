"""The docs say what the code says."""

import importlib.util
import re
from pathlib import Path

import lorakit

ROOT = Path(__file__).parents[1]


def test_the_settings_page_is_made_from_the_settings_classes() -> None:
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "scripts" / "build_docs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == module.settings_page(), (
        "run scripts/build_docs.py"
    )


def test_the_readmes_badges_open_the_notebooks_at_the_repositorys_one_address() -> None:
    owner_and_name = lorakit.REPOSITORY.removeprefix("https://github.com/")
    links = re.findall(
        r"https://colab\.research\.google\.com/github/(\S+)/blob/main/(notebooks/\w+\.ipynb)",
        (ROOT / "README.md").read_text(),
    )
    assert links == [
        (owner_and_name, "notebooks/Dataset_Maker.ipynb"),
        (owner_and_name, "notebooks/XL_LoRA_Trainer.ipynb"),
    ]
    assert all((ROOT / path).exists() for _, path in links)


def test_every_picture_the_readme_shows_is_there() -> None:
    shown = re.findall(r"!\[[^\]]*\]\((docs/[^)]+)\)", (ROOT / "README.md").read_text())
    assert len(shown) >= 2
    assert [path for path in shown if not (ROOT / path).exists()] == []
