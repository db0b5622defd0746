"""What a base model predicts and how its schedule ends: found in the checkpoint, said, overridden
only on demand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorakit.errors import BaseModelError
from lorakit.training import detect, single_file
from lorakit.training.base import DEMO, open_base
from lorakit.training.checkpoint import Checkpoint, open_checkpoint
from lorakit.training.config import BaseSettings
from lorakit.training.links import MENU, Listed
from lorakit.training.saving import save_single_file

EPS, V = "epsilon", "v_prediction"
NOOB = next(row for row in MENU if row.zero_terminal_snr)
OPTIMIST = Listed("Some", "o/n/f.safetensors", "", prediction=EPS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_single_file("demo", tmp_path_factory.mktemp("single") / "base.safetensors")


class Fake:
    """As much of a checkpoint as detection looks at."""

    def __init__(
        self, keys: tuple[str, ...] = (), metadata: Any = None, scheduler: Any = None
    ) -> None:
        self.keys, self.metadata, self.path = set(keys), metadata or {}, Path("base.safetensors")
        self.configured = scheduler is not None
        self.configs = {
            "scheduler": {"beta_start": 1.0, "prediction_type": EPS} | (scheduler or {})
        }


@pytest.mark.parametrize(
    "fake, listed, wanted, certain",
    [
        (Fake(), None, EPS, False),
        (Fake(("v_pred",)), None, V, True),
        (Fake(("v_pred",), {"modelspec.prediction_type": "epsilon"}), None, V, True),
        (Fake((), {"modelspec.prediction_type": "v"}), None, V, True),
        (Fake((), {"modelspec.prediction_type": "v_prediction"}), None, V, True),
        (Fake((), {"modelspec.prediction_type": "epsilon"}), NOOB, EPS, True),
        (Fake((), {"modelspec.prediction_type": "flow"}), None, EPS, False),
        (Fake(scheduler={"prediction_type": V}), None, V, True),
        (Fake(scheduler={"prediction_type": EPS}), NOOB, EPS, True),
        (Fake(), NOOB, V, True),
        (Fake(("v_pred",)), OPTIMIST, V, True),
    ],
)
def test_the_prediction_is_found_in_keys_then_metadata_then_configuration_then_menu(
    fake: Checkpoint, listed: Listed | None, wanted: str, certain: bool
) -> None:
    found = detect.prediction(fake, listed)
    assert (found.value, found.certain) == (wanted, certain)


@pytest.mark.parametrize(
    "fake, listed, wanted",
    [
        (Fake(), None, False),
        (Fake(("v_pred",)), None, False),
        (Fake(("v_pred", "ztsnr")), None, True),
        (Fake(scheduler={"rescale_betas_zero_snr": True}), None, True),
        (Fake(scheduler={"rescale_betas_zero_snr": False}), NOOB, False),
        (Fake(), NOOB, True),
    ],
)
def test_zero_terminal_snr_is_found_likewise(
    fake: Checkpoint, listed: Listed | None, wanted: bool
) -> None:
    assert detect.zero_terminal_snr(fake, listed).value is wanted


@pytest.mark.parametrize(
    "changes, scheduler, notes",
    [
        (
            {},
            (V, True),
            [
                "Prediction: v-prediction; the checkpoint carries the marker 'v_pred'.",
                "Zero-terminal SNR: on; the checkpoint carries the marker 'ztsnr'.",
            ],
        ),
        (
            {"prediction": V, "zero_terminal_snr": "on"},
            (V, True),
            ["Prediction: v-prediction, as set.", "Zero-terminal SNR: on, as set."],
        ),
        (
            {"prediction": EPS, "zero_terminal_snr": "off"},
            (EPS, False),
            [
                "Prediction: epsilon (noise), as set, against what was found: v-prediction; the "
                "checkpoint carries the marker 'v_pred'.",
                "Zero-terminal SNR: off, as set, against what was found: on; the checkpoint "
                "carries the marker 'ztsnr'.",
            ],
        ),
    ],
)
def test_what_was_found_and_what_was_set_are_said(
    changes: dict[str, str], scheduler: tuple[str, bool], notes: list[str]
) -> None:
    fake: Any = Fake(("v_pred", "ztsnr"))
    found, said = detect.scheduler_of(fake, BaseSettings(**changes))
    assert (found["prediction_type"], found["rescale_betas_zero_snr"]) == scheduler
    assert found["beta_start"] == 1.0 and said == notes


def test_a_name_that_speaks_of_v_prediction_is_pointed_at_but_not_believed() -> None:
    fake: Any = Fake()
    fake.path = Path("myMix_vPred2.safetensors")
    found, notes = detect.scheduler_of(fake, BaseSettings())
    assert found["prediction_type"] == EPS
    assert any("set prediction to v_prediction" in note for note in notes)


def test_pure_noise_beside_epsilon_is_warned_of() -> None:
    fake: Any = Fake()
    _, notes = detect.scheduler_of(fake, BaseSettings(zero_terminal_snr="on"))
    assert "learns nothing" in notes[-1]


def marked(whole: Path, folder: Path, *names: str, **metadata: str) -> str:
    tensors = load_file(whole) | {name: torch.zeros(0) for name in names}
    with open_checkpoint(whole) as checkpoint:
        kept = {single_file.CONFIG_KEY: checkpoint.metadata[single_file.CONFIG_KEY]}
    save_file(tensors, folder / "marked.safetensors", kept | metadata)
    return str(folder / "marked.safetensors")


def test_a_marked_file_loads_as_what_it_is(whole: Path, tmp_path: Path) -> None:
    base = open_base(BaseSettings(base_model=marked(whole, tmp_path, "v_pred", "ztsnr")))
    assert base.prediction == V and base.scheduler["rescale_betas_zero_snr"] is True
    assert base.notes[0].startswith("Prediction: v-prediction")
    again = save_single_file(base.name, tmp_path / "again.safetensors")
    with open_checkpoint(again) as checkpoint:
        assert {"v_pred", "ztsnr"} <= checkpoint.keys


def scheduled(folder: Path, **changes: Any) -> str:
    """The embedded base as a folder whose scheduler's configuration says something else."""
    for part in DEMO.iterdir():
        if part.name != "scheduler":
            (folder / part.name).symlink_to(part)
    (folder / "scheduler").mkdir()
    config = json.loads((DEMO / "scheduler" / "scheduler_config.json").read_text())
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config | changes))
    return str(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"prediction_type": "sample"}, "predicts 'sample'; lorakit trains those that predict eps"),
        ({"_class_name": "EDMEulerScheduler"}, "'EDM' noise; SDXL's has 1000"),
    ],
)
def test_a_folder_of_another_kind_is_refused_when_it_is_opened(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(BaseModelError, match=message):
        open_base(BaseSettings(base_model=scheduled(tmp_path, **changes)))


def test_a_folder_is_what_its_scheduler_says(tmp_path: Path) -> None:
    scheduled(tmp_path, prediction_type=V, rescale_betas_zero_snr=True)
    base = open_base(BaseSettings(base_model=str(tmp_path)))
    assert base.prediction == V and base.scheduler["rescale_betas_zero_snr"] is True
    assert "scheduler configuration says so" in base.notes[0]
    overridden = open_base(BaseSettings(base_model=str(tmp_path), prediction=EPS))
    assert overridden.prediction == EPS and "as set, against what was found" in overridden.notes[0]
