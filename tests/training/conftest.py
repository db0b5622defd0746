"""The embedded base, loaded once for all tests of training."""

from __future__ import annotations

import pytest

from lorakit.training.base import Base, load_base


@pytest.fixture
def base() -> Base:
    """A fresh copy: tests put adapters on it."""
    return load_base("demo")
