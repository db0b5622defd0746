"""Plain values as Markdown and YAML: whatever is in them, they are shown as they are and change
nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&])")
UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")  # YAML readers refuse them


def plain(value: object) -> str:
    """Text within a line."""
    return SPECIAL.sub(r"\\\1", _one_line(value))


def code(value: object) -> str:
    """A value to be copied, within a line ('' stays '')."""
    text = _one_line(value)
    if not text:
        return ""
    fence = "`" * (_longest(text) + 1)
    edge = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{edge}{text}{edge}{fence}"


def block(text: str, language: str = "") -> str:
    """Lines to be copied."""
    fence = "`" * max(3, _longest(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _one_line(value: object) -> str:
    return re.sub(r"\s+", " ", str(value)).strip()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are Markdown already, only a bar would still end one."""
    lines = [head, ["---"] * len(head), *rows]
    closed = [[re.sub(r"(?<!\\)\|", r"\|", cell) for cell in cells] for cells in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in closed)


def image(path: str, words: str) -> str:
    """A picture; `path` is relative and written with slashes."""
    return f"![{plain(words)}]({quote(path)})"


def front_matter(values: Mapping[str, object]) -> str:
    """YAML between two lines of dashes. Values are texts, lists and mappings, as JSON writes them:
    every YAML reader understands that.
    """
    lines = [f"{key}: {_yaml(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---"])


def _yaml(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return UNPRINTED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
