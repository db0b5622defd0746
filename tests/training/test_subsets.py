"""What a folder's name and the [[subset]] tables of project.toml say of its pictures."""

import pytest

from lorakit.errors import DatasetError, SettingsError
from lorakit.training.config import SubsetSettings, TrainingSettings
from lorakit.training.subsets import Subset, levels, subsets

FOLDERS = [".", "3_swimsuit", "3_swimsuit/beach", "hats", "hats/2_red"]


def of(folder: str, *tables: SubsetSettings, **changes: object) -> Subset:
    settings = TrainingSettings(repeats=5, **changes)  # type: ignore[arg-type]
    return subsets(FOLDERS, tables, settings)[FOLDERS.index(folder)]


def test_the_folders_of_a_folder_are_those_it_lies_in() -> None:
    assert levels("a/b") == ["a/b", "a", "."]
    assert levels(".") == ["."]


@pytest.mark.parametrize(
    ("folder", "tables", "repeats"),
    [
        (".", [], 5),
        ("hats", [], 5),
        ("3_swimsuit", [], 3),
        ("3_swimsuit/beach", [], 3),
        ("hats/2_red", [], 2),
        (".", [SubsetSettings(".", repeats=9)], 9),
        ("hats", [SubsetSettings(".", repeats=9)], 9),
        ("3_swimsuit", [SubsetSettings(".", repeats=9)], 3),  # the inner folder goes before
        ("3_swimsuit", [SubsetSettings("3_swimsuit", repeats=8)], 8),  # the table before the name
        ("3_swimsuit", [SubsetSettings("3_swimsuit")], 3),  # which says nothing of repeats
        ("3_swimsuit/beach", [SubsetSettings("3_swimsuit", repeats=8)], 8),
        ("hats/2_red", [SubsetSettings("hats", repeats=8)], 2),
        ("hats/2_red", [SubsetSettings("hats/2_red", repeats=8)], 8),
    ],
)
def test_repeats_come_from_the_table_else_the_folders_name_else_the_setting(
    folder: str, tables: list[SubsetSettings], repeats: int
) -> None:
    assert of(folder, *tables).repeats == repeats


def test_kept_tags_flip_and_regularisation_hold_below_a_folder_until_an_inner_one_says_other() -> (
    None
):
    outer = SubsetSettings("hats", keep_tags=3, flip=True, regularisation=True)
    inner = SubsetSettings("hats/2_red", keep_tags=0, flip=False, regularisation=False)
    assert of("hats/2_red", outer) == Subset("hats/2_red", 2, 3, True, True)
    assert of("hats/2_red", outer, inner) == Subset("hats/2_red", 2, 0, False, False)
    assert of("3_swimsuit", outer) == Subset("3_swimsuit", 3, 1, False, False)
    assert of("3_swimsuit", flip=True, keep_tags=2) == Subset("3_swimsuit", 3, 2, True, False)


@pytest.mark.parametrize(("keep", "kept"), [(0, 0), (1, 0), (3, 2)])
def test_a_regularisation_caption_keeps_one_tag_less_as_it_has_no_activation_tag(
    keep: int, kept: int
) -> None:
    held = SubsetSettings("hats", regularisation=True)
    assert of("hats", held, keep_tags=keep).keep_tags == kept
    named = SubsetSettings("hats", regularisation=True, keep_tags=2)
    assert of("hats", named, keep_tags=keep).keep_tags == 2


@pytest.mark.parametrize("name", ["1_", "_1", "x3_a", "three_a", "3-a", "3"])
def test_a_name_that_is_not_like_3_name_says_nothing(name: str) -> None:
    assert subsets([name], [], TrainingSettings(repeats=5))[0].repeats == 5


@pytest.mark.parametrize("name", ["0_a", "1001_a", "2023_summer"])
def test_a_name_with_impossible_repeats_is_refused_unless_a_table_says_them(name: str) -> None:
    with pytest.raises(
        DatasetError,
        match=f"name {name} means {int(name.split('_')[0])} repeats; they must be from 1 to 1000. "
        "Rename the folder, or give it repeats",
    ):
        subsets([name], [], TrainingSettings())
    table = SubsetSettings(name, repeats=4)
    assert subsets([name], [table], TrainingSettings())[0].repeats == 4


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            [SubsetSettings("3_swimsiut")],
            r"no pictures in a folder '3_swimsiut' of dataset; did you mean '3_swimsuit'\? Correct",
        ),
        ([SubsetSettings("zzz")], r"a folder 'zzz' of dataset \(there are: \., 3_swimsuit, "),
        ([SubsetSettings("hats"), SubsetSettings("hats/")], "'hats' stands in two tables"),
    ],
)
def test_a_table_for_no_folder_or_for_one_that_has_one_is_refused(
    tables: list[SubsetSettings], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        subsets(FOLDERS, tables, TrainingSettings())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"a \[\[subset\]\] without folder; add a line like"),
        ({"folder": "../x"}, "folder is '../x'; it must lie below dataset"),
        ({"folder": "a", "repeats": 0}, "repeats is 0; it must be from 1 to 1000 times"),
        ({"folder": "a", "keep_tags": 21}, "keep_tags is 21; it must be from 0 to 20 tags"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(values: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SubsetSettings(**values)


@pytest.mark.parametrize("folder", ["a/b", "./a/b", "a/b/", "a\\b", " a/b "])
def test_a_folder_may_be_written_in_any_usual_way(folder: str) -> None:
    assert SubsetSettings(folder).folder == "a/b"


# --- balance --------------------------------------------------------------------------------------


def shown(folders: list[str], *tables: SubsetSettings, **changes: object) -> dict[str, int]:
    """How often each folder's pictures are shown in an epoch."""
    settings = TrainingSettings(balance=True, **changes)  # type: ignore[arg-type]
    found = subsets(folders, tables, settings)
    return {
        folder: sum(
            s.repeats for f, s in zip(folders, found, strict=True) if f.split("/")[0] == folder
        )
        for folder in dict.fromkeys(f.split("/")[0] for f in folders)
    }


def test_balance_shows_every_subset_about_as_often_as_the_largest() -> None:
    folders = ["front"] * 30 + ["back"] * 5 + ["."] * 7 + ["side/a"] * 2 + ["side/b"] * 2
    assert shown(folders, repeats=2) == {"front": 60, "back": 60, ".": 63, "side": 60}


def test_balance_starts_from_the_repeats_that_folders_have_and_lowers_none() -> None:
    folders = ["10_a"] * 3 + ["b"] * 20
    assert shown(folders, repeats=1) == {"10_a": 30, "b": 40}
    assert shown(folders, SubsetSettings("b", repeats=4), repeats=1) == {"10_a": 81, "b": 80}


def test_balance_leaves_regularisation_alone() -> None:
    folders = ["a"] * 3 + ["reg"] * 50
    held = SubsetSettings("reg", regularisation=True, repeats=1)
    assert shown(folders, held, repeats=4) == {"a": 12, "reg": 50}
