"""The folder of one LoRA, in both layouts, and its settings file."""

import os
from dataclasses import dataclass
from typing import ClassVar

import pytest

from lorakit import files, project
from lorakit.errors import DatasetError, SaveError, SettingsError
from lorakit.settings import setting


@dataclass(frozen=True)
class Small:
    """Stands in for the settings of a table that project.toml may have."""

    SECTION: ClassVar[str] = "training"

    epochs: int = setting(10, "How often.", low=1)
    words: tuple[str, ...] = setting((), "Some words.")


@dataclass(frozen=True)
class Part:
    """Stands in for the settings of a table that may stand several times."""

    SECTION: ClassVar[str] = "subset"

    folder: str = setting("", "Which.")
    repeats: int | None = setting(None, "How often.", low=1)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """A name that is also a folder here would mean that folder; tests run where there is none."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "Loras").mkdir()
    return tmp_path / "Loras"


def test_a_new_project_has_its_folders_under_the_root(root):
    made = project.find("astrid", root).create()
    assert {path.name for path in (root / "astrid").iterdir()} == {"dataset", "output", "removed"}
    assert (made.name, made.settings_file) == ("astrid", root / "astrid" / "project.toml")
    assert made.create() == made, "making it again does no harm"


@pytest.mark.parametrize("place", ["Loras/lora_training", "lora_training"])
def test_the_other_layout_is_understood(root, tmp_path, place):
    (tmp_path / place / "datasets" / "astrid").mkdir(parents=True)
    found = project.find("astrid", root)
    assert found.dataset == tmp_path / place / "datasets" / "astrid"
    assert found.output == tmp_path / place / "output" / "astrid"
    assert found.settings_file == tmp_path / place / "config" / "astrid" / "project.toml"
    assert project.names(root) == ["astrid"]


def test_the_plain_layout_wins_where_there_are_both(root):
    (root / "lora_training" / "datasets" / "astrid").mkdir(parents=True)
    project.Project(
        "astrid", *(root / "astrid" / name for name in ("dataset", "output", "removed", "x"))
    ).create()
    assert project.find("astrid", root).dataset == root / "astrid" / "dataset"


def test_a_path_means_that_folder(tmp_path):
    assert (
        project.find(str(tmp_path / "deep" / "astrid")).dataset
        == tmp_path / "deep" / "astrid" / "dataset"
    )
    assert project.find(str(tmp_path / "deep" / "astrid")).name == "astrid"


@pytest.mark.parametrize(
    "name", ["", "my lora", "a.b", "a(b)", "-x", "a:b", "a\nb", "a\x00b", 'a"b']
)
def test_names_that_no_folder_can_have_are_refused(root, name):
    with pytest.raises(SettingsError, match="use letters, digits, '_' and '-' only"):
        project.find(name, root)


def test_a_project_that_is_not_there_is_answered_with_those_that_are(root):
    for name in ("boris", "astrid"):
        project.find(name, root).create()
    assert project.existing("astrid", root).name == "astrid"
    with pytest.raises(
        DatasetError, match="no project 'astrit' .*Projects here: astrid, boris. Make one with: "
    ):
        project.existing("astrit", root)


def test_the_root_is_moved_by_lorakit_home(monkeypatch, tmp_path):
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path / "mine"))
    assert project.root() == tmp_path / "mine"
    monkeypatch.setenv("LORAKIT_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert project.root() == tmp_path / "Loras"


# --- project.toml ---------------------------------------------------------------------------------


def test_settings_are_kept_and_the_users_comments_too(root):
    here = project.find("astrid", root).create()
    here.settings_file.write_text(
        '# my notes\n[training]\nepochs = 3 # enough\n\n[tagging]\nactivation_tag = "x"\n'
    )
    here.save(Small(epochs=5, words=("a", "b")))
    text = here.settings_file.read_text()
    assert "# my notes" in text and "epochs = 5 # enough" in text and 'activation_tag = "x"' in text
    assert here.load(Small) == Small(epochs=5, words=("a", "b"))


def test_without_a_file_the_defaults_hold(root):
    assert project.find("astrid", root).load(Small) == Small()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[training]\nepoch = 3\n",
            r"project\.toml \[training\]: there is no setting 'epoch'; did you mean 'epochs'?",
        ),
        ("[training]\nepochs = 0\n", r"\[training\]: epochs is 0; it must be at least 1"),
        ("[trainig]\nepochs = 3\n", r"there is no table \[trainig\]; did you mean 'training'?"),
        ("[training\n", "is not valid TOML .* Correct that line or delete the file"),
        ("training = 3\n", r"'training = \.\.\.' stands outside a table"),
        ("epochs = 3\n", r"'epochs = \.\.\.' stands outside a table"),
        ('[training]\nepochs = "x"\n', "epochs is 'x'; it takes a whole number"),
        ("[[training]]\nepochs = 3\n", r"write \[training\] in place of \[\[training\]\]"),
        ('[subset]\nfolder = "a"\n', r"write \[\[subset\]\] in place of \[subset\]"),
        ('[[subst]]\nfolder = "a"\n', r"there is no table \[subst\]; did you mean 'subset'?"),
        ("subset = 3\n", r"'subset = \.\.\.' stands outside a table"),
        ("subset = []\n", r"'subset = \.\.\.' stands outside a table"),
    ],
)
def test_a_mistake_in_the_file_is_answered_with_a_sentence(root, text, message):
    here = project.find("astrid", root).create()
    here.settings_file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        here.load(Small)
    assert here.settings_file.read_text() == text


PARTS = """# mine
[training]
epochs = 3 # enough

