"""Galleries: small, bounded, and safe to show whatever captions and names hold."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from lorakit.dataset import Picture, remove, scan
from lorakit.errors import DatasetError
from lorakit.widgets import gallery


def test_the_gallery_shows_every_picture_with_its_caption(project):
    (project.dataset / "1.txt").write_text("mila, green ball")
    html = gallery.gallery(project).value
    assert "4 pictures" in html and html.count("<img ") == 4
    assert "<b>1.png</b><br>mila, green ball" in html
    assert html.count("no caption yet") == 3


def test_the_gallery_refuses_an_empty_project_in_one_sentence(empty):
    with pytest.raises(DatasetError, match="There are no pictures in .*Put some there"):
        gallery.gallery(empty)


def test_captions_are_text_even_if_they_look_like_html(project):
    (project.dataset / "1.txt").write_text("<script>alert(1)</script> & more")
    html = gallery.dataset_page(project)
    assert "<script>" not in html and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html


def test_a_caption_that_is_not_text_is_said_beside_its_picture(project):
    (project.dataset / "2.txt").write_bytes(b"\xff\xfe\x00")
    assert "2.txt is not UTF-8 text" in gallery.dataset_page(project)


def test_only_so_many_are_shown_and_the_rest_is_counted(project):
    html = gallery.dataset_page(project, limit=3)
    assert html.count("<img ") == 3 and "and 1 more" in html
    assert "more" not in gallery.dataset_page(project, limit=4)


def test_a_thumbnail_is_small_whatever_the_picture(tmp_path):
    Image.effect_noise((2000, 3000), 90).save(tmp_path / "noise.png")
    tag = gallery.file_tag(tmp_path / "noise.png")
    assert len(tag) < 16_000
    assert tag.startswith('<img src="data:image/jpeg;base64,')


def test_a_thumbnail_follows_the_file(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (50, 50), "red").save(path)
    first = gallery.file_tag(path)
    assert gallery.file_tag(path) is first, "the same file is not decoded twice"
    Image.new("RGB", (50, 50), "blue").save(path)
    assert gallery.file_tag(path) != first


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", None])
def test_what_is_not_a_picture_gets_a_box(tmp_path, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    assert "not a picture" in gallery.file_tag(path)


def test_removed_pictures_are_shown_newest_first_with_the_reason(project):
    assert "Nothing has been removed" in gallery.removed_page(project)
    first, second = scan(project.dataset)[:2]
    remove(project, first, "blurred & dark")
    remove(project, second, "near-duplicate of 3.png")
    html = gallery.removed_page(project)
    assert "2 removed" in html and "blurred &amp; dark" in html
    assert re.findall(r"<b>(\d\.png)</b>", html) == ["1.png", "0.png"]


def test_reasons_leave_out_the_folder_that_everybody_knows(project):
    remove(project, scan(project.dataset)[0], f"{project.dataset / '0.png'} cannot be read")
    assert "0.png</b><br>0.png cannot be read" in gallery.removed_page(project)


def test_groups_show_what_stays_before_what_went(project):
    paths = [picture.path for picture in scan(project.dataset)]
    html = gallery.groups_page([(paths[0], paths[1:3]), (paths[3], [paths[2]])])
    assert re.findall(r"<b>(\d\.png)</b><br>(stays|moved)", html) == [
        ("0.png", "stays"),
        ("1.png", "moved"),
        ("2.png", "moved"),
        ("3.png", "stays"),
        ("2.png", "moved"),
    ]
    assert "and 1 more groups" in gallery.groups_page(
        [(paths[0], paths[1:]), (paths[3], [paths[2]])], limit=4
    )


def test_tag_counts_are_bars_of_the_share_of_captions():
    html = gallery.counts_table({"solo": 4, "<b>": 1}, total=4)
    assert "width:100%" in html and "width:25%" in html and "&lt;b&gt;" in html
    assert "and 2 more tags" in gallery.counts_table(dict.fromkeys("abcd", 1), total=1, limit=2)


def test_a_grid_takes_files_and_pictures_in_memory(project):
    files = [picture.path for picture in scan(project.dataset)][:2]
    memory = [Image.new("RGB", (8, 8)), Image.new("RGBA", (8, 8))]
    html = gallery.grid_table([("step 0", files), ("epoch <1>", memory)], ["mila", "a & b"])
    assert html.count("<img ") == 4 and html.count("<tr>") == 3
    assert "epoch &lt;1&gt;" in html and "a &amp; b" in html


def test_a_picture_is_not_changed_by_being_shown(project):
    path = Picture(project.dataset / "0.png").path
    before = path.read_bytes()
    gallery.dataset_page(project)
    assert path.read_bytes() == before
