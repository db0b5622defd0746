"""The same jobs without a notebook: `python -m lorakit demo | init | tag | plan | train | preview |
inspect | resize | merge | card | upload | collect` (the last five are in commands.py and
collect/command.py).

Exit codes: 0 done, 2 something is wrong with the input (one sentence says what), 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from . import __version__, dataset, project, settings
from . import commands as commands_about_files
from .collect import command as commands_about_collecting
from .errors import DatasetError, LorakitError
from .progress import TerminalProgress

Command = Callable[[argparse.Namespace], dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(commands_about_collecting.joined(given))
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s"
    )
    try:
        result = options.command(options)
    except LorakitError as error:
        print(
            json.dumps({"error": str(error)}) if options.json else f"lorakit: {error}",
            file=sys.stdout if options.json else sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("lorakit: interrupted; what was finished is on disk.", file=sys.stderr)
        return 130
    if result:
        print(
            json.dumps(result, ensure_ascii=False, default=str)
            if options.json
            else result.pop("text")
        )
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line, every command with its own --help."""
    top = argparse.ArgumentParser(
        prog="python -m lorakit", description="Teach an SDXL model a character."
    )
    top.add_argument("--version", action="version", version=f"lorakit {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str,
        command: Command,
        help: str,
        project_help: str = "name of the project, or the path of its folder",
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        if project_help:
            sub.add_argument("project", help=project_help)
        sub.add_argument(
            "--json",
            action="store_true",
            help="print one machine-readable result on standard output",
        )
        sub.add_argument("--verbose", action="store_true", help="say more about what is done")
        sub.set_defaults(command=command)
        return sub

    demo = add(
        "demo", _demo, "Run the whole job on drawn pictures, or build the embedded world again.", ""
    )
    demo.add_argument(
        "action",
        nargs="?",
        choices=("run", "build", "checkpoint"),
        default="run",
        help="run the job (default); build the embedded world (hours); checkpoint: write its base "
        "as one SDXL file",
    )
    demo.add_argument(
        "--folder", type=Path, default=Path("demo"), help="where the project goes (default: ./demo)"
    )
    demo.add_argument(
        "--seed",
        type=int,
        default=42,
        help="seed of training and previews, or of the world that is built",
    )
    _add_set(demo, "training")

    init = add("init", _init, "Make a project: its folders and its settings file.")
    init.add_argument(
        "--pictures", type=Path, help="copy the pictures and captions of this folder into it"
    )

    tag = add("tag", _tag, "Write captions: tagger, base tags, body order, activation tag first.")
    tag.add_argument(
        "--undo", action="store_true", help="take back the last edit of captions instead"
    )
    _add_set(tag, "tagging")

    plan = add("plan", _plan, "Show buckets and the exact number of steps; nothing is loaded.")
    plan.add_argument(
        "--aim",
        type=int,
        metavar="STEPS",
        help="choose repeats and epochs for about so many steps, and save them",
    )
    _add_set(plan, "training")

    _add_set(add("train", _train, "Train the project's LoRA."), "training")

    preview = add("preview", _preview, "Draw pictures with the project's LoRA.")
    preview.add_argument("--lora", type=Path, help="another LoRA file than the project's own")
    preview.add_argument(
        "--strength", type=float, default=1.0, help="weight of the LoRA; 0 shows the base alone"
    )
    preview.add_argument(
        "--prompt",
        action="append",
        help="what to draw (may be given several times); default: the activation tag",
    )
    _add_set(preview, "preview")

    inspect = add("inspect", _inspect, "Say what is in a LoRA file or a base checkpoint.", "")
    inspect.add_argument("file", type=Path, help="a .safetensors file")
    commands_about_files.register(add)
    commands_about_collecting.register(commands)
    return top


def _add_set(sub: argparse.ArgumentParser, section: str) -> None:
    sub.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help=f"change settings of [{section}], like epochs=10; `tag` and `plan --aim` save them in "
        "project.toml, the others change this run only",
    )


def _demo(options: argparse.Namespace) -> dict[str, Any]:
    if options.action == "build":
        from .demo.build import build_world

        folder = build_world(seed=options.seed)
        return {"text": f"The embedded world is in {folder}.", "folder": folder}
    if options.action == "checkpoint":
        from .training.saving import save_single_file

        path = save_single_file("demo", options.folder / "demo-base.safetensors")
        return {"text": f"The embedded base as one SDXL checkpoint: {path}", "file": path}
    from .demo.run import report, run_demo

    summary = run_demo(
        options.folder, options.seed, lambda s: settings.changed(s, options.set), TerminalProgress()
    )
    return {"text": report(summary), **asdict(summary)}


def _init(options: argparse.Namespace) -> dict[str, Any]:
    from .tagging.captions import TaggingSettings
    from .training.config import PreviewSettings, TrainingSettings

    made = project.find(options.project)
    if options.pictures and not options.pictures.is_dir():
        raise DatasetError(
            f"There is no folder {options.pictures}. Give the folder your pictures are in."
        )
    made.create()
    for cls in (TaggingSettings, TrainingSettings, PreviewSettings):
        made.save(made.load(cls))
    copied = _copy_pictures(options.pictures, made.dataset) if options.pictures else 0
    text = (
        f"Project {made.name}: put pictures into {made.dataset}"
        if not copied
        else f"Project {made.name}: {copied} pictures copied into {made.dataset}"
    )
    return {
        "text": f"{text}\nSettings: {made.settings_file}",
        "project": made.name,
        "dataset": made.dataset,
        "copied": copied,
    }


def _copy_pictures(source: Path, target: Path) -> int:
    """Copies pictures with captions and masks into `target`, folders and all, never over a file
    that is there.
    """
    found = dataset.scan(source)
    for picture in found:
        for path in (picture.path, picture.caption_path, picture.mask_path):
            copy = target / path.relative_to(source)
            if path.exists() and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
    return len(found)


