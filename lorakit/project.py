"""A project: the folder of one LoRA and its settings file.

`<root>/<name>/dataset|output|removed|project.toml`, or the layout some people's Drive already has,
`<root>/lora_training/{datasets,output,config,log}/<name>`. Both are understood; new projects get
the first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT

from . import settings as settings_module
from .colab import drive_folder
from .errors import DatasetError, SaveError, SettingsError
from .files import write_text

S = TypeVar("S")

SECTIONS = (
    "tagging",
    "training",
    "preview",
    *("boorus", "links", "videos", "models3d", "sprites", "archives"),  # of lorakit.collect
)
LISTS = ("subset",)  # tables that may stand several times: [[subset]]
FORBIDDEN = set(" .()\"'\\/:*?<>|")  # spaces and these break other tools and some file systems


@dataclass(frozen=True)
class Project:
    """The folders of one LoRA. `removed` holds whatever was taken out of the dataset: nothing is
    ever deleted.
    """

    name: str
    dataset: Path
    output: Path
    removed: Path
    settings_file: Path

    def create(self) -> Project:
        """Makes the folders that are missing; returns self. Raises SaveError."""
        for folder in (self.dataset, self.output, self.removed):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                taken = folder.exists() and not folder.is_dir()
                reason = "a file has that name" if taken else error.strerror or str(error)
                raise SaveError(
                    f"The folder {folder} cannot be made: {reason}. Move what is in the way, or "
                    "choose another folder."
                ) from error
        return self

    def load(self, cls: type[S]) -> S:
        """The settings of `cls` from project.toml, defaults where it says nothing. Raises
        SettingsError.
        """
        section = cls.SECTION  # type: ignore[attr-defined]
        return settings_module.from_mapping(
            cls, self._document().get(section, {}), f"{self.settings_file} [{section}]"
        )

    def load_all(self, cls: type[S]) -> tuple[S, ...]:
        """The settings of every table [[SECTION]] of `cls`, in order; none where there is none.
        Raises SettingsError.
        """
        section = cls.SECTION  # type: ignore[attr-defined]
        return tuple(
            settings_module.from_mapping(
                cls, table, f"{self.settings_file} [[{section}]] number {number}"
            )
            for number, table in enumerate(self._document().get(section, ()), 1)
        )

    def save(self, values: Any) -> None:
        """Writes one settings object into project.toml; the user's comments and the other tables
        stay.
        """
        document = self._document()
        section = type(values).SECTION
        table = document.setdefault(section, tomlkit.table())
        for key, value in settings_module.to_mapping(values).items():
            if table.get(key) != value:
                table[key] = value
        write_text(self.settings_file, tomlkit.dumps(document))

    def save_all(self, cls: type[S], values: Sequence[S]) -> None:
        """Writes `values` as the tables [[SECTION]] of `cls` in place of those that are there; what
        is None or not given is left out. Comments in a table stay with its place in the list.
        """
        section = cls.SECTION  # type: ignore[attr-defined]
        document = self._document()
        tables = document.get(section)
        if not isinstance(tables, AoT):
            document.pop(section, None)
            tables = tomlkit.aot()
        del tables[len(values) :]
        for number, value in enumerate(values):
            wanted = _given(value)
            if number == len(tables):
                tables.append(tomlkit.table())
            _make(tables[number], wanted)
        if values and section not in document:
            document[section] = tables
        elif not values:
            document.pop(section, None)
        write_text(self.settings_file, tomlkit.dumps(document))

    def _document(self) -> tomlkit.TOMLDocument:
        if not self.settings_file.exists():
            return tomlkit.document()
        try:
            document = tomlkit.parse(self.settings_file.read_text(encoding="utf-8-sig"))
        except (TOMLKitError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{self.settings_file} is not valid TOML ({error}). Correct that line or delete "
                "the file."
            ) from error
        for name, table in document.items():
            self._check_table(name, table)
        return document

    def _check_table(self, name: str, table: Any) -> None:
        """Raises SettingsError for what is no table, no known one, or has the wrong brackets."""
        several = isinstance(table, list) and all(isinstance(each, Mapping) for each in table)
        if not isinstance(table, Mapping) and not (several and table):
            raise SettingsError(
                f"{self.settings_file}: '{name} = ...' stands outside a table. Move it below a "
                f"line like [{SECTIONS[0]}]."
            )
        if name not in SECTIONS + LISTS:
            raise SettingsError(
                f"{self.settings_file}: there is no table "
                f"[{name}]{settings_module.nearest(name, SECTIONS + LISTS)}"
            )
        if several != (name in LISTS):
            wrong, right = (f"[{name}]", f"[[{name}]]")[:: -1 if several else 1]
            raise SettingsError(f"{self.settings_file}: write {right} in place of {wrong}.")


def _given(values: Any) -> dict[str, Any]:
    """The settings of `values` that are not their defaults, as plain values."""
    plain = settings_module.to_mapping(values)
    defaults = {spec.name: spec.default for spec in settings_module.specs(type(values))}
    return {key: value for key, value in plain.items() if value != defaults[key]}


def _make(table: Any, wanted: Mapping[str, Any]) -> None:
    """Gives a TOML table exactly the keys and values that are wanted, touching no other line."""
    for key in [key for key in table if key not in wanted]:
        del table[key]
    for key, value in wanted.items():
        if table.get(key) != value:
            table[key] = value


def root() -> Path:
    """Where projects live: LORAKIT_HOME, else Drive's Loras folder when Drive is mounted, else
    ~/Loras.
    """
    if os.environ.get("LORAKIT_HOME"):
        return Path(os.environ["LORAKIT_HOME"]).expanduser()
    return (drive_folder() or Path.home()) / "Loras"


def check_name(name: str) -> str:
    """`name` if it can be a folder and file name everywhere. Raises SettingsError."""
    bad = sorted(c for c in set(name) if c in FORBIDDEN or not c.isprintable())
    if not name or bad or name.startswith("-"):
        what = (
            f"has {' '.join(repr(c) for c in bad)} in it" if bad else "is empty or starts with '-'"
        )
        raise SettingsError(
            f"The project name '{name}' {what}; use letters, digits, '_' and '-' only."
        )
    return name


def find(name: str, base: Path | None = None) -> Project:
    """The project called `name` (or the folder path given), in whichever layout it has; need not
    exist yet.

    Raises SettingsError for a name that cannot be a folder.
    """
    path = Path(name).expanduser()
    if name and (len(path.parts) > 1 or path.is_dir()):
        return _plain_layout(path.resolve())
    return named(name, base)


def named(name: str, base: Path | None = None) -> Project:
    """The project called `name` under the root, whatever folders the working directory has. Raises
    SettingsError.
    """
    base = base or root()
    check_name(name)
    for other in (base / "lora_training", base.parent / "lora_training"):
        if (other / "datasets" / name).is_dir() and not (base / name).exists():
            return Project(
                name,
                other / "datasets" / name,
                other / "output" / name,
                other / "removed" / name,
                other / "config" / name / "project.toml",
            )
    return _plain_layout(base / name)


def _plain_layout(folder: Path) -> Project:
    return Project(
        folder.name,
        folder / "dataset",
        folder / "output",
        folder / "removed",
        folder / "project.toml",
    )


def existing(name: str, base: Path | None = None) -> Project:
    """`find`, but the project must be there. Raises DatasetError."""
    project = find(name, base)
    if not project.dataset.is_dir():
        others = ", ".join(names(base)) or "none yet"
        raise DatasetError(
            f"There is no project '{name}' ({project.dataset} is missing). Projects here: "
            f"{others}. Make one with: python -m lorakit init {name}"
        )
    return project


def names(base: Path | None = None) -> Sequence[str]:
    """The names of the projects under the root, in both layouts."""
    base = base or root()
    found = {folder.parent.name for folder in base.glob("*/dataset") if folder.is_dir()}
    for other in (base / "lora_training", base.parent / "lora_training"):
        found |= {folder.name for folder in other.glob("datasets/*") if folder.is_dir()}
    return sorted(found)
