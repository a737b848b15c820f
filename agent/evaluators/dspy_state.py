"""What DSPy's `dump_state` and `load_state` exchange: instructions and demos of named predictors, as JSON."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from agent.errors import ConfigError
from agent.space import Space
from agent.texts import Demos

KIND = "agent.integrations.dspy_evaluator:DspyEvaluator"
LABEL = "id"
"""Field that we add to rows; no part of a demo."""


def values(candidate: Mapping[str, Any], space: Space, predictors: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """A candidate by predictor: {"instructions": text, "demos": rows, or None where they stay as they are}.

    Args:
        candidate: Values by parameter.
        space: Of the run.
        predictors: By predictor the parameters of its "instructions" and, where it has one, its "demos".
    """
    out: dict[str, Any] = {}
    for name, parameters in predictors.items():
        pool = space[parameters["demos"]] if "demos" in parameters else None
        rows = None
        if isinstance(pool, Demos):
            rows = [_bare(row) for row in pool.chosen(candidate[parameters["demos"]])]
        out[name] = {"instructions": candidate[parameters["instructions"]], "demos": rows}
    return out


def state(spec: Mapping[str, Any], candidate: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The program's state with a candidate's instructions and demos, as `program.load_state` takes it.

    Args:
        spec: Of the evaluator: with the "state" that the program began with, and "predictors".
        candidate: Values by parameter.
        space: Of the run.

    Raises:
        ConfigError: The evaluator is no DSPy program.
    """
    if spec.get("kind") != KIND:
        raise ConfigError("this run did not measure a DSPy program, so there is no state of one")
    out: dict[str, Any] = copy.deepcopy(dict(spec["state"]))
    for name, given in values(candidate, space, spec["predictors"]).items():
        mine = part(out, name)
        mine["signature"] = {**mine["signature"], "instructions": given["instructions"]}
        if given["demos"] is not None:
            mine["demos"] = given["demos"]
    return out


def part(state: Any, predictor: str) -> Any:
    """What a state says of one predictor; a program that is a single predictor calls it "self"."""
    return state if predictor == "self" and predictor not in state else state[predictor]


def _bare(row: Any) -> Any:
    return {name: value for name, value in row.items() if name != LABEL} if isinstance(row, Mapping) else row
