"""Programs that say or do the same as one that was seen before, found before anything is paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from agent.code.holes import plain
from agent.evaluation import Evaluator, Limits, Request
from agent.gate.checks import Check, Context
from agent.parameters import Value
from agent.space import Candidate, Space, digest
from agent.texts import Code

INFRASTRUCTURE = ("lost", "cancelled")
"""Failures that say nothing about the program."""


class Duplicates:
    """Remembers what each candidate of a run is, by a key; the history says which there are.

    Args:
        key: Of a candidate; "" where it has none.
        told: What to tell the proposer about a candidate with the same key.
    """

    def __init__(self, key: Callable[[Mapping[str, Value]], str], told: str) -> None:
        self._key = key
        self._told = told
        self._known: dict[str, int] = {}
        self._admitted: set[str] = set()
        self._seen = 0

    def __call__(self, candidate: Mapping[str, Value], context: Context) -> str:
        """Why the candidate is refused, or "". What the history has may be measured again."""
        mine = self._key(candidate)
        if not mine:
            return ""
        history = context.history
        while history is not None and self._seen < len(history):
            trial = history.trials[self._seen]
            try:
                known = self._key(trial.candidate)
            except ValueError:
                known = ""
            if known:
                self._known.setdefault(known, trial.number)
            self._admitted.add(trial.id)
            self._seen += 1
        found = self._known.get(mine)
        admitted = Candidate(candidate).id in self._admitted
        return "" if found is None or admitted else f"{self._told} candidate {found}"


def same_program(space: Space) -> Check | None:
    """Refuses a program that differs from an earlier one in comments, layout, docstrings or local names only; or in
    which numbers are holes, and in what these may become: what runs is the same.

    Args:
        space: None is returned where it has no code parameter.
    """
    codes = {name: item for name, item in space.items() if isinstance(item, Code)}
    if not codes:
        return None

    def key(candidate: Mapping[str, Value]) -> str:
        return digest({name: codes[name].normal(v) if name in codes else v for name, v in candidate.items()})

    def running(candidate: Mapping[str, Value]) -> str:
        return key({name: _plain(codes[name], v) if name in codes else v for name, v in candidate.items()})

    twins = Duplicates(key, "but for comments, layout and local names it is the program of")
    ranges = Duplicates(running, "only ranges of holes differ; it runs as")
    return Check("program", lambda candidate, context: twins(candidate, context) or ranges(candidate, context))


def _plain(item: Code, value: Any) -> Any:
    """What runs of a program."""
    if item.language != "python":
        return value
    if isinstance(value, Mapping):
        return {path: plain(text) if path.endswith(".py") else text for path, text in value.items()}
    return plain(value)


def same_behaviour(evaluator: Evaluator, limits: Limits) -> Check:
    """Refuses a program that fails on the smoke inputs, or answers them as an earlier one does.

    Right where a score depends on the outputs alone: two programs of different speed answer alike. Each question
    starts a worker process, so it takes some tenths of a second.

    Args:
        evaluator: One with a smoke stage, whose spec a worker can rebuild.
        limits: Of one evaluation.
    """

    def key(candidate: Mapping[str, Value]) -> str:
        return asyncio.run(_behaviour(evaluator, limits, candidate))

    twins = Duplicates(key, "on the smoke inputs it answers as")

    def run(candidate: Mapping[str, Value], context: Context) -> str:
        try:
            return twins(candidate, context)
        except ValueError as error:
            return str(error)

    return Check("behaviour", run)


async def _behaviour(evaluator: Evaluator, limits: Limits, candidate: Mapping[str, Any]) -> str:
    """The hash of a candidate's answers; "" where that is not known.

    Raises:
        ValueError: The candidate fails.
    """
    from agent.executors.subprocess import SubprocessExecutor

    if evaluator.spec is None:
        return ""
    executor = SubprocessExecutor(evaluator.spec, slots=1)
    try:
        output = await executor.submit(Request(Candidate(candidate), stage="smoke", limits=limits))
    finally:
        await executor.close()
    if output.failure is None:
        return str(output.value["behaviour"])
    if output.failure.kind in INFRASTRUCTURE:
        return ""
    raise ValueError(output.failure.message)
