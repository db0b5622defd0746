"""The panel in a real kernel: the notebook's interrupt, which is also Colab's stop button, ends the
run and saves.
"""

from __future__ import annotations

import queue
import time
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).parents[2]
RUN = """
import time
from pathlib import Path
from lorakit.project import find
from lorakit.training.loop import StepDone
from lorakit.training.run import Finished
from lorakit.widgets.panel import Panel

def events():
    done = 0
    try:
        for done in range(1, 601):
            yield StepDone(done, 600, 1, 0.5, 1e-4, 0.1, done * 0.1)
            if done == 3:
                print("under way", flush=True)
            time.sleep(0.1)
    except KeyboardInterrupt:
        stopped = True
    yield Finished(Path("mila.safetensors"), done, done * 0.1, stopped)

panel = Panel(find({folder!r}).create())
finished = panel.follow(events())
print("ended:", finished.stopped, 3 <= finished.steps < 600, panel.status.value, flush=True)
"""


@pytest.mark.slow
def test_an_interrupt_ends_the_run_saves_and_leaves_the_kernel_usable(tmp_path: Path) -> None:
    manager, client = start_new_kernel(cwd=str(ROOT))
    try:
        client.execute(RUN.format(folder=str(tmp_path / "mila")))
        wait_for(client, "under way")
        manager.interrupt_kernel()
        said = wait_for(client, "ended:")
        assert "ended: True True <b>Stopped: " in said and "LoRA file: mila.safetensors" in said
        client.execute("print('still', 'here')")
        wait_for(client, "still here")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def wait_for(client, word: str, seconds: float = 300) -> str:
    """What the kernel prints up to `word`; an error in the kernel fails the test."""
    said, end = "", time.monotonic() + seconds
    while word not in said:
        assert time.monotonic() < end, f"the kernel never said {word!r}, only {said!r}"
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        assert message["msg_type"] != "error", message["content"]
        said += message["content"]["text"] if message["msg_type"] == "stream" else ""
    return said
