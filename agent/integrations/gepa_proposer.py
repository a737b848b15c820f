"""A proposer that asks what GEPA's users bring along: an adapter's `propose_new_texts`, or a candidate proposer."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.problem import Problem
from agent.proposers import fronts
from agent.proposers.base import Context, Proposal

ROWS = 3
"""Rows whose records one proposal reads, as many as GEPA's."""
_LIVE: dict[str, Custom] = {}


def __getattr__(name: str) -> Custom:
    """The proposer that `register` gave this name."""
    try:
        return _LIVE[name]
    except KeyError:
        raise AttributeError(f"no proposer {name!r} was registered in this process") from None


def register(propose: Callable[..., Mapping[str, str]], components: Mapping[str, str], rows: int = ROWS) -> str:
    """Make a proposer and give the name by which a run finds it in this process.

    Args:
        propose: As `propose(candidate, reflective_dataset, components_to_update)`; gives texts by component.
        components: Parameter by component.
        rows: Rows that one proposal reads.
    """
    name = next(name for name in (f"custom_{n}" for n in itertools.count()) if name not in _LIVE)
    _LIVE[name] = Custom(propose, components, rows)
    return f"{__name__}:{name}"


def release(name: str) -> None:
    """Forget a proposer that `register` made."""
    _LIVE.pop(name.partition(":")[2], None)


class Custom:
    """Draws a parent from the fronts of rows, and has one component of it changed, in turn."""

    name = "gepa"
    needs_model = False
    texts = True

    def __init__(self, propose: Callable[..., Mapping[str, str]], components: Mapping[str, str], rows: int) -> None:
        self._propose, self._components, self._rows = propose, dict(components), rows

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` children; what raises or gives no text is recorded as a rejection."""
        out: list[Proposal] = []
        wins = fronts.fronts(context)
        names = list(self._components)
        turn = int((context.memory or {}).get("turn", 0))
        for parent in fronts.drawn(context, wins, n):
            component = names[turn % len(names)]
            turn += 1
            view = fronts.standing_on(context, parent)
            texts = {name: str(view.champion[given]) for name, given in self._components.items()}
            records = {component: await self._records(view, component)}
            try:
                said = await asyncio.to_thread(self._propose, dict(texts), records, [component])
                changes = {self._components[name]: str(text) for name, text in dict(said).items()}
            except Exception as error:
                context.reject(f"the candidate proposer failed: {type(error).__name__}: {error}", self.name)
                continue
            values = {**view.champion.values_json, **changes}
            if values == view.champion.values_json:
                context.reject("nothing was changed", self.name)
                continue
            out.append(Proposal(values, self.name, f"changed {component}", (parent,)))
        context.memory = {"turn": turn}
        return out

    async def _records(self, view: Context, component: str) -> list[Any]:
        """What the adapter's reflective dataset says of some rows."""
        trial = view.history[view.history.champion]
        measured: Sequence[str] = list(trial.rows)
        out: list[Any] = []
        if not measured:  # an evaluator without rows
            return _read(trial.feedback, component, None)
        for row in view.rng.sample(measured, min(self._rows, len(measured))):
            seen = await view.read(row)
            out.extend(_read(seen.feedback, component, seen.row))
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """It asks no model of the run."""
        return 0, 0, 0


def _read(feedback: str, component: str, row: Any) -> list[Any]:
    """The records that an adapter's feedback holds; what is no such thing, as one."""
    try:
        return list(json.loads(feedback).get(component, []))
    except (ValueError, AttributeError):
        return [{"Inputs": row, "Feedback": feedback}]
