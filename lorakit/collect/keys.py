"""Keys of sites: from environment variables, Colab's secrets, or a file that only its owner reads.
They never stand on a command line or in a project.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from .. import colab
from ..errors import SettingsError


def keys_file() -> Path:
    """`~/.config/lorakit/keys.toml`: a table for each site."""
    root = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(root) / "lorakit" / "keys.toml"


def table(name: str) -> dict[str, Any]:
    """What the file says of `name`; nothing where it is not there. Raises SettingsError for a file
    that others can read, or that is not TOML.
    """
    path = keys_file()
    if not path.exists():
        return {}
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise SettingsError(f"{path} can be read by others. Run: chmod 600 {path}")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig")).get(name, {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML ({error}). Correct that line.") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: write [{name}] and its keys in lines below it.")
    return found


def key(site: str, name: str) -> str:
    """A key such as ('gelbooru', 'api_key'): the variable or secret GELBOORU_API_KEY, else the
    file's; '' where there is none.
    """
    return colab.secret(variable(site, name)) or str(table(site).get(name, ""))


def variable(site: str, name: str) -> str:
    """The name of the environment variable or Colab secret."""
    return f"{site}_{name}".upper().replace("-", "_")


def how_to_give(site: str, *names: str) -> str:
    """The end of a sentence that asks for keys: where they may stand."""
    variables = " and ".join(variable(site, name) for name in names)
    lines = ", ".join(f'{name} = "..."' for name in names)
    return (
        f"into the environment variables or Colab secrets {variables}, or into {keys_file()} (mode "
        f"600) below [{site}]: {lines}"
    )
