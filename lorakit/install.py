"""Completes an environment: installs what lorakit lacks there and changes nothing that is there.

For the notebooks' first cell, which must leave Colab's own packages alone (upgrading what the
kernel has already imported asks for a restart, and may break the rest), and for scripts/setup.py.
When this runs, nothing that lorakit needs may be installed yet, so only the standard library is
imported at the top.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from lorakit.errors import LorakitError
from lorakit.progress import Progress, silent

# From 1.27 on, onnxruntime-gpu is built for CUDA 13. Colab has CUDA 12, where such a build runs on
# the CPU in silence.
ONNXRUNTIME_GPU = "onnxruntime-gpu>=1.23,<1.27"
SILENCE = 5.0  # seconds without a word from pip after which progress says that it is still at work


def complete(progress: Progress = silent) -> list[str]:
    """Installs what lorakit lacks here and returns it, such as `['bitsandbytes>=0.46']`; changes
    nothing else.

    Raises LorakitError if an installed package is outside lorakit's range: only the user can decide
    to change it.
    """
    here = installed()
    missing = unmet(requirements(nvidia_gpu()))
    for requirement in missing:
        if (version := here.get(name_of(requirement))) is not None:
            raise LorakitError(
                f"lorakit needs {requirement}, but version {version} is installed: update it with "
                f"`pip install '{requirement}'`, restart the kernel and run this again."
            )
    if missing:
        # The newest releases mostly get along with what is here. Asked to look further, pip also
        # checks what the installed packages want of each other, and does not install anything if
        # they disagree.
        pip_install(["--no-deps", *missing], progress)
        if any(unmet(needs_of(requirement)) for requirement in missing):
            _install_beside(here, missing, progress)
        importlib.invalidate_caches()
    return missing


def ensure(requirement: str, size: str, progress: Progress = silent) -> None:
    """Installs a package that only one job needs, without what it requires itself, if it is not
    here; `size` ('80 MB') is said first. Raises LorakitError with pip's reason.
    """
    if not unmet([requirement]):
        return
    progress(f"Installing {name_of(requirement)} ({size})", 0, 0)
    pip_install(["--no-deps", requirement], progress)
    importlib.invalidate_caches()


def _install_beside(here: dict[str, str], missing: list[str], progress: Progress) -> None:
    """Installs the newest releases of `missing` that get along with the packages that are here."""
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder, "held.txt")
        held.write_text("\n".join(f"{name}=={version}" for name, version in here.items()))
        pip_install(["--constraint", str(held), *missing], progress)


def requirements(gpu: bool, extra: str = "") -> list[str]:
    """What lorakit needs on a machine with or without an NVIDIA GPU, and for `extra` ('test',
    'demo').
    """
    try:
        lines = importlib.metadata.requires("lorakit") or []
    except (
        importlib.metadata.PackageNotFoundError
    ):  # a checkout whose notebook was opened without set-up
        listed = Path(__file__).parent.parent / "requirements.txt"
        lines = [
            line
            for line in listed.read_text(encoding="utf-8").splitlines()
            if line and line[0] != "#"
        ]
    needed = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        if not marker or (extra and f'extra == "{extra}"' in marker):
            needed.append(requirement.strip())
    return [onnxruntime(each, gpu) if each.startswith("onnxruntime") else each for each in needed]


def onnxruntime(requirement: str, gpu: bool) -> str:
    """The build of onnxruntime to ask for. Two builds side by side overwrite each other, so an
    installed one stays.
    """
    for build in ("onnxruntime-gpu", "onnxruntime"):
        if build in installed():
            return build
    return ONNXRUNTIME_GPU if gpu else requirement


def unmet(needed: list[str]) -> list[str]:
    """Those of `needed` that no installed package meets, of those that apply to this machine."""
    from packaging.requirements import Requirement

    here, missing = installed(), []
    for line in needed:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = here.get(canonical(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            missing.append(line)
    return missing


def needs_of(requirement: str) -> list[str]:
    """What the installed package that answers to `requirement` requires itself."""
    return importlib.metadata.requires(name_of(requirement)) or []


def name_of(requirement: str) -> str:
    """'onnxruntime-gpu>=1.23,<1.27' is about 'onnxruntime-gpu'."""
    return canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])


def installed() -> dict[str, str]:
    """Name and version of every installed package."""
    found: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        if package.name and package.version:  # an interrupted pip leaves folders that have neither
            found.setdefault(canonical(package.name), package.version)
    return found


def canonical(name: str) -> str:
    """A package's name as indexes compare it: `Hugging_Face.Hub` is `hugging-face-hub`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def nvidia_gpu() -> bool:
    """Whether the driver answers. nvidia-smi alone proves nothing: Colab's CPU machines have it
    too.
    """
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU" in answer.stdout


def pip_install(arguments: list[str], progress: Progress = silent) -> None:
    """Runs `pip install` for this Python; raises LorakitError with pip's own reason if it fails."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--progress-bar=off",
        *arguments,
    ]
    started, doing, complaint = time.monotonic(), "asking the package index", ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        try:
            for line in _spoken(pip):
                if line is None:
                    progress(f"{doing}, {time.monotonic() - started:.0f} s", 0, 0)
                    continue
                doing = _doing(line) or doing
                if re.match(r"\s*Downloading \S+ \([\d.]+ [MG]B\)", line):
                    progress(doing, 0, 0)
                if line.startswith("ERROR:") and not complaint:  # the first one names the package
                    complaint = line.removeprefix("ERROR:").strip()
        except BaseException:
            pip.terminate()
            raise
    if pip.returncode:
        raise LorakitError(
            f"pip could not install what lorakit needs ({complaint or 'it gave no reason'}); run "
            "this again."
        )


def _doing(line: str) -> str | None:
    """What pip does now, said shortly; None if `line` does not tell."""
    if found := re.match(r"\s*Downloading ([^\s/]+?)-\d\S* (\(.*\))", line):
        return f"downloading {found[1]} {found[2]}"
    if found := re.match(r"Collecting ([\w.-]+)", line):
        return f"collecting {found[1]}"
    if line.startswith("Installing collected packages:"):
        return f"unpacking {line.count(',') + 1} packages"
    return None


def _spoken(process: subprocess.Popen[str], silence: float = SILENCE) -> Iterator[str | None]:
    """Yields the lines of a process as they come, and None whenever it was silent for `silence`
    seconds.

    The lines are read in a thread and yielded in the caller's, since Colab loses what other threads
    show.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in process.stdout or []:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=silence)
        except queue.Empty:
            yield None
            continue
        if not line:
            return
        yield line
