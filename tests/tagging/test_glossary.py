"""The user's own list: replacing, removing, regions, and the file a spreadsheet may have saved."""

import pytest

from lorakit.errors import SettingsError
from lorakit.tagging import body, glossary, tags
from lorakit.tagging.glossary import Entry

GUIDE = glossary.glossary_of(
    [Entry("horns", "hair ornament, yellow hair ornament", note="her combs")]
)


def test_a_tag_gives_way_to_what_the_glossary_says():
    caption = ["makeup", "horns", "purple eyes"]
    assert glossary.apply(caption, GUIDE) == [
        "makeup",
        "hair ornament",
        "yellow hair ornament",
        "purple eyes",
    ]
    assert glossary.apply(caption, {}) == caption


def test_a_dash_removes_and_an_empty_replacement_keeps():
    words = glossary.glossary_of([Entry("cosplay", "-"), Entry("tomoe", "", "neck")])
    assert glossary.apply(["cosplay", "Tomoe", "sky"], words) == ["Tomoe", "sky"]


def test_regions_of_the_glossary_go_into_the_body_order():
    words = glossary.glossary_of([Entry("Tomoe", region="neck"), Entry("horns", "-")])
    assert glossary.regions(words) == {"tomoe": "neck"}
    assert body.body_order(["sky", "tomoe", "boots"], glossary.regions(words)) == [
        "boots",
        "tomoe",
        "sky",
    ]


def test_what_was_saved_is_loaded(tmp_path):
    words = glossary.glossary_of(
        [
            Entry("horns", "hair ornament, yellow hair ornament", "", 'she says "combs"'),
            Entry("tomoe", "", "neck", "日本"),
        ]
    )
    file = glossary.save(words, tmp_path / "glossary.csv")
    assert glossary.load(file) == words


def test_without_a_file_the_glossary_is_empty_and_lies_beside_the_projects(monkeypatch, tmp_path):
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    assert glossary.load() == {}
    glossary.save(GUIDE)
    assert (tmp_path / "glossary.csv").read_text().startswith("tag,replacement,region,note\nhorns,")
    assert glossary.load() == GUIDE


@pytest.mark.parametrize(
    "text",
    [
        'tag,replacement,region,note\nhorns,"hair ornament, yellow hair ornament",,her combs\n',
        "\ufefftag;replacement;region;note\r\nhorns;hair ornament, yellow hair ornament;;her "
        "combs\r\n",
        'note,tag,replacement,count\nher combs, horns ,"hair ornament, yellow hair '
        'ornament",3\n,,,\n',
    ],
    ids=["plain", "as Excel saves it in Europe", "other columns, an empty line"],
)
def test_files_from_spreadsheets_are_understood(tmp_path, text):
    file = tmp_path / "glossary.csv"
    file.write_bytes(text.encode())
    assert glossary.load(file) == GUIDE


def test_a_line_may_be_shorter_than_the_header(tmp_path):
    file = tmp_path / "glossary.csv"
    file.write_text("tag,replacement,region,note\ncosplay,-\n")
    assert glossary.load(file) == {"cosplay": Entry("cosplay", "-")}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"word,replacement\nhorns,x\n", "must name its columns: tag, replacement, region, note"),
        (b"", "must name its columns"),
        (b"tag,region\nhorns,head\n", r"glossary\.csv line 2: there is no region 'head'"),
        ("tag,note\nhorns,日本\n".encode("shift-jis"), "Save it as a CSV file in UTF-8"),
    ],
)
def test_a_bad_file_is_named_with_what_to_do(tmp_path, data, message):
    file = tmp_path / "glossary.csv"
    file.write_bytes(data)
    with pytest.raises(SettingsError, match=message):
        glossary.load(file)


def test_replacements_are_read_like_captions():
    words = glossary.glossary_of([Entry("a", r" b ,c_\(d\)")])
    assert glossary.apply(["a"], words) == tags.parse(r"b, c_\(d\)") == ["b", "c_(d)"]
