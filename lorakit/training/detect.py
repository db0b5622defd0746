"""What a base model predicts, and whether its noisiest step is pure noise: read from the checkpoint
itself, said in words, overridden only where the settings say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BaseModelError
from .checkpoint import Checkpoint
from .config import BaseSettings
from .links import Listed

# Names of tensors without content that v-prediction checkpoints carry; ComfyUI goes by the same.
V_PRED, ZTSNR = "v_pred", "ztsnr"
SPELLINGS = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "v_pred": "v_prediction",
    "velocity": "v_prediction",
}


@dataclass(frozen=True)
class Finding:
    """A value and where it was found; `certain` if something was there to be found."""

    value: Any
    why: str
    certain: bool = True


def prediction(checkpoint: Checkpoint, listed: Listed | None = None) -> Finding:
    """'epsilon' or 'v_prediction': from the marker tensor, else from the metadata (modelspec), else
    from a scheduler's configuration, else from the menu's own knowledge, else epsilon. Raises
    BaseModelError for any other.
    """
    said = checkpoint.metadata.get("modelspec.prediction_type", "").lower()
    stored = checkpoint.configs["scheduler"].get("prediction_type")
    if V_PRED in checkpoint.keys:
        return Finding("v_prediction", f"the checkpoint carries the marker '{V_PRED}'")
    if said in SPELLINGS:
        return Finding(SPELLINGS[said], f"the checkpoint's metadata say '{said}'")
    if checkpoint.configured and stored is not None and stored not in SPELLINGS:
        raise BaseModelError(
            f"The scheduler of {checkpoint.path} says that the base model predicts '{stored}'; "
            "lorakit trains those that predict epsilon or v_prediction. Choose another base model."
        )
    if checkpoint.configured and stored in SPELLINGS:
        return Finding(SPELLINGS[stored], "the base model's scheduler configuration says so")
    if listed and listed.prediction:
        return Finding(listed.prediction, f"{listed.name} is known for it")
    return Finding("epsilon", "the checkpoint does not say, and nearly all are", certain=False)


def zero_terminal_snr(checkpoint: Checkpoint, listed: Listed | None = None) -> Finding:
    """Whether the last timestep has no signal left (Lin et al. 2023, section 3.1); found as
    `prediction` is.
    """
    stored = checkpoint.configs["scheduler"].get("rescale_betas_zero_snr")
    if ZTSNR in checkpoint.keys:
        return Finding(True, f"the checkpoint carries the marker '{ZTSNR}'")
    if checkpoint.configured and stored is not None:
        return Finding(bool(stored), "the base model's scheduler configuration says so")
    if listed and listed.zero_terminal_snr:
        return Finding(True, f"{listed.name} is known for it")
    return Finding(False, "the checkpoint does not say, and most are without", certain=False)


def scheduler_of(
    checkpoint: Checkpoint, settings: BaseSettings, listed: Listed | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The base model's scheduler configuration with what was found, or what the settings say in its
    place; and the sentences that tell the user.
    """
    foretold, zero = prediction(checkpoint, listed), zero_terminal_snr(checkpoint, listed)
    chosen = foretold.value if settings.prediction == "auto" else settings.prediction
    ends = settings.zero_terminal_snr
    pure = zero.value if ends == "auto" else ends == "on"
    names = {"epsilon": "epsilon (noise)", "v_prediction": "v-prediction"}
    notes = [
        _sentence("Prediction", chosen, foretold, settings.prediction, names),
        _sentence("Zero-terminal SNR", pure, zero, ends, {True: "on", False: "off"}),
    ]
    called = checkpoint.path.name
    if chosen == "epsilon" and not foretold.certain and re.search(r"v[-_ ]?pred", called, re.I):
        notes.append(
            f"The name {called} speaks of v-prediction, but nothing in the file does: if the first "
            "previews are noise, set prediction to v_prediction."
        )
    if pure and chosen == "epsilon":
        notes.append(
            "With zero-terminal SNR the last timestep is noise alone, from which a base model that "
            "predicts epsilon learns nothing."
        )
    found = {"prediction_type": chosen, "rescale_betas_zero_snr": pure}
    return {**checkpoint.configs["scheduler"], **found}, notes


def markers(checkpoint: Checkpoint) -> list[str]:
    """The names of the marker tensors that a file of this base model should carry."""
    v = prediction(checkpoint).value == "v_prediction"
    return [V_PRED] * v + [ZTSNR] * zero_terminal_snr(checkpoint).value


def _sentence(
    what: str, chosen: Any, found: Finding, setting: str, names: Mapping[Any, str]
) -> str:
    if setting == "auto":
        return f"{what}: {names[chosen]}; {found.why}."
    if chosen == found.value:
        return f"{what}: {names[chosen]}, as set."
    return (
        f"{what}: {names[chosen]}, as set, against what was found: {names[found.value]}; "
        f"{found.why}."
    )
