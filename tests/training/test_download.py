"""One file from a server on this machine: whole, resumed, refused, checked."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorakit.errors import BaseModelError, SaveError
from lorakit.training import download, web
from lorakit.training.download import Download, fetch
from lorakit.training.tensorfile import Header
from lorakit.training.web import ask
from lorakit.web import Request

from .servers import Asked, Reply, Running, Web, checkpoint, saved

FILE = checkpoint()
SHA = hashlib.sha256(FILE).hexdigest()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(web, "PAUSE", 0.0)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with Running() as running:
        running.files["/base.safetensors"] = FILE
        yield running


def wanted(site: Web, folder: Path, path: str = "/base.safetensors", **more: object) -> Download:
    request = Request(f"{site.url}{path}", "Log in like this.", str(more.pop("token", "")))
    return Download(request, folder / "base.safetensors", **more)  # type: ignore[arg-type]


def refused(download: Download) -> str:
    with pytest.raises(BaseModelError) as error:
        fetch(download)
    return str(error.value)


def half(download: Download, count: int = 1_000_000) -> None:
    """Leaves the first bytes, as a run that was killed does."""
    download.part.parent.mkdir(parents=True, exist_ok=True)
    download.part.write_bytes(FILE[:count])
    mark = download.part.with_name(f"{download.part.name}.tag")
    mark.write_text(f'"{hashlib.md5(FILE).hexdigest()}"')


def test_a_file_comes_whole_under_its_name_with_nothing_left_beside_it(
    site: Web, tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch(wanted(site, tmp_path / "new"), lambda *said: seen.append(said))
    assert path.read_bytes() == FILE
    assert [each.name for each in path.parent.iterdir()] == ["base.safetensors"]
    assert seen[-1] == ("Downloading base.safetensors (MB)", 2, 2)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_server_that_does_not_say_how_much_there_is_still_shows_how_much_came(
    site: Web, tmp_path: Path
) -> None:
    site.lengths = False
    seen: list[tuple[str, int, int]] = []
    assert fetch(wanted(site, tmp_path), lambda *said: seen.append(said)).read_bytes() == FILE
    assert seen[-1] == ("Downloading base.safetensors (MB)", 2, 0)


def test_what_is_here_is_not_asked_for_again(site: Web, tmp_path: Path) -> None:
    fetch(wanted(site, tmp_path))
    fetch(wanted(site, tmp_path))
    assert site.paths() == ["/base.safetensors"]


def test_a_line_that_breaks_twice_costs_next_to_nothing(site: Web, tmp_path: Path) -> None:
    site.cuts += [700_000, 900_000]
    assert fetch(wanted(site, tmp_path)).read_bytes() == FILE
    first, *others = (each.headers.get("range", "bytes=0-") for each in site.asked)
    starts = [int(text.removeprefix("bytes=").removesuffix("-")) for text in others]
    assert first == "bytes=0-" and len(starts) == 2
    assert 700_000 - download.CHUNK <= starts[0] <= 700_000
    assert 1_600_000 - 2 * download.CHUNK <= starts[1] <= 1_600_000


def test_after_a_kill_the_next_run_goes_on(site: Web, tmp_path: Path) -> None:
    half(wanted(site, tmp_path))
    assert fetch(wanted(site, tmp_path)).read_bytes() == FILE
    (asked,) = site.asked
    assert asked.headers["range"] == "bytes=1000000-"
    assert saved(tmp_path) == ["base.safetensors"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: Web, tmp_path: Path) -> None:
    half(wanted(site, tmp_path))
    site.files["/base.safetensors"] = other = checkpoint(seed=1)
    assert fetch(wanted(site, tmp_path)).read_bytes() == other


def test_a_server_without_ranges_sends_all_again(site: Web, tmp_path: Path) -> None:
    half(wanted(site, tmp_path))
    site.ranges = False
    assert fetch(wanted(site, tmp_path)).read_bytes() == FILE


def test_a_beginning_of_unknown_origin_is_not_continued(site: Web, tmp_path: Path) -> None:
    site.tags = False
    start = wanted(site, tmp_path)
    start.part.write_bytes(b"x" * 1000)
    assert fetch(start).read_bytes() == FILE
    assert "range" not in site.asked[0].headers


def test_all_bytes_here_but_not_renamed_yet_needs_no_byte_more(site: Web, tmp_path: Path) -> None:
    half(wanted(site, tmp_path), len(FILE))
    assert fetch(wanted(site, tmp_path)).read_bytes() == FILE


def test_a_server_that_always_breaks_off_is_given_up_and_the_bytes_are_kept(
    site: Web, tmp_path: Path
) -> None:
    site.cuts += [500_000, 0, 0, 0, 0, 0, 0]
    said = refused(wanted(site, tmp_path))
    assert "could not be fetched (the line broke off)" in said
    assert "it goes on where it stopped" in said
    kept = wanted(site, tmp_path).part.read_bytes()
    assert len(kept) > 500_000 - download.CHUNK and FILE.startswith(kept)
    site.cuts.clear()
    assert fetch(wanted(site, tmp_path)).read_bytes() == FILE


def test_a_wrong_checksum_deletes_the_file(site: Web, tmp_path: Path) -> None:
    assert fetch(wanted(site, tmp_path / "right", sha256=SHA.upper())).exists()
    said = refused(wanted(site, tmp_path / "wrong", sha256="0" * 64))
    assert "is damaged: its checksum (SHA-256) is not the one its source states" in said
    assert saved(tmp_path / "wrong") == []
    assert not wanted(site, tmp_path / "wrong").part.exists()


def test_a_file_shorter_than_its_header_says_is_damaged(site: Web, tmp_path: Path) -> None:
    site.files["/base.safetensors"] = FILE[:-5]
    said = refused(wanted(site, tmp_path))
    assert f"it has {len(FILE) - 5:,} bytes, but its header speaks of {len(FILE):,}" in said


@pytest.mark.parametrize(
    "reply, said",
    [
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), "a web page in place of a file"),
        (Reply(200, b"<!doctype html>" + b" " * 60), "gave no safetensors file: it is a web page"),
        (Reply(200, b"PK\x03\x04" + b"\0" * 60), "it is a pickle, which can run code"),
        (Reply(200, b"\x80\x02" + b"\0" * 60), "it is a pickle, which can run code"),
        (Reply(200, b"version https://git-lfs.github.com/spec/v1\n" * 2), "a Git LFS pointer"),
        (Reply(200, b"\x10" + b"\0" * 7 + b"{" + b"x" * 60), "its header is damaged"),
        (Reply(401, b""), "it asks for a login. Log in like this."),
        (Reply(403, b"", {"X-Error-Code": "GatedRepo"}), "its licence must be accepted first. Log"),
        (Reply(404, b""), "There is nothing at"),
        (Reply(410, b""), "There is nothing at"),
        (Reply(418, b""), "was refused: 418"),
        (Reply(503, b""), "the server answered 503"),
        (
            Reply(200, b"", {"Content-Disposition": 'attachment; filename="old.ckpt"'}),
            "(old.ckpt) is a pickle",
        ),
    ],
)
def test_what_is_not_the_file_is_one_sentence_and_leaves_nothing(
    site: Web, tmp_path: Path, reply: Reply, said: str
) -> None:
    site.pages["/odd"] = reply
    assert said in refused(wanted(site, tmp_path, "/odd"))
    assert saved(tmp_path) == [] and not wanted(site, tmp_path).part.exists()


def test_a_pickle_behind_a_redirect_is_refused_before_its_body_is_read(
    site: Web, tmp_path: Path
) -> None:
    site.redirect("/get", "/store/model.ckpt?x=1")
    site.files["/store/model.ckpt"] = b"\x80" * 1000
    assert "(model.ckpt) is a pickle" in refused(wanted(site, tmp_path, "/get"))
    assert saved(tmp_path) == []


def test_a_wrong_model_is_noticed_from_its_first_bytes(site: Web, tmp_path: Path) -> None:
    site.files["/big"] = checkpoint(4_000_000)
    seen = []

    def no(header: Header) -> None:
        raise BaseModelError(f"It has {len(header.entries)} tensors.")

    with pytest.raises(BaseModelError, match="It has 3 tensors"):
        fetch(wanted(site, tmp_path, "/big", check=no), lambda *said: seen.append(said))
    assert len(seen) <= 1
    assert not wanted(site, tmp_path).part.exists()


def test_a_busy_server_is_asked_again(site: Web, tmp_path: Path) -> None:
    answers = [Reply(503), Reply(429), Reply(200, FILE)]
    site.pages["/busy"] = lambda asked: answers.pop(0)
    assert fetch(wanted(site, tmp_path, "/busy")).read_bytes() == FILE


def test_no_connection_is_said_plainly(tmp_path: Path, site: Web) -> None:
    nobody = Download(Request("http://127.0.0.1:9/x.safetensors"), tmp_path / "x.safetensors")
    assert "could not be fetched (Connection refused)" in refused(nobody)


def test_the_token_goes_to_its_own_server_and_not_to_the_one_it_sends_us_to(
    site: Web, tmp_path: Path
) -> None:
    site.redirect("/asks", f"{site.elsewhere}/base.safetensors")
    fetch(wanted(site, tmp_path, "/asks", token="hf_secret"))
    first, second = site.asked
    assert first.headers["authorization"] == "Bearer hf_secret"
    assert second.host == "localhost" and "authorization" not in second.headers


def test_a_refused_token_is_not_shown(site: Web, tmp_path: Path) -> None:
    site.pages["/mine"] = Reply(403)
    said = refused(wanted(site, tmp_path, "/mine", token="hf_secret"))
    assert "The token that was sent does not open it." in said and "hf_secret" not in said


def test_a_full_disk_is_said_before_the_first_byte(
    site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 2_000_000))
    with pytest.raises(SaveError, match="has 0.0 GB free, but base.safetensors needs 0.0 GB"):
        fetch(wanted(site, tmp_path))
    assert saved(tmp_path) == [] and not wanted(site, tmp_path).part.exists()


def test_a_folder_that_cannot_be_made_is_a_sentence(site: Web, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="could not be written .*another models_folder"):
        fetch(wanted(site, tmp_path / "file" / "models"))


def test_two_runs_at_once_fetch_it_once(site: Web, tmp_path: Path) -> None:
    going = threading.Event()

    def slow(asked: Asked) -> Reply:
        going.wait(10)
        return Reply(200, FILE)

    site.pages["/slow"] = slow
    both = [
        threading.Thread(target=fetch, args=(wanted(site, tmp_path, "/slow"),)) for _ in range(2)
    ]
    for each in both:
        each.start()
    going.set()
    for each in both:
        each.join(20)
    assert site.paths() == ["/slow"]
    assert saved(tmp_path) == ["base.safetensors"]


@pytest.mark.parametrize("body", [b"[1, 2]", b"no json", b'"text"'])
def test_an_answer_that_is_no_object_is_refused(site: Web, body: bytes) -> None:
    site.pages["/api"] = Reply(200, body)
    with pytest.raises(BaseModelError, match="cannot be understood"):
        ask(Request(f"{site.url}/api"))


def test_a_server_that_does_not_answer_is_named(site: Web) -> None:
    site.pages["/api"] = Reply(500)
    with pytest.raises(BaseModelError, match=r"127.0.0.1:\d+ did not answer .*answered 500"):
        ask(Request(f"{site.url}/api"))
    assert len(site.asked) == web.TRIES
