"""Which executor an evaluator gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from agent.errors import ConfigError
from agent.evaluation import Evaluator, Executor
from agent.executors.inline import InlineExecutor
from agent.executors.subprocess import SubprocessExecutor

Kind = Literal["inline", "subprocess", "dask"]
CLUSTER = ("scheduler", "resources")
"""Options of an executor on a cluster."""


def executor_for(
    evaluator: Evaluator,
    *,
    workers: int,
    isolate: bool = False,
    kind: Kind | None = None,
    env: Mapping[str, str] | None = None,
    dask: Mapping[str, Any] | None = None,
) -> Executor:
    """An executor for the evaluator.

    What computes and can be rebuilt from its spec runs in worker processes; what waits (async
    functions, commands) and what has no import path runs in this process.

    Args:
        evaluator: Whose requests it runs.
        workers: How many requests run at once; at least 1.
        isolate: Whether every request gets a new process; asks for worker processes.
        kind: "inline", "subprocess" or "dask" instead of the choice above.
        env: Environment variables that worker processes get in addition.
        dask: Of the executor on a cluster: the address of its `scheduler`, and the `resources` of one evaluation.

    Raises:
        ConfigError: Worker processes are asked for and the evaluator has no import path; or options that do not fit.
    """
    if workers < 1:
        raise ConfigError(f"workers: found {workers}, allowed is at least 1")
    if kind not in (None, "inline", "subprocess", "dask"):
        raise ConfigError(f"executor: found {kind!r}, allowed is inline or subprocess, or dask")
    _check(dask or {}, kind)
    if kind == "inline" and isolate:
        raise ConfigError("isolate needs worker processes", hint='leave out executor = "inline"')
    if getattr(evaluator, "uses", ()):
        if kind in ("subprocess", "dask") or isolate:
            raise ConfigError(
                "an evaluator that asks models runs in this process, which pays for them",
                hint="leave out executor and isolate",
            )
        return InlineExecutor(evaluator, slots=workers)
    spec = evaluator.spec
    # A command has a process of its own each time, so isolation changes nothing for it.
    wanted = kind in ("subprocess", "dask") or (kind is None and isolate and not evaluator.keeps_limits)
    if wanted and spec is None:
        raise ConfigError(
            "this evaluator cannot run in a worker process, because it has no import path",
            hint='put the function at the top level of a module and name it as "module:function", '
            "or leave out executor and isolate",
        )
    if spec is not None and kind == "dask":
        from agent.executors.dask import DaskExecutor

        given = dict(dask or {})
        return DaskExecutor(spec, fingerprint=evaluator.fingerprint, slots=workers, isolate=isolate, env=env, **given)
    if spec is not None and (wanted or (kind is None and evaluator.blocking)):
        return SubprocessExecutor(spec, slots=workers, isolate=isolate, env=env)
    return InlineExecutor(evaluator, slots=workers)


def _check(dask: Mapping[str, Any], kind: str | None) -> None:
    if dask and kind != "dask":
        raise ConfigError(
            "dask: these are options of the executor dask", hint='set executor = "dask", or leave them out'
        )
    if unknown := [name for name in dask if name not in CLUSTER]:
        raise ConfigError(f"dask.{unknown[0]}: unknown key, allowed is {' or '.join(CLUSTER)}")
    address, resources = dask.get("scheduler"), dask.get("resources")
    if address is not None and (not isinstance(address, str) or "://" not in address):
        raise ConfigError(
            f"dask.scheduler: found {address!r}, allowed is an address with its protocol",
            hint='such as "tcp://10.0.0.5:8786"; left out, the workers are processes on this machine',
        )
    if resources is None:
        return
    if address is None:
        raise ConfigError(
            "dask.resources: only workers of a cluster that is there already offer any",
            hint="give dask.scheduler too, or leave resources out",
        )
    good = isinstance(resources, Mapping) and all(
        isinstance(amount, int | float) and not isinstance(amount, bool) and amount > 0 for amount in resources.values()
    )
    if not good:
        raise ConfigError(
            f"dask.resources: found {resources!r}, allowed are amounts above 0 by name", hint="such as { GPU = 1 }"
        )
