"""The plot of the loss, as PNG bytes for an Image widget."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

HALF_LIFE = 15  # steps after which a loss counts half in the smoothed line


def smoothed(values: Sequence[float], half_life: float = HALF_LIFE) -> list[float]:
    """An exponential moving average whose start is not biased towards the first value (Adam's
    correction).
    """
    decay = 0.5 ** (1 / half_life)
    average, weight, line = 0.0, 0.0, []
    for value in values:
        average = decay * average + (1 - decay) * value
        weight = decay * weight + (1 - decay)
        line.append(average / weight)
    return line


def loss_plot(losses: Sequence[float]) -> bytes:
    """Each step's loss as a dot and the smoothed loss as a line."""
    figure = Figure(figsize=(6, 2.2), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    steps = range(1, len(losses) + 1)
    axes.plot(steps, losses, ".", color="0.75", markersize=3, label="each step")
    axes.plot(steps, smoothed(losses), color="tab:blue", label="smoothed")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", fontsize="small")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