def _tag(options: argparse.Namespace) -> dict[str, Any]:
    from .tagging.captions import TaggingSettings, tag_dataset

    here = project.existing(options.project)
    if options.undo:
        count = dataset.undo_captions(here)
        return {"text": f"{count} captions are as they were.", "captions": count}
    chosen = settings.changed(here.load(TaggingSettings), options.set)
    done = tag_dataset(here, chosen, TerminalProgress())
    here.save(chosen)  # training goes by the activation tag that the captions have now
    result = {field.name: getattr(done, field.name) for field in fields(done)}
    return {"text": str(done), **result}


def _plan(options: argparse.Namespace) -> dict[str, Any]:
    from .training.config import TrainingSettings
    from .training.examples import survey

    here = project.existing(options.project)
    chosen = settings.changed(here.load(TrainingSettings), options.set)
    found = survey(here)
    if options.aim:
        chosen = found.aim(chosen, options.aim)
        here.save(chosen)
    plan = found.plan(chosen)
    buckets = {f"{w}x{h}": count for (w, h), count in plan.buckets.items()}
    rows = "\n".join(f"  {size:>9}: {count} pictures" for size, count in buckets.items())
    return {
        "text": f"{plan.sentence()}\n{rows}",
        "steps": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "repeats": chosen.repeats,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "buckets": buckets,
    }


def _train(options: argparse.Namespace) -> dict[str, Any]:
    from .tagging.captions import TaggingSettings
    from .tagging.likeness import scorer
    from .training import parallel, run
    from .training.config import PreviewSettings, TrainingSettings

    here = project.existing(options.project)
    chosen = _confirmed(here, settings.changed(here.load(TrainingSettings), options.set))
    tagging, progress = here.load(TaggingSettings), TerminalProgress()
    events = run.train_project(
        here, chosen, here.load(PreviewSettings), tagging.activation_tag, progress, scorer(tagging)
    )
    if not parallel.join().main:  # one of `accelerate launch`'s others: works, but says nothing
        for _ in events:
            pass
        return {}
    result: dict[str, Any] = {}
    for event in events:
        result |= _told(event, progress)
    return {"text": f"LoRA file: {result['lora_file']}", **result}


def _confirmed(here: project.Project, chosen: Any) -> Any:
    """The settings; a person at a terminal is asked, once for all processes, whether a very long
    run is meant.
    """
    from .training import parallel
    from .training.examples import plan_project

    steps = plan_project(here, chosen).steps
    if steps <= chosen.most_steps:
        return chosen
    world = parallel.join()
    meant = world.main and sys.stdin.isatty() and _asked(steps)
    return replace(chosen, most_steps=steps) if parallel.anywhere(meant, world) else chosen


def _asked(steps: int) -> bool:
    print(f"This plan has {steps:,} steps; about 450 are right for most characters.")
    return input("Train all of them? [y/N] ").strip().lower() in ("y", "yes")


def _told(event: Any, progress: TerminalProgress) -> dict[str, Any]:
    """Says on the terminal what happened in a run; what of it belongs to the command's result."""
    from .training import run

    if isinstance(event, run.Planned):
        print(f"{event.plan.sentence()}\n{event.reason}", file=sys.stderr)
    elif isinstance(event, run.Note):
        print(event.text, file=sys.stderr)
    elif isinstance(event, run.StepDone):
        values = f", loss {event.loss:.3f}, gradient {event.gradient:.2g}"
        progress(f"Training{values if sys.stderr.isatty() else ''}", event.step, event.steps)
    elif isinstance(event, run.Validated):
        print(f"\nValidation loss after epoch {event.epoch}: {event.loss:.4f}", file=sys.stderr)
        return {"validation": event.loss}
    elif isinstance(event, run.Previews) and event.likeness is not None:
        print(f"\nLikeness after epoch {event.epoch}: {event.likeness:.2f}", file=sys.stderr)
        return {"likeness": event.likeness}
    elif isinstance(event, run.Finished):
        return asdict(event)
    return {}


def _preview(options: argparse.Namespace) -> dict[str, Any]:
    from .tagging.captions import TaggingSettings
    from .training import adapter, preview
    from .training.base import open_base
    from .training.config import PreviewSettings, TrainingSettings
    from .training.device import choose_device

    here = project.existing(options.project)
    training, chosen = (
        here.load(TrainingSettings),
        settings.changed(here.load(PreviewSettings), options.set),
    )
    device, dtype, _ = choose_device(training)
    base = open_base(training, dtype, device, TerminalProgress())
    base.fetch("unet", "te1", "te2", progress=TerminalProgress())
    adapter.load_adapter(base.parts, options.lora or here.output / f"{here.name}.safetensors")
    adapter.set_strength(base.parts, options.strength)
    wanted = (
        [preview.Prompt(text, chosen.seed + i) for i, text in enumerate(options.prompt)]
        if options.prompt
        else preview.prompts(chosen, here.load(TaggingSettings).activation_tag)
    )
    pictures = preview.draw(
        base,
        wanted,
        chosen,
        (chosen.width or training.resolution, chosen.height or training.resolution),
        TerminalProgress(),
    )
    path = preview.save_picture(
        preview.grid([pictures], column_labels=[p.text for p in wanted]),
        here.output / "preview.png",
    )
    return {"text": f"Pictures: {path}", "file": path, "prompts": [p.text for p in wanted]}


def _inspect(options: argparse.Namespace) -> dict[str, Any]:
    from .training.inspect import describe

    return describe(options.file)


if __name__ == "__main__":
    sys.exit(main())
