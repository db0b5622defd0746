"""Names of files in archives: read as they were written, and made harmless."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

LONGEST = (
    180  # bytes of UTF-8 in one name: file systems stop at 255, and what is beside it is longer
)
REFUSED = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')  # by Windows or FAT
HIDDEN = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}


def encoding_of(names: Sequence[bytes]) -> str:
    """How the names of a zip were written that do not say they are UTF-8.

    Old packers used the code page of their system. A few bytes fit many of them, so a code page of
    Asia is believed only where it gives two of its characters in a row: 'cafe' with an accent is no
    Chinese. Half-width katakana come from reading Chinese as Japanese.
    """
    text = b"\n".join(name for name in names if not name.isascii())
    if not text or _decodes(text, "utf-8") is not None:
        return "utf-8"
    japanese = _decodes(text, "cp932")
    if japanese and _runs(japanese) and not re.search("[\uff61-\uff9f]{2}", japanese):
        return "cp932"
    chinese = _decodes(text, "gbk")
    return "gbk" if chinese and _runs(chinese) else "cp437"


def _decodes(text: bytes, encoding: str) -> str | None:
    try:
        return text.decode(encoding)
    except UnicodeDecodeError:
        return None


def _runs(text: str) -> bool:
    """Whether two kana or kanji stand side by side."""
    return bool(re.search("[\u3040-\u30ff\u4e00-\u9fff]{2}", text))


def text_of(content: bytes) -> str:
    """A caption file as text: UTF-8, UTF-16 with its mark, or what old editors wrote."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    plain = _decodes(content, "utf-8-sig")
    if plain is not None:
        return plain
    encoding = encoding_of([content])
    return content.decode("cp1252" if encoding == "cp437" else encoding, "replace")


def steps(name: str) -> list[str] | None:
    """The folders and the name that a path in an archive goes through; None if it leads out of it:
    '..', an absolute path, a drive letter.
    """
    path = name.replace("\\", "/")
    found = [step for step in path.split("/") if step not in ("", ".")]
    if path.startswith("/") or ".." in found or (found and re.match(r"[A-Za-z]:", found[0])):
        return None
    return found


def is_hidden(path: Sequence[str]) -> bool:
    """Whether it is a hidden file, or one that systems leave behind (.DS_Store, __MACOSX)."""
    return any(step.startswith(".") or step.lower() in HIDDEN for step in path)


def harmless(step: str) -> str:
    """One step of a path as the name of a file or folder on any system."""
    whole = unicodedata.normalize("NFC", step)
    kept = REFUSED.sub("_", whole).lstrip(" .").rstrip(" .") or "_"
    if len(kept.encode()) <= LONGEST:
        return kept
    stem, dot, suffix = kept.rpartition(".")
    if not dot or len(suffix) > 10:
        stem, suffix = kept, ""
    room = LONGEST - len(f"{dot}{suffix}".encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + (f".{suffix}" if suffix else "")
