"""The doll below its chin: neck, clothes, limbs and tail."""

from __future__ import annotations

from collections.abc import Sequence

from .pen import LINE, Color, Palette, Pen, Point, shade
from .world import Character, Shot


def neck(pen: Pen, look: Character, palette: Palette) -> None:
    """The neck and what is worn around it."""
    pen.shape(
        [(-0.18, 0.8), (0.18, 0.8), (0.2, 1.26), (-0.2, 1.26)],
        shade(palette.skin, 0.95),
        curved=False,
    )
    accent = palette.accent
    if look.neck == "scarf":
        pen.shape(
            [(-0.62, 1.0), (0, 1.12), (0.62, 1.0), (0.66, 1.32), (0, 1.46), (-0.66, 1.32)], accent
        )
        pen.shape([(0.16, 1.36), (0.46, 1.32), (0.5, 2.0), (0.2, 2.0)], accent, curved=False)
    elif look.neck == "choker":
        pen.shape(
            [(-0.2, 1.0), (0.2, 1.0), (0.21, 1.18), (-0.21, 1.18)], (36, 30, 40), curved=False
        )
    elif look.neck == "necktie":
        pen.shape(
            [(-0.1, 1.24), (0.1, 1.24), (0.17, 1.85), (0, 2.05), (-0.17, 1.85)],
            accent,
            curved=False,
        )
    elif look.neck == "bowtie":
        for sign in (-1, 1):
            pen.shape([(0, 1.32), (sign * 0.36, 1.14), (sign * 0.36, 1.52)], accent, curved=False)
        pen.oval(0, 1.33, 0.09, 0.1, accent)


def torso(pen: Pen, look: Character, palette: Palette) -> None:
    """Chest and hips with top and bottom, from the front."""
    w = look.width
    body = [
        (-0.5 * w, 1.2),
        (0.5 * w, 1.2),
        (0.42 * w, 1.8),
        (0.5 * w, 2.32),
        (-0.5 * w, 2.32),
        (-0.42 * w, 1.8),
    ]
    top = palette.top
    if look.bottom in ("pants", "shorts", "skirt"):
        _bottom(pen, look, palette)
    pen.shape(body, top, curved=False)
    if look.top == "shirt":
        pen.pair([(0.02, 1.2), (0.3, 1.14), (0.24, 1.42)], shade(top, 1.6), curved=False)
        for y in (1.55, 1.8, 2.05):
            pen.oval(0, y, 0.045, 0.045, shade(top, 0.4), line=False)
    elif look.top == "sweater":
        pen.shape([(-0.26, 1.02), (0.26, 1.02), (0.28, 1.3), (-0.28, 1.3)], top, curved=False)
        pen.shape(
            [(-0.52 * w, 2.16), (0.52 * w, 2.16), (0.52 * w, 2.36), (-0.52 * w, 2.36)],
            shade(top, 0.8),
            curved=False,
        )
        for x in (-0.2, 0, 0.2):
            pen.stroke([(x, 1.4), (x, 2.1)], shade(top, 0.7), 0.04)
    elif look.top == "dress":
        _dress(pen, look, palette)
    elif look.top == "kimono":
        _kimono(pen, look, palette)


def _dress(pen: Pen, look: Character, palette: Palette) -> None:
    w = look.width
    hem = 2.3 + 0.62
    pen.shape(
        [(-0.44 * w, 1.86), (0.44 * w, 1.86), (0.98 * w, hem), (0, hem + 0.1), (-0.98 * w, hem)],
        palette.top,
        curved=False,
    )
    pen.shape(
        [(-0.43 * w, 1.78), (0.43 * w, 1.78), (0.44 * w, 1.96), (-0.44 * w, 1.96)],
        shade(palette.top, 0.55),
        curved=False,
    )
    pen.pair([(0.0, 1.2), (0.4, 1.16), (0.3, 1.4)], (250, 250, 252), curved=False)
    if look.trim == "frills":
        _frills(pen, 0.98 * w, hem)


def _kimono(pen: Pen, look: Character, palette: Palette) -> None:
    w, hem = look.width, 2.3 + 1.15 * look.leg_length
    pen.shape(
        [(-0.46 * w, 1.9), (0.46 * w, 1.9), (0.62 * w, hem), (-0.62 * w, hem)],
        palette.top,
        curved=False,
    )
    pen.stroke([(0.12, 2.1), (0.2, hem)], shade(palette.top, 0.5), 0.05)
    pen.stroke([(0.28, 1.18), (-0.16, 1.75)], (250, 250, 252), 0.13)
    pen.stroke([(-0.28, 1.18), (0.16, 1.75)], (250, 250, 252), 0.13)
    pen.shape(
        [(-0.47 * w, 1.74), (0.47 * w, 1.74), (0.47 * w, 2.12), (-0.47 * w, 2.12)],
        palette.accent,
        curved=False,
    )
    if look.trim == "frills":
        _frills(pen, 0.62 * w, hem)


