"""Collecting from boorus: against servers on this machine that speak the engines' own protocols."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from lorakit.__main__ import main
from lorakit.collect import keys, visitor
from lorakit.collect.boorus import BooruSettings, look, sites
from lorakit.collect.finds import Offer
from lorakit.collect.intake import PART, take
from lorakit.collect.origins import read_origins
from lorakit.dataset import broken, scan
from lorakit.errors import Refused, SettingsError
from lorakit.project import Project, find

from .boards import Board, Shown, png, serving

ENGINES = {
    "gelbooru": "gelbooru",
    "safebooru": "safebooru",
    "danbooru": "danbooru",
    "yandere": "moebooru",
}
slept: list[float] = []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return find(str(tmp_path / "astrid")).create()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys of the person who runs the tests, and no waiting."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("GELBOORU_USER_ID", "GELBOORU_API_KEY", "DANBOORU_LOGIN", "DANBOORU_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    slept.clear()
    monkeypatch.setattr(visitor.time, "sleep", slept.append)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Opens a board in place of a site; its pictures come without a pause."""
    with ExitStack() as stack:

        def open_board(site: str, posts: list[Shown], **more: object) -> Board:
            board = stack.enter_context(serving(Board(ENGINES[site], posts, **more)))  # type: ignore[arg-type]
            here = replace(sites.SITES[site], base=board.base, pace=0.0)
            monkeypatch.setitem(sites.SITES, site, here)
            if site == "gelbooru" and board.keys is None:
                board.keys = ("77", "s3cret")
                monkeypatch.setenv("GELBOORU_USER_ID", "77")
                monkeypatch.setenv("GELBOORU_API_KEY", "s3cret")
            return board

        yield open_board


def looked(site: str, tags: str = "1girl", **more: object) -> Offer:
    return look(BooruSettings(site=site, tags=tags, **more))  # type: ignore[arg-type]


def ids(offer: Offer) -> list[int]:
    return [int(each.origin.id) for each in offer.finds]


# --- the three protocols --------------------------------------------------------------------------


@pytest.mark.parametrize("site", ENGINES)
def test_pictures_come_from_every_engine_with_their_tags(site: str, opened, project) -> None:
    posts = [
        Shown(1, "1girl solo", score=3),
        Shown(2, "1girl comic"),
        Shown(3, "1girl solo smile", suffix="jpg", body=png(3)),
    ]
    opened(site, posts)
    offer = looked(site, "1girl -comic")
    assert ids(offer) == [3, 1]
    assert offer.finds[0].size == (900, 1200)
    assert offer.finds[0].thumbnail().size == (8, 8)
    take(project, offer)
    assert [p.name for p in scan(project.dataset)] == [f"{site}_1.png", f"{site}_3.jpg"]
    assert (project.dataset / f"{site}_1.png").read_bytes() == posts[0].body
    origin = read_origins(project)[f"{site}_3.jpg"]
    assert (origin.source, origin.id, origin.tags) == (site, "3", ("1girl", "smile", "solo"))
    assert origin.link.startswith("http") and "3" in origin.link and "s3cret" not in origin.link


@pytest.mark.parametrize("site", ENGINES)
def test_all_pages_are_read_even_while_new_posts_come_in(site: str, opened) -> None:
    posts = [Shown(id) for id in range(1, 701)]
    board = opened(site, posts)
    pages = board.matching

    def growing(text: str) -> list[Shown]:
        board.posts.append(Shown(len(board.posts) + 1))
        return pages(text)

    board.matching = growing
    offer = looked(site, limit=5000)
    assert len(ids(offer)) == len(set(ids(offer)))
    assert set(range(1, 701)) <= set(ids(offer))


@pytest.mark.parametrize("site", ENGINES)
def test_it_says_how_many_there_are_before_anything_is_fetched(site: str, opened) -> None:
    board = opened(site, [Shown(id) for id in range(1, 301)])
    offer = looked(site, limit=20)
    assert offer.notes[0] == f"{site} has 300 posts for '1girl'; 20 were looked at."
    assert len(offer.finds) == 20 and board.files() == []


@pytest.mark.parametrize("site", ENGINES)
def test_what_is_of_no_use_is_left_out_and_counted(site: str, opened) -> None:
    opened(
        site,
        [
            Shown(1),
            Shown(2, hidden=True),
            Shown(3, "1girl animated", suffix="gif"),
            Shown(4, "1girl", suffix="webm"),
            Shown(5, width=300, height=2000),
            Shown(6, parent=1),
            Shown(7, parent=1),
        ],
    )
    offer = looked(site)
    assert ids(offer) == [1]  # the parent, though its children came first
    assert set(offer.notes[1:]) == {
        "1 have no file that can be fetched (taken down, or for members only).",
        "2 are animations or films.",
        "1 are too small.",
        "2 are versions of another that is taken (parents=all takes them too).",
    }
    assert ids(looked(site, parents="all", smallest=0)) == [7, 6, 5, 1]


