"""`python -m lorakit demo build`, in miniature: every phase, a few steps each."""

import gzip
from pathlib import Path

import pytest

from lorakit.demo import base, build, tagger
from lorakit.demo.pictures import draw_many
from lorakit.tagging import taggers
from lorakit.training.base import DEMO, load_base


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which a build takes seconds, with CLIP's merge list already fetched."""
    for name, value in dict(
        DRAWINGS=48, TAGGER_DRAWINGS=24, VAE_STEPS=2, DECODER_STEPS=2, TAGGER_STEPS=2
    ).items():
        monkeypatch.setattr(build, name, value)
    for name, value in dict(UNET_ROUNDS=(2, 2), NAMING_STEPS=2, FRESH=6).items():
        monkeypatch.setattr(build, name, value)
    work = tmp_path / "work"
    work.mkdir()
    merges = (DEMO / "tokenizer" / "merges.txt").read_text("utf-8")
    with gzip.open(work / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write(merges)
    return work


@pytest.mark.slow
def test_a_build_writes_a_base_and_a_tagger_that_load_and_the_shipped_tokenizers(
    small: Path, tmp_path: Path
) -> None:
    assets = build.build_world(seed=3, work=small, assets=tmp_path / "assets")
    made = load_base(str(assets / "base"))
    assert made.unet.config["block_out_channels"] == base.UNET_CONFIG["block_out_channels"]
    for name in ("tokenizer", "tokenizer_2"):
        for file in ("vocab.json", "merges.txt"):
            assert (assets / "base" / name / file).read_bytes() == (DEMO / name / file).read_bytes()
    labels = taggers.read_labels(assets / "tagger" / "selected_tags.csv")
    assert len(labels) == len(tagger.RATINGS) + len(build.all_tags())


@pytest.mark.slow
def test_repeating_a_build_trains_nothing_twice(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build.build_world(seed=3, work=small, assets=tmp_path / "assets")
    weights = (first / "base" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()

    def draw_again(*_: object) -> None:
        raise AssertionError("the drawings were there")

    monkeypatch.setattr("lorakit.demo.pictures.draw_many", draw_again)
    again = build.build_world(seed=3, work=small, assets=tmp_path / "again")
    assert (again / "base" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == weights


def test_the_base_never_sees_horns_with_twintails() -> None:
    sets = draw_many(5, 96, withheld=False)
    sets[0].tags[3] = ["1girl", "horns", "twintails"]
    latents = [(part := s.pixels[:, 0, 0].copy(), part) for s in sets]
    kept, kept_latents = build.without_pair(sets, latents)
    assert len(kept[0].tags) == len(kept_latents[0][0]) < len(sets[0].tags)
    assert not any({"horns", "twintails"} <= set(tags) for s in kept for tags in s.tags)
