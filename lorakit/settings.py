"""Settings: frozen dataclasses whose fields carry their own meaning, unit and range.

Forms, project.toml, the command line and the docs are all made from these fields; none repeats a
default. A settings class names the table of project.toml it lives in with `SECTION`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from .errors import SettingsError


class Settings(Protocol):
    """What every settings dataclass has."""

    SECTION: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


S = TypeVar("S")


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    suggestions: tuple[str, ...] = (),
    advanced: bool = False,
    separator: str = ",",
) -> Any:
    """A dataclass field. `low` and `high` are inclusive; `suggestions` are values among others,
    where `choices` are all there are; `advanced` fields sit under Advanced in a form.

    `separator` stands between the words of a tuple where it is written as one text: a line end for
    sentences.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "suggestions": suggestions,
        "advanced": advanced,
    }
    return dataclasses.field(default=default, metadata=metadata | {"separator": separator})


@dataclasses.dataclass(frozen=True)
class Spec:
    """One setting as forms and docs see it. A default of None: not given, it holds as elsewhere."""

    name: str
    type: type
    default: Any
    help: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    suggestions: tuple[str, ...]
    advanced: bool
    separator: str
    subject: str  # what the class that declares it is about: "The loss"


def specs(cls: type) -> list[Spec]:
    """The settings of a settings class, in order. `type` is int, float, bool, str or tuple (of
    str).
    """
    hints = typing.get_type_hints(cls)
    return [
        Spec(
            name=f.name,
            type=_plain(hints[f.name]),
            default=f.default,
            subject=_subject(cls, f.name),
            **f.metadata,
        )
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        if "help" in f.metadata
    ]


def _subject(cls: type, name: str) -> str:
    """The first line of the docstring of the class that declares the field, without its full
    stop.
    """
    declares = next(c for c in cls.__mro__ if name in c.__dict__.get("__annotations__", {}))
    return (declares.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _plain(hint: Any) -> type:
    return (
        typing.get_origin(hint) or hint
        if not isinstance(hint, types.UnionType)
        else typing.get_args(hint)[0]
    )


def from_mapping(cls: type[S], values: Mapping[str, Any], where: str) -> S:
    """The settings that `values` describe; `where` (a file and table) is named in errors.

    Raises SettingsError for an unknown key (naming the nearest one), a wrong type or a value out of
    range.
    """
    known = {spec.name: spec for spec in specs(cls)}
    for key in values:
        if key not in known:
            raise SettingsError(
                f"{where}: there is no setting '{key}'{nearest(key, known)} Correct or remove "
                "that line."
            )
    return cls(**{key: convert(known[key], value, where) for key, value in values.items()})


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence: '; did you mean 'epochs'?' or a list of what there is."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f" (there are: {', '.join(known)})."


def convert(spec: Spec, value: Any, where: str) -> Any:
    """`value` as the type of the setting, checked against its range. Raises SettingsError."""
    name = f"{where}: {spec.name}"
    if spec.type is tuple:
        parts = (
            value.split(spec.separator)
            if isinstance(value, str)
            else list(value)
            if isinstance(value, list | tuple)
            else None
        )
        if parts is None:
            raise SettingsError(
                f'{name} is {value!r}; it takes a list of words, like ["solo", "smile"].'
            )
        return tuple(str(part).strip() for part in parts if str(part).strip())
    converted = _as_type(spec.type, value)
    if converted is None:
        kind = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[
            spec.type
        ]
        raise SettingsError(f"{name} is {value!r}; it takes {kind}.")
    problem = range_problem(spec, converted)
    if problem:
        raise SettingsError(f"{name} {problem}")
    return converted


def _as_type(kind: type, value: Any) -> Any:
    """`value` as `kind`, or None. Words from a command line count as what they spell."""
    if kind is bool:
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        return value if isinstance(value, bool) else words.get(str(value).lower())
    if kind is str:
        return str(value) if isinstance(value, str) else None
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    if kind is int:
        return int(number) if number == int(number) else None
    return number


def range_problem(spec: Spec, value: Any) -> str:
    """Why `value` is not allowed, as the rest of a sentence, or ''."""
    if spec.choices and value not in spec.choices:
        return f"is {value!r}{nearest(str(value), spec.choices)}"
    low, high = spec.low, spec.high
    if isinstance(value, int | float) and not isinstance(value, bool):
        if (
            (low is not None and value < low)
            or (high is not None and value > high)
            or value != value
        ):
            unit = f" {spec.unit}" if spec.unit else ""
            return f"is {_shown(value)}; it must be {_limits(low, high)}{unit}."
    return ""


def _limits(low: float | None, high: float | None) -> str:
    if low is None:
        return "a number" if high is None else f"at most {_shown(high)}"
    return f"at least {_shown(low)}" if high is None else f"from {_shown(low)} to {_shown(high)}"


def _shown(number: float) -> str:
    """A whole number in full, any other as short as it goes."""
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def check(settings: Any, where: str | None = None) -> None:
    """Raises SettingsError at the first field out of its range; for `__post_init__`."""
    place = where or type(settings).SECTION
    for spec in specs(type(settings)):
        problem = range_problem(spec, getattr(settings, spec.name))
        if problem:
            raise SettingsError(f"{place}: {spec.name} {problem}")


def to_mapping(settings: Any) -> dict[str, Any]:
    """The settings as plain values for TOML or JSON."""
    values = {spec.name: getattr(settings, spec.name) for spec in specs(type(settings))}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def changed(settings: Any, words: Iterable[str]) -> Any:
    """`settings` with `name=value` words applied, as given on a command line. Raises
    SettingsError.
    """
    values = to_mapping(settings)
    for word in words:
        name, separator, value = word.partition("=")
        if not separator:
            raise SettingsError(f"'{word}' is not a setting; write name=value, like epochs=10.")
        values[name] = value
    return from_mapping(type(settings), values, "command line")


def table(cls: type) -> str:
    """The settings as Markdown for the docs: a table, one for each subject where there are
    several.
    """
    subjects: dict[str, list[str]] = {}
    for spec in specs(cls):
        limits = (
            ", ".join(spec.choices)
            or "; ".join((*spec.suggestions, "or another") if spec.suggestions else ())
            or " to ".join(_shown(v) for v in (spec.low, spec.high) if v is not None)
        )
        unit = f" {spec.unit}" if spec.unit else ""
        default = ", ".join(spec.default) if isinstance(spec.default, tuple) else spec.default
        default = "" if default is None else default
        subjects.setdefault(spec.subject, []).append(
            f"| `{spec.name}` | {default}{unit if default != '' else ''} | {limits} | "
            f"{spec.help.replace('|', chr(92) + '|')} |"
        )
    head = "| setting | default | range | meaning |\n|---|---|---|---|\n"
    return "\n\n".join(
        (f"### {subject}\n\n" if len(subjects) > 1 else "") + head + "\n".join(rows)
        for subject, rows in subjects.items()
    )
