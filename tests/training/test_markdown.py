"""Values in Markdown and YAML are shown as they are, whatever is in them."""

from __future__ import annotations

import pytest
import yaml

from lorakit.training import markdown

NASTY = [
    "plain",
    'with "quotes" and \\ backslash',
    "colon: and # hash",
    "- dash",
    "yes",
    "1.5",
    "Ástrid 🎀",
    "two\nlines\tand tab",
    "{braces: [1]}",
    "\x85 \u2028 \x7f",
    "",
    "---",
]


@pytest.mark.parametrize("value", NASTY)
def test_yaml_gives_back_every_text_as_it_was(value: str) -> None:
    text = markdown.front_matter({"a": value, "b": [value], "c": {"d": value}})
    first, *lines, last = text.split("\n")
    assert (first, last, len(lines)) == ("---", "---", 3)
    assert yaml.safe_load("\n".join(lines)) == {"a": value, "b": [value], "c": {"d": value}}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("looking_at_viewer", r"looking\_at\_viewer"),
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("[a](http://x) | **b**", r"\[a\](http://x) \| \*\*b\*\*"),
        ("a\nb", "a b"),
        (0.5, "0.5"),
    ],
)
def test_marks_of_markdown_lose_their_meaning_in_plain_text(value: object, shown: str) -> None:
    assert markdown.plain(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("long_hair", "`long_hair`"),
        ("", ""),
        ("`", "`` ` ``"),
        ("a``b", "```a``b```"),
        ("{red|blue}", "`{red|blue}`"),
        (True, "`True`"),
    ],
)
def test_what_is_to_be_copied_stands_between_enough_backticks(value: object, shown: str) -> None:
    assert markdown.code(value) == shown


def test_a_block_cannot_be_ended_by_what_is_in_it() -> None:
    assert markdown.block("x\n```\ny", "python") == "````python\nx\n```\ny\n````"


def test_a_bar_does_not_end_a_tables_cell() -> None:
    cells = [(markdown.code("{red|blue}"), markdown.plain("a|b"))]
    assert markdown.table(("", ""), cells).endswith(r"| `{red\|blue}` | a\|b |")


def test_a_table_and_a_picture() -> None:
    assert markdown.table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert markdown.image("previews/a b(1).png", "a]b") == r"![a\]b](previews/a%20b%281%29.png)"
