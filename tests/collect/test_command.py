"""`python -m lorakit collect`: a command for each source, made from its settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorakit.__main__ import main, parser
from lorakit.collect import NAMES, source
from lorakit.collect.command import joined
from lorakit.demo.sample import good_picture
from lorakit.settings import specs


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_an_option_with_its_meaning(name: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["collect", name, "--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for spec in specs(source(name).settings):
        assert f"--{spec.name.replace('_', '-')} " in said
        assert spec.help.split(";")[0].split("%")[0][:30] in said
    assert "--dry-run" in said and "--json" in said and "SET_" not in said


def test_a_dry_run_shows_and_takes_nothing(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine").mkdir()
    good_picture(1).save(tmp_path / "mine" / "a.png")
    words = ["collect", "archives", str(tmp_path / "mine"), "--project", str(tmp_path / "p")]
    assert main([*words, "--dry-run", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["found"], shown["new"], shown["names"]) == (1, 1, ["a.png"])
    assert Path(shown["sheet"]).stat().st_size > 1000
    assert not (tmp_path / "p" / "dataset" / "a.png").exists()

    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 1
    assert (tmp_path / "p" / "dataset" / "a.png").exists()
    assert main([*words, "--json"]) == 0
    taken = json.loads(capsys.readouterr().out)
    assert (taken["new"], taken["known"]) == (0, 1)


def test_options_hold_for_this_run_only_and_those_of_the_project_otherwise(
    tmp_path: Path, capsys
) -> None:
    (tmp_path / "mine").mkdir()
    good_picture(1).save(tmp_path / "mine" / "a.png")
    (tmp_path / "mine" / "a.txt").write_text("smile")
    project = tmp_path / "p" / "project.toml"
    words = ["collect", "archives", str(tmp_path / "mine"), "--project", str(tmp_path / "p")]
    assert main([*words, "--captions", "false"]) == 0
    assert not (tmp_path / "p" / "dataset" / "a.txt").exists()
    assert not project.exists()
    good_picture(2).save(tmp_path / "mine" / "b.png")
    (tmp_path / "mine" / "b.txt").write_text("smile")
    assert main(words) == 0
    assert (tmp_path / "p" / "dataset" / "b.txt").read_text() == "smile\n"
    project.write_text("[archives]\ncaptions = false\n")
    good_picture(3).save(tmp_path / "mine" / "c.png")
    (tmp_path / "mine" / "c.txt").write_text("smile")
    assert main(words) == 0
    assert not (tmp_path / "p" / "dataset" / "c.txt").exists()
    assert project.read_text() == "[archives]\ncaptions = false\n"


def test_a_wrong_value_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys) -> None:
    words = ["collect", "boorus", "--project", str(tmp_path / "p"), "--site", "danboru"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("lorakit: command line: site is 'danboru'; did you mean 'danbooru'?")
    assert not (tmp_path / "p").exists()


def test_a_value_may_begin_with_a_minus(tmp_path: Path, capsys) -> None:
    here = ["--project", str(tmp_path / "p")]
    said = parser().parse_args(
        joined(["collect", "models3d", "girl.glb", *here, "--elevations", "-20,0", "--json"])
    )
    assert (said.set_elevations, said.json, said.items) == ("-20,0", True, ["girl.glb"])
    said = parser().parse_args(joined(["collect", "boorus", "--tags", "-comic", *here]))
    assert said.set_tags == "-comic"
    assert main(["collect", "models3d", "girl.glb", *here, "--elevations", "-99,0"]) == 2
    assert "elevations has '-99'" in capsys.readouterr().err


def test_a_flag_without_its_value_is_still_said_to_be_one(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["collect", "boorus", "--tags", "--project", str(tmp_path / "p")])
    assert "argument --tags: expected one argument" in capsys.readouterr().err


def test_nothing_at_all_is_a_failure_but_a_dry_run_tells_what_there_is(
    tmp_path: Path, capsys
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.pdf").write_bytes(b"x")
    words = ["collect", "archives", str(tmp_path / "mine"), "--project", str(tmp_path / "p")]
    assert main([*words, "--dry-run"]) == 0
    assert "0 new pictures of 0." in capsys.readouterr().out
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "Left out: 1 files that are no pictures (notes.pdf)." in said
    assert "Nothing was found" in said
    assert not (tmp_path / "p").exists()


def test_when_none_could_be_had_it_is_a_failure(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").write_bytes(b"<html>")
    words = ["collect", "archives", str(tmp_path / "mine"), "--project", str(tmp_path / "p")]
    assert main(words) == 2
    assert "a.png (it is no picture, or damaged)" in capsys.readouterr().err
    good_picture(1).save(tmp_path / "mine" / "b.png")
    assert main(words) == 0
    assert main(words) == 0  # b.png is known: nothing new is no failure
