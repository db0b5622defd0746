"""Public test material, fetched once by the ordinary clients of Debian and PyPI and kept."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lorakit-tests"


def debian(package: str) -> Path:
    """The unpacked files of a Debian package; skips the test where it cannot be had."""
    folder = KEPT / package
    if not folder.exists():
        fetched = _fetched(["apt-get", "download", package], f"{package}_*.deb")
        part = KEPT / f"{package}.part"
        _run(["dpkg", "-x", str(fetched), str(part)])
        part.rename(folder)
    return folder


def pypi(name: str, version: str) -> Path:
    """The unpacked files of a wheel; skips the test where it cannot be had."""
    folder = KEPT / f"{name}-{version}"
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q"]
        fetched = _fetched([*command, f"{name}=={version}"], f"{name}-{version}-*.whl")
        part = KEPT / f"{name}-{version}.part"
        with zipfile.ZipFile(fetched) as wheel:
            wheel.extractall(part)
        part.rename(folder)
    return folder


def _fetched(command: list[str], pattern: str) -> Path:
    KEPT.mkdir(parents=True, exist_ok=True)
    if not list(KEPT.glob(pattern)):
        _run(command)
    return next(KEPT.glob(pattern))


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, cwd=KEPT, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"test material cannot be fetched here: {error}")
    if done.returncode:
        pytest.skip(f"test material cannot be fetched here: {done.stderr.strip()[-200:]}")
