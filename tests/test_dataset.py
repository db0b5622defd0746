"""Pictures and captions: found, read, written, taken out and brought back, and nothing ever
lost.
"""

import pytest
from PIL import Image

from lorakit import dataset, project
from lorakit.dataset import Picture
from lorakit.errors import DatasetError


@pytest.fixture
def here(tmp_path):
    return project.find("astrid", tmp_path).create()


def picture(here, name, color=(200, 30, 30), size=(4, 3), caption=None):
    """Saves a small picture, with a caption if one is given."""
    path = here.dataset / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return Picture(path)


def everything(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- finding --------------------------------------------------------------------------------------


def test_pictures_are_found_in_folders_too_and_in_order(here):
    for name in ("b.png", "A.JPG", "sub/c.webp", ".hidden.png", ".trash/d.png", "sub/e.txt"):
        (here.dataset / name).parent.mkdir(exist_ok=True)
        (here.dataset / name).touch()
    assert [str(p.path.relative_to(here.dataset)) for p in dataset.scan(here.dataset)] == [
        "A.JPG",
        "b.png",
        "sub/c.webp",
    ]


def test_a_mask_is_no_picture_but_belongs_to_one(here):
    one = picture(here, "a.png")
    for name in ("a.mask.png", "b.MASK.PNG", "sub/c.mask.png"):
        picture(here, name)
    assert dataset.scan(here.dataset) == [one]
    assert dataset.require(here.dataset) == [one]
    assert one.mask_path == here.dataset / "a.mask.png"
    assert Picture(here.dataset / "b.png").mask_path == here.dataset / "b.MASK.PNG"
    assert Picture(here.dataset / "d.png").mask_path == here.dataset / "d.mask.png"


def test_an_empty_folder_is_answered_with_what_it_takes(here):
    with pytest.raises(
        DatasetError, match=r"no pictures in .*dataset. Put some there \(avif, bmp, gif,.*png.*\)"
    ):
        dataset.require(here.dataset)


def test_two_pictures_that_would_share_a_caption_are_refused(here):
    picture(here, "a.png"), picture(here, "a.jpg"), picture(here, "sub/a.png")
    with pytest.raises(
        DatasetError,
        match=r"a\.jpg and a\.png in .* would share one caption file. Rename one of them",
    ):
        dataset.require(here.dataset)


# --- broken pictures -----------------------------------------------------------------------------


def test_broken_pictures_are_listed_with_the_reason(here):
    good, bad = picture(here, "good.png"), picture(here, "bad.png")
    bad.path.write_bytes(bad.path.read_bytes()[:30])
    told = []
    assert list(dataset.broken([good, bad], lambda *line: told.append(line))) == [bad]
    assert told[-1] == ("Checking pictures", 2, 2)
    assert "Remove or replace it" in dataset.broken([bad])[bad]


# --- captions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        (b"smile, sky\n", "smile, sky"),
        ("\ufeffsmile".encode(), "smile"),
        (b"smile\r\n", "smile"),
        (b"", ""),
        ("日本, ^_^".encode(), "日本, ^_^"),
    ],
)
def test_captions_of_all_sorts_are_read(here, data, caption):
    one = picture(here, "a.png")
    assert dataset.read_caption(one) is None
    one.caption_path.write_bytes(data)
    assert dataset.read_caption(one) == caption


def test_a_caption_that_is_no_utf8_is_named(here):
    one = picture(here, "a.png")
    one.caption_path.write_bytes("日本".encode("shift-jis"))
    with pytest.raises(DatasetError, match=r"a\.txt is not UTF-8 text .* Save it again as UTF-8"):
        dataset.read_caption(one)


def test_a_folder_in_the_place_of_a_caption_is_named(here):
    one = picture(here, "a.png")
    one.caption_path.mkdir()
    with pytest.raises(DatasetError, match=r"a\.txt cannot be read"):
        dataset.read_caption(one)


def test_the_other_suffix_is_used_where_it_is(here):
    one = picture(here, "a.png")
    (here.dataset / "a.caption").write_text("smile")
    assert dataset.read_caption(one) == "smile"
    dataset.write_captions(here, {one: "sky"})
    assert (here.dataset / "a.caption").read_text() == "sky\n" and not (
        here.dataset / "a.txt"
    ).exists()


def test_an_edit_of_many_captions_can_be_taken_back(here):
    a, b, c = (
        picture(here, "a.png", caption="one"),
        picture(here, "sub/b.png"),
        picture(here, "c.png", caption="same"),
    )
    assert dataset.write_captions(here, {a: "two", b: "new", c: "same"}).parent == here.removed
    assert [dataset.read_caption(p) for p in (a, b, c)] == ["two", "new", "same"]
    assert dataset.undo_captions(here) == 2
    assert [dataset.read_caption(p) for p in (a, b, c)] == ["one", None, "same"]
    assert (here.removed / "b.txt").read_text() == "new\n", "even the new caption is kept"


def test_edits_are_taken_back_one_by_one_the_last_first(here):
    one = picture(here, "a.png", caption="1")
    for text in ("2", "3"):
        dataset.write_captions(here, {one: text})
    dataset.undo_captions(here)
    assert dataset.read_caption(one) == "2"
    dataset.undo_captions(here)
    assert dataset.read_caption(one) == "1"
    with pytest.raises(DatasetError, match="There is no caption edit to undo"):
        dataset.undo_captions(here)


