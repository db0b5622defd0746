"""How the person is lit: lamps that go round with the camera, so that every view is lit alike."""

from __future__ import annotations

# direction of each lamp from the camera's right, up and behind it; strength
LIGHTS: dict[str, list[tuple[tuple[float, float, float], float]]] = {
    "studio": [((-0.5, 0.6, 0.8), 1.9), ((0.8, 0.1, 0.7), 0.8), ((0.2, 0.8, -0.9), 0.9)],
    "even": [
        ((0, 0, 1), 1.7), ((-0.7, 0.2, 0.6), 0.8), ((0.7, 0.2, 0.6), 0.8), ((0, -1, 0.3), 0.4),
    ],
    "side": [((-1, 0.25, 0.35), 2.6), ((0.6, 0, 0.8), 0.35)],
}  # fmt: skip
