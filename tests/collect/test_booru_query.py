"""The query language: what it finds, what of it a server is asked for, what it refuses."""

from __future__ import annotations

import pytest

from lorakit.collect.boorus.engines import Danbooru, Engine, Gelbooru, Moebooru
from lorakit.collect.boorus.post import File, Post
from lorakit.collect.boorus.query import parse
from lorakit.collect.boorus.search import terms_for
from lorakit.errors import SettingsError


def post(tags: str = "", rating: str = "g", score: int = 10, id: int = 7, **more: int) -> Post:
    size = more.get("width", 1000), more.get("height", 1500)
    return Post(id, frozenset(tags.split()), rating, score, *size, 0, (File("https://x/a.png"),))


@pytest.mark.parametrize(
    "query, tags, found",
    [
        ("astrid", "astrid solo", True),
        ("ASTRID", "astrid", True),
        ("astrid", "astrid_(game)", False),
        ("astrid solo", "astrid", False),
        ("astrid -comic", "astrid comic", False),
        ("astrid -comic", "astrid", True),
        ("astrid ~smile ~grin", "astrid grin", True),
        ("astrid ~smile ~grin", "astrid", False),
        ("~smile ~grin", "smile", True),
        ("astrid*", "astrid_(game)", True),
        ("*_hair", "blue_hair", True),
        ("*_hair", "blue_hairband", False),
        ("b*e_hair", "blue_hair", True),
        ("astrid -*_(cosplay)", "astrid link_(cosplay)", False),
        (":3", ":3", True),
        ("a[b]*", "a[b]c", True),
        ("what?", "what?", True),
        ("wha?*", "what?", False),
        ("re:zero", "re:zero", True),
        ("^_^ ;)", "^_^ ;)", True),
        (">_< :<", ">_< :<", True),
        ('don\'t_say_"lazy" \\m/', 'don\'t_say_"lazy" \\m/', True),
    ],
)
def test_tags(query: str, tags: str, found: bool) -> None:
    assert parse(query).on(post(tags)) is found


@pytest.mark.parametrize(
    "limit, found",
    [
        ("score:>10", False),
        ("score:>=10", True),
        ("score:<10", False),
        ("score:<=10", True),
        ("score:10", True),
        ("score:5..10", True),
        ("score:11..", False),
        ("score:..9", False),
        ("score:3,10", True),
        ("score:>-5", True),
        ("-score:>5", False),
        ("width:>=768", True),
        ("height:<768", False),
        ("id:<7", False),
        ("id:7", True),
        ("rating:g", True),
        ("rating:general,e", True),
        ("-rating:g", False),
        ("rating:s", False),
        ("rating:safe", True),
        ("-rating:e -rating:q", True),
    ],
)
def test_limits_on_numbers_and_ratings(limit: str, found: bool) -> None:
    assert parse(f"astrid {limit}").on(post("astrid")) is found


def test_a_rating_that_covers_two_will_do_for_either() -> None:
    safe = post("astrid", rating="gs")
    assert parse("astrid rating:g").on(safe) and parse("astrid rating:s").on(safe)
    assert not parse("astrid rating:q").on(safe)


def test_a_post_that_tells_no_rating_is_not_left_out_for_it() -> None:
    assert parse("astrid rating:g").on(post("astrid", rating=""))


@pytest.mark.parametrize(
    "query, reason",
    [
        ("", "say what to look for"),
        ("-comic score:>10", "say what to look for"),
        ("astrid, long hair", "Did you mean: astrid long_hair"),
        ("astrid score:many", "write score:>10"),
        ("astrid score:9..3", "write score:>10"),
        ("astrid rating:fine", "no rating 'fine'"),
        ("astrid rating:g -rating:g", "no rating is left"),
        ("astrid order:score", "'order:score' is not understood here"),
        ("astrid -astrid", "both asked for and excluded"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(query: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason.replace("(", r"\(")):
        parse(query)


COUNTS = {"1girl": 6_000_000, "solo": 5_000_000, "astrid": 312, "braid": 900_000}


@pytest.mark.parametrize(
    "engine, query, sent",
    [
        (Danbooru(), "1girl solo astrid braid", "astrid braid"),
        (Danbooru(), "1girl astrid rating:g,s", "astrid 1girl rating:g,s"),
        (Danbooru(), "astrid score:>10 -comic", "astrid score:>=11"),
        (Danbooru(), "astrid -comic -monochrome", "astrid -comic"),
        (Danbooru(), "~smile ~grin", "~smile ~grin"),
        (Danbooru(), "astrid ~smile ~grin", "astrid"),
        (Danbooru(), "astr* solo", "solo"),
        (Danbooru(), "astr*", "astr*"),
        (Danbooru(), "astrid id:<500", "astrid"),
        (Gelbooru(), "1girl astrid -comic score:5..9", "astrid 1girl score:>=5 score:<=9 -comic"),
        (Gelbooru(), "astrid rating:g,s", "astrid -rating:questionable -rating:explicit"),
        (Gelbooru(), "astrid ~smile ~grin", "astrid {smile ~ grin}"),
        (Gelbooru(rated=False), "astrid rating:g", "astrid"),
        (Moebooru(), "astrid rating:g", "astrid -rating:q -rating:e"),
        (Moebooru(), "astrid -a -b -c -d -e -f", "astrid -a -b -c -d"),
    ],
)
def test_the_rarest_tags_go_to_the_server_and_no_more_than_it_takes(
    engine: Engine, query: str, sent: str
) -> None:
    terms = terms_for(parse(query), engine, COUNTS)
    assert " ".join(term.text for term in terms) == sent


def test_too_many_alternatives_for_a_site_and_nothing_else_to_ask_for() -> None:
    with pytest.raises(SettingsError, match="takes 2 tags in a search, too few for 3 tags with ~"):
        terms_for(parse("~a ~b ~c"), Danbooru(), {})


def test_a_tag_that_the_server_saw_to_is_not_tested_again_for_it_may_have_another_name() -> None:
    query = parse("miku solo -comic score:>3")
    rest = query.without(query.include[:1])
    assert rest.on(post("hatsune_miku solo"))
    assert not rest.on(post("hatsune_miku"))
    assert not rest.on(post("hatsune_miku solo comic"))
    assert not rest.on(post("hatsune_miku solo", score=3))


@pytest.mark.parametrize("engine", [Danbooru(), Gelbooru(), Moebooru()])
@pytest.mark.parametrize("url", ["http://[bad", "javascript:x", "file:///etc/passwd", None, ""])
def test_a_post_whose_address_is_none_has_no_file(engine: Engine, url: str | None) -> None:
    row = {
        "id": "12",
        "file_url": url,
        "tags": None,
        "sample_url": "https://x/s.jpg",
        "score": None,
    }
    read = engine.read(row, "https://site")
    assert (read.id, read.files, read.score, read.parent) == (12, (), 0, 0)
