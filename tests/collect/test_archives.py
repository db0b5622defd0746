"""Pictures of one's own: what comes in from zips and folders, under which name, with what beside
it.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from lorakit.__main__ import main
from lorakit.collect.archives import ArchivesSettings, look
from lorakit.collect.finds import Offer
from lorakit.collect.intake import Taken, take
from lorakit.collect.origins import read_origins
from lorakit.dataset import Picture, read_caption, scan
from lorakit.errors import CollectError
from lorakit.images import open_image
from lorakit.progress import silent
from lorakit.project import Project, find


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return find(str(tmp_path / "projects" / "astrid")).create()


def picture(seed: int = 0, kind: str = "PNG", size: int = 32, **options: object) -> bytes:
    """A picture of its own for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def offer_of(*items: object, **settings: object) -> Offer:
    return look(ArchivesSettings(**settings), [str(item) for item in items], silent)  # type: ignore[arg-type]


def taken(project: Project, *items: object, **settings: object) -> Taken:
    return take(project, offer_of(*items, **settings))


def names(project: Project) -> list[str]:
    return [each.path.relative_to(project.dataset).as_posix() for each in scan(project.dataset)]


def test_a_zip_brings_pictures_byte_for_byte_with_captions_and_masks(
    project: Project, tmp_path: Path
) -> None:
    a, b = picture(1), picture(2, "JPEG", quality=90)
    files = {
        "a.png": a,
        "a.txt": b"astrid, smile",
        "a.mask.png": picture(9),
        "b.JPG": b,
        "b.caption": "ästrid".encode(),
    }
    result = taken(project, packed(tmp_path / "mine.zip", files))
    assert str(result) == "2 new pictures."
    assert names(project) == ["a.png", "b.JPG"]
    assert (project.dataset / "a.png").read_bytes() == a
    assert (project.dataset / "b.JPG").read_bytes() == b
    assert (project.dataset / "a.mask.png").read_bytes() == files["a.mask.png"]
    captions = [read_caption(Picture(project.dataset / name)) for name in names(project)]
    assert captions == ["astrid, smile", "ästrid"]
    assert read_origins(project)["a.png"].link == "mine.zip: a.png"


def test_captions_and_masks_stay_where_they_are_if_not_wanted(
    project: Project, tmp_path: Path
) -> None:
    files = {"a.png": picture(1), "a.txt": b"x", "a.mask.png": picture(9)}
    taken(project, packed(tmp_path / "mine.zip", files), captions=False, masks=False)
    assert sorted(path.name for path in project.dataset.iterdir()) == ["a.png"]


def test_folders_stay_except_the_one_that_all_lie_in_and_numbers_are_explained(
    project: Project, tmp_path: Path
) -> None:
    files = {
        "My set/img/5_swim suit/a.png": picture(1),
        "My set/img/b.png": picture(2),
        "My set/readme.md": b"hello",
    }
    offer = offer_of(packed(tmp_path / "mine.zip", files))
    take(project, offer)
    assert names(project) == ["5_swim suit/a.png", "b.png"]
    assert offer.notes == [
        "The folder 5_swim suit: its pictures are shown 5 times an epoch.",
        "Left out: 1 files that are no pictures (My set/readme.md).",
    ]
    flat = find(str(tmp_path / "projects" / "flat"))
    taken(flat, tmp_path / "mine.zip", subfolders=False)
    assert names(flat) == ["a.png", "b.png"]


def test_a_numbered_folder_is_kept_even_if_everything_lies_in_it(
    project: Project, tmp_path: Path
) -> None:
    taken(project, packed(tmp_path / "mine.zip", {"img/10_astrid/a.png": picture(1)}))
    folder = tmp_path / "3_lucy"
    folder.mkdir()
    (folder / "b.png").write_bytes(picture(2))
    taken(project, folder)
    assert names(project) == ["10_astrid/a.png", "3_lucy/b.png"]


