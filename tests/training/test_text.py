"""Text encoding against diffusers' own, long captions in chunks, and captions encoded once."""

import logging
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from lorakit.dataset import Picture
from lorakit.errors import TrainingError
from lorakit.training import text
from lorakit.training.base import Base
from lorakit.training.config import CaptionSettings
from lorakit.training.examples import Example
from lorakit.training.plan import fit
from lorakit.training.text import (
    TextCache,
    cache_texts,
    draw_variants,
    encode_captions,
    pad_chunks,
    token_chunks,
)

CAPTIONS = [
    "astrid, smile, outdoors",
    "",
    "1girl, solo, full body, black dress, purple hair, horns",
]


def test_hidden_states_and_pooled_output_equal_diffusers_encode_prompt(base: Base) -> None:
    pipeline = StableDiffusionXLPipeline(
        base.vae,
        *base.encoders,
        *base.tokenizers,
        base.unet,
        None,
        force_zeros_for_empty_prompt=False,
    )
    theirs, _, theirs_pooled, _ = pipeline.encode_prompt(
        CAPTIONS, device="cpu", do_classifier_free_guidance=False
    )
    with torch.no_grad():
        ours, pooled = encode_captions(base.tokenizers, base.encoders, CAPTIONS)
    assert ours.shape == theirs.shape == (3, 77, 160)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(pooled, theirs_pooled, atol=1e-5)


def test_a_long_caption_is_cut_into_chunks_that_each_begin_and_end(base: Base) -> None:
    long = ", ".join(["black dress"] * 40)  # 119 tokens, the 75th of them a comma
    ids, _ = token_chunks(base.tokenizers, [long, "short"])
    assert ids.shape == (2, 2, 77)
    assert (ids[:, :, 0] == 49406).all()
    assert (ids[0, 0, 76], ids[0, 1, 119 - 75 + 1]) == (49407, 49407)
    assert (
        ids[1, 1].tolist() == [49406, 49407] + [49407] * 75
    )  # an empty chunk for the shorter caption


COMMA = 267


@pytest.mark.parametrize(
    "commas, length, chunks",
    [
        ((), 75, [75]),
        ((), 76, [75, 1]),
        ((60,), 75, [75]),
        ((60,), 80, [61, 19]),
        ((54,), 80, [75, 5]),  # too far from the end
        ((55,), 80, [56, 24]),
        ((55, 70), 80, [71, 9]),
        ((60, 75), 80, [75, 5]),  # a comma comes next: nothing is torn
        ((60, 121), 200, [61, 61, 75, 3]),
        ((), 0, [0]),
    ],
)
def test_a_tag_at_the_end_of_a_chunk_goes_whole_into_the_next_as_in_a1111(
    commas: tuple[int, ...], length: int, chunks: list[int]
) -> None:
    tokens = [COMMA if i in commas else 1000 + i for i in range(length)]
    made = text.cut(tokens, COMMA)
    assert [len(chunk) for chunk in made] == chunks
    assert [token for chunk in made for token in chunk] == tokens, "nothing is lost"


@pytest.mark.parametrize(
    "caption", ["astrid, !!, hello!", "!!, " + ", ".join(["black dress"] * 24)]
)
def test_an_exclamation_mark_is_a_word_for_both_encoders(base: Base, caption: str) -> None:
    first, second = token_chunks(base.tokenizers, [caption])
    words = first[0] != base.tokenizers[0].pad_token_id
    assert torch.equal(first[0][words], second[0][words])
    assert not (first == 0).any(), "0 is the second's padding"
    states, _ = encode_captions(base.tokenizers, base.encoders, [caption])
    assert states.shape[1] == 77 * first.shape[1]


