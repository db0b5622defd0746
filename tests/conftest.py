"""What holds for all tests: several processes (pytest -n) share the machine's cores."""

from __future__ import annotations

import os

# Before anything imports torch: processes with a thread for every core each wait for one another.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    SHARE = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, SHARE)))
