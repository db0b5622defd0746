"""Measures on the embedded world what settings do: `python scripts/effects.py FOLDER [SUBJECT...]`.

Each run is kept in FOLDER and not made again; without subjects all are measured. Prints Markdown
tables for docs/effects.md. A run of 448 steps takes three to five minutes on two cores.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from lorakit.dataset import Picture, scan, write_captions
from lorakit.demo.draw import draw, draw_sprite
from lorakit.demo.run import OTHERS, PREVIEW, TRAINING, sample_project
from lorakit.demo.sample import ACTIVATION_TAG, ASTRID, SIZES
from lorakit.demo.world import random_character, random_shot, tags_of
from lorakit.files import write_text
from lorakit.progress import TerminalProgress
from lorakit.project import Project, find
from lorakit.tagging.captions import TaggingSettings, tag_dataset
from lorakit.tagging.likeness import scorer
from lorakit.training.config import SubsetSettings, TrainingSettings
from lorakit.training.config.optimizer import recommended

Numbers = dict[str, Any]
Fill = Callable[[Project], None]
FOLDER = Path()
GREEN = (40, 200, 60)
RATES = ("unet_lr", "text_encoder_lr", "text_encoder_2_lr")
HALF = 224  # steps that are enough to see some effects


def main() -> None:
    global FOLDER
    FOLDER = Path(sys.argv[1]).resolve()
    for name in sys.argv[2:] or SUBJECTS:
        head, *rows = SUBJECTS[name]()
        print(f"\n**{name}**\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for row in rows:
            print(f"| {' | '.join(map(str, row))} |", flush=True)


# --- the subjects: each gives the head of a table, and its rows ----------------------------------


def optimizers() -> list[Sequence[Any]]:
    """The demo's learning rates (0.004 and 0.006), changed as the recommended ones are against
    AdamW's.
    """
    rows: list[Sequence[Any]] = [("optimiser", "rates", "likeness before", "after")]
    plain = recommended("AdamW")["unet_lr"]
    for name in ("AdamW", "AdamW8bit", "Adafactor", "CAME", "Lion", "Prodigy"):
        advice = recommended(name)
        own = advice["unet_lr"] == 1  # it finds its own
        changes = (
            {rate: advice[rate] for rate in RATES} if own else rates(advice["unet_lr"] / plain)
        )
        found = run(f"optimizer-{name}", optimizer=name, **changes)
        told = "found by itself" if own else f"AdamW's / {plain / advice['unet_lr']:.3g}"
        rows.append((name, told, found["before"], found["likeness"]))
    return rows


def prediction() -> list[Sequence[Any]]:
    """The base as it is shipped beside the same turned into one that predicts v."""
    velocity = FOLDER / "v_base"
    if not (velocity / "model_index.json").exists():
        sys.exit(f"Make the v-prediction base first: python scripts/v_base.py {velocity}")
    rows: list[Sequence[Any]] = [("base predicts", "seed", "likeness before", "after")]
    for label, base in (("noise", "demo"), ("v", str(velocity))):
        for seed in (1, 2):
            found = run(f"prediction-{label}-{seed}", base_model=base, seed=seed)
            rows.append((label, seed, found["before"], found["likeness"]))
    return rows


def locon() -> list[Sequence[Any]]:
    """The same rank with and without the convolutions."""
    rows: list[Sequence[Any]] = [("kind", "modules", "loss on its pictures", "likeness")]
    for kind in ("lora", "locon"):
        name = f"kind-{kind}"
        found = run(name, kind=kind, conv_rank=16, conv_alpha=16.0, prior_weight=0.0)
        loss = measured(name, "loss", partial(loss_on, name, sample()))
        rows.append((kind, found["modules"], loss, found["likeness"]))
    return rows


def flip() -> list[Sequence[Any]]:
    """Trained with and without flip, asked about the pictures as they are and mirrored."""
    turned = project("mirrored", mirror)
    rows: list[Sequence[Any]] = [("flip", "loss on the pictures", "mirrored", "difference")]
    for name, on in (("flip-off", False), ("flip-on", True)):
        run(name, flip=on, max_steps=HALF, prior_weight=0.0)
        plain = measured(name, "loss", partial(loss_on, name, sample()))
        other = measured(name, "mirrored", partial(loss_on, name, turned))
        rows.append((on, plain, other, round(other - plain, 4)))
    return rows


def dropout() -> list[Sequence[Any]]:
    """How much better a LoRA knows its own few pictures than others of the same character."""
    few, others = project("few", first_eight), project("unseen", unseen)
    rows: list[Sequence[Any]] = [("dropout", "loss on its 8 pictures", "on 16 others", "gap")]
    kinds: dict[str, Numbers] = {
        "none": {},
        "dropout 0.3": {"dropout": 0.3},
        "rank_dropout 0.3": {"rank_dropout": 0.3},
        "module_dropout 0.3": {"module_dropout": 0.3},
    }
    for label, changes in kinds.items():
        name = f"few-{label.replace(' ', '-')}"
        run(name, few, max_steps=HALF, prior_weight=0.0, **changes)
        own = measured(name, "loss", partial(loss_on, name, few))
        other = measured(name, "others", partial(loss_on, name, others))
        rows.append((label, own, other, round(other - own, 4)))
    return rows


def mask() -> list[Sequence[Any]]:
    """The character before a green wall in every picture, with masks of her beside them."""
    wall = project("wall", before_a_wall)
    rows: list[Sequence[Any]] = [("mask", "green corners in previews", "likeness")]
    for kind in ("none", "files"):
        name = f"mask-{kind}"
        found = run(name, wall, max_steps=HALF, mask=kind, prior_weight=0.0)
        rows.append((kind, measured(name, "green", partial(green, name)), found["likeness"]))
    return rows


def regularisation() -> list[Sequence[Any]]:
    """What becomes of other characters: each way shows Astrid as often, with fewer tags left out
    than the demo does, as the others' captions are to say what they look like.
    """
    mixed, others = project("regularised", with_others), project("others", only_others)
    ways: dict[str, tuple[Project, dict[str, Any]]] = {
        "nothing": (sample(), {"prior_weight": 0.0}),
        "24 regularisation pictures": (mixed, {"prior_weight": 0.0}),
        "prior_weight 1": (sample(), {"prior_weight": 1.0}),
    }
    head = ("held in place by", "steps", "likeness", "likeness of other prompts", "loss on others")
    rows: list[Sequence[Any]] = [head]
    for label, (home, changes) in ways.items():
        name = f"held-{label.replace(' ', '-')}"
        found = run(name, home, leak=True, epochs=8, tag_dropout=0.3, **changes)
        loss = measured(name, "others", partial(loss_on, name, others))
        rows.append((label, found["steps"], found["likeness"], found["leak"], loss))
    return rows


def rates(factor: float) -> dict[str, float]:
    """The demo's learning rates times `factor`."""
    return {name: getattr(TRAINING, name) * factor for name in RATES}


