"""The commands about finished LoRA files: results, and one sentence with exit code 2 for bad
input.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lorakit import commands
from lorakit.__main__ import main
from lorakit.errors import SettingsError
from lorakit.project import Project
from lorakit.training import hub

from .training.lora_files import LINEAR, added, random_lora
from .training.test_card import trained


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A LoRA file of rank 6."""
    save_file(random_lora(0), tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Runs a command that must fail; returns the sentence it said."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("lorakit: ")
    return said


def result(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    """The JSON that a command prints."""
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", ["resize", "merge", "card", "upload"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_resize_makes_a_smaller_file_and_says_what_it_keeps(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.safetensors"
    made = result(capsys, "resize", file, "--rank", 4, "-o", small)
    assert (made["file"], made["ranks"]) == (str(small), {"4": 3})
    assert 0.5 < float(str(made["least_kept"])) < 1
    main(["resize", str(file), "--rank", "3", "-o", str(tmp_path / "b.safetensors")])
    said = capsys.readouterr().out
    assert "ranks 3 (3)). Each module keeps at least 80.2%" in said and "on average" in said


def test_resize_takes_a_share_and_a_rank_of_convolutions_and_a_number_format(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["resize", file, "-o"]
    by_share = result(capsys, *words, tmp_path / "1.safetensors", "--keep", 0.7)
    assert float(str(by_share["least_kept"])) >= 0.7
    both = result(
        capsys, *words, tmp_path / "2.safetensors", "--rank", 5, "--conv-rank", 2, "--keep", 1
    )
    assert both["ranks"] == {"2": 1, "5": 2}
    result(capsys, *words, tmp_path / "3.safetensors", "--rank", 5, "--precision", "bf16")
    assert str(load_file(tmp_path / "3.safetensors")[f"{LINEAR}.alpha"].dtype) == "torch.bfloat16"


def test_merge_adds_files_with_their_weights(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "with=sign.safetensors"
    save_file(random_lora(1), other)
    both = tmp_path / "both.safetensors"
    made = result(capsys, "merge", f"{file}=0.7", other, "-o", both)
    assert made["ranks"] == {"12": 3}
    wanted = 0.7 * added(random_lora(0), LINEAR) + added(random_lora(1), LINEAR)
    assert (added(load_file(both), LINEAR) - wanted).abs().max() < 1e-6
    smaller = tmp_path / "smaller.safetensors"
    made = result(capsys, "merge", f"{file}=1", f"{other}=-1", "--rank", 4, "-o", smaller)
    assert made["ranks"] == {"4": 3}


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("a.safetensors=0.7", ("a.safetensors", 0.7)),
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("x=y/a.safetensors=-1e-1", ("x=y/a.safetensors", -0.1)),
        (r"C:\a.safetensors=2", (r"C:\a.safetensors", 2.0)),
    ],
)
def test_a_file_and_its_weight_are_told_apart(word: str, wanted: tuple[str, float]) -> None:
    assert commands.weighted(word) == (Path(wanted[0]), wanted[1])


def test_a_weight_that_is_no_number_is_refused() -> None:
    with pytest.raises(
        SettingsError, match="'much' in 'a=much' is not a weight; write FILE=WEIGHT"
    ):
        commands.weighted("a=much")


def test_bad_input_is_one_sentence_and_no_file_is_lost(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, new = file.read_bytes(), tmp_path / "new.safetensors"
    for words, said in (
        (("resize", file, "-o", new), "Say how small: --rank 8, or --keep 0.95, or both."),
        (("resize", file, "--rank", 0, "-o", new), "--rank must be at least 1"),
        (("resize", file, "--rank", 4, "--conv-rank", 0, "-o", new), "--conv-rank must be at"),
        (("resize", file, "--keep", 1.5, "-o", new), "--keep is 1.5; it must be above 0"),
        (("resize", file, "--rank", 9, "-o", new), "there is nothing to make smaller"),
        (("resize", file, "--rank", 4, "-o", file), "is what is read from"),
        (("resize", tmp_path / "no.safetensors", "--rank", 4, "-o", new), "There is no LoRA file"),
        (("merge", f"{file}=0", "-o", new), "The weight of"),
        (("merge", file, file, "-o", file), "is what is read from"),
        (("card", "nobody"), "There is no project 'nobody'"),
        (("upload", "nobody", "--repo", "a/b"), "There is no project 'nobody'"),
    ):
        assert said in fails(capsys, *words)
    assert file.read_bytes() == before and not new.exists()


def test_card_writes_the_readme_but_not_over_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = trained(tmp_path)
    readme = project.output / "README.md"
    assert result(capsys, "card", "astrid")["file"] == str(readme)
    readme.write_text("mine")
    assert "README.md was written or changed by hand" in fails(capsys, "card", "astrid")
    result(capsys, "card", "astrid", "--overwrite", "--repo", "jane/astrid")
    assert "'jane/astrid'" in readme.read_text()


def test_upload_is_private_unless_public_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def upload(
        project: Project, repo: str, private: bool, epochs: bool
    ) -> hub.Uploaded:  # the real one is tested in training/test_hub.py
        asked.append((project.name, repo, private, epochs))
        return hub.Uploaded(f"https://huggingface.co/{repo}", private, ("README.md",))

    monkeypatch.setattr(hub, "upload", upload)
    trained(tmp_path)
    done = result(capsys, "upload", "astrid", "--repo", "jane/astrid")
    assert (done["url"], done["files"]) == ("https://huggingface.co/jane/astrid", ["README.md"])
    assert main(["upload", "astrid", "--repo", "jane/astrid", "--public", "--epochs"]) == 0
    assert "everyone can see it" in capsys.readouterr().out
    assert asked == [
        ("astrid", "jane/astrid", True, False),
        ("astrid", "jane/astrid", False, True),
    ]
