"""`python -m lorakit collect SOURCE ...`: a command for each source, made from its settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from .. import project
from ..errors import CollectError
from ..progress import TerminalProgress
from ..settings import Spec, changed, specs
from . import NAMES, Source, sheet, source
from .intake import Taken, take, unknown

KINDS = {int: "N", float: "N", bool: "true|false", tuple: "A,B", str: "TEXT"}


def register(commands: Any) -> None:
    """Puts `collect` and its sources on the command line."""
    collect = commands.add_parser(
        "collect",
        help="Bring pictures into a project: boorus, links, videos, 3D models, sprites, archives.",
    )
    sources = collect.add_subparsers(required=True, metavar="SOURCE")
    for name in NAMES:
        _add(sources, source(name))


def joined(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command line, where a setting of a source and a value that begins with '-'
    (--tags -comic) become one word (--tags=-comic): argparse would take that value for a flag.
    """
    words = list(arguments)
    if words[:1] != ["collect"] or words[1:2] == [] or words[1] not in NAMES:
        return words
    flags = {_flag(spec) for spec in specs(source(words[1]).settings)}
    known = flags | {"-h", "--help", "--project", "--dry-run", "--json", "--verbose", "--"}
    done: list[str] = []
    for word in words:
        value = word.startswith("-") and word.partition("=")[0] not in known
        if value and done[-1:] and done[-1] in flags:
            done[-1] += f"={word}"
        else:
            done.append(word)
    return done


def _flag(spec: Spec) -> str:
    return f"--{spec.name.replace('_', '-')}"


def _add(sources: Any, one: Source) -> None:
    sub = sources.add_parser(one.name, help=one.title, description=one.title)
    if one.items:
        sub.add_argument("items", nargs="+", metavar=one.items, help="what to collect from")
    sub.add_argument("--project", required=True, help="name of the project, or its folder's path")
    sub.add_argument("--dry-run", action="store_true", help="only show what there is")
    sub.add_argument("--json", action="store_true", help="print one machine-readable result")
    sub.add_argument("--verbose", action="store_true", help="say more about what is done")
    for spec in specs(one.settings):
        sub.add_argument(
            _flag(spec), dest=f"set_{spec.name}", metavar=KINDS[spec.type], help=_help(spec)
        )
    sub.set_defaults(command=_collect, source=one, items=())


def _help(spec: Spec) -> str:
    """Meaning, choices and default; argparse wants % doubled."""
    default = ",".join(spec.default) if spec.type is tuple else spec.default
    default = str(default).lower() if spec.type is bool else default
    choices = f" ({', '.join(spec.choices)})" if spec.choices else ""
    said = f"{spec.help}{choices}" + ("" if default == "" else f" [{default}]")
    return said.replace("%", "%%")


def _collect(options: argparse.Namespace) -> dict[str, Any]:
    """Shows what the source has (--dry-run), or takes it. Raises CollectError when there is nothing
    at all to take, or none of it could be had.
    """
    one: Source = options.source
    here, progress = project.find(options.project), TerminalProgress()
    words = [
        f"{spec.name}={value}"
        for spec in specs(one.settings)
        if (value := getattr(options, f"set_{spec.name}")) is not None
    ]
    chosen = changed(here.load(one.settings), words)
    offer = one.look(chosen, options.items, progress)
    if options.dry_run:
        new = unknown(here, offer.finds)
        picture = here.output / f"collect-{one.name}.jpg"
        shown = sheet.thumbnails(new, progress=progress)
        told = [*offer.notes, f"{len(new)} new pictures of {len(offer.finds)}."]
        told += [f"The first of them: {sheet.save_sheet(shown, picture)}"] if shown else []
        return {
            "text": "\n".join(told),
            "found": len(offer.finds),
            "new": len(new),
            "notes": offer.notes,
            "sheet": picture if shown else None,
            "names": [find.name for find in new],
        }
    if not offer.finds:
        raise CollectError(" ".join([*offer.notes, "Nothing was found, so nothing came in."]))
    taken: Taken = take(here, offer, progress)
    if taken.failed and not taken.new and not taken.known:
        raise CollectError(" ".join([*offer.notes, str(taken)]))
    return {
        "text": "\n".join([*offer.notes, f"{taken} They are in {here.dataset}."]),
        "new": len(taken.new),
        "known": taken.known,
        "failed": taken.failed,
        "notes": offer.notes,
        "files": taken.new,
    }