SUBJECTS: dict[str, Callable[[], list[Sequence[Any]]]] = {
    each.__name__: each  # type: ignore[attr-defined]
    for each in (optimizers, prediction, locon, flip, dropout, mask, regularisation)
}


# --- datasets -------------------------------------------------------------------------------------


def sample() -> Project:
    """The sample project, drawn, cleaned and tagged as the demo does it."""
    return project("sample", lambda home: None)


def project(name: str, fill: Fill) -> Project:
    """A tagged project; `fill` makes its pictures, in place of the sample's."""
    home = FOLDER / name
    if not home.exists():
        from lorakit.clean.sweep import sweep

        made = sample_project(FOLDER / "making" / name, TerminalProgress())
        if name == "sample":
            sweep(made)
        fill(made)
        tag_dataset(made, replace(made.load(TaggingSettings), existing="skip"))
        made.settings_file.parent.rename(home)
    return find(str(home))


def emptied(made: Project) -> Path:
    """The dataset folder without the sample's pictures."""
    for picture in scan(made.dataset):
        picture.path.unlink()
    return made.dataset


def astrid(seeds: Sequence[int]) -> list[Image.Image]:
    """New drawings of her."""
    pictures = []
    for seed in seeds:
        rng, size = random.Random(seed), SIZES[seed % len(SIZES)]
        pictures.append(draw(ASTRID, random_shot(rng, size[0] / size[1]), size, rng))
    return pictures


def first_eight(made: Project) -> None:
    folder = emptied(made)
    for number, picture in enumerate(astrid(range(100, 108))):
        picture.save(folder / f"{number:02d}.png")


def unseen(made: Project) -> None:
    folder = emptied(made)
    for number, picture in enumerate(astrid(range(200, 216))):
        picture.save(folder / f"{number:02d}.png")


def mirror(made: Project) -> None:
    folder, tagged = emptied(made), sample()
    for picture in scan(tagged.dataset):
        with Image.open(picture.path) as image:
            target = folder / f"{picture.path.stem}.png"
            ImageOps.mirror(image.convert("RGB")).save(target)
        shutil.copy(picture.caption_path, target.with_suffix(".txt"))


def before_a_wall(made: Project) -> None:
    folder = emptied(made)
    for number in range(24):
        rng, size = random.Random(number), SIZES[number % len(SIZES)]
        cut = draw_sprite(ASTRID, random_shot(rng, size[0] / size[1]), size, rng)
        wall = Image.new("RGB", size, GREEN)
        wall.paste(cut, mask=cut.getchannel("A"))
        wall.save(folder / f"{number:02d}.png")
        cut.getchannel("A").save(folder / f"{number:02d}.mask.png")


def with_others(made: Project) -> None:
    emptied(made)
    shutil.copytree(sample().dataset, made.dataset, dirs_exist_ok=True)
    draw_others(made, "others", range(1000, 1024))
    made.save_all(SubsetSettings, [SubsetSettings(folder="others", regularisation=True)])


