"""The drawn world: which traits a doll can have, how they are drawn at random, and the tags they
show.

A `Character` holds what stays the same from picture to picture, a `Shot` what changes. `tags_of`
says in Danbooru's words what a person would see in that picture: a portrait shows no boots, a back
no eyes. Everything here is plain data and pure functions; `draw.py` turns it into pictures.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

# Named colours as (hue in degrees, saturation, value); jittered a little when drawn so that no two
# are alike.
COLORS: dict[str, tuple[float, float, float]] = {
    "black": (230, 0.25, 0.17),
    "white": (220, 0.03, 0.97),
    "grey": (220, 0.06, 0.60),
    "red": (357, 0.82, 0.82),
    "orange": (24, 0.82, 0.95),
    "brown": (22, 0.62, 0.45),
    "blonde": (46, 0.52, 0.96),
    "yellow": (50, 0.80, 0.97),
    "green": (135, 0.62, 0.62),
    "aqua": (180, 0.62, 0.85),
    "blue": (218, 0.72, 0.85),
    "purple": (272, 0.58, 0.68),
    "pink": (335, 0.42, 0.97),
}
HAIR_COLORS = "black brown blonde red pink purple blue green white orange".split()
EYE_COLORS = "red blue green yellow purple brown aqua pink".split()
CLOTHES_COLORS = "black white red blue green yellow purple pink".split()
BACKGROUNDS = "white grey blue pink yellow green".split()
SCENES = ("night sky", "outdoors", "indoors", "sunset")

# Each trait with the values it may take; "" stands for "none of these" and is repeated to make it
# likelier.
CHARACTER_CHOICES: dict[str, tuple[str, ...]] = {
    "hair_color": tuple(HAIR_COLORS),
    "hair_length": ("short hair", "long hair", "very long hair"),
    "hair_style": ("", "", "twintails", "ponytail", "single hair bun", "double bun", "twin braids"),
    "bangs": ("blunt bangs", "parted bangs", "hair over one eye"),
    "eye_color": tuple(EYE_COLORS),
    "ears": ("", "", "", "cat ears", "rabbit ears", "horns", "pointy ears"),
    "headwear": ("", "", "", "", "witch hat", "beret", "crown", "hairband", "straw hat"),
    "ornament": ("", "", "", "hair bow", "hair flower", "star hair ornament", "x hair ornament"),
    "eyewear": ("", "", "", "", "", "glasses", "eyepatch"),
    "skin": ("", "", "", "", "dark skin"),
    "neck": ("", "", "", "scarf", "choker", "necktie", "bowtie"),
    "top": ("shirt", "sweater", "dress", "dress", "kimono"),
    "top_color": tuple(CLOTHES_COLORS),
    "sleeves": ("long sleeves", "short sleeves", "sleeveless", "detached sleeves"),
    "trim": ("", "", "frills", "apron", "cape"),
    "bottom": ("skirt", "pants", "shorts"),
    "bottom_color": tuple(CLOTHES_COLORS),
    "legwear": (
        "",
        "black thighhighs",
        "white thighhighs",
        "striped thighhighs",
        "black pantyhose",
        "kneehighs",
    ),
    "footwear": ("boots", "shoes", "sandals", "barefoot"),
    "tail": ("", "", "", "", "cat tail"),
}
SHOT_CHOICES: dict[str, tuple[str, ...]] = {
    "expression": ("smile", "smile", "open mouth", "frown", "expressionless"),
    "eyes": ("", "", "", "", "", "closed eyes"),
    "cheeks": ("", "", "", "blush"),
    "background": tuple(f"{color} background" for color in BACKGROUNDS) + SCENES,
    "framing": ("full body", "full body", "upper body", "portrait"),
    "pose": ("", "", "arms up", "hand on own hip", "waving", "arms behind back"),
    "view": ("", "", "", "", "from side", "from behind"),
}
# Never drawn while the base model is trained, so that a character can have something truly new to
# it. The tagger knows it: real taggers know more of the world than the base someone trains on.
WITHHELD = {"ornament": ("crescent hair ornament",)}


@dataclass(frozen=True)
class Character:
    """What stays the same from picture to picture. Values as in `CHARACTER_CHOICES`."""

    hair_color: str
    hair_length: str
    hair_style: str
    bangs: str
    eye_color: str
    ears: str
    headwear: str
    ornament: str
    eyewear: str
    skin: str
    neck: str
    top: str
    top_color: str
    sleeves: str
    trim: str
    bottom: str
    bottom_color: str
    legwear: str
    footwear: str
    tail: str
    leg_length: float = 1.0
    width: float = 1.0
    eye_size: float = 1.0


@dataclass(frozen=True)
class Shot:
    """What changes from picture to picture. Values as in `SHOT_CHOICES`."""

    expression: str
    eyes: str
    cheeks: str
    background: str
    framing: str
    pose: str
    view: str
    flip: bool = False


def random_character(rng: random.Random, withheld: bool = False) -> Character:
    """A random doll; `withheld` lets it also have what the base model never sees."""
    traits = {name: rng.choice(values) for name, values in CHARACTER_CHOICES.items()}
    if withheld and rng.random() < 0.12:
        traits |= {name: rng.choice(values) for name, values in WITHHELD.items()}
    look = Character(
        **traits,
        leg_length=rng.uniform(0.85, 1.2),
        width=rng.uniform(0.92, 1.12),
        eye_size=rng.uniform(0.9, 1.15),
    )
    return possible(look)


def possible(look: Character) -> Character:
    """The same doll without the combinations that cannot be drawn or seen together."""
    if look.headwear in (
        "witch hat",
        "beret",
        "straw hat",
    ):  # a hat covers what sits on the crown of the head
        covered_ears = look.ears if look.ears == "pointy ears" else ""
        covered_style = (
            "" if look.hair_style in ("single hair bun", "double bun") else look.hair_style
        )
        look = replace(look, ears=covered_ears, hair_style=covered_style)
    if look.bangs == "hair over one eye" and look.eyewear == "eyepatch":
        look = replace(look, eyewear="")
    if look.top == "kimono":
        look = replace(
            look, sleeves="wide sleeves", neck="", trim=look.trim if look.trim == "frills" else ""
        )
    if look.top == "dress" and look.neck in ("necktie",):
        look = replace(look, neck="bowtie")
    if look.top in ("dress", "kimono"):
        look = replace(look, bottom="", bottom_color="")
    elif look.trim == "frills" and look.bottom != "skirt":
        look = replace(look, trim="")
    if look.bottom == "pants" or look.top == "kimono":
        look = replace(look, legwear="")
    if look.legwear == "kneehighs" and look.footwear == "boots":
        look = replace(look, footwear="shoes")
    if look.legwear and look.footwear == "barefoot":
        look = replace(look, footwear="shoes")
    return look


def random_shot(rng: random.Random, aspect: float = 1.0) -> Shot:
    """A random shot; `aspect` is width / height (a wide picture rarely shows a whole standing
    body).
    """
    traits = {name: rng.choice(values) for name, values in SHOT_CHOICES.items()}
    if aspect > 1.2 and traits["framing"] == "full body":
        traits["framing"] = rng.choice(("upper body", "portrait"))
    if traits["framing"] == "portrait" and traits["pose"] not in ("", "arms up", "waving"):
        traits["pose"] = ""
    return Shot(**traits, flip=rng.random() < 0.5)


def tags_of(look: Character, shot: Shot) -> list[str]:
    """The Danbooru-style tags that this picture shows, count first, then the head, then
    downwards.
    """
    behind, portrait = shot.view == "from behind", shot.framing == "portrait"
    full = shot.framing == "full body"
    tags = ["1girl", "solo", *_hair_tags(look, full), look.ears, look.headwear, look.ornament]
    if not behind:
        tags += [
            "blunt bangs" if look.bangs == "blunt bangs" else look.bangs,
            look.eyewear,
            shot.expression,
            shot.cheeks,
        ]
        tags += [shot.eyes or f"{look.eye_color} eyes"]
    tags += [look.skin]
    if not behind or look.neck == "scarf":
        tags += [look.neck]
    hidden = behind and _back_is_covered(look, full)
    if not portrait and not hidden:
        tags += [look.top, f"{look.top_color} {look.top}", look.sleeves]
    if not portrait:
        tags += [look.trim if look.trim == "cape" or (not behind and look.trim == "apron") else ""]
    if full:
        tags += ["frills" if look.trim == "frills" else ""]
        tags += (
            [look.bottom, f"{look.bottom_color} {look.bottom}"]
            if look.bottom and not hidden
            else []
        )
        tags += [*_leg_tags(look), look.footwear, look.tail]
    tags += [shot.framing, shot.pose, shot.view or "looking at viewer"]
    tags += ["simple background" if shot.background.endswith("background") else "", shot.background]
    return [tag for tag in dict.fromkeys(tags) if tag]


def _hair_tags(look: Character, full: bool) -> list[str]:
    very_long = look.hair_length == "very long hair"
    length = (
        ["long hair", "very long hair"]
        if very_long and full
        else ["long hair" if very_long else look.hair_length]
    )
    if look.hair_style in ("single hair bun", "double bun"):
        length.append("hair bun")
    return [f"{look.hair_color} hair", *length, look.hair_style]


def _back_is_covered(look: Character, full: bool) -> bool:
    loose = look.hair_style == "" and look.hair_length != "short hair"
    return look.trim == "cape" or (loose and (not full or look.hair_length == "very long hair"))


def _leg_tags(look: Character) -> list[str]:
    noun = look.legwear.split(" ")[-1] if look.legwear else ""
    return [noun, look.legwear] if look.legwear else []


def all_tags() -> list[str]:
    """Every tag the world can show, in a fixed order; the label list of the demo tagger."""
    seen: dict[str, None] = {}
    for part, values in (CHARACTER_CHOICES | SHOT_CHOICES).items():
        for value in (*values, *WITHHELD.get(part, ())):
            if value and part not in ("hair_color", "eye_color", "top_color", "bottom_color"):
                seen[value] = None
    nouns = [("hair", HAIR_COLORS), ("eyes", EYE_COLORS)]
    nouns += [
        (top, CLOTHES_COLORS)
        for top in ("shirt", "sweater", "dress", "kimono", "skirt", "pants", "shorts")
    ]
    for noun, colors in nouns:
        seen |= dict.fromkeys(f"{color} {noun}" for color in colors)
    extra = (
        "1girl",
        "solo",
        "hair bun",
        "wide sleeves",
        "thighhighs",
        "pantyhose",
        "looking at viewer",
    )
    return list(seen | dict.fromkeys((*extra, "simple background")))
