"""Coordinate hill climbing: change one parameter of the champion at a time.

Each sweep visits the numeric and categorical parameters in a fresh random order. A category is
replaced by each of its alternatives; a number moves one step up and one step down. A sweep that
improves nothing halves the steps (pattern search: Hooke and Jeeves 1961, J. ACM 8, section 2), and the
next one begins with exchanges of two choices at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.parameters import Categorical, Numeric
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.space import Candidate

STEP = 0.25
"""First step of a number, as a share of its scale."""
SMALLEST = 1e-3
"""Steps below this are not taken; then two parameters change at once, at random, and more when that is all known."""
JUMPS = 200
"""Jumps in a row to candidates that are all known, after which a finite space counts as used up."""

EXCHANGE = ""
"""Stands in a sweep for a change of two choices at once."""


class Coordinate:
    """Local search around the champion; state is the sweep's rest and the step size."""

    name = "coordinate"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` neighbours of the champion that were not proposed before.

        Raises:
            ConfigError: The space has no numbers and no choices.
        """
        numeric(context.problem, self.name)
        memory: dict[str, Any] = dict(context.memory or {"sweep": [], "step": STEP, "champion": "", "moved": True})
        memory["sweep"] = list(memory["sweep"])  # the given one belongs to the journal
        if memory["champion"] not in ("", context.champion.id):
            memory["moved"] = True
        memory["champion"] = context.champion.id
        out: list[Proposal] = []
        made: set[str] = set()
        jumps = 0
        while len(out) < n and jumps < JUMPS:
            if not memory["sweep"]:
                self._sweep(context, memory)
            local = bool(memory["sweep"])
            if local:
                name, move = memory["sweep"].pop(0)
                exchange = name == EXCHANGE
                candidate, what = (
                    self._exchange(context) if exchange else self._step(context, name, move, memory["step"])
                )
            else:
                candidate, what = self._jump(context, 2 + jumps // 20)
                jumps += 1
            if candidate.id not in context.history and candidate.id not in made:
                made.add(candidate.id)
                out.append(Proposal(candidate, self.name, what, (context.champion.id,)))
                if not local:
                    memory["step"], memory["moved"] = STEP, True
        context.memory = memory
        context.exhausted = not out
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        numeric(problem, self.name)
        return 0, 0, 0

    def _sweep(self, context: Context, memory: dict[str, Any]) -> None:
        """Begin a sweep, with half the step when the last one improved nothing; none when the step is too small."""
        stuck = not memory["moved"] and len(_choices(context)) > 1
        if not memory["moved"] and memory["step"] >= SMALLEST:
            memory["step"] /= 2
        memory["moved"] = False
        if memory["step"] >= SMALLEST:
            names = list(context.problem.space.numeric)
            context.rng.shuffle(names)
            memory["sweep"] = [move for name in names for move in self._moves(context, name)]
            if stuck:
                # No single choice helps any more: where two hold each other in place, they have to change together.
                memory["sweep"] = [[EXCHANGE, 0]] * len(_choices(context)) + memory["sweep"]

    def _step(self, context: Context, name: str, move: int, step: float) -> tuple[Candidate, str]:
        values = context.champion.values_json
        parameter = context.problem.space[name]
        assert isinstance(parameter, Numeric)
        if isinstance(parameter, Categorical):
            values[name] = parameter.choices[move]
        else:
            values[name] = _stepped(parameter, values[name], move * step)
        return Candidate(values), f"{name}: {_short(context.champion[name])} → {_short(values[name])}"

    def _moves(self, context: Context, name: str) -> list[list[Any]]:
        parameter = context.problem.space[name]
        if isinstance(parameter, Categorical):
            current = parameter.to_bin(context.champion[name], parameter.levels)
            others = [index for index in range(parameter.levels) if index != current]
            context.rng.shuffle(others)
            return [[name, index] for index in others]
        first = context.rng.choice((1, -1))
        return [[name, first], [name, -first]]

    def _exchange(self, context: Context) -> tuple[Candidate, str]:
        space, values = context.problem.space, context.champion.values_json
        chosen = context.rng.sample(_choices(context), 2)
        for name in chosen:
            parameter = space[name]
            assert isinstance(parameter, Categorical)
            current = parameter.to_bin(values[name], parameter.levels)
            values[name] = parameter.choices[context.rng.choice([i for i in range(parameter.levels) if i != current])]
        return Candidate(values), ", ".join(f"{name}: {context.champion[name]} → {values[name]}" for name in chosen)

    def _jump(self, context: Context, width: int) -> tuple[Candidate, str]:
        space = context.problem.space
        values = context.champion.values_json
        chosen = context.rng.sample(space.numeric, min(width, len(space.numeric)))
        for name in chosen:
            values[name] = space[name].sample(context.rng)
        return Candidate(values), "a jump in " + " and ".join(chosen)


def _choices(context: Context) -> list[str]:
    return [name for name, parameter in context.problem.space.items() if isinstance(parameter, Categorical)]


def _stepped(parameter: Numeric, value: Any, step: float) -> Any:
    """The value a step away; a whole number moves at least one."""
    place = parameter.encode(value)
    moved = parameter.decode(place + step)
    if moved == value and isinstance(value, int):
        moved = parameter.check(min(max(value + (1 if step > 0 else -1), parameter.low), parameter.high))  # type: ignore[attr-defined]
    return moved


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
