"""Zips from anywhere: nothing is written outside the project, nothing eats the machine, and names
of all the world are read.
"""

from __future__ import annotations

import io
import stat
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorakit.collect.archives import ArchivesSettings, look
from lorakit.collect.archives.names import encoding_of, harmless, steps
from lorakit.collect.intake import take
from lorakit.dataset import scan
from lorakit.errors import CollectError
from lorakit.progress import silent
from lorakit.project import Project, find

from .test_archives import names, offer_of, packed, picture, taken


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return find(str(tmp_path / "projects" / "astrid")).create()


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(path: Path, **settings: object) -> str:
    with pytest.raises(CollectError) as error:
        offer_of(path, **settings)
    return str(error.value)


def raw_named(path: Path, files: dict[bytes, bytes]) -> Path:
    """A zip whose names are those very bytes, without the flag that says UTF-8."""
    stand_ins = {f"{number:02}".ljust(len(name), "x"): name for number, name in enumerate(files)}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for stand_in, content in zip(stand_ins, files.values(), strict=True):
            archive.writestr(stand_in, content)
    content = file.getvalue()
    for stand_in, name in stand_ins.items():
        content = content.replace(stand_in.encode(), name)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../out.png",
        "a/../../out.png",
        "/tmp/lorakit-out.png",
        "..\\out.png",
        "C:\\out.png",
        "C:out.png",
        "\\\\server\\share\\out.png",
    ],
)
def test_a_name_that_leads_out_is_left_out_and_said(
    project: Project, tmp_path: Path, name: str
) -> None:
    path = packed(tmp_path / "evil.zip", {name: picture(1), "good.png": picture(2)})
    before = everything(tmp_path)
    offer = offer_of(path)
    take(project, offer)
    assert offer.notes == [f"Left out: 1 files whose names lead out of the zip ({name})."]
    new = everything(tmp_path) - before
    assert new == {f"projects/astrid/{each}" for each in ("origins.jsonl", "dataset/good.png")}
    assert not Path("/tmp/lorakit-out.png").exists()


def test_links_in_a_zip_and_out_of_a_folder_are_not_followed(
    project: Project, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(5))
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as archive:
        archive.writestr(link, str(secret))
        archive.writestr("a.png", picture(1))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.png").write_bytes(picture(2))
    (folder / "stolen.txt").symlink_to(secret)
    (folder / "stolen.png").symlink_to(secret)
    offer = offer_of(tmp_path / "links.zip", folder)
    take(project, offer)
    assert names(project) == ["a.png", "b.png"]
    assert offer.notes == [
        "Left out: 2 links that lead out of the folder (stolen.png, stolen.txt).",
        "Left out: 1 links to other files (link.png).",
    ]


def test_a_bomb_by_ratio_is_not_opened(tmp_path: Path) -> None:
    bomb = packed(tmp_path / "bomb.zip", {"a.bmp": bytes(150 * 10**6)})
    assert "bomb.zip would grow 1,0" in (said := refused(bomb))
    assert said.endswith(
        "looks like a zip bomb and was not opened. If you trust it, raise max_ratio."
    )


def test_a_bomb_in_a_zip_in_a_zip_refuses_all_of_it(tmp_path: Path) -> None:
    bomb = packed(tmp_path / "bomb.zip", {"a.bmp": bytes(150 * 10**6)})
    outer = packed(tmp_path / "outer.zip", {"inner.zip": bomb.read_bytes(), "a.png": picture(1)})
    assert "outer.zip: inner.zip would grow" in refused(outer)


def test_a_zip_too_large_for_its_limit_is_refused_with_both_sizes(tmp_path: Path) -> None:
    files = {f"{n}.png": picture(n, size=400) for n in range(6)}  # 480 kB each
    path = packed(tmp_path / "large.zip", files)
    said = refused(path, max_gb=0.002)
    assert said.startswith("large.zip would take 0.00289 GB unpacked, and max_gb is 0.002.")
    assert len(offer_of(path, max_gb=0.003).finds) == 6


def test_too_many_files_are_refused_before_they_are_listed(tmp_path: Path) -> None:
    path = packed(tmp_path / "many.zip", {f"{n}.png": b"x" for n in range(50)})
    assert "many.zip holds 50 files or more, and max_files is 40" in refused(path, max_files=40)
    assert "too much for 5 files (max_files)" in refused(path, max_files=5)
    inner = path.read_bytes()
    outer = packed(tmp_path / "outer.zip", {f"{n}.zip": inner + bytes([n]) for n in range(3)})
    assert "and max_files is 120" in refused(outer, max_files=120)


