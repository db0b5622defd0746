"""Optimisers: made from the settings, stepped, and remembered by a run that is cut off."""

from ..config.optimizer import departures, parse_arguments, recommended
from .making import check_arguments, make_optimizer
from .memory import load_state, state_tensors
from .schedule import rate_factor
from .stepping import effective_rate, eval_mode, round_randomly, step

__all__ = [
    "check_arguments",
    "departures",
    "effective_rate",
    "eval_mode",
    "load_state",
    "make_optimizer",
    "parse_arguments",
    "rate_factor",
    "recommended",
    "round_randomly",
    "state_tensors",
    "step",
]
