"""Collecting from addresses, pages and saved pages: against a server on this machine."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorakit.__main__ import main
from lorakit.collect import visitor
from lorakit.collect.finds import Offer
from lorakit.collect.intake import take
from lorakit.collect.links import LinkSettings, gallery, look
from lorakit.collect.links.page import read_page
from lorakit.collect.links.picture import file_name
from lorakit.collect.links.variants import larger, suffix_of
from lorakit.collect.origins import read_origins
from lorakit.dataset import scan
from lorakit.errors import CollectError, Refused
from lorakit.images import picture_size
from lorakit.project import Project, find


def picture(side: int = 400, colour: str = "red", kind: str = "PNG") -> bytes:
    out = BytesIO()
    Image.new("RGB", (side, side + 10), colour).save(out, kind)
    return out.getvalue()


@dataclass
class Site:
    """Paths and what is there: bytes, or (status, headers, bytes)."""

    pages: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@pytest.fixture
def site() -> Iterator[Site]:
    here = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            here.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            there = here.pages.get(self.path, (404, {}, b"not here"))
            status, headers, body = there if isinstance(there, tuple) else (200, {}, there)
            kind = "text/html; charset=utf-8" if body[:1] == b"<" else "image/png"
            self.send_response(status)
            for name, value in {"Content-Type": kind, **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield here
    server.shutdown()
    thread.join()
    with suppress(OSError):
        server.server_close()


slept: list[float] = []


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting, no keys, and no gallery-dl unless a test brings it."""
    slept.clear()
    monkeypatch.setattr(visitor.time, "sleep", slept.append)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(gallery, "program", lambda: "")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return find(str(tmp_path / "astrid")).create()


def looked(*items: object, **settings: Any) -> Offer:
    return look(LinkSettings(**settings), [str(item) for item in items])


def had(project: Project, offer: Offer) -> list[tuple[int, int]]:
    """Takes all of it; the sizes of the pictures that are there."""
    taken = take(project, offer)
    assert taken.failed == {}
    return sorted(picture_size(path) for path in taken.new)


# --- addresses ------------------------------------------------------------------------------------


def test_addresses_and_lists_of_addresses(site: Site, project: Project, tmp_path: Path) -> None:
    site.pages = {
        "/a.png": picture(400),
        "/b.jpg?v=1": picture(500, kind="JPEG"),
        "/c.png": picture(),
    }
    listed = tmp_path / "list.txt"
    listed.write_text(f"\ufeff# two\n{site.url}/a.png\n\n  {site.url}/b.jpg?v=1  \n", "utf-8")
    offer = looked(listed, f"{site.url}/c.png", f"{site.url}/a.png")
    assert site.asked == []  # nothing is fetched before it is wanted
    assert len(take(project, offer).new) == 3
    assert site.paths().count("/a.png") == 1
    origins = {origin.id for origin in read_origins(project).values()}
    assert origins == {f"{site.url}/a.png", f"{site.url}/b.jpg?v=1", f"{site.url}/c.png"}
    assert all(h["user-agent"].startswith("lorakit/") for _, h in site.asked)
    assert take(project, offer).new == [] and len(site.asked) == 3


def test_an_address_that_does_not_say_that_it_is_a_picture(site: Site, project: Project) -> None:
    site.pages = {
        "/show?id=3": (200, {"Content-Type": "image/jpeg"}, picture(400, kind="JPEG")),
        "/page": f"<img src='/image?id=4'><p>{'x' * 50}".encode(),
        "/image?id=4": picture(450, kind="JPEG"),
    }
    offer = looked(f"{site.url}/show?id=3", f"{site.url}/page")
    assert [find.name[-4:] for find in offer.finds] == [".jpg", ".png"]
    assert had(project, offer) == [(400, 410), (450, 460)]
    kinds = {p.path.suffix: p.path.read_bytes()[:4] for p in scan(project.dataset)}
    assert kinds == {".jpg": b"\xff\xd8\xff\xe0", ".png": b"\x89PNG"}


