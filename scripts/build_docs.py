"""Writes docs/settings.md from the settings classes: `python scripts/build_docs.py`. A test
compares.
"""

from __future__ import annotations

from pathlib import Path

from lorakit.collect.videos.settings import VideoSettings
from lorakit.settings import table
from lorakit.tagging.captions import TaggingSettings
from lorakit.training.config import PreviewSettings, SubsetSettings, TrainingSettings

TARGET = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """# Settings

Every setting of `project.toml`, by table; made from the settings classes by
`python scripts/build_docs.py`. On the command line they are changed for one run with
`--set name=value`.
"""


def settings_page() -> str:
    """The page's text."""
    parts = [HEAD]
    for cls in (TrainingSettings, PreviewSettings, TaggingSettings, VideoSettings):
        parts.append(section(f"[{cls.SECTION}]", cls))
    parts.append(section(f"[[{SubsetSettings.SECTION}]]", SubsetSettings))
    return "\n".join(parts)


def section(title: str, cls: type) -> str:
    """One table of project.toml."""
    return f"## {title}\n\n{(cls.__doc__ or '').strip().splitlines()[0]}\n\n{table(cls)}\n"


if __name__ == "__main__":
    TARGET.write_text(settings_page(), encoding="utf-8")
