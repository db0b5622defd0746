"""Archives that are fetched: zips behind links, shared Drive links, datasets of the hub."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lorakit.collect.archives import drive, hub
from lorakit.collect.archives.store import place
from lorakit.collect.intake import take
from lorakit.collect.origins import read_origins
from lorakit.dataset import Picture, read_caption
from lorakit.errors import CollectError
from lorakit.project import Project, find

from .test_archives import names, offer_of, packed, picture, taken

COMMIT = "a" * 40


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return find(str(tmp_path / "projects" / "astrid")).create()


class Site(ThreadingHTTPServer):
    """Serves `files` (path -> bytes) with ranges; of a path in `cut`, only that many bytes the
    first time. What is asked is kept. Datasets are listed and served as the hub does.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.kinds: dict[str, str] = {}
        self.cut: dict[str, int] = {}
        self.asked: list[tuple[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((path, self.headers.get("Range", "")))
        content = self.server.files.get(path)
        if content is None:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        if self.headers.get("If-Range", etag) != etag:
            start = 0
        if start and start >= len(content):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        kind = self.server.kinds.get(path, "application/octet-stream")
        more = {"Content-Type": kind, "ETag": etag}
        more |= {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            more["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        stop = self.server.cut.pop(path, None) if self.command == "GET" else None
        self._answer(206 if start else 200, content[start:], more, stop)

    def _answer(
        self, status: int, content: bytes, more: dict[str, str], stop: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**more, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:stop])
        if stop is not None:
            self.close_connection = True


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def zipped(tmp_path: Path, count: int = 3) -> bytes:
    files = {f"{n}.png": picture(n) for n in range(count)}
    return packed(tmp_path / "made.zip", files).read_bytes()


def test_a_zip_behind_a_link_is_fetched_once(project: Project, site: Site, tmp_path: Path) -> None:
    site.files["/mine.zip"] = zipped(tmp_path)
    link = f"{site.url}/mine.zip?dl=1"
    assert len(offer_of(link).finds) == 3
    taken(project, link)
    assert names(project) == ["0.png", "1.png", "2.png"]
    assert read_origins(project)["0.png"].link == f"{link}: 0.png"
    assert len(site.asked) == 1


def test_a_download_that_broke_off_goes_on_where_it_was(
    project: Project, site: Site, tmp_path: Path
) -> None:
    site.files["/mine.zip"] = zipped(tmp_path, 80)
    site.cut["/mine.zip"] = 200_000
    with pytest.raises(CollectError, match="What came is kept: run again to go on"):
        offer_of(f"{site.url}/mine.zip")
    taken(project, f"{site.url}/mine.zip")
    assert site.asked[-1] == ("/mine.zip", f"bytes={3 << 16}-")
    assert len(names(project)) == 80


def test_a_bad_download_is_said_to_be_one_and_fetched_again(
    project: Project, site: Site, tmp_path: Path
) -> None:
    link = f"{site.url}/mine.zip"
    site.files["/mine.zip"] = b"We are busy, come back later."
    with pytest.raises(CollectError, match="gives is no zip file, or damaged"):
        offer_of(link)
    site.files["/mine.zip"] = zipped(tmp_path)
    assert len(offer_of(link).finds) == 3


def test_a_zip_that_changed_since_the_download_broke_off_is_fetched_anew(
    project: Project, site: Site, tmp_path: Path
) -> None:
    link = f"{site.url}/mine.zip"
    site.files["/mine.zip"], site.cut["/mine.zip"] = zipped(tmp_path, 80), 200_000
    with pytest.raises(CollectError, match="What came is kept"):
        offer_of(link)
    site.files["/mine.zip"] = zipped(tmp_path, 90)
    assert len(offer_of(link).finds) == 90


def test_a_part_larger_than_the_zip_is_not_taken_for_all_of_it(
    project: Project, site: Site, tmp_path: Path
) -> None:
    link = f"{site.url}/mine.zip"
    site.files["/mine.zip"] = zipped(tmp_path)
    part = place(link).with_suffix(".part")
    part.write_bytes(zipped(tmp_path, 9))
    with pytest.raises(CollectError, match="the file has changed there"):
        offer_of(link)
    assert len(offer_of(link).finds) == 3
    part.write_bytes(site.files["/mine.zip"])  # killed before it was put in its place
    place(link).with_suffix(".zip").unlink()
    assert len(offer_of(link).finds) == 3


def test_a_bad_file_from_drive_is_fetched_again(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [b"no zip at all", zipped(tmp_path)]

    def download(id: str, output: str, quiet: bool, resume: bool) -> str:
        path = Path(output) / "set.zip"
        path.write_bytes(contents.pop(0))
        return str(path)

    monkeypatch.setattr("gdown.download", download)
    link = "https://drive.google.com/file/d/1AbCdEfGhIjKl/view"
    with pytest.raises(CollectError, match="is no zip file, or damaged"):
        offer_of(link)
    assert len(offer_of(link).finds) == 3


def test_a_page_or_a_missing_file_is_said_to_be_one(project: Project, site: Site) -> None:
    site.files["/page"], site.kinds["/page"] = b"<html>", "text/html; charset=utf-8"
    with pytest.raises(CollectError, match="is no zip file but a page or a picture"):
        offer_of(f"{site.url}/page")
    with pytest.raises(CollectError, match="answers 404 .*Open it in a browser"):
        offer_of(f"{site.url}/none.zip")


def test_a_zip_larger_than_allowed_is_not_fetched(
    project: Project, site: Site, tmp_path: Path
) -> None:
    site.files["/mine.zip"] = zipped(tmp_path, 400)
    with pytest.raises(CollectError, match="has over 0.001 GB; raise max_gb"):
        offer_of(f"{site.url}/mine.zip", max_gb=0.001)


@pytest.mark.parametrize(
    "link, meant",
    [
        ("https://drive.google.com/file/d/1AbCdEfGhIjKl_-m/view?usp=sharing", "file"),
        ("https://drive.google.com/uc?id=1AbCdEfGhIjKl_-m&export=download", "file"),
        ("https://drive.google.com/open?id=1AbCdEfGhIjKl_-m", "file"),
        ("https://drive.google.com/drive/folders/1AbCdEfGhIjKl_-m?usp=drive_link", "folder"),
        ("https://drive.google.com/drive/u/0/folders/1AbCdEfGhIjKl_-m", "folder"),
    ],
)
def test_every_form_of_a_drive_link_is_understood(link: str, meant: str) -> None:
    assert drive.parse(link) == (meant, "1AbCdEfGhIjKl_-m")
    assert drive.parse("https://example.org/a.zip") is None


def test_a_shared_file_and_a_shared_folder_come_in(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, asked = zipped(tmp_path), []

    def download(id: str, output: str, quiet: bool, resume: bool) -> str:
        asked.append(id)
        path = Path(output) / "shared set.zip"
        path.write_bytes(content)
        return str(path)

    def download_folder(id: str, output: str, quiet: bool, resume: bool) -> list[str]:
        (Path(output) / "5_smile").mkdir()
        (Path(output) / "5_smile" / "a.png").write_bytes(picture(70))
        return ["a.png"]

    monkeypatch.setattr("gdown.download", download)
    monkeypatch.setattr("gdown.download_folder", download_folder)
    link = "https://drive.google.com/file/d/1AbCdEfGhIjKl/view"
    offer_of(link)
    taken(project, link, "https://drive.google.com/drive/folders/1ZzCdEfGhIjKl")
    assert names(project) == ["0.png", "1.png", "2.png", "5_smile/a.png"]
    assert asked == ["1AbCdEfGhIjKl"]


def test_a_drive_link_that_is_not_shared_says_what_to_do(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gdown.exceptions import FileURLRetrievalError

    def refused(**more: object) -> str:
        raise FileURLRetrievalError("Cannot retrieve the public link of the file.")

    monkeypatch.setattr("gdown.download", refused)
    with pytest.raises(CollectError) as error:
        offer_of("https://drive.google.com/file/d/1AbCdEfGhIjKl/view")
    assert "(Cannot retrieve the public link of the file.). Share it with 'Anyone" in str(
        error.value
    )
    with pytest.raises(CollectError, match="names no file or folder"):
        offer_of("https://drive.google.com/drive/my-drive")


def dataset(site: Site, files: dict[str, bytes], name: str = "someone/pictures") -> str:
    """Puts a dataset on the site as if it were the hub."""
    rows = [
        {
            "type": "file",
            "path": path,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }
        for path, content in files.items()
    ]
    site.files[f"/api/datasets/{name}/tree/main"] = json.dumps(rows).encode()
    site.kinds[f"/api/datasets/{name}/tree/main"] = "application/json"
    for path, content in files.items():
        site.files[f"/datasets/{name}/resolve/main/{path}"] = content
    return name


@pytest.fixture
def at_hub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "_api", lambda: HfApi(endpoint=site.url, token=False))
    return site


def test_a_dataset_of_the_hub_comes_in(project: Project, at_hub: Site, tmp_path: Path) -> None:
    files = {
        "README.md": b"# mine",
        ".gitattributes": b"x",
        "images/a.png": picture(50),
        "images/a.txt": b"astrid",
        "more.zip": zipped(tmp_path, 2),
    }
    offer = offer_of(dataset(at_hub, files))
    fetched = [path for path, _ in at_hub.asked if "a.png" in path]
    assert fetched == []  # a picture is fetched when it is taken
    take(project, offer)
    assert names(project) == ["0.png", "1.png", "images/a.png"]
    assert read_caption(Picture(project.dataset / "images/a.png")) == "astrid"
    assert read_origins(project)["images/a.png"].link == (
        "https://huggingface.co/datasets/someone/pictures/blob/main/images/a.png"
    )
    assert offer.notes == ["Left out: 1 files that are no pictures (README.md)."]


def test_pictures_in_tables_of_the_hub_come_with_their_texts(
    project: Project, at_hub: Site
) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    rows = [{"bytes": picture(n, "JPEG"), "path": None} for n in range(5)]
    table = arrow.table({"image": rows, "text": [f"astrid, {n}" for n in range(5)]})
    file = io.BytesIO()
    parquet.write_table(table, file, row_group_size=2)
    numbers = io.BytesIO()
    parquet.write_table(arrow.table({"n": [1, 2]}), numbers)
    files = {"data/train.parquet": file.getvalue(), "data/numbers.parquet": numbers.getvalue()}
    offer = offer_of(dataset(at_hub, files), "someone/pictures")
    take(project, offer)
    assert names(project) == [f"train-{n:06d}.jpg" for n in range(1, 6)]
    for n in range(5):
        path = project.dataset / f"train-{n + 1:06d}.jpg"
        assert path.read_bytes() == rows[n]["bytes"]
        assert read_caption(Picture(path)) == f"astrid, {n}"
    assert "tables without a column of pictures" in offer.notes[0]


def test_a_dataset_that_is_not_there_says_what_to_do(project: Project, at_hub: Site) -> None:
    with pytest.raises(CollectError) as error:
        offer_of("someone/nothing")
    assert "The Hugging Face Hub has no dataset someone/nothing that you may read." in str(
        error.value
    )


@pytest.mark.parametrize(
    "text, meant",
    [
        ("user/name", hub.Repo("user/name")),
        ("https://huggingface.co/datasets/user/name", hub.Repo("user/name")),
        ("https://huggingface.co/datasets/user/name/tree/v2", hub.Repo("user/name", "v2")),
        (
            "https://huggingface.co/datasets/user/name/tree/main/a/b",
            hub.Repo("user/name", "main", "a/b"),
        ),
        ("https://huggingface.co/user/model", None),
        ("a/b/c", None),
        ("just-a-name", None),
    ],
)
def test_names_and_links_of_datasets_are_understood(text: str, meant: hub.Repo | None) -> None:
    assert hub.parse(text) == meant
