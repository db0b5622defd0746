"""A second process that renders, so that a crash in a native library does not take the notebook
along. Both sides speak JSON, a line a request and a line a reply.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import CollectError

PATIENCE = 900.0  # seconds that one request may take


class Worker:
    """Runs `command`, which answers each line of its standard input by one line; starts it when it
    is first asked, and again after it has died.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.command = name, list(command)
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[str] | None = None
        self.lives = 0  # how often it was started: what it had open is gone with each
        self.lock = threading.Lock()
        self.said = Path(tempfile.mkstemp(prefix="lorakit-", suffix=".log")[1])
        self.ended: Any = weakref.finalize(self, _tidy, self.said)

    def ask(self, about: str, request: Mapping[str, Any], patience: float = PATIENCE) -> Any:
        """The reply to `request`; `about` names the file in errors. Raises CollectError."""
        with self.lock:
            process = self._alive()
            slow = threading.Timer(patience, process.kill)
            slow.start()
            try:
                line = self._exchange(process, request)
            except BaseException:  # a reply that nobody waits for must not answer the next request
                self.close()
                raise
            finally:
                slow.cancel()
            if not line:
                raise CollectError(f"{about}: {self._death(process)}")
        try:
            reply = json.loads(line)
        except ValueError:
            self.close()
            raise CollectError(f"{about}: {self.name} answered with what is no answer.") from None
        if error := reply.get("error"):
            raise CollectError(f"{about}: {error}")
        return reply

    def _exchange(self, process: subprocess.Popen[str], request: Mapping[str, Any]) -> str:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            while (line := process.stdout.readline()) and not line.startswith("{"):
                pass  # a greeting, said before the script ran
            return line
        except (BrokenPipeError, ConnectionResetError):
            return ""

    def _alive(self) -> subprocess.Popen[str]:
        if self.process is None or self.process.poll() is not None:
            self.close()
            try:
                with self.said.open("wb") as log:
                    self.process = subprocess.Popen(
                        self.command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env=self.environment,
                        text=True,
                        encoding="utf-8",
                    )
            except OSError as error:
                raise CollectError(
                    f"{self.name} could not be started ({error.strerror}): {self.command[0]}"
                ) from error
            self.lives += 1
            self.ended = weakref.finalize(self, _end, self.process, self.said)
        return self.process

    def _death(self, process: subprocess.Popen[str]) -> str:
        """Why the process ended, and its last words."""
        _end(process)
        code = process.returncode
        words = self.said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = f": {words[-1][:200]}" if words else ""
        if code == -signal.SIGKILL:
            return (
                f"{self.name} was stopped: the model took too long or more memory than there is. "
                "Give a smaller model or a smaller size."
            )
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{self.name} crashed on it ({how}){last}. It is started again for the next one."

    def close(self) -> None:
        """Ends the process."""
        self.ended.detach()
        if self.process is not None:
            _end(self.process)
        self.process = None
        self.ended = weakref.finalize(self, _tidy, self.said)


def _end(process: subprocess.Popen[str], log: Path | None = None) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError, ValueError):
            if pipe:
                pipe.close()
    try:
        process.wait(5)  # it ends by itself when its input does
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if log:
        _tidy(log)


def _tidy(log: Path) -> None:
    log.unlink(missing_ok=True)
