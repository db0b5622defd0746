"""Which pictures of a model there can be, and how one of them is made."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...errors import CollectError
from ...images import flatten
from ...progress import Progress, track
from ..finds import Find, Offer, Origin
from .engine import Engine, Stance, Study, slug
from .files import Model, models
from .poses import AS_IT_IS, POSES
from .settings import COLOURS, ModelSettings, rgb
from .views import FRAMING_TAGS, FULL, HEAD, camera, seen, view_tags

THUMBNAIL = 180  # pixels


@dataclass(frozen=True)
class Shot:
    """One picture: the model, how it stands, what is in view, from where, before what."""

    model: Model
    stance: Stance
    framing: str
    direction: tuple[int, int]  # azimuth and elevation in degrees
    background: str

    @property
    def tags(self) -> tuple[str, ...]:
        """What is known of the picture before it is made, as Danbooru tags."""
        pose = POSES[self.stance.pose].tags if self.stance.pose else ()
        if self.framing == HEAD:  # what arms and legs do is out of view
            pose = tuple(tag for tag in pose if tag == "looking back")
        behind = f"{self.background} background" if self.background in COLOURS else ""
        plain = "transparent background" if rgb(self.background) is None else "simple background"
        backdrop = tuple(filter(None, (plain, behind)))
        return (*FRAMING_TAGS[self.framing], *pose, *view_tags(*self.direction), *backdrop, "3d")


def look(settings: ModelSettings, items: Sequence[str], progress: Progress) -> Offer:
    """Every picture of the models in `items`. Raises CollectError if none of them can be opened."""
    folder = Path(tempfile.mkdtemp(prefix="lorakit-models3d-"))
    engine = _engine(settings, progress)
    studio = Studio(settings, engine, folder)
    finds: list[Find] = []
    notes: list[str] = []
    failed: list[str] = []
    for item in track(list(items), "Opening models", progress):
        try:
            for model in models(item, settings.engine, folder):
                study = engine.study(model)
                notes += study.notes
                shots, left_out = choose(settings, model, study)
                notes += left_out
                finds += [studio.find(shot) for shot in shots]
        except CollectError as error:
            failed.append(str(error))
    if not finds:
        raise CollectError(" ".join(failed))
    return Offer(finds, notes + failed)


def _engine(settings: ModelSettings, progress: Progress) -> Engine:
    if settings.engine == "blender":
        from .blender import Blender, find_blender

        return Blender(settings, find_blender(progress))
    from ...install import ensure
    from .f3d import F3D

    ensure("f3d>=4", "80 MB", progress)
    return F3D(settings)


def choose(settings: ModelSettings, model: Model, study: Study) -> tuple[list[Shot], list[str]]:
    """The pictures of one model, those of a stance together, and sentences on what was left out."""
    notes = []
    poses = settings.poses if study.posable else (AS_IT_IS,) if settings.poses else ()
    stances = [Stance(pose, pose=pose) for pose in dict.fromkeys(poses)]
    for number, clip in enumerate(study.clips if settings.clips else ()):
        for count, time in enumerate(clip.moments(settings.clips), 1):
            stances.append(Stance(f"{clip.name} {count}", clip=number, time=round(time, 4)))
    if settings.clips and not study.clips:
        notes.append(f"{model.path.name} carries no animations.")
    if study.clips and not settings.clips:
        names = ", ".join(clip.name for clip in study.clips[:5])
        notes.append(
            f"{model.path.name} carries {len(study.clips)} animations ({names}): --clips N takes "
            "N moments of each."
        )
    if not study.posable and any(framing != FULL for framing in settings.framings):
        notes.append(f"{model.path.name}: where its head and hips are is guessed from its height.")
    if not stances:
        stances = [Stance(AS_IT_IS, pose=AS_IT_IS)]
    framings, colours = dict.fromkeys(settings.framings), settings.background
    chosen = itertools.product(stances, framings, settings.directions())
    shots = []
    for number, (stance, framing, direction) in enumerate(chosen):
        # one further each time round: else a direction always has the same colour
        colour = colours[(number + number // settings.views) % len(colours)]
        shots.append(Shot(model, stance, framing, direction, colour))
    return shots, notes


class Studio:
    """Makes the pictures. Its folder lives as long as any find of it."""

    def __init__(self, settings: ModelSettings, engine: Engine, folder: Path) -> None:
        self.settings, self.engine, self.folder = settings, engine, folder
        weakref.finalize(self, shutil.rmtree, folder, True)

    def find(self, shot: Shot) -> Find:
        """The picture as something to be had."""
        id = "/".join(self._described(shot))
        mark = hashlib.sha256(id.encode()).hexdigest()[:6]
        azimuth, elevation = shot.direction
        place = f"{azimuth % 360:03d}" + (f"{elevation:+03d}" if elevation else "")
        words = [slug(shot.model.name), slug(shot.stance.name), slug(shot.framing), place, mark]
        return Find(
            Origin("model", id, str(shot.model.path.name), shot.tags),
            "_".join(words) + ".png",
            lambda path: self.make(shot, path),
            thumbnail=lambda: self.thumbnail(shot),
        )

    def _described(self, shot: Shot) -> Iterator[str]:
        """All that makes this picture another than the next."""
        settings = self.settings
        yield shot.model.digest
        yield shot.stance.name
        yield shot.framing
        yield f"{shot.direction[0]},{shot.direction[1]}"
        yield shot.background
        yield f"{settings.engine}{'-toon' if settings.toon else ''}-{settings.light}"
        yield f"{settings.size}px-{settings.angle}-{settings.margin:g}-{settings.turn}{settings.up}"

    def make(self, shot: Shot, path: Path) -> None:
        """Renders the picture into `path`. Raises CollectError."""
        image = self._render(shot, self.settings.size, draft=False)
        colour = rgb(shot.background)
        (image if colour is None else flatten(image, colour)).save(path, "PNG")

    def thumbnail(self, shot: Shot) -> Image.Image:
        """A small and quick one. Raises CollectError."""
        image = self._render(shot, THUMBNAIL, draft=True)
        return flatten(image, rgb(shot.background) or (255, 255, 255))

    def _render(self, shot: Shot, side: int, draft: bool) -> Image.Image:
        stand = self.engine.stand(shot.model, shot.stance)
        view = camera(
            seen(stand, shot.framing),
            stand.frame,
            shot.direction,
            side=side,
            angle=self.settings.angle,
            margin=self.settings.margin,
        )
        out = self.folder / "drawn.png"
        self.engine.draw(shot.model, view, out, draft=draft)
        with Image.open(out) as image:
            image.load()
        out.unlink()
        return image