def test_a_size_cap_takes_the_sites_smaller_size(opened, project) -> None:
    posts = [Shown(1, width=6000, height=9000, sample=(850, 1275)), Shown(2, sample=(850, 1133))]
    opened("gelbooru", posts)
    assert [f.size for f in looked("gelbooru").finds] == [(900, 1200), (6000, 9000)]
    capped = looked("gelbooru", largest=4000)
    assert [f.size for f in capped.finds] == [(900, 1200), (850, 1275)]
    assert [f.size for f in looked("gelbooru", size="sample").finds] == [(850, 1133), (850, 1275)]
    assert len(take(project, capped).new) == 2


def test_one_post_alone_comes_from_gelbooru_as_an_object_and_none_as_nothing(opened) -> None:
    opened("gelbooru", [Shown(1)])
    assert ids(looked("gelbooru", "1girl")) == [1]
    offer = looked("gelbooru", "nobody")
    assert ids(offer) == [] and "look up on the site how it writes" in offer.notes[-1]


def test_only_the_rarest_two_tags_go_to_danbooru_and_the_rest_is_applied_here(opened) -> None:
    common = [Shown(id, "1girl solo") for id in range(1, 401)]
    rare = [Shown(500, "1girl solo astrid braid", score=20), Shown(501, "1girl astrid braid")]
    board = opened("danbooru", [*common, *rare])
    assert ids(looked("danbooru", "1girl solo astrid braid score:>10 rating:g")) == [500]
    assert set(board.searches()) == {"astrid braid rating:g"}


def test_a_tag_under_another_name_is_left_to_the_server(opened) -> None:
    board = opened(
        "danbooru", [Shown(1, "hatsune_miku 1girl solo")], aliases={"miku": "hatsune_miku"}
    )
    assert ids(looked("danbooru", "1girl solo miku")) == [1]
    assert board.searches()[0].startswith("miku")


def test_a_site_that_takes_fewer_tags_than_was_thought_is_asked_for_fewer(opened) -> None:
    board = opened("danbooru", [Shown(1, "1girl solo"), Shown(2, "1girl")], tag_limit=1)
    assert ids(looked("danbooru", "solo 1girl")) == [1]
    assert board.searches()[-1] == "solo"


def test_limits_on_the_posts_number_are_where_the_search_begins_and_ends(opened) -> None:
    board = opened("yandere", [Shown(id) for id in range(1, 601)])
    assert ids(looked("yandere", "1girl id:100..350", limit=1000)) == list(range(350, 99, -1))
    assert board.searches()[0] == "1girl id:<351" and len(board.searches()) == 3


def test_a_search_that_finds_little_ends_and_says_so(opened) -> None:
    opened("danbooru", [Shown(id) for id in range(1, 901)])
    offer = looked("danbooru", "1girl *_braid", look_at=300)
    assert ids(offer) == [] and "After 300 posts the search was ended" in offer.notes[-1]


# --- refusals -------------------------------------------------------------------------------------


def test_without_a_key_gelbooru_is_not_asked_and_it_says_where_to_get_one(opened) -> None:
    board = opened("gelbooru", [Shown(1)], keys=("77", "s3cret"))
    with pytest.raises(Refused) as refused:
        looked("gelbooru")
    said = str(refused.value)
    assert "answers nobody without user_id and api_key" in said and "Options, API Access" in said
    assert "GELBOORU_USER_ID and GELBOORU_API_KEY" in said and str(keys.keys_file()) in said
    assert board.asked == []


def test_a_wrong_key_is_told_without_being_shown(opened, monkeypatch) -> None:
    opened("gelbooru", [Shown(1)], keys=("77", "s3cret"))
    monkeypatch.setenv("GELBOORU_USER_ID", "77")
    monkeypatch.setenv("GELBOORU_API_KEY", "wr0ng")
    with pytest.raises(Refused, match=r"refused .*401.*not accepted.*gelbooru\.com") as refused:
        looked("gelbooru")
    assert "wr0ng" not in str(refused.value)


def test_a_site_that_is_not_there_is_told_soon_and_without_the_key(opened, monkeypatch) -> None:
    opened("gelbooru", [Shown(1)])
    nowhere = replace(sites.SITES["gelbooru"], base="http://127.0.0.1:9")
    monkeypatch.setitem(sites.SITES, "gelbooru", nowhere)
    with pytest.raises(Refused, match=r"did not answer \(Connection refused\)") as refused:
        looked("gelbooru")
    assert "s3cret" not in str(refused.value) and sum(slept) < 10
    leaky = visitor.reason(OSError("gave up on url /index.php?api_key=s3cret now"))
    assert leaky == "gave up on url /index.php now"


