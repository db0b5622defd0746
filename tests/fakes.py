"""A google.colab that behaves: for tests in this process, and injected as a notebook's first
cell.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path


class SecretNotFoundError(Exception):
    """No secret of that name."""


class NotebookAccessError(Exception):
    """The secret is there, but its switch for this notebook is off."""


class TimeoutException(Exception):
    """The page did not answer: it is not Colab's own."""


class MessageError(Exception):
    """What Colab raises when its page reports a failure."""


def google_colab(
    mount: Path, refusal: Exception | None = None, secrets: Mapping[str, object] | None = None
) -> dict:
    """The modules of a google.colab whose Drive appears under `mount`, ready for sys.modules.

    `refusal` is raised by drive.mount instead. `secrets` are texts, or the exception to raise for
    that name. `drive.mounts` counts the calls.
    """
    colab, drive, userdata, runtime = (
        _module(name) for name in ("", ".drive", ".userdata", ".runtime")
    )
    drive.mounts = 0

    def mount_(
        path: str, force_remount: bool = False, timeout_ms: int = 120000, readonly: bool = False
    ) -> None:
        drive.mounts += 1
        if refusal:
            raise refusal
        (mount / "MyDrive").mkdir(parents=True, exist_ok=True)

    def get(key: str) -> str:
        value = (secrets or {}).get(key, SecretNotFoundError(key))
        if isinstance(value, Exception):
            raise value
        return str(value)

    drive.mount = mount_
    userdata.get = get
    userdata.SecretNotFoundError, userdata.NotebookAccessError = (
        SecretNotFoundError,
        NotebookAccessError,
    )
    runtime.unassign = lambda: None
    colab.drive, colab.userdata, colab.runtime = drive, userdata, runtime
    return {module.__name__: module for module in (colab, drive, userdata, runtime)}


def _module(name: str) -> types.ModuleType:
    module = types.ModuleType(f"google.colab{name}")
    module.__spec__ = ModuleSpec(module.__name__, loader=None)
    return module


def pretend(content: Path) -> None:
    """Makes this process believe that it runs on Colab, with `content` in the place of /content."""
    import google  # protobuf and others own this namespace: it is added to, not replaced

    from lorakit import colab

    modules = google_colab(content / "drive")
    sys.modules |= modules
    google.colab = modules["google.colab"]
    colab.MOUNT = content / "drive"
