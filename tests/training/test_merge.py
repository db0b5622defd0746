"""Resizing and merging, module by module, against full matrices in float64."""

from __future__ import annotations

import pytest
import torch

from lorakit.errors import LoraFileError
from lorakit.training import merge
from lorakit.training.factors import Factors, modules, pack
from lorakit.training.merge import Goal

from .lora_files import CONV, LINEAR, POINT, added, random_lora

NAMES = (LINEAR, CONV, POINT)


def full_svd(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, float]:
    """The reference: the best approximation of that rank (Eckart and Young 1936) from the whole
    matrix, and the share of its squared norm.
    """
    u, s, v = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ v[:rank]
    return best.reshape(weight.shape), float((s[:rank] ** 2).sum() / (s**2).sum())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize("alpha", [3.0, -2.0])
def test_a_smaller_rank_is_the_best_there_is_and_says_what_it_kept(
    name: str, rank: int, alpha: float
) -> None:
    tensors = random_lora(0, rank=6, alpha=alpha)
    smaller, kept = merge.reduce(modules(tensors, "a")[name], rank)
    wanted, share = full_svd(added(tensors, name), rank)
    torch.testing.assert_close(added(pack({name: smaller}), name), wanted, atol=1e-12, rtol=1e-10)
    assert kept == pytest.approx(share, abs=1e-12)
    assert smaller.down.shape == (rank, *modules(tensors, "a")[name].down.shape[1:])
    assert smaller.scale == alpha / 6  # the strength of the module is what it was


def test_a_rank_above_the_matrix_own_is_cut_without_loss() -> None:
    """A rank of 20 in a weight of 12 outputs: 12 is as good."""
    tensors = random_lora(0, rank=20)
    smaller, kept = merge.reduce(modules(tensors, "a")[POINT], 12)
    assert kept == pytest.approx(1, abs=1e-12)
    before, after = added(tensors, POINT), added(pack({POINT: smaller}), POINT)
    torch.testing.assert_close(after, before, atol=1e-12, rtol=1e-10)
    assert merge.reduce(modules(tensors, "a")[POINT], 15)[0].rank == 8  # it has 8 inputs only


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_a_share_of_the_energy_takes_the_fewest_ranks_that_have_it(energy: float) -> None:
    tensors = random_lora(3, rank=8)
    smaller, kept = merge.reduce(modules(tensors, "a")[LINEAR], 8, energy)
    shares = [full_svd(added(tensors, LINEAR), rank)[1] for rank in range(1, 9)]
    assert smaller.rank == 1 + sum(share < energy for share in shares)
    assert kept == pytest.approx(shares[smaller.rank - 1], abs=1e-12)


def test_what_is_small_enough_stays_as_it_is() -> None:
    found = modules(random_lora(0, rank=4, dtype=torch.float16), "a")
    reduced = merge.resize(found, Goal(4, 4))
    assert all(reduced.network[name] is factors for name, factors in found.items())
    assert (reduced.least, reduced.mean) == (1.0, 1.0)


def test_linear_layers_and_convolutions_have_their_own_goal() -> None:
    said: list[tuple[str, int, int]] = []
    reduced = merge.resize(
        modules(random_lora(0, rank=6), "a"),
        Goal(rank=2, conv_rank=5),
        lambda *now: said.append(now),
    )
    assert said[-1] == ("Making the LoRA smaller", 3, 3)
    ranks = {name: factors.rank for name, factors in reduced.network.items()}
    assert ranks == {LINEAR: 2, POINT: 2, CONV: 5}  # a 1x1 convolution counts as linear
    shares = list(reduced.kept.values())
    assert (reduced.least, reduced.mean) == (min(shares), sum(shares) / 3)


def test_a_module_that_has_learnt_nothing_becomes_rank_1() -> None:
    nothing = Factors(torch.ones(8, 16), torch.zeros(24, 8), 0.5)
    smaller, kept = merge.reduce(nothing, 4)
    assert (smaller.rank, kept) == (1, 1.0)
    assert not smaller.up.any() and torch.isfinite(smaller.down).all()