def _bottom(pen: Pen, look: Character, palette: Palette) -> None:
    w, color = look.width, palette.bottom
    if look.bottom == "skirt":
        pen.shape(
            [(-0.48 * w, 2.15), (0.48 * w, 2.15), (0.86 * w, 2.86), (0, 2.94), (-0.86 * w, 2.86)],
            color,
            curved=False,
        )
        for x in (-0.4, 0, 0.4):
            pen.stroke([(x * 0.6, 2.36), (x * w, 2.86)], shade(color, 0.65), 0.04)
        if look.trim == "frills":
            _frills(pen, 0.86 * w, 2.86)
    else:
        low = 2.3 + (1.5 * look.leg_length if look.bottom == "pants" else 0.4)
        pen.shape(
            [(-0.5 * w, 2.15), (0.5 * w, 2.15), (0.52 * w, 2.5), (-0.52 * w, 2.5)],
            color,
            curved=False,
        )
        pen.pair([(0.02, 2.35), (0.52 * w, 2.35), (0.5 * w, low), (0.06, low)], color, curved=False)


def _frills(pen: Pen, half: float, y: float) -> None:
    count = 7
    for k in range(count):
        pen.oval(
            -half + half * (2 * k + 1) / count, y + 0.02, half / count * 1.15, 0.11, (252, 252, 255)
        )


def cape(pen: Pen, palette: Palette) -> None:
    """A cape, which hangs behind the doll."""
    left = [(-0.85, 1.8), (-0.5, 1.1)]
    outline = [(-x, y) for x, y in reversed(left)]
    pen.shape([*left[1:], *outline, (1.0, 2.7), (0, 2.85), (-1.0, 2.7), left[0]], palette.accent)


def apron(pen: Pen, look: Character) -> None:
    """An apron over the clothes."""
    low = 2.75 if look.top == "dress" or look.bottom == "skirt" else 2.6
    white = (250, 250, 252)
    pen.shape(
        [
            (-0.28, 1.5),
            (0.28, 1.5),
            (0.3, 1.85),
            (0.46, 1.9),
            (0.6, low),
            (-0.6, low),
            (-0.46, 1.9),
            (-0.3, 1.85),
        ],
        white,
        curved=False,
    )


def tail(pen: Pen, palette: Palette) -> None:
    """A tail, behind the legs or over the back."""
    pen.shape(
        [
            (0.1, 2.4),
            (0.9, 2.8),
            (1.25, 2.3),
            (1.5, 1.7),
            (1.72, 1.85),
            (1.5, 2.6),
            (1.05, 3.1),
            (0.2, 2.7),
        ],
        palette.hair,
    )


def legs(pen: Pen, look: Character, palette: Palette) -> None:
    """Legs, legwear and footwear."""
    long = look.leg_length
    sole = 2.3 + 1.6 * long
    pen.pair(
        [
            (0.06, 2.2),
            (0.46, 2.2),
            (0.38, 2.3 + 0.8 * long),
            (0.34, sole),
            (0.1, sole),
            (0.08, 2.3 + 0.8 * long),
        ],
        palette.skin,
        curved=False,
    )
    if look.legwear:
        high = {"black pantyhose": 2.2, "kneehighs": 2.3 + 0.85 * long}.get(
            look.legwear, 2.3 + 0.5 * long
        )
        sock = [
            (0.06, high),
            (0.44 if high < 2.5 else 0.4, high),
            (0.38, 2.3 + 0.95 * long),
            (0.34, sole),
            (0.1, sole),
        ]
        pen.pair(sock, palette.legs, curved=False)
        if look.legwear == "striped thighhighs":
            y = high + 0.1
            while y < sole - 0.1:
                pen.pair(
                    [(0.09, y), (0.38, y), (0.38, y + 0.12), (0.09, y + 0.12)],
                    (246, 246, 250),
                    curved=False,
                )
                y += 0.3
    _feet(pen, look, palette, sole)


