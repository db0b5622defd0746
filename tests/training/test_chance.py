"""Randomness that depends on the seed and the place alone."""

import torch

from lorakit.training import chance


def test_the_same_seed_and_place_throw_the_same_however_often_asked() -> None:
    first = torch.randn(5, generator=chance.generator(42, "step", 7))
    chance.dice(42, "other").random()
    again = torch.randn(5, generator=chance.generator(42, "step", 7))
    assert torch.equal(first, again)
    assert chance.dice(1, "a").random() == chance.dice(1, "a").random()


def test_neighbouring_places_and_seeds_throw_differently() -> None:
    places = [(42, "step", 7), (43, "step", 7), (42, "step", 8), (42, "step", 7, 0), (4, 2, "step")]
    assert len({chance.number(*place) for place in places}) == len(places)


def test_numbers_fit_what_torch_takes_as_a_seed() -> None:
    assert all(0 <= chance.number(seed, "x") < 2**63 for seed in range(200))
