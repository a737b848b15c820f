"""Coordinate hill climbing: change one parameter of the champion at a time.

Each sweep visits the numeric and categorical parameters in a fresh random order. A category is
replaced by each of its alternatives; a number moves one step up and one step down, and a sweep
that improves nothing halves the steps (pattern search: Hooke and Jeeves 1961, J. ACM 8, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.parameters import Categorical, Numeric
from agent.problem import Problem
from agent.proposers.base import Context, Proposal
from agent.space import Candidate

STEP = 0.25
"""First step of a number, as a share of its scale."""
SMALLEST = 1e-3
"""Steps below this are not taken; then two parameters change at once, at random."""


class Coordinate:
    """Local search around the champion; state is the sweep's rest and the step size."""

    name = "coordinate"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` neighbours of the champion that were not proposed before."""
        memory: dict[str, Any] = dict(context.memory or {"sweep": [], "step": STEP, "champion": "", "moved": False})
        if memory["champion"] not in ("", context.champion.id):
            memory["moved"] = True
        memory["champion"] = context.champion.id
        out: list[Proposal] = []
        made: set[str] = set()
        for _ in range(200):
            if len(out) >= n:
                break
            candidate, what = self._next(context, memory)
            if candidate.id not in context.history and candidate.id not in made:
                made.add(candidate.id)
                out.append(Proposal(candidate, self.name, what, (context.champion.id,)))
        context.memory = memory
        context.exhausted = not out
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        return 0, 0, 0

    def _next(self, context: Context, memory: dict[str, Any]) -> tuple[Candidate, str]:
        space = context.problem.space
        if not memory["sweep"]:
            if not memory["moved"]:
                memory["step"] /= 2
            memory["moved"] = False
            if memory["step"] < SMALLEST:
                memory["step"] = STEP
                return self._jump(context)
            names = list(space.numeric)
            context.rng.shuffle(names)
            memory["sweep"] = [move for name in names for move in self._moves(context, name)]
        name, move = memory["sweep"].pop(0)
        values = context.champion.values_json
        parameter = space[name]
        assert isinstance(parameter, Numeric)
        if isinstance(parameter, Categorical):
            values[name] = parameter.choices[move]
        else:
            values[name] = _stepped(parameter, values[name], move * memory["step"])
        return Candidate(values), f"{name}: {_short(context.champion[name])} → {_short(values[name])}"

    def _moves(self, context: Context, name: str) -> list[list[Any]]:
        parameter = context.problem.space[name]
        if isinstance(parameter, Categorical):
            current = context.champion[name]
            others = [i for i, choice in enumerate(parameter.choices) if choice != current]
            context.rng.shuffle(others)
            return [[name, index] for index in others]
        first = context.rng.choice((1, -1))
        return [[name, first], [name, -first]]

    def _jump(self, context: Context) -> tuple[Candidate, str]:
        space = context.problem.space
        values = context.champion.values_json
        chosen = context.rng.sample(space.numeric, min(2, len(space.numeric)))
        for name in chosen:
            values[name] = space[name].sample(context.rng)
        return Candidate(values), "a jump in " + " and ".join(chosen)


def _stepped(parameter: Numeric, value: Any, step: float) -> Any:
    """The value a step away; a whole number moves at least one."""
    place = parameter.encode(value)
    moved = parameter.decode(place + step)
    if moved == value and isinstance(value, int):
        moved = parameter.check(min(max(value + (1 if step > 0 else -1), parameter.low), parameter.high))  # type: ignore[attr-defined]
    return moved


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