def test_nothing_of_a_long_caption_is_lost_and_its_length_changes_no_neighbour(base: Base) -> None:
    long = ", ".join(["black dress"] * 40)
    with torch.no_grad():
        alone, alone_pooled = encode_captions(base.tokenizers, base.encoders, ["short"])
        both, pooled = encode_captions(base.tokenizers, base.encoders, ["short", long])
        longer, _ = encode_captions(base.tokenizers, base.encoders, [long + ", horns"])
    assert both.shape == (2, 154, 160)
    assert torch.allclose(both[0, :77], alone[0], atol=1e-5) and torch.allclose(
        pooled[0], alone_pooled[0], atol=1e-5
    )
    assert not torch.allclose(longer[0, 77:], both[1, 77:], atol=1e-3)


# --- encoded once ---------------------------------------------------------------------------------

LONG = "astrid, " + ", ".join(["striped thighhighs"] * 30)  # two chunks, some sides three
LONGEST = "astrid, " + ", ".join(["multicolored striped thighhighs"] * 40)


def example(caption: str, keep_tags: int = 1, regularisation: bool = False) -> Example:
    place = fit((64, 64), (64, 64))
    return Example(Picture(Path("a.png")), caption, place, 1, keep_tags, False, regularisation)


def cached(base: Base, *captions: str, **changes: object) -> tuple[TextCache, CaptionSettings]:
    settings = CaptionSettings(**changes)  # type: ignore[arg-type]
    examples = [example(caption) for caption in captions]
    return cache_texts(base.tokenizers, base.encoders, examples, settings, seed=3), settings


def ends(row: list[int]) -> list[tuple[int, int]]:
    """Where chunks begin and end, by walking on token by token."""
    found, start = [], 0
    for i in range(len(row)):
        if i - start == 75:
            near = [k for k in range(i - 20, i) if row[k] == COMMA]
            end = near[-1] + 1 if near and row[i] != COMMA else i
            found.append((start, end))
            start = end
    return [*found, (start, len(row))]


