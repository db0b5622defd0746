"""The loop that trains the embedded world."""

from pathlib import Path

import torch

from lorakit.demo import fit


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    def trained(folder: Path, stops: list[int]) -> torch.Tensor:
        folder.mkdir()
        for stop in stops:
            torch.manual_seed(0)
            layer = torch.nn.Linear(3, 1)

            def loss_of(
                step: int, layer: torch.nn.Linear = layer, last: int = stop
            ) -> torch.Tensor:
                if step >= last:
                    raise KeyboardInterrupt
                x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
                return (layer(x) - x.sum(1, keepdim=True)).pow(2).mean()

            try:
                average = fit.train_loop("line", layer, loss_of, 500, 1e-2, folder, 0.9)
            except KeyboardInterrupt:
                continue
        return average.weight.detach()

    whole, broken = trained(tmp_path / "a", [10**9]), trained(tmp_path / "b", [260, 499, 10**9])
    assert torch.equal(whole, broken)
    assert (whole - 1).abs().max() < 0.05  # and it learns: the sum's weights are ones