def test_a_size_that_lies_gives_no_more_than_it_says(project: Project, tmp_path: Path) -> None:
    path = packed(tmp_path / "lie.zip", {"a.png": picture(1) + bytes(10**6)})
    content = path.read_bytes()
    true = (len(picture(1)) + 10**6).to_bytes(4, "little")
    path.write_bytes(content.replace(true, (100).to_bytes(4, "little")))
    offer = offer_of(path)
    assert offer.finds == []
    assert offer.notes[0].startswith("Left out: 1 files that are damaged (lie.zip: a.png is")


def test_a_large_file_is_left_out(tmp_path: Path) -> None:
    path = packed(tmp_path / "l.zip", {"a.bmp": bytes(2 * 10**6), "b.png": picture(1)})
    offer = offer_of(path, max_picture_mb=1)
    assert [one.name for one in offer.finds] == ["b.png"]
    assert offer.notes == ["Left out: 1 files larger than 1 MB (max_picture_mb) (a.bmp)."]


def locked(path: Path, names: dict[str, bytes], which: set[str]) -> Path:
    """Sets the flag of encryption, which is what a reader goes by."""
    content = bytearray(packed(path, names).read_bytes())
    for name in which:
        at = content.find(b"PK\x01\x02")
        while at >= 0:
            if content[at + 46 : at + 46 + len(name)] == name.encode():
                content[at + 8] |= 1
            at = content.find(b"PK\x01\x02", at + 4)
    path.write_bytes(content)
    return path


def test_a_locked_zip_is_refused_and_a_locked_file_left_out(tmp_path: Path) -> None:
    files = {"a.png": picture(1), "b.png": picture(2)}
    said = refused(locked(tmp_path / "locked.zip", files, {"a.png", "b.png"}))
    assert said.startswith("locked.zip is locked with a password. Unpack it on your computer")
    offer = offer_of(locked(tmp_path / "half.zip", files, {"a.png"}))
    assert [one.name for one in offer.finds] == ["b.png"]
    assert offer.notes == ["Left out: 1 files locked with a password (a.png)."]


def test_a_damaged_picture_is_left_out_and_a_cut_off_zip_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "d.zip", {"a.png": picture(1), "b.png": picture(2)})
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)
    offer = offer_of(path)
    assert [one.name for one in offer.finds] == ["b.png"]
    assert "files that are damaged (d.zip: a.png is damaged in the zip" in offer.notes[0]
    path.write_bytes(content[:-30])
    assert "d.zip is no zip file, or damaged (its end is missing)" in refused(path)


def test_a_damaged_caption_does_not_cost_the_picture(project: Project, tmp_path: Path) -> None:
    path = packed(tmp_path / "d.zip", {"a.txt": b"smile, hat, red hair", "a.png": picture(1)})
    content = bytearray(path.read_bytes())
    content[40] ^= 0xFF  # in the text, after the 35 bytes before it
    path.write_bytes(content)
    offer = offer_of(path)
    assert [(one.name, one.caption) for one in offer.finds] == [("a.png", None)]
    assert offer.notes[0].startswith("Left out: 1 captions that are damaged (d.zip: a.txt is")
    take(project, offer)
    assert names(project) == ["a.png"]


@pytest.mark.parametrize("name", ["a.gif", "a.png"])
def test_what_only_looks_like_a_picture_is_told_in_the_words_of_people(
    project: Project, tmp_path: Path, name: str
) -> None:
    offer = offer_of(packed(tmp_path / "d.zip", {name: b"<html>no picture</html>"}))
    with pytest.raises(CollectError, match=f"^d.zip: {name} is no picture, or damaged$"):
        offer.finds[0].thumbnail()
    failed = take(project, offer).failed["a.png"]
    assert "is no picture, or damaged" in failed
    assert "BytesIO" not in failed and ".arriving" not in failed
    assert list(project.dataset.iterdir()) == []


@pytest.mark.parametrize("cut", range(0, 400, 9))
def test_no_damage_anywhere_in_a_zip_ends_in_anything_but_a_sentence(
    project: Project, tmp_path: Path, cut: int
) -> None:
    inner = packed(tmp_path / "inner.zip", {"b.png": picture(2, size=2)}).read_bytes()
    path = packed(tmp_path / "d.zip", {"a.png": picture(1, size=2), "a.txt": b"hi", "i.zip": inner})
    content = bytearray(path.read_bytes())
    for at in range(cut, min(cut + 9, len(content))):
        for value in (0, 0xFF, content[at] ^ 0x55):
            path.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
            try:
                take(project, look(ArchivesSettings(), [str(path)], silent))
            except CollectError as error:
                assert "d.zip" in str(error)
    assert not (tmp_path / "a.png").exists()


