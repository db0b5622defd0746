"""The command line: help, machine-readable results, and one plain sentence with exit code 2 for bad
input.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from PIL import Image

from lorakit.__main__ import _confirmed, _told, main
from lorakit.demo.sample import good_picture
from lorakit.project import find
from lorakit.tagging.captions import TaggingSettings
from lorakit.training import parallel
from lorakit.training.config import TrainingSettings
from lorakit.training.loop import StepDone

COMMANDS = ("demo", "init", "tag", "plan", "train", "preview", "inspect")
QUICK = [
    "repeats=1",
    "epochs=1",
    "batch_size=4",
    "resolution=128",
    "bucket_step=32",
    "base_model=demo",
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path / "Loras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "Loras"


@pytest.fixture
def dataset(home: Path) -> Path:
    folder = home / "astrid" / "dataset"
    folder.mkdir(parents=True)
    for i in range(3):
        good_picture(i).resize((128, 192)).save(folder / f"{i}.png")
    return folder


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Runs a command that must fail; returns the sentence it said."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("lorakit: ")
    return said


def result(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    """The JSON that a command prints."""
    assert main([str(word) for word in words] + ["--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_init_makes_the_folders_and_a_settings_file_and_copies_pictures(
    home: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = result(capsys, "init", "copy", "--pictures", dataset)
    assert made["copied"] == 3
    assert {p.name for p in (home / "copy").iterdir()} == {
        "dataset",
        "output",
        "removed",
        "project.toml",
    }
    assert "resolution = 1024" in (home / "copy" / "project.toml").read_text()


def test_plan_shows_exact_steps_and_aims_for_a_number(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert result(capsys, "plan", "astrid", "--set", *QUICK)["steps"] == 1
    aimed = result(capsys, "plan", "astrid", "--aim", 450)
    assert abs(int(str(aimed["steps"])) - 450) < 45
    assert result(capsys, "plan", "astrid")["steps"] == aimed["steps"]  # it was saved


def test_tag_train_preview_and_inspect_follow_each_other(
    home: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tagged = result(capsys, "tag", "astrid", "--set", "tagger=demo", "activation_tag=astrid")
    assert tagged["captions"] == 3
    assert all(p.read_text().startswith("astrid") for p in dataset.glob("*.txt"))
    saved = find(str(home / "astrid")).load(TaggingSettings)
    assert (saved.activation_tag, saved.tagger) == ("astrid", "demo")  # training goes by them
    (home / "astrid" / "project.toml").write_text(
        "[training]\n"
        + "\n".join(
            f'{k} = "{v}"' if k == "base_model" else f"{k} = {v}"
            for k, v in (w.split("=") for w in QUICK)
        )
        + "\n[preview]\ncount = 1\nsteps = 2\n[tagging]\nactivation_tag = 'astrid'\ntagger = "
        "'demo'\n"
    )
    trained = result(capsys, "train", "astrid")
    assert trained["steps"] == 1
    assert Path(
        str(result(capsys, "preview", "astrid", "--prompt", "astrid, smile")["file"])
    ).exists()
    inspected = result(capsys, "inspect", trained["lora_file"])
    assert inspected["kind"] == "LoRA"
    assert inspected["ranks"] == {"8": 228}


def test_undoing_the_tagging_takes_the_captions_away_again(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result(capsys, "tag", "astrid", "--set", "tagger=demo", "activation_tag=astrid")
    assert result(capsys, "tag", "astrid", "--undo")["captions"] == 3
    assert not list(dataset.glob("*.txt"))


def test_an_error_as_json_when_asked(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["plan", "nobody", "--json"]) == 2
    assert "There is no project 'nobody'" in json.loads(capsys.readouterr().out)["error"]


# --- bad input: one sentence, exit code 2, nothing lost -------------------------------------------


def test_an_empty_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", "empty"])
    for command in ("tag", "plan", "train"):
        assert "There are no pictures in" in fails(capsys, command, "empty")


def test_a_broken_picture(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dataset / "1.png"
    path.write_bytes(path.read_bytes()[:500])
    assert f"{path} cannot be read as a picture" in fails(capsys, "train", "astrid")
    assert path.exists()


def test_a_missing_caption(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "3 of 3 pictures have no caption" in fails(capsys, "train", "astrid")


def test_an_unknown_key_names_the_nearest(
    home: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "astrid" / "project.toml").write_text("[training]\nepoch = 3\n")
    assert "there is no setting 'epoch'; did you mean 'epochs'?" in fails(capsys, "plan", "astrid")
    assert "epoch = 3" in (home / "astrid" / "project.toml").read_text()


def test_an_unknown_setting_on_the_command_line_names_the_nearest(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean 'batch_size'?" in fails(capsys, "plan", "astrid", "--set", "batchsize=2")


def test_a_value_out_of_range(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "batch_size is 0; it must be from 1 to 64 pictures" in fails(
        capsys, "plan", "astrid", "--set", "batch_size=0"
    )


def captioned(dataset: Path) -> None:
    for picture in dataset.glob("*.png"):
        picture.with_suffix(".txt").write_text("astrid, smile\n")


def test_a_wrong_base_model(
    dataset: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    captioned(dataset)
    assert "There is no base model at" in fails(
        capsys, "train", "astrid", "--set", "base_model=/no/such/model.safetensors"
    )
    page = tmp_path / "page.safetensors"
    page.write_text("<html>")
    assert "is not a safetensors file" in fails(
        capsys, "train", "astrid", "--set", f"base_model={page}"
    )


@pytest.mark.parametrize(
    ("answer", "terminal", "sentence"),
    [
        ("y", True, "There is no base model at"),  # that far it came
        ("", True, "has 30 steps, more than most_steps (20)"),
        ("y", False, "has 30 steps, more than most_steps (20)"),
    ],
)
def test_a_very_long_run_is_started_only_by_someone_who_says_so(
    dataset: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    terminal: bool,
    sentence: str,
) -> None:
    captioned(dataset)
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal)
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or answer)
    changes = ["epochs=30", "most_steps=20", "base_model=/no/such/model.safetensors"]
    assert sentence in fails(capsys, "train", "astrid", "--set", *QUICK, *changes)
    assert asked == (["Train all of them? [y/N] "] if terminal else [])


def test_only_the_first_of_several_processes_asks_and_all_hear_the_answer(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioned(dataset)
    here = find("astrid")
    chosen = TrainingSettings(repeats=1, epochs=30, batch_size=4, most_steps=20)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("the second process asked"))
    monkeypatch.setattr(parallel, "join", lambda: parallel.World(rank=1, count=2))
    for first_said in (True, False):
        monkeypatch.setattr(parallel, "anywhere", lambda mine, _: mine or first_said)  # noqa: B023
        assert _confirmed(here, chosen).most_steps == (30 if first_said else 20)


def test_the_terminal_shows_loss_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, int, int]] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    event = StepDone(3, 8, 1, loss=0.125, lr=1e-4, gradient=0.0321, seconds=1.0)
    _told(event, lambda *words: shown.append(words))
    assert shown == [("Training, loss 0.125, gradient 0.032", 3, 8)]


def test_a_full_disk_while_saving(
    home: Path, dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioned(dataset)
    (home / "astrid" / "project.toml").write_text("[preview]\ncount = 0\n")

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert "No space left on device. Free some space" in fails(
            capsys, "train", "astrid", "--set", *QUICK
        )
    assert len(list(dataset.iterdir())) == 6
    with Image.open(dataset / "0.png") as picture:
        assert picture.size == (128, 192)
