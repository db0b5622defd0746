"""Settings: from words and tables to checked values, and back; the messages are part of the
interface.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from lorakit import settings
from lorakit.errors import SettingsError
from lorakit.settings import setting
from lorakit.tagging.captions import TaggingSettings
from lorakit.training.config import PreviewSettings, SubsetSettings, TrainingSettings


@dataclass(frozen=True)
class Oven:
    """One setting of each type."""

    SECTION: ClassVar[str] = "oven"

    epochs: int = setting(10, "How often all pictures are seen.", unit="epochs", low=1, high=100)
    rate: float = setting(0.5, "How fast it learns.", low=0)
    cold: float = setting(-5.0, "No warmer than this.", high=0)
    free: float = setting(0.0, "Any number.")
    mode: str = setting("fixed", "What to do.", choices=("fixed", "prune"))
    name: str = setting("", "What it is called.")
    shuffle: bool = setting(True, "Whether to shuffle.", advanced=True)
    words: tuple[str, ...] = setting(("solo", "smile"), "Some words.")

    def __post_init__(self):
        settings.check(self)


def test_a_table_of_values_becomes_settings():
    got = settings.from_mapping(
        Oven, {"epochs": 3, "rate": 1, "words": ["a", " b "], "shuffle": False}, "file"
    )
    assert got == Oven(epochs=3, rate=1.0, words=("a", "b"), shuffle=False)
    assert isinstance(got.rate, float)


def test_settings_survive_a_round_trip():
    chosen = Oven(epochs=7, mode="prune", words=("x",), cold=-1.5)
    values = settings.to_mapping(chosen)
    assert values["words"] == ["x"], "plain values, as TOML and JSON take them"
    assert settings.from_mapping(Oven, values, "file") == chosen


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["epochs=3"], Oven(epochs=3)),
        (["epochs=3.0", "rate=1e-4"], Oven(epochs=3, rate=1e-4)),
        (["shuffle=no", "mode=prune"], Oven(shuffle=False, mode="prune")),
        (["words=red hair, horns ,"], Oven(words=("red hair", "horns"))),
        (["words="], Oven(words=())),
        (["name=a=b"], Oven(name="a=b")),
        (["epochs=3", "epochs=4"], Oven(epochs=4)),
        ([], Oven()),
    ],
)
def test_words_of_a_command_line_change_settings(words, expected):
    assert settings.changed(Oven(), words) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs=0", "command line: epochs is 0; it must be from 1 to 100 epochs."),
        ("epochs=101", "command line: epochs is 101; it must be from 1 to 100 epochs."),
        ("epochs=2.5", "command line: epochs is '2.5'; it takes a whole number."),
        ("epochs=many", "command line: epochs is 'many'; it takes a whole number."),
        ("epochs=inf", "command line: epochs is 'inf'; it takes a whole number."),
        ("epochs=nan", "command line: epochs is 'nan'; it takes a whole number."),
        ("free=nan", "command line: free is 'nan'; it takes a number."),
        ("rate=inf", "command line: rate is 'inf'; it takes a number."),
        ("rate=-1", "command line: rate is -1; it must be at least 0."),
        ("cold=1", "command line: cold is 1; it must be at most 0."),
        ("shuffle=maybe", "command line: shuffle is 'maybe'; it takes true or false."),
        ("mode=prone", "command line: mode is 'prone'; did you mean 'prune'?"),
        ("mode=xyz", "command line: mode is 'xyz' (there are: fixed, prune)."),
        (
            "epoch=3",
            "command line: there is no setting 'epoch'; did you mean 'epochs'? Correct or remove "
            "that line.",
        ),
        ("epochs", "'epochs' is not a setting; write name=value, like epochs=10."),
    ],
)
def test_a_wrong_word_is_answered_with_a_sentence(word, message):
    with pytest.raises(SettingsError) as caught:
        settings.changed(Oven(), [word])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": True}, "file: epochs is True; it takes a whole number."),
        ({"epochs": [3]}, r"file: epochs is \[3\]; it takes a whole number."),
        ({"name": 3}, "file: name is 3; it takes a text."),
        ({"words": 3}, "file: words is 3; it takes a list of words"),
        ({"zzz": 1}, "file: there is no setting 'zzz' .there are: epochs, rate,"),
    ],
)
def test_a_wrong_value_in_a_file_names_the_file(values, message):
    with pytest.raises(SettingsError, match=message):
        settings.from_mapping(Oven, values, "file")


def test_impossible_values_are_refused_at_construction_too():
    with pytest.raises(SettingsError, match="oven: epochs is 0; it must be from 1 to 100 epochs"):
        Oven(epochs=0)
    with pytest.raises(SettingsError, match="oven: free is nan"):
        Oven(free=float("nan"))


def test_specs_tell_a_form_all_it_needs():
    specs = {spec.name: spec for spec in settings.specs(Oven)}
    assert list(specs) == ["epochs", "rate", "cold", "free", "mode", "name", "shuffle", "words"]
    assert (specs["epochs"].type, specs["epochs"].default, specs["epochs"].unit) == (
        int,
        10,
        "epochs",
    )
    assert (specs["epochs"].low, specs["epochs"].high) == (1, 100)
    assert specs["words"].type is tuple
    assert [name for name, spec in specs.items() if spec.advanced] == ["shuffle"]


CLASSES = (TaggingSettings, TrainingSettings, PreviewSettings, SubsetSettings)
NEEDED = {SubsetSettings: {"folder": "3_swimsuit"}}
FIELDS = [(cls, spec) for cls in CLASSES for spec in settings.specs(cls)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_setting_of_lorakit_has_a_help_text_and_a_default_in_its_range(cls):
    for spec in settings.specs(cls):
        assert len(spec.help) > 10, f"{cls.__name__}.{spec.name}"
        if spec.default is not None:
            assert settings.range_problem(spec, spec.default) == "", f"{cls.__name__}.{spec.name}"
    made = cls(**NEEDED.get(cls, {}))
    given = {name: value for name, value in settings.to_mapping(made).items() if value is not None}
    assert settings.from_mapping(cls, given, "defaults") == made


@pytest.mark.parametrize("cls, spec", FIELDS, ids=lambda each: getattr(each, "name", ""))
def test_every_setting_refuses_what_is_out_of_its_range(cls, spec):
    outside = [] if spec.low is None else [spec.low - 1]
    outside += [] if spec.high is None else [spec.high + 1]
    outside += ["no such thing"] if spec.choices else []
    if spec.type in (int, float):
        assert outside, "a number without limits"
    for value in outside:
        with pytest.raises(SettingsError, match=f"{cls.SECTION}: {spec.name} is '?{value}"):
            cls(**NEEDED.get(cls, {}), **{spec.name: spec.type(value)})


def test_the_table_for_the_docs_has_a_row_for_each_setting():
    rows = settings.table(Oven).splitlines()
    assert rows[2] == "| `epochs` | 10 epochs | 1 to 100 | How often all pictures are seen. |"
    assert rows[-1] == "| `words` | solo, smile |  | Some words. |"
    assert len(rows) == 2 + len(settings.specs(Oven))


def test_a_text_is_split_where_its_setting_says():
    words = {spec.name: spec for spec in settings.specs(Oven)}["words"]
    assert settings.convert(words, "a, b", "here") == ("a", "b")
    assert settings.convert(replace(words, separator="\n"), "a, b\n c", "here") == ("a, b", "c")
