"""The notebooks are thin, stripped, and what their sources say."""

from __future__ import annotations

import ast
import json
import re

import build_notebooks
import nbformat
import pytest

from lorakit import REPOSITORY, __version__

NAMES = ["Dataset_Maker", "XL_LoRA_Trainer"]


@pytest.fixture(params=NAMES)
def notebook(request: pytest.FixtureRequest):
    return nbformat.read(build_notebooks.NOTEBOOKS / f"{request.param}.ipynb", as_version=4)


def code(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_what_its_source_says(name):
    source = (build_notebooks.NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8")
    written = (build_notebooks.NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
    assert written == nbformat.writes(build_notebooks.build(source)) + "\n", (
        "run python scripts/build_notebooks.py"
    )


def test_every_notebook_has_a_source():
    assert sorted(path.stem for path in build_notebooks.NOTEBOOKS.glob("*.ipynb")) == NAMES


def test_a_notebook_is_thin(notebook):
    cells = code(notebook)
    assert len(cells) <= 10
    assert max(len(cell.splitlines()) for cell in cells) <= 15


def test_cells_define_nothing_and_call_no_shell_beyond_the_install_line(notebook):
    magics = re.findall(r"^\s*[%!].*$", "\n".join(code(notebook)), re.MULTILINE)
    assert len(magics) == 1 and magics[0].strip().startswith("%pip install --quiet --no-deps ")
    tree = ast.parse("\n".join(code(notebook)).replace(magics[0], ""))
    assert not [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
    ]


def test_the_first_cell_installs_this_version_from_the_public_address(notebook):
    first = code(notebook)[0]
    assert f'"lorakit @ {REPOSITORY}/archive/refs/tags/v{__version__}.zip"' in first
    assert f'd.version == "{__version__}"' in first


def test_no_output_no_count_and_only_titles_are_seen(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            assert cell.source.startswith("#@title ") and cell.metadata == {"cellView": "form"}


def test_the_badge_opens_this_notebook_in_colab(notebook, request):
    name = request.node.callspec.params["notebook"]
    address = REPOSITORY.replace("https://github.com/", "https://colab.research.google.com/github/")
    assert f"({address}/blob/v{__version__}/notebooks/{name}.ipynb)" in notebook.cells[0].source


def test_only_the_trainer_asks_for_a_gpu():
    asked = {}
    for name in NAMES:
        metadata = json.loads((build_notebooks.NOTEBOOKS / f"{name}.ipynb").read_text())["metadata"]
        asked[name] = metadata.get("accelerator")
    assert asked == {"Dataset_Maker": None, "XL_LoRA_Trainer": "GPU"}


@pytest.mark.parametrize(
    "line, built",
    [
        ("x = 1", "#@title T\nx = 1"),
        (
            "if x:\n    print()\n    # %pip install y",
            "#@title T\nif x:\n    print()\n    %pip install y",
        ),
        ("# a remark", "#@title T\n# a remark"),
    ],
)
def test_a_code_cell_is_built_from_its_lines(line, built):
    assert build_notebooks.build(f"# head\n\n# %% T\n{line}\n").cells[0].source == built


def test_texts_lose_their_comment_signs_and_metadata_reach_the_notebook():
    built = build_notebooks.build(
        '# %% [markdown] {"accelerator": "GPU"}\n# # Head\n#\n# vVERSION\n'
    )
    assert (
        built.cells[0].source == f"# Head\n\nv{__version__}"
        and built.metadata["accelerator"] == "GPU"
    )