def _feet(pen: Pen, look: Character, palette: Palette, sole: float) -> None:
    foot = [
        (0.06, sole - 0.12),
        (0.36, sole - 0.12),
        (0.5, sole + 0.1),
        (0.42, sole + 0.16),
        (0.04, sole + 0.14),
    ]
    if look.footwear == "boots":
        pen.pair(
            [
                (0.04, sole - 0.62),
                (0.42, sole - 0.62),
                (0.4, sole - 0.1),
                (0.54, sole + 0.16),
                (0.02, sole + 0.16),
            ],
            palette.shoes,
            curved=False,
        )
    elif look.footwear == "sandals":
        bare = palette.legs if look.legwear else palette.skin
        pen.pair(foot, bare, curved=False)
        pen.pair(
            [(0.0, sole + 0.1), (0.54, sole + 0.1), (0.54, sole + 0.2), (0.0, sole + 0.2)],
            palette.shoes,
            curved=False,
        )
        pen.stroke([(0.08, sole - 0.02), (0.44, sole + 0.08)], palette.shoes, 0.08)
        pen.stroke([(-0.08, sole - 0.02), (-0.44, sole + 0.08)], palette.shoes, 0.08)
    else:
        pen.pair(foot, palette.shoes, curved=False)


ARMS: dict[str, tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]] = {
    # shoulder, elbow, hand: of the arm on the left of the picture, then of the other (both given on
    # the right)
    "": (((0.5, 1.32), (0.72, 1.8), (0.76, 2.3)), ((0.5, 1.32), (0.72, 1.8), (0.76, 2.3))),
    "arms up": (((0.5, 1.32), (1.12, 0.95), (1.4, 0.25)), ((0.5, 1.32), (1.12, 0.95), (1.4, 0.25))),
    "hand on own hip": (
        ((0.5, 1.32), (1.12, 1.72), (0.6, 2.12)),
        ((0.5, 1.32), (0.72, 1.8), (0.76, 2.3)),
    ),
    "waving": (((0.5, 1.32), (0.72, 1.8), (0.76, 2.3)), ((0.5, 1.32), (1.15, 1.25), (1.42, 0.5))),
    "arms behind back": (
        ((0.5, 1.32), (0.78, 1.8), (0.48, 2.1)),
        ((0.5, 1.32), (0.78, 1.8), (0.48, 2.1)),
    ),
}


def arms(pen: Pen, look: Character, shot: Shot, palette: Palette) -> None:
    """Both arms in the pose, with hands and sleeves."""
    for sign, joints in zip((-1, 1), ARMS[shot.pose], strict=True):
        if shot.flip:
            joints = ARMS[shot.pose][0 if sign == 1 else 1]
        shoulder, elbow, hand = ((sign * x, y) for x, y in joints)
        if shot.pose == "arms behind back":
            hand = elbow
        _limb(pen, [shoulder, elbow, hand], palette.skin, 0.26)
        if shot.pose != "arms behind back":
            pen.oval(*hand, 0.16, 0.16, palette.skin)
        _sleeve(pen, look, palette, shoulder, elbow, hand)


def _sleeve(
    pen: Pen, look: Character, palette: Palette, shoulder: Point, elbow: Point, hand: Point
) -> None:
    cuff = _between(elbow, hand, 0.82)
    if look.sleeves == "long sleeves":
        _limb(pen, [shoulder, elbow, cuff], palette.top, 0.34)
    elif look.sleeves == "short sleeves":
        _limb(pen, [shoulder, _between(shoulder, elbow, 0.7)], palette.top, 0.42)
    elif look.sleeves == "detached sleeves":
        _limb(pen, [_between(shoulder, elbow, 0.75), elbow, cuff], palette.top, 0.4)
    elif look.sleeves == "wide sleeves":
        _limb(pen, [shoulder, elbow], palette.top, 0.38)
        (ex, ey), (cx, cy) = elbow, cuff
        dx, dy = 0.34, 0.3
        pen.shape(
            [(ex - 0.17, ey - 0.1), (ex + 0.17, ey - 0.1), (cx + dx, cy + dy), (cx - dx, cy + dy)],
            palette.top,
            curved=False,
        )


def _limb(pen: Pen, joints: Sequence[Point], color: Color, width: float) -> None:
    """A rounded limb through `joints`: the outline first, the colour over it."""
    for extra, tint in ((2 * LINE, shade(color, 0.45)), (0.0, color)):
        pen.stroke(joints, tint, width + extra)
        for x, y in joints:
            pen.oval(x, y, (width + extra) / 2, (width + extra) / 2, tint, line=False)


def _between(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def torso_back(pen: Pen, look: Character, palette: Palette) -> None:
    """Chest and hips with top and bottom, from behind."""
    w = look.width
    if look.bottom:
        _bottom(pen, look, palette)
    body = [
        (-0.5 * w, 1.2),
        (0.5 * w, 1.2),
        (0.42 * w, 1.8),
        (0.5 * w, 2.32),
        (-0.5 * w, 2.32),
        (-0.42 * w, 1.8),
    ]
    pen.shape(body, palette.top, curved=False)
    if look.top == "dress":
        _dress(pen, look, palette)
    elif look.top == "kimono":
        _kimono(pen, look, palette)