@pytest.mark.parametrize(
    "item, reason",
    [
        ("www.site.org/a.png", "no address that begins with https://"),
        ("file:///etc/passwd", "no address that begins with https://"),
        ("https://[bad/a.png", "no address that begins with https://"),
        ("notes.txt", "notes.txt, line 2: 'not an address' is no address"),
        ("pictures.zip", "'collect archives' takes such files"),
    ],
)
def test_what_is_no_address_is_refused(item, reason, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("https://a.org/b.png\nnot an address")
    Path("pictures.zip").write_bytes(b"PK")
    with pytest.raises(CollectError, match=reason):
        looked(item)


def test_a_picture_that_is_cut_off_or_too_small_is_not_taken(site, project) -> None:
    whole = Image.effect_noise((400, 400), 90)
    out = BytesIO()
    whole.save(out, "JPEG")
    site.pages = {"/cut.jpg": out.getvalue()[:5000], "/tiny.png": picture(64)}
    taken = take(project, looked(f"{site.url}/cut.jpg", f"{site.url}/tiny.png"))
    assert "is no whole picture" in str(taken.failed) and "64 x 74 pixels" in str(taken.failed)
    assert scan(project.dataset) == []


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "html, urls",
    [
        ("<img src='a.png'>", ["http://s/p/a.png"]),
        ("<a href='/big.jpg'><img src='t.jpg'></a>", ["http://s/big.jpg", "http://s/p/t.jpg"]),
        ("<a href='page.html'><img src='t.jpg'></a>", ["http://s/p/t.jpg"]),
        ("<a href='//x/b.png'>full size</a>", ["http://x/b.png"]),
        (
            "<img src='s.jpg' srcset='s.jpg 300w, l.jpg 1200w, m.jpg 600w'>",
            ["http://s/p/l.jpg", "http://s/p/m.jpg", "http://s/p/s.jpg"],
        ),
        (
            "<picture><source srcset='a.webp 2x'><img src='a.jpg'></picture>",
            ["http://s/p/a.webp", "http://s/p/a.jpg"],
        ),
        ("<img src='data:image/gif;base64,R0' data-src='lazy.jpg'>", ["http://s/p/lazy.jpg"]),
        ("<img src='wait.gif' data-original='o.jpg' data-src='l.jpg'>",
         ["http://s/p/o.jpg", "http://s/p/l.jpg"]),
        ("<meta property='og:image' content='https://c/x.jpg'>", ["https://c/x.jpg"]),
        ("<base href='http://other/'><img src='a.png'>", ["http://other/a.png"]),
        ("<noscript><img src='a.png'></noscript>", ["http://s/p/a.png"]),
        ("<img src='a.png'><img src='a.png'>", ["http://s/p/a.png"]),
        ("<img src='i.png' width=32 height=32>", None),
        ("<img src='/icons/i.png'><img src='logo.svg'>", None),
        ("<img src='javascript:alert(1)'>", None),
        ("<img src='http://[bad/a.png'><img srcset='a 1..2x, http://a:99999999/b.png'>",
         ["http://s/p/a"]),
        ("<base href='http://['><img src='a.png'", None),
        ("<base href='http://['><a href='a.png'>x</a", None),
        ("<img src='file:///etc/passwd.png'>", None),
    ],
)  # fmt: skip
def test_the_pictures_of_a_page(html: str, urls: list[str] | None) -> None:
    page = read_page(html, "http://s/p/index.html")
    assert [list(shown.urls) for shown in page.pictures] == ([urls] if urls else [])


