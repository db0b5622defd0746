"""Bringing offered pictures into a project: nothing twice, nothing over what is there."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from PIL import Image

from lorakit.collect.finds import Find, Offer, Origin
from lorakit.collect.intake import PART, take
from lorakit.collect.origins import path_of, read_origins
from lorakit.dataset import remove, scan
from lorakit.errors import CollectError, Refused, SaveError
from lorakit.project import Project, find


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return find(str(tmp_path / "astrid")).create()


def painted(colour: str) -> Image.Image:
    return Image.new("RGB", (32, 32), colour)


def offered(id: str, colour: str = "red", **more: object) -> Find:
    origin = Origin("safebooru", id, f"https://example.org/{id}", ("1girl", "smile"))
    write = more.pop("write", lambda path: painted(colour).save(path, "PNG"))
    return Find(origin, f"safebooru_{id}.png", write, **more)  # type: ignore[arg-type]


def names(project: Project) -> list[str]:
    return [picture.name for picture in scan(project.dataset)]


def test_pictures_come_with_their_captions_and_where_they_came_from(project: Project) -> None:
    taken = take(project, Offer([offered("1", caption="astrid, smile"), offered("2", "blue")]))
    assert names(project) == ["safebooru_1.png", "safebooru_2.png"]
    assert (project.dataset / "safebooru_1.txt").read_text() == "astrid, smile\n"
    assert str(taken) == "2 new pictures."
    origin = read_origins(project)["safebooru_1.png"]
    assert origin == Origin("safebooru", "1", "https://example.org/1", ("1girl", "smile"))


def test_nothing_is_fetched_twice_not_even_what_was_removed_since(project: Project) -> None:
    take(project, Offer([offered("1")]))
    remove(project, scan(project.dataset)[0], "not her")
    fetched: list[Path] = []
    taken = take(project, Offer([offered("1", write=fetched.append), offered("2"), offered("2")]))
    assert fetched == [] and names(project) == ["safebooru_2.png"]
    assert str(taken) == "1 new pictures; 2 were here already."


def test_what_is_there_under_that_name_stays_and_a_caption_is_not_shared(project: Project) -> None:
    painted("green").save(project.dataset / "safebooru_1.jpg")
    (project.dataset / "safebooru_1.txt").write_text("mine")
    take(project, Offer([offered("1", caption="theirs")]))
    assert names(project) == ["safebooru_1-2.png", "safebooru_1.jpg"]
    assert (project.dataset / "safebooru_1.txt").read_text() == "mine"
    assert (project.dataset / "safebooru_1-2.txt").read_text() == "theirs\n"


def test_one_that_cannot_be_had_does_not_stop_the_others(project: Project) -> None:
    def gone(path: Path) -> None:
        raise CollectError("it was taken down")

    taken = take(project, Offer([offered("1", write=gone), offered("2")]))
    assert str(taken) == "1 new pictures; 1 could not be had: safebooru_1.png (it was taken down)."
    assert names(project) == ["safebooru_2.png"]


def test_what_is_no_picture_is_not_taken(project: Project) -> None:
    page = offered("1", write=lambda path: path.write_text("<html>"))
    taken = take(project, Offer([page]))
    assert taken.failed == {"safebooru_1.png": "it is no picture, or damaged"}
    assert list(project.dataset.iterdir()) == [] and read_origins(project) == {}


def test_a_source_that_refuses_everything_ends_it(project: Project) -> None:
    def refused(path: Path) -> None:
        raise Refused("the key is wrong")

    with pytest.raises(Refused, match="the key is wrong"):
        take(project, Offer([offered("1"), offered("2", write=refused)]))
    assert names(project) == ["safebooru_1.png"]


def test_killed_before_it_was_noted_the_next_run_takes_it_for_what_it_is(project: Project) -> None:
    take(project, Offer([offered("1"), offered("2", "blue")]))
    lines = path_of(project).read_text().splitlines()
    path_of(project).write_text("\n".join([lines[1], lines[2][:20]]))  # cut off by the crash
    (project.dataset / f"{PART}safebooru_3.png").write_bytes(b"half a pic")
    taken = take(project, Offer([offered("1"), offered("2", "blue"), offered("3", "white")]))
    assert names(project) == ["safebooru_1.png", "safebooru_2.png", "safebooru_3.png"]
    assert taken.known == 2 and len(taken.new) == 1
    assert set(read_origins(project)) == set(names(project))


@pytest.mark.parametrize("name, folder", [("../out.png", ""), ("a.png", ".."), ("/a.png", "")])
def test_nothing_is_written_outside_the_dataset(project: Project, name: str, folder: str) -> None:
    find = Find(Origin("zip", "1"), name, lambda path: painted("red").save(path), folder=folder)
    taken = take(project, Offer([find]))
    assert "points outside the dataset" in taken.failed[name]
    assert not (project.dataset.parent / "out.png").exists()


def test_a_full_disk_is_said_plainly_and_the_next_run_goes_on(project: Project) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SaveError, match=r"2\.png could not be .*: No space left .* it goes on\."):
        take(project, Offer([offered("1"), offered("2", write=full), offered("3")]))
    assert str(take(project, Offer([offered("1"), offered("2", "blue")]))) == (
        "1 new pictures; 1 were here already."
    )


def test_a_file_where_a_folder_should_be_costs_only_the_pictures_of_that_folder(
    project: Project,
) -> None:
    inside = [offered(id, folder=folder) for id, folder in [("1", "x.png"), ("2", "x.png/deep")]]
    painted("green").save(project.dataset / "x.png")
    taken = take(project, Offer([*inside, offered("3", "blue")]))
    assert taken.failed == {
        "safebooru_1.png": "the folder x.png cannot be made: a file has that name",
        "safebooru_2.png": "the folder x.png/deep cannot be made: a file has that name",
    }
    assert names(project) == ["safebooru_3.png", "x.png"]


def test_a_folder_where_a_picture_should_be_does_not_lose_the_picture(project: Project) -> None:
    inside = offered("1", "blue", folder="safebooru_2.png")
    take(project, Offer([offered("3", "white"), inside, offered("2")]))
    found = [picture.path.relative_to(project.dataset) for picture in scan(project.dataset)]
    assert [path.as_posix() for path in found] == [
        "safebooru_2-2.png",
        "safebooru_2.png/safebooru_1.png",
        "safebooru_3.png",
    ]


def test_a_file_named_dataset_is_said_to_be_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "dataset").write_text("notes")
    with pytest.raises(SaveError, match="dataset cannot be made: a file has that name. Move what"):
        take(find(str(tmp_path / "p")), Offer([offered("1")]))
    assert (tmp_path / "p" / "dataset").read_text() == "notes"