def test_zips_in_zips_are_opened_where_they_lie(project: Project, tmp_path: Path) -> None:
    inner = packed(tmp_path / "inner.zip", {"top/b.png": picture(2), "top/b.txt": b"b"})
    middle = packed(tmp_path / "middle.zip", {"deep.zip": inner.read_bytes(), "c.png": picture(3)})
    outer = packed(
        tmp_path / "outer.zip", {"a.png": picture(1), "more/middle.zip": middle.read_bytes()}
    )
    taken(project, outer)
    assert names(project) == ["a.png", "more/b.png", "more/c.png"]
    assert read_caption(Picture(project.dataset / "more/b.png")) == "b"
    offer = offer_of(outer, max_depth=1)
    assert [one.name for one in offer.finds] == ["a.png", "c.png"]
    assert offer.notes == ["Left out: 1 zips deeper inside others than max_depth (deep.zip)."]


def test_the_same_picture_from_two_zips_and_a_folder_is_taken_once(
    project: Project, tmp_path: Path
) -> None:
    one = packed(tmp_path / "one.zip", {"a.png": picture(1)})
    two = packed(tmp_path / "two.zip", {"other name.png": picture(1), "b.png": picture(2)})
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "again.png").write_bytes(picture(1))
    result = taken(project, one, two, folder)
    assert names(project) == ["a.png", "b.png"]
    assert str(result) == "2 new pictures; 2 were here already."
    assert str(taken(project, two)) == "0 new pictures; 2 were here already."


def test_different_pictures_of_one_name_all_come(project: Project, tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "twins.zip", "w") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("a.png", picture(1))
        archive.writestr("a.png", picture(2))
        archive.writestr("a.jpg", picture(3, "JPEG"))
    taken(project, tmp_path / "twins.zip")
    assert names(project) == ["a-2.png", "a-3.jpg", "a.png"]
    assert (project.dataset / "a-2.png").read_bytes() == picture(2)