@torch.no_grad()
def one_by_one(base: Base, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Each caption's chunks of tokens encoded one at a time, as texts of their own; filled up
    with what an empty text gives.
    """
    pairs = list(zip(base.tokenizers, base.encoders, strict=True))

    def chunks(caption: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        rows = [t(caption, add_special_tokens=False, verbose=False).input_ids for t, _ in pairs]
        made = []
        for start, end in ends(rows[0]):
            hidden = []
            for (tokenizer, encoder), row in zip(pairs, rows, strict=True):
                ids = [tokenizer.bos_token_id, *row[start:end], tokenizer.eos_token_id]
                ids += [tokenizer.pad_token_id] * (77 - len(ids))
                output = encoder(torch.tensor([ids]), output_hidden_states=True)
                hidden.append(output.hidden_states[-2][0])
            made.append((torch.cat(hidden, -1), output.text_embeds[0]))
        return made

    each = [chunks(caption) for caption in captions]
    longest = max(map(len, each))
    filled = [
        torch.cat([hidden for hidden, _ in (made + chunks("") * longest)[:longest]])
        for made in each
    ]
    return torch.stack(filled), torch.stack([made[0][1] for made in each])


def test_captions_of_different_lengths_are_filled_up_with_encoded_empty_chunks(
    base: Base,
) -> None:
    captions = ["astrid, smile", LONG, "", LONGEST]
    store, settings = cached(base, *captions, shuffle_tags=False, caption_variants=1)
    for rows in ([0, 1, 2, 3], [1, 0], [0, 2], [2], [3, 3, 0]):
        hidden, pooled = store.batch(rows, settings, random.Random(0))
        expected, expected_pooled = one_by_one(base, [captions[i] for i in rows])
        assert hidden.shape == expected.shape
        assert torch.allclose(hidden, expected, atol=2e-5)
        assert torch.allclose(pooled, expected_pooled, atol=2e-5)


def test_what_is_kept_ready_is_what_would_be_encoded_in_the_step(base: Base) -> None:
    captions = ["astrid, smile, outdoors, sky", LONG + ", waving"]
    store, settings = cached(base, *captions, caption_variants=3, prior_weight=1.0)
    variants, priors = draw_variants([example(c) for c in captions], settings, seed=3)
    hidden, pooled = store.batch([0, 1, 0], settings, random.Random(5))
    dice = random.Random(5)
    drawn = []
    for i in (0, 1, 0):
        dice.random()  # whether the caption is dropped
        drawn.append(dice.choice(variants[i]))
    drawn += [dice.choice(priors[i]) for i in (0, 1, 0)]
    with torch.no_grad():
        live, live_pooled = encode_captions(base.tokenizers, base.encoders, drawn)
    assert hidden.shape == live.shape == (6, 154, 160)
    assert torch.allclose(hidden, live, atol=2e-5) and torch.allclose(
        pooled, live_pooled, atol=2e-5
    )
    assert hidden.dtype == torch.float32, "the encoders' own number format"


def test_so_many_variants_of_each_caption_are_shown_and_no_more(base: Base) -> None:
    store, settings = cached(base, "astrid, a, b, c, d, e", "astrid, x, y", caption_variants=5)
    dice = random.Random(0)
    shown = [store.batch([0, 1], settings, dice)[0] for _ in range(60)]
    kinds = [Counter(str(hidden[i].sum().item()) for hidden in shown) for i in (0, 1)]
    assert [len(kind) for kind in kinds] == [5, 2]
    assert torch.equal(
        store.batch([0, 1], settings, random.Random(9))[0],
        store.batch([0, 1], settings, random.Random(9))[0],
    )


def test_caption_dropout_is_drawn_each_time_and_as_often_as_asked_for(base: Base) -> None:
    store, settings = cached(base, "astrid, smile", caption_variants=2, caption_dropout=0.3)
    with torch.no_grad():
        empty = encode_captions(base.tokenizers, base.encoders, [""])[0][0]
    dice = random.Random(1)
    dropped = sum(
        torch.allclose(store.batch([0], settings, dice)[0][0], empty, atol=1e-4) for _ in range(300)
    )
    assert 70 < dropped < 110


def test_variants_depend_on_the_seed_and_the_place_alone() -> None:
    settings = CaptionSettings(caption_variants=4, prior_weight=1.0)
    examples = [example("astrid, a, b, c, d, e, f") for _ in range(3)]
    captions, priors = draw_variants(examples, settings, seed=1)
    assert draw_variants(examples[:2], settings, seed=1) == (captions[:2], priors[:2])
    assert draw_variants(examples, settings, seed=2)[0] != captions
    assert captions[0] != captions[1]
    assert all(len(each) == 4 for each in (*captions, *priors))
    assert all("astrid" not in caption for each in priors for caption in each)


def test_what_is_held_out_keeps_its_caption_as_it_is_and_regularisation_its_own_rules() -> None:
    settings = CaptionSettings(tag_dropout=0.9, caption_dropout=0.9, caption_prefix="astrid")
    examples = [example("a, b, c, d"), example("1girl, sky", 0, regularisation=True)]
    captions, priors = draw_variants(examples, settings, seed=1, plain={0})
    assert captions[0] == ["astrid, a, b, c, d"]
    assert len(captions[1]) == 16 and not any("astrid" in c for c in captions[1])
    assert priors == [[], []]


def test_fewer_variants_are_kept_where_memory_is_short_and_it_is_said(
    base: Base, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = 77 * 160 * 4
    captions = ["astrid, a, b, c, d, e, f, g", "astrid, h, i, j, k, l, m, n"]
    monkeypatch.setattr(text, "MEMORY", 10 * one)
    with caplog.at_level(logging.WARNING):
        store, _ = cached(base, *captions, caption_variants=8)
    assert len(store.states) == 1 + 2 * 5
    assert "8 variants of each caption would take 0.0 GB of memory; 5 are kept" in caplog.text
    monkeypatch.setattr(text, "MEMORY", one)
    with pytest.raises(TrainingError, match="2 captions takes 0 GB, .* Set caption_variants to 0"):
        cached(base, *captions, caption_variants=8)


def test_padding_leaves_captions_of_one_length_alone() -> None:
    hidden = [torch.randn(77, 3), torch.randn(77, 3)]
    assert torch.equal(pad_chunks(hidden, torch.zeros(77, 3)), torch.stack(hidden))
