"""From an evaluator's plain `spec` back to the evaluator, in a worker process or another run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from agent.errors import ConfigError
from agent.evaluation import Evaluator

KINDS = {
    "function": "agent.evaluators.function:FunctionEvaluator",
    "command": "agent.evaluators.command:CommandEvaluator",
    "ensemble": "agent.evaluators.ensemble:EnsembleEvaluator",
    "code": "agent.evaluators.code:CodeEvaluator",
    "pytest": "agent.evaluators.pytest_suite:PytestEvaluator",
    "prompt": "agent.evaluators.prompt:PromptEvaluator",
    "program": "agent.evaluators.program:ProgramEvaluator",
}
"""Where each kind of evaluator is; a plug-in's kind is such a "module:attr" itself."""


def build(spec: Mapping[str, Any]) -> Evaluator:
    """The evaluator that has this spec: its kind, called with the spec's other entries.

    Raises:
        ConfigError: The kind is unknown, or its entries do not fit.
    """
    given = dict(spec)
    kind = given.pop("kind", None)
    target = KINDS.get(str(kind), str(kind))
    if ":" not in target:
        raise ConfigError(
            f"evaluator kind: found {kind!r}, allowed is {', '.join(KINDS)}",
            hint='name a kind of your own as "module:attr"',
        )
    module, _, name = target.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"evaluator kind {kind!r} cannot be loaded: {error}",
            hint='install what defines it, or name another as "module:attr"',
        ) from error
    try:
        evaluator: Evaluator = make(**given)
    except TypeError as error:
        raise ConfigError(
            f"evaluator {kind}: {error}", hint="give it the options that it takes, and no others"
        ) from error
    return evaluator
