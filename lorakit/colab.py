"""All that knows about Colab: Drive, secrets, the machine, and what the notebooks' first cell does.

`google.colab` is imported inside functions only, so everything here also runs where there is none.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from .progress import Progress, TerminalProgress

MOUNT = Path("/content/drive")
GIB = 2**30
GO_ON = (
    "Going on without Drive: projects are on this machine only and are lost when it disconnects."
)
# Top-level modules of packages that a set-up could replace while the kernel already uses the old
# ones.
WATCHED = {
    "lorakit": "lorakit",
    "PIL": "pillow",
    "numpy": "numpy",
    "torch": "torch",
    "ipywidgets": "ipywidgets",
}


def in_colab() -> bool:
    """Whether this runs on Colab."""
    return "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ


def drive_folder() -> Path | None:
    """The user's Drive, when it is mounted."""
    folder = MOUNT / "MyDrive"
    return folder if in_colab() and folder.is_dir() else None


def mount_drive() -> str:
    """Mounts Drive, asking the user; returns '' or the sentence that says why there is none and
    what that means.
    """
    if drive_folder():
        return ""
    try:
        from google.colab import drive

        drive.mount(str(MOUNT))
    except KeyboardInterrupt:
        return f"Connecting to Drive was stopped. {GO_ON} Run this cell again to connect."
    except Exception as error:  # Colab raises several kinds, some of them private
        return f"{_refusal(error)} {GO_ON}"
    return (
        ""
        if drive_folder()
        else f"Drive was connected, but {MOUNT / 'MyDrive'} is not there. {GO_ON}"
    )


def _refusal(error: Exception) -> str:
    """Why Drive could not be mounted, in one sentence that says what to do."""
    words = str(error).lower()
    if isinstance(error, NotImplementedError):
        return "This Colab has no Drive (Colab Enterprise, or a kernel outside the Colab page)."
    if "credential" in words:
        return (
            "Drive was not connected: access was refused, or another account than the notebook's "
            "was chosen. Run this cell again to choose."
        )
    if "must not" in words or "must be" in words:
        return (
            f"Drive was not connected: {MOUNT} already holds files. "
            "Choose Runtime > Disconnect and delete runtime, then run this cell again."
        )
    if "timed out" in words or "timeout" in words or isinstance(error, TimeoutError):
        return "Drive was not connected: nobody answered Colab's question. Run this cell again."
    return f"Drive was not connected ({error or type(error).__name__}). Run this cell again."


def secret(name: str, given: str = "") -> str | None:
    """A token: the one given, else the environment variable `name`, else Colab's secret of that
    name, else None.
    """
    value = given or os.environ.get(name, "")
    if value or not in_colab():
        return value or None
    from google.colab import userdata

    try:
        return userdata.get(name) or None
    except (userdata.SecretNotFoundError, userdata.NotebookAccessError):
        return None
    except (
        Exception
    ) as error:  # TimeoutException, where the page is not Colab's own, has no public home
        if "Timeout" in type(error).__name__:
            return None
        raise


def gpu() -> str:
    """Name and memory of the GPU, or '' when the driver finds none."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    name, _, memory = answer.stdout.partition("\n")[0].partition(",")
    if answer.returncode or not memory.strip().isdigit():
        return ""
    return f"{name.strip()}, {int(memory) / 1024:.0f} GB"


def gpu_line() -> str:
    """GPU or its absence, memory and disk, in one line."""
    found = gpu()
    advice = (
        "Runtime > Change runtime type adds one" if in_colab() else "the sample project needs none"
    )
    first = (
        f"GPU: {found}"
        if found
        else f"No GPU, so a full-size base model is too slow to train ({advice})"
    )
    free = shutil.disk_usage(Path.cwd()).free / GIB
    return f"{first} · {os.cpu_count()} cores · {_memory()} · {free:.0f} GB of disk free"


def _memory() -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return "memory unknown"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GB of memory"


def drive_line() -> str:
    """Where projects are kept on Drive and how much room is left there; '' without Drive."""
    folder = drive_folder()
    if not folder:
        return ""
    free = shutil.disk_usage(folder).free / GIB
    return f"Drive: projects are in {folder / 'Loras'}, {free:.0f} GB free"


def replaced() -> list[str]:
    """Packages that the kernel has in use in another version than the one that is now on disk."""
    changed = []
    for module, package in WATCHED.items():
        used = getattr(sys.modules.get(module), "__version__", None)
        here = _on_disk(package)
        if used and here and used != here:
            changed.append(f"{package} {used} -> {here}")
    return changed


def _on_disk(package: str) -> str | None:
    if package == "lorakit":  # in a checkout its metadata are those of the day it was set up
        found = re.search(
            r'__version__ = "(.+)"',
            Path(__file__).with_name("__init__.py").read_text(encoding="utf-8"),
        )
        return found[1] if found else None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def setup(progress: Progress | None = None) -> str:
    """What the notebooks' first cell does once lorakit is there: completes the environment,
    connects Drive on Colab.

    Returns a few lines about the machine. Where everything is in place it changes nothing.
    """
    from . import __version__, install

    added = install.complete(progress or TerminalProgress())
    problem = mount_drive() if in_colab() else ""
    first = f"lorakit {__version__}" + (f", added: {', '.join(added)}" if added else "")
    lines = [first, gpu_line(), drive_line(), problem]
    if changed := replaced():
        restart = "Runtime > Restart session" if in_colab() else "Kernel > Restart"
        lines.append(
            f"Restart needed ({restart}, then run all again): {', '.join(changed)} while it was "
            "in use."
        )
    return "\n".join(line for line in lines if line)