def test_a_folder_brings_what_is_in_it_and_in_its_zips(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "Drive" / "astrid"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(picture(1))
    (folder / "a.txt").write_text("mine")
    (folder / "film.mp4").write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
    packed(folder / "sub" / "more.zip", {"b.png": picture(2)})
    (folder / "broken.zip").write_bytes(b"no zip at all")
    offer = offer_of(folder)
    take(project, offer)
    assert names(project) == ["a.png", "sub/b.png"]
    assert read_caption(Picture(project.dataset / "a.png")) == "mine"
    assert offer.notes[0].startswith("Left out: 1 videos; take pictures from them with")
    assert offer.notes[1].startswith("Left out: 1 zips that cannot be opened (broken.zip: ")


def test_one_picture_comes_with_what_lies_beside_it(project: Project, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / "b.png").write_bytes(picture(2))
    taken(project, tmp_path / "a.png")
    assert names(project) == ["a.png"]
    assert read_caption(Picture(project.dataset / "a.png")) == "mine"


def test_every_kind_of_picture_comes_so_that_training_can_read_it(
    project: Project, tmp_path: Path
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pytest.importorskip("pillow_jxl")
    pillow_heif.register_heif_opener()
    kept = {
        "png": "PNG",
        "jpg": "JPEG",
        "webp": "WEBP",
        "bmp": "BMP",
        "tif": "TIFF",
        "avif": "AVIF",
    }
    if not features.check("avif"):  # Pillow 11.2, as Colab's oldest image has it
        del kept["avif"]
    files = {
        f"{suffix}.{suffix}": picture(n, kind) for n, (suffix, kind) in enumerate(kept.items())
    }
    files["photo.heic"] = picture(10, "HEIF", quality=-1)
    files["new.jxl"] = picture(11, "JXL", lossless=True)
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    moving = io.BytesIO()
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    files["moving.gif"] = moving.getvalue()
    offer = offer_of(packed(tmp_path / "kinds.zip", files))
    assert take(project, offer).failed == {}
    assert offer.notes == ["3 pictures become PNG (GIF: the first frame; HEIC, JPEG XL)."]
    assert names(project) == sorted(
        [f"{suffix}.{suffix}" for suffix in kept] + ["moving.png", "new.png", "photo.png"]
    )
    for suffix in kept:
        assert (project.dataset / f"{suffix}.{suffix}").read_bytes() == files[f"{suffix}.{suffix}"]
    assert np.array_equal(
        np.asarray(open_image(project.dataset / "new.png")),
        np.asarray(Image.open(io.BytesIO(picture(11)))),
    )
    assert open_image(project.dataset / "moving.png").getpixel((5, 5)) == (255, 0, 0)
    assert all(one.thumbnail().size == (32, 32) for one in offer.finds if one.thumbnail)


@pytest.mark.parametrize("suffix, kind", [("heic", "HEIF"), ("jxl", "JXL")])
def test_a_photo_taken_sideways_comes_upright(
    project: Project, tmp_path: Path, suffix: str, kind: str
) -> None:
    pytest.importorskip("pillow_jxl")
    pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    path = tmp_path / f"photo.{suffix}"
    Image.new("RGB", (64, 32)).save(path, kind, exif=exif.tobytes())
    taken(project, path)
    assert open_image(project.dataset / "photo.png").size == (32, 64)


def test_small_files_are_left_out_if_asked(tmp_path: Path) -> None:
    files = {"icon.png": picture(1, size=8), "a.png": picture(2, size=64), "empty.png": b""}
    offer = offer_of(packed(tmp_path / "mine.zip", files), smallest=2)
    assert [one.name for one in offer.finds] == ["a.png"]
    assert offer.notes == [
        "Left out: 1 empty files (empty.png).",
        "Left out: 1 files smaller than 2 kB (icon.png).",
    ]


def test_captions_of_old_editors_are_read(project: Project, tmp_path: Path) -> None:
    files = {f"{n}.png": picture(n) for n in range(4)}
    files |= {
        "0.txt": "\ufeffcafé".encode(),
        "1.txt": "café".encode("utf-16"),
        "2.txt": "青い髪".encode("cp932"),
        "3.txt": "café".encode("cp1252"),
    }
    taken(project, packed(tmp_path / "mine.zip", files))
    captions = [read_caption(Picture(project.dataset / name)) for name in names(project)]
    assert captions == ["café", "café", "青い髪", "café"]


@pytest.mark.parametrize(
    "item, message",
    [
        ("nothing here.zip", "There is no file or folder nothing here.zip. Give a zip, a folder"),
        ("set.rar", "set.rar is no zip file. Unpack it on your computer and give the folder"),
        ("film.mkv", "film.mkv is a video: take pictures from it with `collect videos`"),
        ("bad.zip", "bad.zip is no zip file, or damaged"),
    ],
)
def test_what_cannot_be_opened_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("set.rar", "film.mkv", "bad.zip"):
        Path(name).write_bytes(b"something else")
    with pytest.raises(CollectError) as error:
        offer_of(item)
    assert message in str(error.value)


def test_the_command_previews_and_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path / "home"))
    path = packed(tmp_path / "mine.zip", {f"{n}.png": picture(n) for n in range(3)})
    command = ["collect", "archives", str(path), "--project", "astrid", "--json"]
    assert main([*command, "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["new"] == 3 and Path(shown["sheet"]).exists()
    assert not (tmp_path / "home/astrid/dataset").exists()
    assert main([*command, "--subfolders", "no"]) == 0
    assert json.loads(capsys.readouterr().out)["new"]
    assert not (tmp_path / "home/astrid/project.toml").exists()
    assert main(["collect", "archives", "no.zip", "--project", "astrid"]) == 2
    assert "There is no file or folder no.zip." in capsys.readouterr().err


def test_killed_half_way_and_run_again_none_is_twice_none_is_half(tmp_path: Path) -> None:
    files = {}
    for n in range(200):
        files |= {f"{n:03}.png": picture(n, size=96), f"{n:03}.txt": f"tag {n}".encode()}
    path = packed(tmp_path / "many.zip", files)
    command = [sys.executable, "-m", "lorakit", "collect", "archives", str(path)]
    command += ["--project", str(tmp_path / "p" / "astrid")]
    dataset, killed = tmp_path / "p" / "astrid" / "dataset", 0
    for share in (40, 110):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
            limit = time.monotonic() + 60
            while run.poll() is None and time.monotonic() < limit:
                if dataset.exists() and len(os.listdir(dataset)) > share * 2:
                    run.send_signal(signal.SIGKILL)
                    killed += 1
                    break
        assert 0 < len(scan(dataset)) < 200
    assert killed == 2
    subprocess.run(command, check=True, capture_output=True)
    pictures = scan(dataset)
    assert [each.path.name for each in pictures] == [f"{n:03}.png" for n in range(200)]
    assert all(each.path.read_bytes() == files[each.name] for each in pictures)
    assert all(read_caption(each) == f"tag {int(each.path.stem)}" for each in pictures)
    assert not [name for name in os.listdir(dataset) if name.startswith(".")]