@pytest.mark.parametrize(
    "small, large",
    [
        (
            "https://animethumbs.fancaps.net/12345.jpg",
            ["https://cdni.fancaps.net/file/fancaps-animeimages/12345.jpg",
             "https://ancdn.fancaps.net/12345.jpg"],
        ),
        (
            "https://tvthumbs.fancaps.net/7.jpg",
            ["https://cdni.fancaps.net/file/fancaps-tvimages/7.jpg",
             "https://tvcdn.fancaps.net/7.jpg"],
        ),
        ("https://w.org/images/thumb/a/ab/N.png/300px-N.png", ["https://w.org/images/a/ab/N.png"]),
        (
            "https://static.wikia.nocookie.net/g/images/1/12/A.png/revision/latest/"
            "scale-to-width-down/300?cb=9",
            ["https://static.wikia.nocookie.net/g/images/1/12/A.png/revision/latest?cb=9"],
        ),
        ("https://b.org/u/2024/cat-150x150.jpg", ["https://b.org/u/2024/cat.jpg"]),
        ("https://b.org/u/cat_thumb.png?x=1", ["https://b.org/u/cat.png?x=1"]),
        ("https://b.org/u/thumb_cat.png", ["https://b.org/u/cat.png"]),
        ("https://b.org/g/thumbs/cat.png", ["https://b.org/g/cat.png",
                                           "https://b.org/g/images/cat.png"]),
        ("https://pbs.twimg.com/media/X?format=jpg&name=small",
         ["https://pbs.twimg.com/media/X?format=jpg&name=orig"]),
        ("https://b.org/u/cat.jpg", []),
        ("https://b.org/thumbelina.jpg", []),
    ],
)  # fmt: skip
def test_where_the_full_size_may_be(small: str, large: list[str]) -> None:
    assert larger(small) == large


@pytest.mark.parametrize(
    "url, suffix",
    [
        ("https://a/b.PNG?x=1", ".png"),
        ("https://a/b.png/revision/latest?cb=1", ".png"),
        ("https://a/b.png/comments", ""),
        ("https://a/b.html", ""),
        ("https://a/view?file=b.png", ""),
    ],
)
def test_which_addresses_are_pictures(url: str, suffix: str) -> None:
    assert suffix_of(url) == suffix


def test_the_full_size_is_taken_where_it_is_and_else_the_small_one(site, project) -> None:
    site.pages = {
        "/g.html": b"<a href='/full/1.png'><img src='/t/1.png'></a>"
        b"<img src='/u/two-300x200.png'><img src='/u/three-300x200.png'>",
        "/full/1.png": picture(900),
        "/t/1.png": picture(300),
        "/u/two.png": picture(800, "blue"),
        "/u/two-300x200.png": picture(300, "blue"),
        "/u/three-300x200.png": picture(310, "green"),
    }
    offer = looked(f"{site.url}/g.html")
    assert offer.notes == [f"{site.url}/g.html: 3 pictures."]
    assert site.paths() == ["/robots.txt", "/g.html"]
    assert offer.finds[0].thumbnail().size == (300, 310)
    assert had(project, offer) == [(310, 320), (800, 810), (900, 910)]
    assert {h.get("referer") for p, h in site.asked if p.endswith("png")} == {f"{site.url}/g.html"}
    small = looked(f"{site.url}/g.html", full_size=False)
    assert [find.origin.id[-16:] for find in small.finds][0].endswith("/t/1.png")


def test_robots_are_told_what_they_may_read_and_how_often(site: Site) -> None:
    site.pages = {
        "/robots.txt": b"User-agent: *\nCrawl-delay: 7\nDisallow: /private/\n",
        "/private/g.html": b"<img src='a.png'>",
        "/g.html": b"<img src='a.png'>",
    }
    with pytest.raises(CollectError, match="asks programs not to read .*save it there"):
        looked(f"{site.url}/private/g.html")
    assert site.paths() == ["/robots.txt"]
    assert len(looked(f"{site.url}/g.html").finds) == 1
    assert any(6 < wait <= 7 for wait in slept)


@pytest.mark.parametrize(
    "answer",
    [
        (403, {}, b"<html>no"),
        (503, {"Server": "cloudflare"}, b"<html>Just a moment..."),
        (403, {"cf-mitigated": "challenge"}, b"<html>Just a moment..."),
        (429, {"Server": "cloudflare"}, b"<html>Just a moment..."),
    ],
)
def test_a_site_that_keeps_programs_out_is_not_tricked(answer, site: Site) -> None:
    site.pages = {"/robots.txt": b"User-agent: *\n", "/g.html": answer}
    with pytest.raises(CollectError, match=r"save it there \(Ctrl\+S\).*'collect archives'"):
        looked(f"{site.url}/g.html")
    assert site.paths() == ["/robots.txt", "/g.html"]


