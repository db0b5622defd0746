"""The plot of the loss."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lorakit.widgets.plot import loss_plot, smoothed


def test_smoothing_a_constant_gives_it_back_from_the_start():
    assert smoothed([0.3] * 50) == pytest.approx([0.3] * 50)


def test_a_loss_counts_half_after_one_half_life():
    line = smoothed([1.0] + [0.0] * 1000, half_life=10)
    # the weights of the bias correction sum to 1 - d^n, so far out the ratio of values is that of
    # the weights
    assert line[1000] / line[990] == pytest.approx(0.5, rel=1e-6)
    assert line[0] == 1.0


def test_the_plot_is_a_png_that_shows_the_line():
    picture = Image.open(io.BytesIO(loss_plot([1 / n for n in range(1, 200)])))
    assert picture.format == "PNG" and picture.size == (600, 220)
    red, _, blue = np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0)
    assert ((blue > 150) & (red < 80)).sum() > 200


def test_one_loss_is_enough():
    assert loss_plot([0.5]).startswith(b"\x89PNG")