def test_an_edit_that_changes_nothing_leaves_no_record(here):
    assert dataset.write_captions(here, {picture(here, "a.png", caption="one"): "one"}) is None
    assert list(here.removed.iterdir()) == []


def test_undo_leaves_alone_what_was_written_by_hand_since(here):
    a, b = picture(here, "a.png", caption="old"), picture(here, "b.png", caption="old")
    dataset.write_captions(here, {a: "new", b: "new"})
    a.caption_path.write_text("by hand, an hour's work")
    assert dataset.undo_captions(here) == 1
    assert (dataset.read_caption(a), dataset.read_caption(b)) == ("by hand, an hour's work", "old")


def test_undo_after_a_kill_in_the_middle_gives_all_old_captions_back(here, monkeypatch):
    pictures = [picture(here, f"{i}.png", caption="old") for i in range(4)]
    write, left = dataset.write_text, [3]  # the record and two captions

    def killed(path, text):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return write(path, text)

    monkeypatch.setattr(dataset, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        dataset.write_captions(here, dict.fromkeys(pictures, "new"))
    monkeypatch.undo()
    assert [dataset.read_caption(p) for p in pictures] == ["new", "new", "old", "old"]
    assert dataset.undo_captions(here) == 2
    assert [dataset.read_caption(p) for p in pictures] == ["old"] * 4


def test_undo_keeps_out_of_other_folders(here, tmp_path):
    (tmp_path / "secret.txt").write_text("new")
    (here.removed / "captions-1.json").write_text(
        '[{"file": "../../secret.txt", "old": "gone", "new": "new"}]'
    )
    with pytest.raises(DatasetError, match="points outside"):
        dataset.undo_captions(here)
    assert (tmp_path / "secret.txt").read_text() == "new"


# --- taking out and bringing back -----------------------------------------------------------------


def test_a_removed_picture_goes_with_its_caption_and_a_reason_and_comes_back(here):
    one = picture(here, "sub/a.png", caption="smile")
    before = everything(here.dataset)
    assert dataset.remove(here, one, "blurred") == here.removed / "a.png"
    assert everything(here.dataset) == {}
    assert dataset.removals(here) == [{"file": "sub/a.png", "to": "a.png", "reason": "blurred"}]
    assert dataset.restore(here, "a.png") == one
    assert everything(here.dataset) == before and dataset.removals(here) == []


def test_captions_of_removed_pictures_do_not_overwrite_each_other(here):
    dataset.remove(here, picture(here, "a.png", caption="of the png"), "x")
    dataset.remove(here, picture(here, "a.jpg", caption="of the jpg"), "x")
    dataset.remove(here, picture(here, "sub/a.png", caption="of the other png"), "x")
    texts = {path.read_text() for path in here.removed.glob("*.txt")}
    assert texts == {"of the png", "of the jpg", "of the other png"}
    for row in dataset.removals(here):
        dataset.restore(here, row["to"])
    texts = {path.read_text() for path in here.dataset.rglob("*.txt")}
    assert texts == {"of the png", "of the jpg", "of the other png"}


def test_a_picture_does_not_come_back_over_another(here):
    dataset.remove(here, picture(here, "a.png", (1, 1, 1), caption="first"), "x")
    picture(here, "a.jpg", caption="second")
    back = dataset.restore(here, "a.png")
    assert back.name == "a-2.png" and dataset.read_caption(back) == "first"
    assert (here.dataset / "a.txt").read_text() == "second"


def test_both_kinds_of_caption_go_along(here):
    one = picture(here, "a.png", caption="tags")
    (here.dataset / "a.caption").write_text("a sentence")
    dataset.remove(here, one, "x")
    assert everything(here.dataset) == {}
    assert dataset.restore(here, "a.png") == one
    assert (here.dataset / "a.caption").read_text() == "a sentence"


@pytest.mark.parametrize("suffix", dataset.MASKS)
def test_a_mask_goes_along_and_lands_on_no_other(here, suffix):
    masks = {}
    for name, color in (("a.png", (9, 9, 9)), ("sub/a.png", (7, 7, 7))):
        one = picture(here, name)
        picture(here, f"{name[:-4]}{suffix}", color)
        masks[one] = one.mask_path.read_bytes()
        dataset.remove(here, one, "x")
    assert everything(here.dataset) == {}
    for row in dataset.removals(here):
        back = dataset.restore(here, row["to"])
        assert back.mask_path.read_bytes() == masks[back]


def test_a_mask_left_behind_in_removed_is_not_taken_for_anothers(here):
    (here.removed / "a.mask.png").write_bytes(b"left behind")
    target = dataset.remove(here, picture(here, "a.png"), "x")
    assert target.name == "a-2.png"


def test_a_picture_removed_twice_is_listed_once(here):
    for reason in ("first", "second"):
        dataset.remove(here, picture(here, "a.png"), reason)
        if reason == "first":
            dataset.restore(here, "a.png")
    assert [row["reason"] for row in dataset.removals(here)] == ["second"]


def test_a_record_cut_off_by_a_crash_hides_no_other(here):
    dataset.remove(here, picture(here, "a.png"), "x")
    with (here.removed / dataset.RECORD).open("a") as record:
        record.write('\n{"file": "b.p')
    dataset.remove(here, picture(here, "c.png"), "x")
    assert [row["to"] for row in dataset.removals(here)] == ["a.png", "c.png"]


def test_restoring_what_was_never_removed_is_refused(here):
    with pytest.raises(DatasetError, match=r"x\.png is not a removed picture"):
        dataset.restore(here, "x.png")