def test_keys_come_from_a_file_that_only_its_owner_reads(opened, monkeypatch) -> None:
    board = opened("danbooru", [Shown(1)], keys=("me", "k3y"))
    path = keys.keys_file()
    path.parent.mkdir(parents=True)
    path.write_text('[danbooru]\nlogin = "me"\napi_key = "k3y"\n')
    path.chmod(0o644)
    with pytest.raises(SettingsError, match=f"can be read by others. Run: chmod 600 {path}"):
        looked("danbooru")
    path.chmod(0o600)
    assert ids(looked("danbooru")) == [1]
    assert all("authorization" in headers for _, headers in board.asked)
    path.write_text('[danbooru]\nlogin = "me"\napi_key = "old"\n')
    with pytest.raises(Refused, match=r"refused .*\(401\).*not accepted.*My Account"):
        looked("danbooru")


@pytest.mark.parametrize(
    "status, headers, reason",
    [
        (403, {}, r"was refused|refused the search \(403\)"),
        (403, {"cf-mitigated": "challenge"}, "lets no programs in"),
        (429, {"Retry-After": "3600"}, "wants to be left alone for 60 minutes"),
        (429, {"Retry-After": "0"}, "asked too often"),
        (422, {}, "does not understand '1girl'"),
        (500, {}, "failed 8 times"),
    ],
)
def test_what_a_site_refuses_is_one_sentence(status, headers, reason, opened, capsys) -> None:
    board = opened("danbooru", [Shown(1)])
    board.script = [(200, {}), *[(status, headers)] * 20]  # the count is of no importance
    words = ["collect", "boorus", "--site", "danbooru", "--tags", "1girl", "--project", "/tmp/none"]
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("lorakit: ") and re.search(reason, said), said


def test_the_server_says_how_long_to_wait_and_is_believed(opened) -> None:
    board = opened("danbooru", [Shown(1)])
    board.script = [(429, {"Retry-After": "17"}), (503, {"Retry-After": "23"})]
    assert ids(looked("danbooru")) == [1]
    assert [round(s) for s in slept if s > 5] == [17, 23]


def test_pauses_grow_and_are_not_in_step(opened) -> None:
    board = opened("danbooru", [Shown(1)])
    board.script = [(500, {})] * 6
    looked("danbooru")
    waits = [s for s in slept if s > 0.5]
    assert len(waits) == 6
    assert all(0.75 * 2**n <= wait <= 1.25 * 2**n for n, wait in enumerate(waits))


def test_a_site_is_asked_at_its_own_pace(opened, monkeypatch) -> None:
    opened("danbooru", [Shown(id) for id in range(1, 4)])
    monkeypatch.setitem(sites.SITES, "danbooru", replace(sites.SITES["danbooru"], pace=1.0))
    offer = looked("danbooru")
    for each in offer.finds:
        each.thumbnail()
    assert len(slept) >= 4 and all(0.5 < wait <= 1.0 for wait in slept)


def test_a_host_that_keeps_refusing_pictures_is_left_alone(opened, project) -> None:
    board = opened("danbooru", [Shown(id) for id in range(1, 31)])
    offer = looked("danbooru")
    board.script = [(403, {})] * 50
    with pytest.raises(Refused, match="has refused 5 requests in a row, so it was left alone"):
        take(project, offer)


# --- pictures that arrive whole -------------------------------------------------------------------


def test_a_download_that_breaks_off_goes_on_where_it_was(opened, project) -> None:
    large = Shown(1, body=png(1, 400))
    board = opened("danbooru", [large], cuts=[200_000, 150_000])
    assert len(take(project, looked("danbooru")).new) == 1
    ranges = [h.get("range", "") for path, h in board.asked if path.startswith("/images/")]
    assert ranges[0] == "" and len(ranges) == 3
    first, second = (int(r.removeprefix("bytes=").rstrip("-")) for r in ranges[1:])
    assert 100_000 < first <= 200_000 < second
    assert (project.dataset / "danbooru_1.png").read_bytes() == large.body


def test_what_an_earlier_run_left_is_gone_on_with(opened, project) -> None:
    large = Shown(1, body=png(1, 300))
    board = opened("danbooru", [large])
    (project.dataset / f"{PART}danbooru_1.png").write_bytes(large.body[:100_000])
    take(project, looked("danbooru"))
    assert [h.get("range") for p, h in board.asked if p.startswith("/images/")] == ["bytes=100000-"]
    assert (project.dataset / "danbooru_1.png").read_bytes() == large.body


