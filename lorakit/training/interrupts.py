"""A wish to stop (Ctrl-C, a notebook's stop button) that waits until the present step is done."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupts:
    """While the context lasts, an interrupt is only noted; `check` raises it. A second one is
    raised at once, unless `patient`: a launcher of several processes sends on to them what they
    have heard from the terminal themselves.

    Outside the main thread, where Python lets nobody listen, interrupts are raised as ever.
    """

    def __init__(self, patient: bool = False) -> None:
        self.asked, self.patient = False, patient

    def __enter__(self) -> Interrupts:
        self.listens = threading.current_thread() is threading.main_thread()
        if self.listens:
            self.before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.listens:
            signal.signal(signal.SIGINT, self.before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked and not self.patient:
            raise KeyboardInterrupt
        self.asked = True

    def check(self) -> None:
        """Raises KeyboardInterrupt if one was noted."""
        if self.asked:
            self.asked = False
            raise KeyboardInterrupt
