"""Which executor an evaluator gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from agent.errors import ConfigError
from agent.evaluation import Evaluator, Executor
from agent.executors.inline import InlineExecutor
from agent.executors.subprocess import SubprocessExecutor

Kind = Literal["inline", "subprocess"]


def executor_for(
    evaluator: Evaluator,
    *,
    workers: int,
    isolate: bool = False,
    kind: Kind | None = None,
    env: Mapping[str, str] | None = None,
) -> Executor:
    """An executor for the evaluator.

    What computes and can be rebuilt from its spec runs in worker processes; what waits (async
    functions, commands) and what has no import path runs in this process.

    Args:
        evaluator: Whose requests it runs.
        workers: How many requests run at once; at least 1.
        isolate: Whether every request gets a new process; asks for worker processes.
        kind: "inline" or "subprocess" instead of the choice above.
        env: Environment variables that worker processes get in addition.

    Raises:
        ConfigError: Worker processes are asked for and the evaluator has no import path.
    """
    if workers < 1:
        raise ConfigError(f"workers: found {workers}, allowed is at least 1")
    if kind not in (None, "inline", "subprocess"):
        raise ConfigError(f"executor: found {kind!r}, allowed is inline or subprocess")
    if kind == "inline" and isolate:
        raise ConfigError("isolate needs worker processes", hint='leave out executor = "inline"')
    if getattr(evaluator, "uses", ()):
        if kind == "subprocess" or isolate:
            raise ConfigError(
                "an evaluator that asks models runs in this process, which pays for them",
                hint="leave out executor and isolate",
            )
        return InlineExecutor(evaluator, slots=workers)
    spec = evaluator.spec
    # A command has a process of its own each time, so isolation changes nothing for it.
    wanted = kind == "subprocess" or (kind is None and isolate and not evaluator.keeps_limits)
    if wanted and spec is None:
        raise ConfigError(
            "this evaluator cannot run in a worker process, because it has no import path",
            hint='put the function at the top level of a module and name it as "module:function", '
            "or leave out executor and isolate",
        )
    if spec is not None and (wanted or (kind is None and evaluator.blocking)):
        return SubprocessExecutor(spec, slots=workers, isolate=isolate, env=env)
    return InlineExecutor(evaluator, slots=workers)
