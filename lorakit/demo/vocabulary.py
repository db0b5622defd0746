"""CLIP's vocabulary as tokenizer folders, from the merge list that the `open_clip_torch` wheel
carries (MIT licence).

The list is OpenAI's `bpe_simple_vocab_16e6.txt.gz`; which of its lines CLIP uses, and the order of
the 49,408 tokens, is that of OpenAI's `simple_tokenizer.py`.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

MERGES = 49152 - 256 - 2


def _byte_symbols() -> list[str]:
    """The printable stand-in of each byte, in CLIP's order (GPT-2's table)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def write_tokenizers(merge_list: Path, folder: Path) -> None:
    """Writes `tokenizer` (pads with the end mark) and `tokenizer_2` (pads with '!') as SDXL has
    them.
    """
    lines = gzip.decompress(merge_list.read_bytes()).decode("utf-8").split("\n")[1 : MERGES + 1]
    symbols = _byte_symbols()
    words = [*symbols, *(s + "</w>" for s in symbols), *("".join(line.split()) for line in lines)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        (target / "vocab.json").write_text(
            json.dumps({w: i for i, w in enumerate(words)}, ensure_ascii=False), "utf-8"
        )
        (target / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n", "utf-8")
        special = {
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": pad,
        }
        (target / "special_tokens_map.json").write_text(json.dumps(special, indent=1), "utf-8")
        config = {
            **special,
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": 77,
            "do_lower_case": True,
        }
        (target / "tokenizer_config.json").write_text(json.dumps(config, indent=1), "utf-8")