# the swimsuit
[[subset]]
folder = "b" # by hand
repeats = 3

[[subset]]
folder = "a"

[tagging]
activation_tag = "x"
"""


def test_tables_that_stand_several_times_are_read_in_order(root):
    here = project.find("astrid", root).create()
    assert here.load_all(Part) == ()
    here.settings_file.write_text(PARTS)
    assert here.load_all(Part) == (Part("b", 3), Part("a"))
    assert here.load(Small) == Small(epochs=3)
    here.settings_file.write_text('subset = [{folder = "a"}, {folder = "b"}]\n')
    assert here.load_all(Part) == (Part("a"), Part("b"))


@pytest.mark.parametrize(
    "values",
    [
        [],
        [Part("c")],
        [Part("b", 3), Part("a")],
        [Part("b", 4), Part("a", 2)],
        [Part("b"), Part("a"), Part("c", 9)],
    ],
)
def test_such_tables_are_written_as_given_and_nothing_else_changes(root, values):
    here = project.find("astrid", root).create()
    here.settings_file.write_text(PARTS)
    here.save_all(Part, values)
    assert here.load_all(Part) == tuple(values)
    text = here.settings_file.read_text()
    assert "# mine\n[training]\nepochs = 3 # enough" in text
    assert '[tagging]\nactivation_tag = "x"' in text
    assert ("# by hand" in text) == bool(values), "a comment stays with its place"
    if values == [Part("b", 3), Part("a")]:
        assert text == PARTS


def test_such_tables_can_be_the_first_that_a_file_gets(root):
    here = project.find("astrid", root).create()
    here.save_all(Part, [Part("a", 2), Part("b")])
    assert here.settings_file.read_text() == (
        '[[subset]]\nfolder = "a"\nrepeats = 2\n\n[[subset]]\nfolder = "b"\n'
    )
    here.settings_file.write_text('subset = [{folder = "a"}]\n')
    here.save_all(Part, [Part("b")])
    assert here.load_all(Part) == (Part("b"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[subset]]\nfolder = "a"\n[[subset]]\nfoldr = "b"\n',
            r"project\.toml \[\[subset\]\] number 2: there is no setting 'foldr'; did you mean "
            "'folder'?",
        ),
        ("[[subset]]\nrepeats = 0\n", r"number 1: repeats is 0; it must be at least 1"),
    ],
)
def test_a_mistake_in_such_a_table_is_answered_with_its_number(root, text, message):
    here = project.find("astrid", root).create()
    here.settings_file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        here.load_all(Part)


def test_saving_over_a_file_that_is_no_toml_is_refused_and_harms_nothing(root):
    here = project.find("astrid", root).create()
    here.settings_file.write_text("training = 3\n")
    with pytest.raises(SettingsError):
        here.save(Small())
    assert here.settings_file.read_text() == "training = 3\n"


def test_a_file_from_notepad_is_read(root):
    here = project.find("astrid", root).create()
    here.settings_file.write_bytes("\ufeff[training]\r\nepochs = 3\r\n".encode())
    assert here.load(Small) == Small(epochs=3)


# --- writing safely -------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path):
    file = files.write_text(tmp_path / "a.txt", "old")

    def disk_full(temporary):
        temporary.write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        SaveError, match=r"Could not write .*a\.txt: No space left on device\. Free some space"
    ):
        files.write_safely(file, disk_full)
    assert file.read_text() == "old" and list(tmp_path.glob(".*")) == []


def test_any_failure_while_writing_leaves_nothing_behind(tmp_path):
    file = files.write_text(tmp_path / "a.txt", "old")

    def interrupted(temporary):
        temporary.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_safely(file, interrupted)
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "cwd"]
    assert file.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_a_sentence_too(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="Could not write"):
        files.write_text(tmp_path / "file" / "a.txt", "x")


def test_free_names_are_counted_up(tmp_path):
    assert files.free_name(tmp_path / "a.txt") == tmp_path / "a.txt"
    (tmp_path / "a.txt").touch()
    (tmp_path / "a-2.txt").touch()
    assert files.free_name(tmp_path / "a.txt") == tmp_path / "a-3.txt"
