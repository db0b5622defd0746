"""Where fetched archives wait: on the local disk; a run after its preview fetches nothing again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def place(link: str) -> Path:
    """The path for what a link gives; its folder is made."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "lorakit" / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / hashlib.sha256(link.encode()).hexdigest()[:16]
