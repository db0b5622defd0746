"""One small callback for progress, so that the same code shows a bar, a line, or nothing.

A progress callback is called as `progress(what, done, total)`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

Progress = Callable[[str, int, int], None]
T = TypeVar("T")


def silent(what: str, done: int, total: int) -> None:
    """Shows nothing."""


def track(
    items: Iterable[T], what: str, progress: Progress, total: int | None = None
) -> Iterator[T]:
    """Yields `items`, reporting each one when it is done."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    progress(what, 0, count)
    for done, item in enumerate(items, 1):
        yield item
        progress(what, done, count)


def duration(seconds: float) -> str:
    """'45 s', '3 min', '2 h 5 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class TerminalProgress:
    """A line that rewrites itself, with a time left; on a pipe, a line at the start and end of each
    job and one a minute between. What stands behind a comma is how the job is doing: it may change
    all the time.
    """

    def __init__(self) -> None:
        self.what, self.job, self.started, self.shown = "", "", 0.0, 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        self.what, job = what, what.partition(",")[0]
        if job != self.job:
            self.job, self.started, self.shown = job, now, 0.0
        finished = total > 0 and done >= total
        if sys.stderr.isatty():
            if finished or now - self.shown > 0.1:
                self.shown = now
                print(
                    f"\r\033[K{self._line(done, total, now)}",
                    end="\n" if finished else "",
                    file=sys.stderr,
                    flush=True,
                )
        elif finished or done == 0 or now - self.shown > 60:
            self.shown = now
            print(self._line(done, total, now), file=sys.stderr, flush=True)

    def _line(self, done: int, total: int, now: float) -> str:
        spent = now - self.started
        if total and done >= total:
            return f"{self.what}: {total} done in {duration(spent)}"
        left = f", {duration(spent / done * (total - done))} left" if done and spent > 2 else ""
        return f"{self.what}: {done}/{total}{left}" if total else f"{self.what} ..."
