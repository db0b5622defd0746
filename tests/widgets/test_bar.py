"""The progress bar."""

from __future__ import annotations

from lorakit import widgets
from lorakit.progress import track
from lorakit.widgets import Bar


def test_a_bar_is_hidden_until_there_is_progress():
    bar = Bar()
    assert bar.layout.display == "none"
    bar("Tagging", 0, 4)
    assert bar.layout.display is None and bar.text.value == "Tagging: 0 of 4"


def test_the_end_of_a_job_is_always_shown():
    bar = Bar()
    assert list(track("abcd", "Tagging", bar)) == list("abcd")
    assert (bar.bar.value, bar.bar.max, bar.bar.bar_style) == (4, 4, "success")
    bar("Drawing", 0, 2)
    assert (bar.bar.value, bar.bar.max, bar.bar.bar_style, bar.text.value) == (
        0,
        2,
        "",
        "Drawing: 0 of 2",
    )


def test_a_job_of_unknown_length_has_words_only():
    bar = Bar()
    bar("Downloading", 3, 0)
    assert bar.text.value == "Downloading ..."


def test_updates_are_thinned_out(monkeypatch):
    clock, seen = [0.0], []
    monkeypatch.setattr(widgets.time, "monotonic", lambda: clock[0])
    bar = Bar()
    bar.bar.observe(lambda change: seen.append(change["new"]), "value")
    for done in range(1, 1001):
        clock[0] += 0.01
        bar("Tagging", done, 1000)
    assert len(seen) < 110 and seen[-1] == 1000
