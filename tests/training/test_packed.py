"""Latents in one file: whatever happens, what was whole is read and what was not is made again."""

from pathlib import Path

import pytest
import torch

from lorakit.errors import SaveError
from lorakit.training import packed

KEYS = [f"{i:064x}" for i in range(1, 6)]


def latent(number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    size = (2, 4, 3 + number % 2, 5)
    return torch.randn(size, generator=generator).half()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file with the latents of four keys."""
    path = tmp_path / "new" / "latents.bin"
    for i, key in enumerate(KEYS[:4]):
        packed.append(path, key, latent(i))
    return path


def held(path: Path) -> set[int]:
    """Which of KEYS the file has; all values must be right."""
    found = packed.read(path, set(KEYS))
    assert all(torch.equal(found[key], latent(KEYS.index(key))) for key in found)
    return {KEYS.index(key) for key in found}


def test_what_is_appended_is_read_again_and_only_what_is_wanted(store: Path) -> None:
    assert held(store) == {0, 1, 2, 3}
    assert packed.read(store, {KEYS[2]}).keys() == {KEYS[2]}
    packed.append(store, KEYS[4], latent(4))
    assert held(store) == {0, 1, 2, 3, 4}
    assert packed.read(store.with_name("other"), set(KEYS)) == {}


def test_wherever_a_crash_cut_the_file_off_all_whole_records_are_left(store: Path) -> None:
    whole, ends = store.read_bytes(), [0]
    for i in range(4):
        ends.append(ends[-1] + 64 + 2 * latent(i).numel())
    assert ends[-1] == len(whole)
    for cut in {*ends, *(e + d for e in ends for d in (-1, 1, 63, 65)), 300}:
        if 0 <= cut <= len(whole):
            store.write_bytes(whole[:cut])
            left = sum(end <= cut for end in ends[1:])
            assert held(store) == set(range(left))
            packed.tidy(store, set(KEYS))
            packed.append(store, KEYS[4], latent(4))
            assert held(store) == {*range(left), 4}, f"cut off at {cut}"


def test_a_damaged_value_is_not_read_and_the_others_are(store: Path) -> None:
    data = bytearray(store.read_bytes())
    data[64 + 2 * latent(0).numel() + 64 + 7] ^= 1
    store.write_bytes(data)
    assert held(store) == {0, 2, 3}
    packed.append(store, KEYS[1], latent(1))
    assert held(store) == {0, 1, 2, 3}


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 5000, b"PK\x03\x04" * 99])
def test_a_file_of_another_kind_counts_as_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "latents.bin"
    path.write_bytes(content)
    assert held(path) == set()
    packed.tidy(path, set(KEYS))
    packed.append(path, KEYS[0], latent(0))
    assert held(path) == {0}


def test_what_is_not_wanted_any_more_goes_when_it_is_more_than_half(store: Path) -> None:
    size = store.stat().st_size
    packed.tidy(store, set(KEYS[:2]))
    assert store.stat().st_size == size, "half of it is of use"
    mapped = packed.read(store, {KEYS[0]})[KEYS[0]]
    packed.tidy(store, {KEYS[0], KEYS[4]})
    assert held(store) == {0} and store.stat().st_size < size / 3
    assert torch.equal(mapped, latent(0)), "what was read before can still be used"
    assert [p.name for p in store.parent.iterdir()] == ["latents.bin"]


def test_writing_to_latents_that_were_read_changes_no_file(store: Path) -> None:
    found = packed.read(store, set(KEYS))
    found[KEYS[0]].zero_()
    assert held(store) == {0, 1, 2, 3}


def test_a_place_that_cannot_be_written_to_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="Could not write .*XDG_CACHE_HOME, then run again"):
        packed.append(tmp_path / "file" / "latents.bin", KEYS[0], latent(0))
