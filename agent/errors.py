"""Every error the package raises on purpose.

Each carries a `hint` that tells the user what to do next, a `kind` that is part of the
`--json` contract, and the exit code the command line ends with.
"""

from __future__ import annotations

from typing import Any, ClassVar


class AgentError(Exception):
    """Root of the package's own errors.

    Args:
        message: What went wrong, in one sentence.
        hint: What to do next, also shown below a traceback; empty when nothing can be done.
    """

    kind: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"fix: {hint}")  # a traceback shows it; str() is the message alone

    def to_json(self) -> dict[str, Any]:
        """The closed shape every `--json` error has: kind, message, hint."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint}


class ConfigError(AgentError):
    """The problem, an option or the command line is wrong."""

    kind = "config"
    exit_code = 2


class RunChanged(ConfigError):
    """A run cannot be resumed as it was: evaluator, data or problem differ from its start."""

    kind = "changed"


class PrerequisiteError(AgentError):
    """Something this machine lacks (a package, a key, weights); `fix` is the command that adds it."""

    kind = "prerequisite"
    exit_code = 69

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message, hint=fix)
        self.fix = fix


class ProviderError(AgentError):
    """A model endpoint failed.

    Args:
        retryable: Whether the same request may succeed later.
        retry_after: Seconds the server asked us to wait, if it did.
        fatal: Whether every further call must fail too (credentials, spend limits),
            so that the run stops at once instead of failing one proposal after another.
        status: HTTP status, if there was an answer.
    """

    kind = "provider"
    exit_code = 69

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        fatal: bool = False,
        status: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
        self.retry_after = retry_after
        self.fatal = fatal
        self.status = status


class OutputInvalid(AgentError):
    """A model answered, and was paid for, but the answer does not fit what was asked.

    Args:
        raw: The text as it came.
        usage: Tokens it cost, as `agent.llm.types.Usage`.
    """

    kind = "output_invalid"

    def __init__(self, message: str, *, raw: str = "", usage: Any = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.raw = raw
        self.usage = usage


class BudgetExceeded(AgentError):
    """A spend was refused because it could pass a limit.

    Args:
        limit_kind: Which limit: evaluations, calls, tokens, usd or seconds.
        limit: The limit.
        spent: What was spent or reserved when the spend was refused.
    """

    kind = "budget"
    exit_code = 2

    def __init__(self, limit_kind: str, limit: float, spent: float, *, message: str = "", hint: str = "") -> None:
        said = f"the limit of {limit:g} {limit_kind} is reached ({spent:g} spent or reserved)"
        super().__init__(message or said, hint=hint)
        self.limit_kind = limit_kind
        self.limit = limit
        self.spent = spent


class EvaluatorError(AgentError):
    """The evaluator cannot score even the initial candidate."""

    kind = "evaluator"
    exit_code = 3


class GateError(AgentError):
    """The gate was asked for something it cannot decide."""

    kind = "gate"
    exit_code = 4


class StoreError(AgentError):
    """The run folder cannot be read or written."""

    kind = "store"


class RunLocked(AgentError):
    """Another live process has the run, or the problem.

    Args:
        folder: Of the run.
        pid: Of the process, where it is known.
        message: What is said instead of that it writes the run.
        hint: What is said to do about that.
    """

    kind = "locked"
    exit_code = 75

    def __init__(self, folder: str, pid: int | None, *, message: str = "", hint: str = "") -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            message or f"{who} is writing the run in {folder}",
            hint=hint
            or "wait for it to finish, or stop that process; reading the run (show, events, list) is always possible",
        )
        self.pid = pid

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "pid": self.pid}
