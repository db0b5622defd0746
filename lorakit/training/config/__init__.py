"""The settings of a run, one class a subject, all in the table [training] of project.toml: every
form field, option, TOML key and docs row about training comes from here.

Code that needs only one subject takes only that class; TrainingSettings is all of them in one.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import SettingsError
from .adapter import AdapterSettings
from .base import BaseSettings
from .captions import CaptionSettings
from .data import DataSettings, SubsetSettings
from .objective import ObjectiveSettings
from .optimizer import OptimizerSettings
from .preview import PreviewSettings
from .running import RunningSettings

__all__ = [
    "AdapterSettings",
    "BaseSettings",
    "CaptionSettings",
    "DataSettings",
    "ObjectiveSettings",
    "OptimizerSettings",
    "PreviewSettings",
    "RunningSettings",
    "SubsetSettings",
    "TrainingSettings",
]


@dataclass(frozen=True)
class TrainingSettings(  # a dataclass lists the fields of its last parent first
    ObjectiveSettings,
    CaptionSettings,
    OptimizerSettings,
    RunningSettings,
    AdapterSettings,
    DataSettings,
    BaseSettings,
):
    """What is trained on, how long, and how."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dora and self.save_diffusers:
            raise SettingsError(
                "training: save_diffusers is on, but diffusers' names have no place for a DoRA. "
                "Turn save_diffusers or dora off."
            )
        if self.schedule_free and (self.ema or self.max_norm):
            name = "ema" if self.ema else "max_norm"
            raise SettingsError(
                f"training: {name} is on, but {self.optimizer} saves a running average of its own, "
                f"which {name} {'would replace' if self.ema else 'does not reach'}. Set {name} to "
                "0, or choose another optimizer."
            )