def test_a_half_precision_file_loses_no_more_than_half_precision() -> None:
    tensors = random_lora(5, rank=8, dtype=torch.float16)
    smaller, _ = merge.reduce(modules(tensors, "a")[LINEAR], 4)
    assert smaller.down.dtype == smaller.up.dtype == torch.float16
    wanted, _ = full_svd(added(tensors, LINEAR), 4)
    error = (added(pack({LINEAR: smaller}), LINEAR) - wanted).norm() / wanted.norm()
    assert error < 1e-3
    ratio = smaller.up.float().norm() / smaller.down.float().norm()
    assert ratio == pytest.approx(1, abs=1e-3)  # neither half comes near fp16's limits


# --- merging --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_merge_adds_exactly_what_its_files_add_with_their_weights(name: str) -> None:
    one, two, three = (
        random_lora(seed, rank, alpha) for seed, rank, alpha in ((0, 6, 3), (1, 4, 8), (2, 2, 1))
    )
    weighted = [(modules(t, "a"), w) for t, w in ((one, 0.7), (two, -0.4), (three, 1.0))]
    merged = merge.merge(weighted)
    assert merged[name].rank == 12
    wanted = 0.7 * added(one, name) - 0.4 * added(two, name) + added(three, name)
    torch.testing.assert_close(added(pack(merged), name), wanted, atol=1e-12, rtol=1e-10)


def test_a_merge_cut_back_to_a_rank_is_the_best_of_that_rank() -> None:
    files = [random_lora(seed, 6) for seed in (0, 1)]
    merged = merge.merge([(modules(tensors, "a"), 0.5) for tensors in files])
    reduced = merge.resize(merged, Goal(4, 4)).network
    wanted, _ = full_svd(sum(added(t, LINEAR) for t in files) / 2, 4)
    torch.testing.assert_close(added(pack(reduced), LINEAR), wanted, atol=1e-12, rtol=1e-10)


def test_a_module_that_only_one_file_has_is_taken_with_its_weight() -> None:
    one, two = random_lora(0), random_lora(1)
    two = {key: tensor for key, tensor in two.items() if not key.startswith(CONV)}
    merged = merge.merge([(modules(one, "a"), 0.5), (modules(two, "b"), 2.0)])
    wanted = 0.5 * added(one, CONV)
    torch.testing.assert_close(added(pack(merged), CONV), wanted, atol=1e-14, rtol=1e-12)


def test_halves_of_the_same_strength_are_not_rounded_in_half_precision() -> None:
    files = [random_lora(seed, dtype=torch.float16) for seed in (0, 1)]
    merged = merge.merge([(modules(tensors, "a"), 0.3) for tensors in files])[LINEAR]
    assert merged.up.dtype == torch.float16
    ups = [tensors[f"{LINEAR}.lora_up.weight"] for tensors in files]
    assert merged.up.equal(torch.cat(ups, dim=1))


def test_number_formats_that_differ_give_the_wider_one() -> None:
    half, brain = (random_lora(0, dtype=kind) for kind in (torch.float16, torch.bfloat16))
    together = merge.merge([(modules(half, "a"), 1.0), (modules(brain, "b"), 1.0)])
    alone = merge.merge([(modules(brain, "b"), 1.0)] * 2)
    assert together[LINEAR].up.dtype == together[LINEAR].down.dtype == torch.float32
    assert alone[LINEAR].up.dtype == torch.bfloat16


def test_files_for_different_kinds_of_base_are_not_merged() -> None:
    one, two = random_lora(0), random_lora(1)
    two[f"{LINEAR}.lora_down.weight"] = torch.ones(6, 99)
    with pytest.raises(LoraFileError, match=f"different kinds of base model: {LINEAR} has another"):
        merge.merge([(modules(one, "a"), 1.0), (modules(two, "b"), 1.0)])
