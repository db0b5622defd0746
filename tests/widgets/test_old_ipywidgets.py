"""Colab has ipywidgets 7.7.1, which ignores what only 8 knows without a word: none of it may be
used.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "lorakit" / "widgets").glob("*.py"), *(ROOT / "notebooks").glob("*.py")]
ONLY_IN_8 = {
    "Tab and Accordion titles as an argument": r"\btitles=",
    "a tooltip by name; buttons may have one": r"(?<!Button\()\btooltip=",
    "the other spelling, of which 8 warns": r"\bdescription_tooltip=",
    "HTML in descriptions": r"description_allow_html",
    "one side of a border": r"border_(left|right|top|bottom)",
    "widgets": (
        r"\b(TagsInput|ColorsInput|IntsInput|FloatsInput|Stack|TimePicker|DatetimePicker"
        r"|NaiveDatetimePicker)\b"
    ),
    # collecting.py reads both shapes (`contents`), so its one is allowed
    "a file upload, whose value differs": r"\bFileUpload\b(?!\(multiple=True, desc)",
    "options as a mapping, which only 7 has": r"options=\{",
    "threads, whose updates Colab does not show": r"\bthreading\b|\bThread\(",
    "JavaScript and custom widgets": r"\bJavascript\(|\banywidget\b|enable_custom_widget_manager",
}


@pytest.mark.parametrize("what", ONLY_IN_8)
def test_nothing_is_used_that_the_other_version_lacks(what):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(ONLY_IN_8[what], line)
    ]
    assert found == []


def test_the_search_looks_at_the_widgets_and_the_notebooks():
    assert {"forms.py", "panel.py", "Dataset_Maker.py", "XL_LoRA_Trainer.py"} <= {
        path.name for path in SOURCES
    }


@pytest.mark.parametrize(
    "what, line",
    [
        ("Tab and Accordion titles as an argument", "W.Tab(children, titles=['a'])"),
        ("a tooltip by name; buttons may have one", "W.Text(tooltip='x')"),
        ("one side of a border", "Layout(border_left='1px')"),
        ("widgets", "W.TagsInput(value=[])"),
    ],
)
def test_the_search_finds_what_it_is_for(what, line):
    assert re.search(ONLY_IN_8[what], line)
