"""Captions to what SDXL's U-Net listens to: both encoders' penultimate states, the second's pooled
projection.

Long captions are cut into chunks of at most 75 tokens, each wrapped in begin and end marks, as
A1111, Forge and ComfyUI do at inference; like the first two, at a comma if there is one near. A
batch uses as many chunks as its longest caption needs. A shorter one's unused chunks are empty
ones, encoded like any other.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..errors import TrainingError
from ..progress import Progress, silent
from .config import CaptionSettings
from .examples import Example

log = logging.getLogger(__name__)

CHUNK = 75
NEAR = 20  # tokens from the end of a chunk in which a comma is where it is cut
BATCH = 32  # captions encoded at once
MEMORY = 4 * 2**30  # bytes that a TextCache takes at most


def token_chunks(tokenizers: Sequence[Any], captions: Sequence[str]) -> list[torch.Tensor]:
    """For each encoder its token ids, shape (captions, chunks, 77); unused places hold its own
    padding token.

    The words are the first tokenizer's for all encoders, as in A1111 and ComfyUI: the second's pads
    with `!`, and so takes one in a caption for padding. The vocabulary is the same.
    """
    rows = _chunks(tokenizers[0], captions)
    count = max(map(len, rows), default=1)
    return [_wrapped(tokenizer, rows, count) for tokenizer in tokenizers]


def _wrapped(tokenizer: Any, rows: Sequence[Sequence[list[int]]], count: int) -> torch.Tensor:
    """Every row's chunks between marks, filled up to `count` chunks of 77."""
    ids = torch.full((len(rows), count, CHUNK + 2), tokenizer.pad_token_id, dtype=torch.long)
    ids[:, :, 0], ids[:, :, 1] = tokenizer.bos_token_id, tokenizer.eos_token_id
    for i, row in enumerate(rows):
        for k, chunk in enumerate(row):
            ids[i, k, 1 : 2 + len(chunk)] = torch.tensor([*chunk, tokenizer.eos_token_id])
    return ids


def _chunks(tokenizer: Any, captions: Sequence[str]) -> list[list[list[int]]]:
    """Each caption's token ids, without marks, in chunks; '' is one empty chunk."""
    if not captions:
        return []
    words = {"add_special_tokens": False, "truncation": False, "verbose": False}
    [comma] = tokenizer(",", **words).input_ids
    return [cut(tokens, comma) for tokens in tokenizer(list(captions), **words).input_ids]


def cut(tokens: list[int], comma: int) -> list[list[int]]:
    """Tokens in chunks of at most 75: cut behind the last comma among the last 20 of a full chunk,
    else where it is full.
    """
    chunks, start = [], 0
    while len(tokens) - start > CHUNK:
        end = start + CHUNK
        if tokens[end] != comma:
            commas = (i + 1 for i in reversed(range(end - NEAR, end)) if tokens[i] == comma)
            end = next(commas, end)
        chunks.append(tokens[start:end])
        start = end
    return [*chunks, tokens[start:]]


