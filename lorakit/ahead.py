"""Work done ahead by threads while what came before is used."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ahead(
    load: Callable[[S], T], items: Iterable[S], workers: int = 0, waiting: int = 0
) -> Iterator[T]:
    """`load` of each item in order, as many as `waiting` of them made ahead by so many threads:
    without numbers by up to 8, two for each.
    """
    workers = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        begun: deque[Future[T]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(load, item))
                if len(begun) > (waiting or 2 * workers):
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()