def only_others(made: Project) -> None:
    emptied(made)
    draw_others(made, ".", range(3000, 3024))


def draw_others(made: Project, folder: str, seeds: Sequence[int]) -> None:
    """Other characters, captioned with what they are."""
    captions = {}
    for seed in seeds:
        rng, size = random.Random(seed), SIZES[seed % len(SIZES)]
        look, shot = random_character(rng), random_shot(rng, size[0] / size[1])
        path = made.dataset / folder / f"{seed}.png"
        path.parent.mkdir(exist_ok=True)
        draw(look, shot, size, rng).save(path)
        captions[Picture(path)] = ", ".join(tags_of(look, shot))
    write_captions(made, captions)


# --- runs and what is measured of them ------------------------------------------------------------


def run(name: str, home: Project | None = None, leak: bool = False, **changes: Any) -> Numbers:
    """The numbers of a run of the demo's settings with `changes`; trained now if it was not yet."""
    numbers = read(name)
    if "likeness" not in numbers:
        numbers = trained(name, home or sample(), leak, changes)
        write_text(FOLDER / f"{name}.json", json.dumps(numbers, indent=1) + "\n")
    return numbers


def trained(name: str, home: Project, leak: bool, changes: dict[str, Any]) -> Numbers:
    from lorakit.training import run as training
    from lorakit.training.inspect import describe

    work = find(str(FOLDER / "runs" / name)).create()
    shutil.copytree(home.dataset, work.dataset, dirs_exist_ok=True)
    shutil.copy(home.settings_file, work.settings_file)
    tagging = work.load(TaggingSettings)
    settings = replace(work.load(TrainingSettings), **{"seed": 1, **changes})
    work.save(settings)
    preview = replace(PREVIEW, prompts=OTHERS * 4 if leak else (), seed=1100)
    progress, drawn, paces = TerminalProgress(), [], []
    began = time.monotonic()
    for event in training.train_project(
        work, settings, preview, ACTIVATION_TAG, progress, scorer(tagging)
    ):
        if isinstance(event, training.Previews):
            drawn.append(event)
        elif isinstance(event, training.Note):
            print(event.text, file=sys.stderr)
        elif isinstance(event, training.StepDone):
            progress(name, event.step, event.steps)
            paces.append(event.seconds / event.step)
        elif isinstance(event, training.Finished):
            steps, file = event.steps, event.lora_file
    numbers = {
        "before": round(drawn[0].likeness or 0, 3),
        "likeness": round(drawn[-1].likeness or 0, 3),
        "steps": steps,
        "pace": round(paces[-1], 3),
        "seconds": round(time.monotonic() - began),
        "modules": sum(describe(file)["modules"].values()),
    }
    if leak:
        others = drawn[-1].pictures[preview.count :]
        numbers["leak"] = round(scorer(tagging)(others), 3)  # type: ignore[misc]
    return numbers


def measured(name: str, what: str, measure: Callable[[], float]) -> float:
    """A number of the run `name`, measured now if it was not yet."""
    numbers = read(name)
    if what not in numbers:
        numbers[what] = round(measure(), 4)
        write_text(FOLDER / f"{name}.json", json.dumps(numbers, indent=1) + "\n")
    return float(numbers[what])


def read(name: str) -> Numbers:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def loss_on(name: str, home: Project) -> float:
    """The run's LoRA asked about the pictures of `home`, always with the same noise."""
    from lorakit.training import adapter
    from lorakit.training.base import ENCODERS, open_base
    from lorakit.training.examples import read_examples
    from lorakit.training.material import gather
    from lorakit.training.validation import validation_loss

    work, progress = find(str(FOLDER / "runs" / name)), TerminalProgress()
    settings = replace(work.load(TrainingSettings), flip=False, mask="none", seed=1)
    base = open_base(settings)
    base.fetch("unet", *ENCODERS)
    adapter.load_adapter(base.parts, work.output / f"{work.name}.safetensors")
    examples = read_examples(home, settings, ACTIVATION_TAG, progress)
    material = gather(home, base, settings, examples, None, progress)
    return validation_loss(base, material, range(len(examples)), settings, "cpu")


def green(name: str) -> float:
    """The share of the corners of the last previews of the activation tag that are green."""
    work = find(str(FOLDER / "runs" / name))
    last = sorted((work.output / "previews").glob("epoch-*.png"))
    newest = last[-1].name.rpartition("-")[0]
    corners = []
    for number in range(PREVIEW.count):
        with Image.open(work.output / "previews" / f"{newest}-{number:02d}.png") as image:
            side = image.width // 8
            for left in (0, image.width - side):
                cut = image.crop((left, 0, left + side, side)).resize((1, 1), Image.Resampling.BOX)
                red, grass, blue = cut.getpixel((0, 0))  # type: ignore[misc]
                corners.append(grass > max(red, blue) + 40)
    return statistics.mean(corners)


if __name__ == "__main__":
    main()