def test_what_systems_leave_behind_is_ignored(tmp_path: Path) -> None:
    files = {
        "__MACOSX/._a.png": b"x",
        "._a.png": b"x",
        ".DS_Store": b"x",
        "set/Thumbs.db": b"x",
        "set/.hidden/b.png": picture(2),
        "set/a.png": picture(1),
    }
    offer = offer_of(packed(tmp_path / "mac.zip", files))
    assert [(one.folder, one.name) for one in offer.finds] == [("", "a.png")] and offer.notes == []


NAMES = [
    (["アストリッド/表情.png", "立ち絵.png"], "cp932"),  # 表 ends in the byte of a backslash
    (["角色/表情.png", "立绘二.png"], "gbk"),
    (["アストリッド.png"], "utf-8"),
    (["Ägypten.png", "Müller.png", "café.png"], "cp437"),
]


@pytest.mark.parametrize("written, encoding", NAMES)
def test_names_of_other_code_pages_are_read(
    project: Project, tmp_path: Path, written: list[str], encoding: str
) -> None:
    raw = {name.encode(encoding): picture(n) for n, name in enumerate(written)}
    assert encoding_of(list(raw)) == encoding
    taken(project, raw_named(tmp_path / "names.zip", raw))
    assert names(project) == sorted(written, key=str.lower)


def test_a_name_that_says_utf8_is_believed(project: Project, tmp_path: Path) -> None:
    taken(project, packed(tmp_path / "n.zip", {"立ち絵.png": picture(1), "é.png": picture(2)}))
    assert names(project) == ["é.png", "立ち絵.png"]


@pytest.mark.parametrize(
    "name, safe",
    [
        ("a.png", "a.png"),
        ('what? "yes": <no>|*.png', "what_ _yes__ _no___.png"),
        ("  .. x. ", "x"),
        ("tab\tname.png", "tab_name.png"),
        ("e\u0301.png", "\u00e9.png"),
        ("あ" * 100 + ".png", "あ" * 58 + ".png"),
        ("x" * 300, "x" * 180),
    ],
)
def test_names_are_made_harmless(name: str, safe: str) -> None:
    assert harmless(name) == safe


def test_a_path_in_many_steps_comes_to_a_place_that_exists(
    project: Project, tmp_path: Path
) -> None:
    deep = "/".join(["あ" * 80] * 40)
    taken(project, packed(tmp_path / "d.zip", {f"{deep}/a.png": picture(1), "b.png": picture(2)}))
    assert len(scan(project.dataset)) == 2
    assert steps("a//./b.png") == ["a", "b.png"]


@pytest.mark.slow
def test_ten_thousand_files_come_in(project: Project, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "10k.zip", "w") as archive:
        for n in range(10_000):
            pixel = io.BytesIO()
            Image.new("RGB", (1, 1), (n % 256, n // 256, 7)).save(pixel, "BMP")
            archive.writestr(f"{n // 1000}/{n}.bmp", pixel.getvalue())
    result = taken(project, tmp_path / "10k.zip")
    assert len(result.new) == 10_000 and result.failed == {}


def photograph(seed: int) -> Image.Image:
    """768 x 1024 with grain: a JPEG of 200 kB, a PNG of 1.5 MB."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize((1024, 768), Image.Resampling.BICUBIC))
    grain = random.normal(0, 4, (768, 1024, 3))
    return Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8))


@pytest.mark.slow
def test_a_thousand_pictures_come_in_in_twenty_seconds(project: Project, tmp_path: Path) -> None:
    kinds: list[tuple[str, Callable[[Image.Image, io.BytesIO], object]]] = [
        ("jpg", lambda image, file: image.save(file, "JPEG", quality=90)),
        ("png", lambda image, file: image.save(file, "PNG", compress_level=1)),
    ]
    originals: dict[str, list[bytes]] = {}
    for suffix, save in kinds:
        originals[suffix] = []
        for n in range(4):
            file = io.BytesIO()
            save(photograph(n), file)
            originals[suffix].append(file.getvalue())
    with zipfile.ZipFile(tmp_path / "k.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for n in range(1000):
            suffix = ("jpg", "png")[n % 2]
            # what follows the end of a picture is not looked at, and makes it another file
            archive.writestr(f"{n}.{suffix}", originals[suffix][n // 2 % 4] + str(n).encode())
            archive.writestr(f"{n}.txt", f"astrid, {n}")
    size = (tmp_path / "k.zip").stat().st_size
    started, cpu = time.perf_counter(), time.process_time()
    result = taken(project, tmp_path / "k.zip")
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(f"{size / 1e6:.0f} MB, 1,000 pictures: {wall:.1f} s, {cpu:.1f} s of CPU")
    assert len(result.new) == 1000
    assert cpu < 20
