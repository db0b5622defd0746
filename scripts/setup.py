"""Fills a virtual environment with lorakit, what it needs and its test tools. Run by the
environment's own Python.

`setup.py torch` installs torch for the CPU and nothing else, and fails where there is none.
Standard library only: at the start the environment holds nothing but pip.
"""

from __future__ import annotations

import csv
import shutil
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lorakit.errors import LorakitError  # noqa: E402
from lorakit.install import installed, nvidia_gpu, pip_install, requirements  # noqa: E402
from lorakit.progress import duration  # noqa: E402

TORCH_FOR_CPU = "https://download.pytorch.org/whl/cpu"


def main() -> None:
    started = time.monotonic()
    for name in forget_halves(Path(sysconfig.get_path("purelib"))):
        say(f"{name} was installed by halves and is installed again")
    pip_install(["--no-deps", "--editable", str(ROOT)], say)
    gpu = nvidia_gpu()
    if not gpu:
        try:
            install_cpu_torch()
        except LorakitError:
            say(
                "pytorch.org has none for this machine: taking the package index's torch, which "
                "may bring CUDA (3 GB)"
            )
    pip_install(requirements(gpu, extra="test"), say)
    say(f"ready after {duration(time.monotonic() - started)}")


def say(what: str, done: int = 0, total: int = 0) -> None:
    print(f"set-up: {what}", flush=True)


def install_cpu_torch() -> None:
    """Installs a torch without CUDA's gigabytes and without its dependencies; LorakitError if none
    can be had.
    """
    if "torch" in installed():
        return
    [torch] = [
        line
        for line in (ROOT / "requirements.txt").read_text().split()
        if line.startswith("torch>=")
    ]
    try:
        pip_install(["--no-index", "--no-deps", torch])
        say("no NVIDIA GPU: took the torch that pip's find-links hold")
    except LorakitError:
        say("no NVIDIA GPU: getting torch for the CPU from pytorch.org")
        pip_install(
            ["--index-url", TORCH_FOR_CPU, "--retries=1", "--timeout=30", "--no-deps", torch], say
        )


def forget_halves(site_packages: Path) -> list[str]:
    """Makes pip forget packages that an interrupted pip left incomplete, so that it installs them
    again.

    pip trusts a package whose .dist-info exists, though that is copied before pip has finished.
    """
    halves = [info for info in site_packages.glob("*.dist-info") if not is_whole(info)]
    for folder in [*halves, *site_packages.glob("~*")]:
        shutil.rmtree(folder)
    return [info.name.partition("-")[0] for info in halves]


def is_whole(info: Path) -> bool:
    """Whether every file that the package came with is there, and pip's last mark too."""
    if not (info / "INSTALLER").exists() or not (info / "RECORD").exists():
        return False
    with open(info / "RECORD", newline="", encoding="utf-8") as record:
        files = [row[0] for row in csv.reader(record) if not row[0].endswith(".pyc")]
    return all((info.parent / file).exists() for file in files)


if __name__ == "__main__":
    try:
        install_cpu_torch() if sys.argv[1:] == ["torch"] else main()
    except LorakitError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: stopped; the same command goes on from here")