def encode(encoder: torch.nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Hidden states (captions, chunks * 77, width) and, from an encoder with a projection, the
    pooled output.

    The hidden states are those before the last layer, without the final norm; the pooled output is
    that of the first chunk at its first end mark (SDXL, Podell et al. 2023, section 2.1, and its
    reference code).
    """
    captions, chunks, length = ids.shape
    output = encoder(ids.flatten(0, 1).to(encoder.device), output_hidden_states=True)
    hidden = output.hidden_states[-2].reshape(captions, chunks * length, -1)
    pooled = getattr(output, "text_embeds", None)
    return hidden, None if pooled is None else pooled.reshape(captions, chunks, -1)[:, 0]


def encode_captions(
    tokenizers: Sequence[Any], encoders: Sequence[torch.nn.Module], captions: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both encoders' hidden states side by side (captions, tokens, width 1 + width 2), and the
    pooled output.
    """
    (first, _), (second, pooled) = (
        encode(encoder, ids)
        for encoder, ids in zip(encoders, token_chunks(tokenizers, captions), strict=True)
    )
    assert pooled is not None, "the second text encoder of SDXL has a projection"
    return torch.cat([first, second], dim=-1), pooled


# --- encoded once ---------------------------------------------------------------------------------


def pad_chunks(hidden: Sequence[torch.Tensor], empty: torch.Tensor) -> torch.Tensor:
    """Hidden states of several captions, (77 x chunks, width) each, as one tensor: the shorter ones
    filled up with the encoded `empty` chunk (77, width).
    """
    longest = max(len(each) for each in hidden)
    return torch.stack(
        [torch.cat([each] + [empty] * ((longest - len(each)) // len(empty))) for each in hidden]
    )


class TextCache:
    """What frozen text encoders made of several variants of each example's caption, and perhaps of
    its prior (see `cache_texts`). It holds nothing of the encoders, so these can be freed.
    """

    def __init__(
        self,
        states: Sequence[tuple[torch.Tensor, torch.Tensor]],
        captions: Sequence[Sequence[int]],
        priors: Sequence[Sequence[int]],
    ) -> None:
        """`states` of each text, hidden (77 x chunks, width) and pooled, that of '' first;
        `captions` and `priors` say which of them belong to each example.
        """
        self.states, self.captions, self.priors = states, captions, priors

    def batch(
        self, rows: Sequence[int], settings: CaptionSettings, dice: random.Random
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (captions, 77 x chunks, width) and pooled output of one variant of each of
        these examples' captions; with a prior weight, of one of each prior behind them.
        """
        drawn = [
            0 if dice.random() < settings.caption_dropout else dice.choice(self.captions[i])
            for i in rows
        ]
        if settings.prior_weight:
            drawn += [dice.choice(self.priors[i]) for i in rows]
        hidden, pooled = zip(*(self.states[number] for number in drawn), strict=True)
        return pad_chunks(hidden, self.states[0][0]), torch.stack(pooled)


def cache_texts(
    tokenizers: Sequence[Any],
    encoders: Sequence[torch.nn.Module],
    examples: Sequence[Example],
    settings: CaptionSettings,
    seed: int,
    plain: Collection[int] = (),
    progress: Progress = silent,
) -> TextCache:
    """Encodes `caption_variants` variants of each caption, and of each prior if there is a prior
    weight; fewer if they would take more than MEMORY bytes, which is logged.

    The examples whose numbers are in `plain` (those held out) keep their caption as it is. States
    stay in the encoders' number format, which is that of the U-Net they are for, so keeping them
    changes nothing (in float16, a float32 U-Net's guess moves by 1e-5 of its size on the embedded
    base; another order of tags moves it by 3e-2). Raises TrainingError when not even one variant of
    each fits.
    """
    size = sum(e.config.hidden_size for e in encoders) * next(encoders[0].parameters()).itemsize
    captions, priors = _fitting(tokenizers[0], examples, settings, seed, plain, size)
    texts = dict.fromkeys(["", *(text for each in (*captions, *priors) for text in each)])
    number = {text: i for i, text in enumerate(texts)}
    states = encode_texts(tokenizers, encoders, list(texts), progress)
    return TextCache(
        states,
        [[number[text] for text in each] for each in captions],
        [[number[text] for text in each] for each in priors],
    )


def draw_variants(
    examples: Sequence[Example],
    settings: CaptionSettings,
    seed: int,
    plain: Collection[int] = (),
) -> tuple[list[list[str]], list[list[str]]]:
    """Variants of each example's caption, none of them dropped, and of its prior if there is a
    prior weight. An example's depend on nothing but the seed and its place.
    """
    whole = replace(settings, caption_dropout=0.0)
    still = replace(whole, shuffle_tags=False, tag_dropout=0.0)
    captions, priors = [], []
    for i, example in enumerate(examples):
        count, chosen = (1, still) if i in plain else (settings.caption_variants, whole)
        dice = random.Random(f"{seed}/captions/{i}")
        captions.append([example.shown(chosen, dice) for _ in range(count)])
        dice = random.Random(f"{seed}/priors/{i}")
        priors.append(
            [example.prior(chosen, dice) for _ in range(count if chosen.prior_weight else 0)]
        )
    return captions, priors


def _fitting(
    tokenizer: Any,
    examples: Sequence[Example],
    settings: CaptionSettings,
    seed: int,
    plain: Collection[int],
    size: int,
) -> tuple[list[list[str]], list[list[str]]]:
    """As many variants as fit into MEMORY, `size` being the bytes of one token's states."""
    captions, priors = draw_variants(examples, settings, seed, plain)
    chunks = map(len, _chunks(tokenizer, [each[0] for each in captions]))
    needed = sum(
        count * len({*each, *others}) * (CHUNK + 2) * size
        for count, each, others in zip(chunks, captions, priors, strict=True)
    )
    if needed <= MEMORY:
        return captions, priors
    count = int(settings.caption_variants * MEMORY / needed)
    if not count:
        raise TrainingError(
            f"What the text encoders make of {len(examples)} captions takes "
            f"{needed / settings.caption_variants / 2**30:.0f} GB, which is too much to keep. Set "
            "caption_variants to 0."
        )
    log.warning(
        "%d variants of each caption would take %.1f GB of memory; %d are kept.",
        settings.caption_variants,
        needed / 2**30,
        count,
    )
    return draw_variants(examples, replace(settings, caption_variants=count), seed, plain)


@torch.no_grad()
def encode_texts(
    tokenizers: Sequence[Any],
    encoders: Sequence[torch.nn.Module],
    texts: Sequence[str],
    progress: Progress = silent,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Hidden states (77 x chunks, width) and pooled output of each text; texts of equally
    many chunks are encoded together.
    """
    weight = next(encoders[0].parameters())
    lengths = [len(chunks) for chunks in _chunks(tokenizers[0], texts)]
    made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for length in sorted(set(lengths)):
        same = [i for i, each in enumerate(lengths) if each == length]
        for start in range(0, len(same), BATCH):
            rows = same[start : start + BATCH]
            both = encode_captions(tokenizers, encoders, [texts[i] for i in rows])
            hidden, pooled = (each.to("cpu", weight.dtype) for each in both)
            # cloned: a slice would keep the whole batch in memory as long as it lives
            made |= {
                i: (h.clone(), p.clone()) for i, h, p in zip(rows, hidden, pooled, strict=True)
            }
            progress("Encoding captions", len(made), len(texts))
    return [made[i] for i in range(len(texts))]
