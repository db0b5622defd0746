"""What ships in `lorakit/demo/assets`: small enough, good enough."""

from pathlib import Path

from lorakit.demo import build
from lorakit.demo.world import all_tags
from lorakit.tagging.taggers import load


def test_the_embedded_world_takes_at_most_60_mb() -> None:
    assert (
        sum(path.stat().st_size for path in build.ASSETS.rglob("*") if path.is_file()) <= 60_000_000
    )


def test_the_taggers_macro_f1_on_fresh_drawings_is_at_least_nine_tenths() -> None:
    score, each = build.fresh_f1(Path(build.ASSETS) / "tagger" / "model.onnx", 1500, seed=123)
    weak = {tag: round(float(f), 2) for tag, f in zip(all_tags(), each, strict=True) if f < 0.8}
    assert score >= 0.9, weak


def test_the_demo_tagger_knows_every_tag_of_the_world() -> None:
    assert {label.name for label in load("demo").labels} >= set(all_tags())