def test_what_an_earlier_run_left_may_be_of_another_file(opened, project) -> None:
    large = Shown(1, body=png(1, 300))
    opened("danbooru", [large])
    for left in (b"x" * 1000, large.body + b"more"):
        (project.dataset / f"{PART}danbooru_1.png").write_bytes(left)
        looked("danbooru").finds[0].write(project.dataset / f"{PART}danbooru_1.png")
        assert (project.dataset / f"{PART}danbooru_1.png").read_bytes() == large.body


def test_a_file_with_another_checksum_is_fetched_again_and_then_given_up(opened, project) -> None:
    board = opened("danbooru", [Shown(1), Shown(2)], lies=[png(98), png(99)])
    assert len(take(project, looked("danbooru")).new) == 2
    board.posts.append(Shown(3))
    board.lies = [png(97)] * 3
    taken = take(project, looked("danbooru"))
    assert "its checksum (MD5) is not the one that the site states" in str(taken)
    assert not (project.dataset / f"{PART}danbooru_3.png").exists()


def test_a_picture_that_was_taken_down_since_does_not_stop_the_others(opened, project) -> None:
    board = opened("danbooru", [Shown(1), Shown(2)])
    offer = looked("danbooru")
    del board.posts[1]
    taken = take(project, offer)
    assert len(taken.new) == 1 and "There is nothing at" in taken.failed["danbooru_2.png"]


def whole(project: Project, board: Board) -> bool:
    """Whether every post's file is there, byte by byte, and nothing else."""
    wanted = {f"danbooru_{p.id}.png": p.md5 for p in board.posts}
    here = {p.name: hashlib.md5(p.path.read_bytes()).hexdigest() for p in scan(project.dataset)}
    return here == wanted


@pytest.mark.slow
@pytest.mark.parametrize("site", ["gelbooru", "danbooru", "yandere"])
def test_a_thousand_posts_with_a_third_of_all_answers_gone_wrong(site, opened, project) -> None:
    board = opened(site, [Shown(id) for id in range(1, 1001)], faults=0.3, seed=5)
    offer = looked(site, limit=2000)
    taken = take(project, offer)
    for _ in range(3):  # as its message says: run again
        if not taken.failed:
            break
        taken = take(project, offer)
    pictures = scan(project.dataset)
    assert len(pictures) == 1000 and broken(pictures) == {}
    sums = {hashlib.md5(p.path.read_bytes()).hexdigest() for p in pictures}
    assert sums == {post.md5 for post in board.posts}
    assert len(board.files()) > 1200  # the faults were there
    assert len(read_origins(project)) == 1000


RUN = """
import sys
from dataclasses import replace
from lorakit.collect import visitor
from lorakit.collect.boorus import sites
from lorakit.__main__ import main
visitor.PAUSE = 0.001
sites.SITES["danbooru"] = replace(sites.SITES["danbooru"], base=sys.argv[1], pace=0.0)
sys.exit(main(["collect", "boorus", "--site", "danbooru", "--tags", "1girl", "--limit", "2000",
               "--project", sys.argv[2], "--json"]))
"""


@pytest.mark.slow
def test_killed_half_way_and_run_again_it_has_each_picture_once(opened, project) -> None:
    board = opened("danbooru", [Shown(id) for id in range(1, 401)], faults=0.3)
    command = [sys.executable, "-c", RUN, board.base, str(project.dataset.parent)]
    for share in (100, 250):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = time.monotonic()
        while len(scan(project.dataset)) < share and time.monotonic() - started < 300:
            if running.poll() is not None:
                break
            threading.Event().wait(0.05)  # time.sleep is not what it was
        running.send_signal(signal.SIGKILL)
        running.wait()
        here = scan(project.dataset)
        assert share <= len(here) < 400 and broken(here) == {}
    asked = len(board.files())
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["failed"] == {} and result["new"] + result["known"] == 400
    assert whole(project, board) and asked < len(board.files())
    assert len(read_origins(project)) == 400
    again = len(board.files())
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["new"] == 0 and len(board.files()) == again


# --- the command ----------------------------------------------------------------------------------


def test_the_preview_fetches_small_pictures_only_and_then_it_collects(
    opened, project, capsys
) -> None:
    board = opened("yandere", [Shown(id) for id in range(1, 6)])
    words = ["collect", "boorus", "--project", str(project.dataset.parent), "--json"]
    words += ["--site", "yandere", "--tags", "1girl -comic", "--limit", "3"]
    assert main([*words, "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["found"], shown["new"]) == (3, 3) and Path(shown["sheet"]).exists()
    assert board.files() == [] and scan(project.dataset) == []
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 3
    assert not project.settings_file.exists(), "neither the search nor a key is kept"


def test_no_tags_at_all_is_a_sentence(project, capsys) -> None:
    assert main(["collect", "boorus", "--project", str(project.dataset.parent)]) == 2
    assert "say what to look for with one tag at least" in capsys.readouterr().err
