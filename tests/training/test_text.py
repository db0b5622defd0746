"""Text encoding against diffusers' own, and long captions in chunks."""

import torch
from diffusers import StableDiffusionXLPipeline

from lorakit.training.base import Base
from lorakit.training.text import encode_captions, token_chunks

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
    long = ", ".join(["black dress"] * 40)  # 119 tokens
    ids = token_chunks(base.tokenizers[0], [long, "short"])
    assert ids.shape == (2, 2, 77)
    assert (ids[:, :, 0] == 49406).all()
    assert (ids[0, 0, 76], ids[0, 1, 119 - 75 + 1]) == (49407, 49407)
    assert (
        ids[1, 1].tolist() == [49406, 49407] + [49407] * 75
    )  # an empty chunk for the shorter caption


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
