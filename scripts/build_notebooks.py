"""Builds notebooks/*.ipynb from the .py files beside them, which are the ones to edit.

`python scripts/build_notebooks.py` writes them, `--check` only says whether one is out of date
(exit code 1).

In a source, `# %% Title` begins a code cell, `# %% [markdown]` a text; a JSON object at the end of
the first marker goes into the notebook's metadata. `# %pip` becomes the magic `%pip`. VERSION,
REPOSITORY and COLAB are filled in.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
MARKER = re.compile(r"^# %% (?P<title>.*?)(?P<metadata> \{.*\})?$", re.MULTILINE)
sys.path.insert(0, str(ROOT))

from lorakit import REPOSITORY, __version__  # noqa: E402


def filled(text: str) -> str:
    """`text` with the one public address and the version put in."""
    on_colab = REPOSITORY.replace("https://github.com", "https://colab.research.google.com/github")
    words = {
        "REPOSITORY": REPOSITORY,
        "COLAB": f"{on_colab}/blob/v{__version__}",
        "VERSION": __version__,
    }
    return re.sub("|".join(words), lambda found: words[found[0]], text)


def build(source: str) -> Any:
    """The notebook made from the text of a source file."""
    pieces = MARKER.split(filled(source))[1:]
    cells, metadata = [], dict[str, Any]()
    for title, extra, body in zip(pieces[0::3], pieces[1::3], pieces[2::3], strict=True):
        metadata |= json.loads(extra or "{}")
        cells.append(cell(title, body.strip("\n"), len(cells)))
    kernel = {"name": "python3", "display_name": "Python 3"}
    colab = {"provenance": [], "private_outputs": True, "toc_visible": True}
    notebook = new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "colab": colab, **metadata}
    )
    nbformat.validate(notebook)
    return notebook


def cell(title: str, body: str, number: int) -> Any:
    """One cell. Code cells show only their title on Colab; the code is a click away."""
    if title == "[markdown]":
        text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
        return new_markdown_cell(text, id=f"text-{number}")
    code = re.sub(r"^( *)# %pip", r"\1%pip", body, flags=re.MULTILINE)
    return new_code_cell(
        f"#@title {title}\n{code}", id=f"code-{number}", metadata={"cellView": "form"}
    )


def main() -> int:
    """Writes the notebooks, or with `--check` compares them."""
    stale = []
    for source in sorted(NOTEBOOKS.glob("*.py")):
        target = source.with_suffix(".ipynb")
        text = nbformat.writes(build(source.read_text(encoding="utf-8"))) + "\n"
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            stale.append(target.name)
            if "--check" not in sys.argv:
                target.write_text(text, encoding="utf-8")
    if stale:
        print("written:" if "--check" not in sys.argv else "out of date:", *stale)
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