def test_one_place_without_pictures_does_not_stop_the_others(site: Site) -> None:
    site.pages = {"/a.html": b"<p>nothing</p>", "/b.html": b"<img src='x.png'>"}
    site.pages["/c.pdf"] = (200, {"Content-Type": "application/pdf"}, b"%PDF")
    offer = looked(*(f"{site.url}/{name}" for name in ("a.html", "gone.html", "c.pdf", "b.html")))
    assert len(offer.finds) == 1
    said = " ".join(offer.notes)
    assert "a.html shows no pictures to a program" in said
    assert "nothing at" in said.lower() and "(application/pdf)" in said


def test_a_guessed_host_that_does_not_answer_is_asked_for_one_picture_only(
    site, project, monkeypatch
) -> None:
    site.pages = {"/t1.png": picture(300), "/t2.png": picture(310, "blue"),
                  "/g.html": b"<a href='http://127.0.0.1:9/1.png'><img src='t1.png'></a>"
                  b"<a href='http://127.0.0.1:9/2.png'><img src='t2.png'></a>"}  # fmt: skip
    offer = looked(f"{site.url}/g.html")
    slept.clear()
    assert had(project, offer) == [(300, 310), (310, 320)]
    assert len([s for s in slept if s > 30]) <= 3  # one round of tries, not two


# --- saved pages ----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A gallery as Chrome saves it, in a folder beside which lies something that is not its."""
    folder = tmp_path / "downloads"
    (folder / "Gallery_files").mkdir(parents=True)
    (folder / "Gallery_files" / "one a.png").write_bytes(picture(300))
    (folder / "Gallery_files" / "two.png").write_bytes(picture(320, "blue"))
    (tmp_path / "secret.png").write_bytes(picture(330, "green"))
    (folder / "Gallery.html").write_text(
        "<!-- saved from url=(0020)http://127.0.0.1:9/g -->\n<meta charset='utf-8'>"
        "<a href='{full}'><img src='./Gallery_files/one%20a.png'></a>"
        "<img src='Gallery_files/two.png'><img src='../secret.png'>"
        "<img src='Gallery_files/gone.png'>"
    )
    return folder / "Gallery.html"


def test_a_saved_page_has_its_pictures_beside_it(saved: Path, site: Site, project) -> None:
    site.pages["/full.png"] = picture(1000)
    text = saved.read_text().replace("<!-- saved from url=(0020)http://127.0.0.1:9/g -->", "")
    saved.write_text(text.replace("{full}", f"{site.url}/full.png"))
    offer = looked(saved)
    assert had(project, offer) == [(320, 330), (1000, 1010)]
    assert site.paths() == ["/full.png"]


def test_what_cannot_be_fetched_any_more_comes_from_the_saved_page(saved, site, project) -> None:
    saved.write_text(saved.read_text().replace("{full}", f"{site.url}/gone.png").split("-->")[1])
    offer = looked(saved)
    assert had(project, offer) == [(300, 310), (320, 330)]
    assert not any("sec" in name for name in os.listdir(project.dataset))
    again = looked(saved)
    assert take(project, again).new == []


def test_the_address_that_chrome_notes_is_where_other_pictures_are(saved: Path) -> None:
    page = read_page(saved.read_text().replace("{full}", "full.png"))
    assert page.pictures[0].urls[0] == "http://127.0.0.1:9/full.png"


def test_a_page_in_one_file(site: Site, project: Project, tmp_path: Path) -> None:
    import base64

    body = base64.encodebytes(picture(300)).decode()
    mhtml = tmp_path / "page.mhtml"
    mhtml.write_text(
        "From: <Saved by Blink>\nSnapshot-Content-Location: https://g.example/p/\n"
        'MIME-Version: 1.0\nContent-Type: multipart/related; boundary="XX"\n\n'
        "--XX\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n"
        'Content-Location: https://g.example/p/\n\n<img src=3D"a.png">\n'
        "--XX\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n"
        f"Content-Location: https://g.example/p/a.png\n\n{body}\n--XX--\n"
    )
    assert had(project, looked(mhtml)) == [(300, 310)]
    assert next(iter(read_origins(project).values())).link == str(mhtml)


