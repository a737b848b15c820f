"""TrueGain: make something measurable better with an LLM, and claim only gains that were shown.

The public names are resolved on first use, so importing the package loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "optimize": "agent.api",
    "optimize_async": "agent.api",
    "Study": "agent.asktell",
    "RankedStudy": "agent.ordering.study",
    "optimize_ranked": "agent.ordering.loop",
    "Float": "agent.parameters",
    "Int": "agent.parameters",
    "Categorical": "agent.parameters",
    "Text": "agent.texts",
    "Code": "agent.texts",
    "Programs": "agent.program_setup",
    "Demos": "agent.texts",
    "Space": "agent.space",
    "Candidate": "agent.space",
    "Objective": "agent.goals",
    "Constraint": "agent.goals",
    "Problem": "agent.problem",
    "Prompt": "agent.evaluators.prompt",
    "Gate": "agent.gate.gate",
    "Race": "agent.gate.race",
    "Budget": "agent.ledger",
    "param": "agent.trace",
    "op": "agent.trace",
    "note": "agent.trace",
    "record": "agent.trace",
    "use": "agent.trace",
    "Limits": "agent.evaluation",
    "Fidelity": "agent.halving",
    "Request": "agent.evaluation",
    "Output": "agent.evaluation",
    "Score": "agent.evaluation",
    "Settings": "agent.settings",
    "Result": "agent.results.result",
    "load_result": "agent.results.result",
    "AgentError": "agent.errors",
    "ConfigError": "agent.errors",
    "PrerequisiteError": "agent.errors",
    "ProviderError": "agent.errors",
    "EvaluatorError": "agent.errors",
    "StoreError": "agent.errors",
    "RunChanged": "agent.errors",
    "RunLocked": "agent.errors",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'agent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
