"""Why a program has no score: how its job ended, and what of it may be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned
from agent.errors import AgentError
from agent.evaluation import Failure, FailureKind, Output
from agent.evaluators.code_task import shown
from agent.executors.measure import failure_of

if TYPE_CHECKING:
    from agent.sandbox.types import Result

KINDS: dict[str, FailureKind] = {
    "invalid": "invalid",
    "crash": "error",
    "timeout": "timeout",
    "memory": "memory",
    "forged": "forged",
    "forbidden": "forbidden",
    "lost": "lost",
}
"""How a job ended → the kind of failure that is."""
LOG_TAIL = 1500
"""Characters of a program's own words that a failure keeps; the others below are characters too."""
MESSAGE = 500
DETAIL = 2000


def wrong(error: BaseException, stage: str, public: bool) -> Failure:
    """Why there is no score; of hidden inputs no word that may quote them."""
    invalid = isinstance(error, ValueError)
    failure = Failure("invalid", str(error), sign=getattr(error, "sign", "")) if invalid else failure_of(error)
    if public or isinstance(error, AgentError):
        return replace(failure, message=cleaned(failure.message, MESSAGE), detail=cleaned(failure.detail, DETAIL))
    return Failure(failure.kind, f"{type(error).__name__} on the {stage} inputs", sign=failure.sign)


def failed(result: Result, stage: str, inputs: Sequence[Any], public: bool) -> Output:
    """A job's end as a failure; of hidden inputs only what kind it was."""
    kind = KINDS.get(result.status, "error")
    if not public:
        return Output.failed(kind, f"{result.status} on the {stage} inputs")
    lines = [cleaned(result.detail, 400)] if result.detail else []
    if result.failed_input is not None and result.failed_input < len(inputs):
        lines.append(f"input {result.failed_input}: {shown(inputs[result.failed_input])}")
    message = cleaned(f"{result.status} on the {stage} inputs: {result.message}", MESSAGE)
    return Output.failed(kind, message, "\n".join(lines), log=cleaned(result.log, LOG_TAIL))


def rejected(stage: str, number: int, given: Any, wrong: str, public: bool, log: str) -> Output:
    """An answer that does not fit the task, as a failure; of hidden inputs only that there is one."""
    if not public:
        return Output.failed("invalid", f"invalid output on the {stage} inputs")
    return Output.failed(
        "invalid", cleaned(f"{stage} inputs: {wrong}", MESSAGE), f"input {number}: {shown(given)}", log=log
    )