@pytest.mark.parametrize("text", ["../../../etc/x", "..", "a/b\\c:d", "", "x" * 300, "é ü.png"])
def test_names_from_the_net_are_names_of_one_file(text: str) -> None:
    name = file_name(text, "id", ".png")
    assert Path(name).name == name and len(name) < 90 and name.endswith(".png")
    assert not set(name) & set('/\\:*?"<>|')


# --- gallery-dl -----------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program in gallery-dl's place; it is Python with `words`, `settings` and `url`."""

    def put(code: str) -> Path:
        program = tmp_path / "gallery-dl"
        program.write_text(
            f"#!{sys.executable}\nimport json, os, sys\nwords = sys.argv[1:]\nurl = words[-1]\n"
            "settings = words[words.index('--config') + 1]\n" + code
        )
        program.chmod(0o755)
        monkeypatch.setattr(gallery, "program", lambda: str(program))
        return program

    return put


def test_pages_of_sites_that_need_gallery_dl_say_how_to_get_it() -> None:
    with pytest.raises(CollectError, match=r"separate program \(GPL\).*pip install gallery-dl"):
        looked("https://www.pixiv.net/en/artworks/123")


def test_what_gallery_dl_finds_comes_with_tags_and_is_fetched_politely(
    site: Site, project, fake, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("PIXIV_REFRESH_TOKEN", "t0ken")
    keys = tmp_path / "config" / "lorakit" / "keys.toml"
    keys.parent.mkdir(parents=True)
    keys.write_text('[gallery-dl.deviantart]\nclient-id = "5"\n')
    keys.chmod(0o600)
    site.pages = {"/1.png": picture(700)}
    note = tmp_path / "note.json"
    fake(
        f"open({str(note)!r}, 'w').write(json.dumps([words, json.load(open(settings)),"
        " oct(os.stat(settings).st_mode)]))\n"
        "about = {'category': 'pixiv', 'id': 77, 'num': 2, 'extension': 'png',"
        " 'tags': ['girl', 'smile'], '_http_headers': {'Referer': 'https://app/'}}\n"
        f"print(json.dumps([[2, about], [3, '{site.url}/1.png', about],"
        f" [3, '{site.url}/2.mp4', dict(about, num=3, extension='mp4')]]))"
    )
    offer = looked("https://www.pixiv.net/en/artworks/77", limit=9)
    assert offer.notes == [
        "https://www.pixiv.net/en/artworks/77: 1 pictures, found by gallery-dl; 1 other files are "
        "left out."
    ]
    assert had(project, offer) == [(700, 710)]
    (name, origin), *_ = read_origins(project).items()
    assert (origin.source, origin.id, origin.tags) == ("pixiv", "77-2", ("girl", "smile"))
    assert name.startswith("pixiv_77-2-") and site.asked[0][1]["referer"] == "https://app/"
    words, given, mode = json.loads(note.read_text())
    assert given["extractor"]["pixiv"] == {"refresh-token": "t0ken"}
    assert given["extractor"]["deviantart"] == {"client-id": "5"}
    assert "t0ken" not in " ".join(words) and stat.S_IMODE(int(mode, 8)) == 0o600
    assert "1-9" in words and "--config-ignore" in words and words[-2] == "--"
    assert not Path(words[words.index("--config") + 1]).exists()


def test_where_the_site_turns_us_down_gallery_dl_fetches_the_picture(site, project, fake) -> None:
    site.pages = {"/1.png": (403, {}, b"no")}
    fake(
        "from PIL import Image\n"
        "if '--resolve-json' in words:\n"
        "    about = {'category': 'x', 'id': 5, 'extension': 'png'}\n"
        f"    print(json.dumps([[3, '{site.url}/1.png', about]]))\n"
        "else:\n"
        "    assert words[words.index('--range') + 1] == '1'\n"
        "    folder = words[words.index('--directory') + 1]\n"
        "    Image.new('RGB', (600, 600)).save(os.path.join(folder, 'a.png'))\n"
    )
    assert had(project, looked("https://x.com/a/status/5")) == [(600, 600)]


@pytest.mark.parametrize(
    "code, reason",
    [
        (
            "said = {'error': 'AuthRequired', 'message': 'refresh-token needed'}\n"
            "print(json.dumps([[-1, said]]))"
            "\nsys.exit(16)",
            r"AuthRequired: refresh-token needed\). It wants keys: put them into .*keys.toml",
        ),
        ("print('[x][error] HttpError: 404 Not Found', file=sys.stderr)\nsys.exit(4)", "404 Not"),
        ("print('not json')", r"could not read .*\(exit code 0\)"),
        ("sys.exit(1)", "exit code 1"),
    ],
)
def test_what_gallery_dl_cannot_read_is_one_sentence(code, reason, fake) -> None:
    fake(code)
    with pytest.raises(CollectError, match=reason):
        looked("https://www.pixiv.net/en/artworks/77")


def test_a_page_that_gallery_dl_does_not_know_is_read_here(site: Site, fake) -> None:
    fake("print('[gallery-dl][error] Unsupported URL', file=sys.stderr)\nsys.exit(64)")
    site.pages = {"/g": b"<img src='a.png'>"}
    assert len(looked(f"{site.url}/g").finds) == 1


def test_the_real_gallery_dl_as_a_program(site: Site, project, monkeypatch, tmp_path) -> None:
    program = Path(sys.executable).with_name("gallery-dl")
    if not program.exists():
        pytest.skip("gallery-dl is not installed (pip install gallery-dl)")
    monkeypatch.setattr(gallery, "program", lambda: str(program))
    site.pages = {"/x/a.png": picture(640), "/g": b"<img src='b.png'>"}
    assert gallery.listed(f"{site.url}/g", 5) is None
    items = gallery.listed(f"{site.url}/x/a.png", 5)
    assert items and (items[0].url, items[0].suffix) == (f"{site.url}/x/a.png", ".png")
    gallery.download(items[0], tmp_path / "got.png")
    assert (tmp_path / "got.png").read_bytes() == picture(640)
    with pytest.raises(CollectError, match="gallery-dl could not read .*404"):
        gallery.download(gallery.Item(f"{site.url}/x/none.png", 1, "", {}), tmp_path / "none.png")


# --- the command ----------------------------------------------------------------------------------


def test_the_command_previews_and_collects(site: Site, project: Project, capsys) -> None:
    site.pages = {"/g.html": b"<img src='a.png'><img src='b.png'>", "/a.png": picture(),
                  "/b.png": picture(410)}  # fmt: skip
    words = ["collect", "links", f"{site.url}/g.html", "--project", str(project.dataset.parent)]
    assert main([*words, "--dry-run", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["new"] == 2 and Path(shown["sheet"]).exists() and scan(project.dataset) == []
    assert main(words) == 0
    assert "2 new pictures" in capsys.readouterr().out and len(scan(project.dataset)) == 2
    assert main(["collect", "links", "nowhere", *words[3:]]) == 2
    assert "'nowhere' is no file, and no address" in capsys.readouterr().err


def test_a_page_that_asks_to_be_left_alone_ends_it(site: Site) -> None:
    site.pages = {
        "/robots.txt": b"User-agent: *\n",
        "/g.html": (429, {"Retry-After": "9000"}, b"no"),
    }
    with pytest.raises(CollectError, match="left alone for 150 minutes"):
        looked(f"{site.url}/g.html")


def test_refusals_of_pictures_end_the_whole_of_it(site: Site, project: Project) -> None:
    site.pages = {f"/{n}.png": (403, {}, b"no") for n in range(9)}
    with pytest.raises(Refused, match="refused 5 requests in a row"):
        take(project, looked(*(f"{site.url}/{n}.png" for n in range(9))))
