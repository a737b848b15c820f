"""Few-shot examples from rows that the candidate itself passes.

After the bootstrapping of DSPy (Khattab et al. 2024, "DSPy: Compiling Declarative Language Model Calls into
State-of-the-Art Pipelines", ICLR, arXiv 2310.03714, section 4; `BootstrapFewShotWithRandomSearch`): examples whose
output the metric accepts, in random sets of random size. Other than there, the sets are spread over unlike examples,
what was measured anyway costs nothing, and a row counts as passed only by a candidate that did not have it among its
examples. An example is shown as it stands in the pool; the model's own steps are not put into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import BudgetExceeded, ConfigError
from agent.problem import Problem
from agent.proposers import demosets
from agent.proposers.base import Context, Proposal
from agent.proposers.fronts import usable
from agent.proposers.options import check_whole, number, read, wrong
from agent.texts import Demos

SOURCE = "bootstrap"
DRAWS = 50
"""Draws in a row that were all known, after which the sets count as used up."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        threshold: What counts as passed: the share of the way from the worst to the best score where the objective
            has both, else a score.
        measure: Most rows that are measured in one decision, at the search's cost, while fewer are known to be
            passed than a set may hold.
        teachers: "champion": rows that it passes; "all": rows that any candidate passes.
    """

    threshold: float = 1.0
    measure: int = 4
    teachers: str = "champion"

    def __post_init__(self) -> None:
        check_whole(self, {"measure": 0})
        if not number(self.threshold):
            raise wrong("threshold", self.threshold, "a number")
        if self.teachers not in ("champion", "all"):
            raise wrong("teachers", self.teachers, "champion or all")


class Bootstrap:
    """The champion with another set of examples. It asks no model, and what it measured is in its memory."""

    name = SOURCE
    needs_model = False
    texts = True
    """It changes choices of examples, so that a space needs no numbers."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` candidates with a new set of examples.

        Where no example of a pool is known to be passed, sets are drawn from all rows of train in it (from all of it
        where it has none), marked `bootstrap:labels`, and the reason is recorded.

        Raises:
            ConfigError: The space has no choice of examples, or an option is wrong.
        """
        options = read(Options, context.options)
        parameters = _parameters(context.problem)
        good = await found(context, options, parameters)
        out: list[Proposal] = []
        made: set[str] = set()
        for _ in range(n):
            for _ in range(DRAWS):
                proposal = _drawn(context, parameters, good)
                candidate = context.problem.space.candidate(proposal.values)
                if candidate.id not in context.history and candidate.id not in made:
                    made.add(candidate.id)
                    out.append(proposal)
                    break
            else:
                context.exhausted = not out and not context.problem.by_rows
                if not out:
                    context.reject("every set that was drawn is a known candidate", SOURCE)
                break
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called.

        Raises:
            ConfigError: The space has no choice of examples, or an option is wrong.
        """
        read(Options, options)
        _parameters(problem)
        return 0, 0, 0


def _parameters(problem: Problem) -> dict[str, Demos]:
    found = demosets.demos_of(problem.space)
    if not found:
        raise ConfigError(
            f"the proposer {SOURCE} chooses few-shot examples, and the space has no parameter of the type demos",
            hint="declare one, with rows of train as its pool, or choose another proposer",
        )
    return found


async def found(context: Context, options: Options, parameters: Mapping[str, Demos]) -> dict[str, list[int]]:
    """The examples of each pool that are rows which were passed; an empty list is on record.

    The memory's "passed" and "measured" say what earlier decisions measured; both are brought up to date.
    """
    problem, history = context.problem, context.history
    places = {name: demosets.rows_of(problem, item) for name, item in parameters.items()}
    champion = history[history.champion]
    teachers = [champion] if options.teachers == "champion" else [trial for trial in history.trials if usable(trial)]
    memory: dict[str, Any] = dict(context.memory or {})
    known = demosets.passed(problem, [trial for trial in teachers if usable(trial)], options.threshold)
    if options.teachers == "all" or memory.get("of") == champion.id:
        known |= set(memory.get("passed", []))
    else:
        memory = {**memory, "of": champion.id, "passed": [], "measured": []}
    measured = {*memory.get("measured", []), *champion.rows, *demosets.shown(problem, champion.candidate)}
    pool = list(dict.fromkeys(row for rows in places.values() for row in rows.values()))
    asked = [row for row in pool if row not in measured]
    wanted = max(parameter.k for parameter in parameters.values())
    if options.measure and asked and context.effects is not None and len(known & set(pool)) < wanted:
        rows = context.rng.sample(asked, min(options.measure, len(asked)))
        try:
            more = await demosets.checked(context, rows, options.threshold, "bootstrap")
        except (BudgetExceeded, ConfigError) as error:
            context.reject(f"no row was measured: {error.message}", SOURCE)
        else:
            known |= more
            memory["passed"] = sorted({*memory.get("passed", []), *more})
            memory["measured"] = sorted({*memory.get("measured", []), *rows})
            memory["of"] = champion.id
            context.memory = memory
    out = {name: [index for index, row in rows.items() if row in known] for name, rows in places.items()}
    for name, indices in out.items():
        if not places[name]:
            context.reject(f"{name}: no example of the pool is a row of train, so none is known to be passed", SOURCE)
        elif not indices:
            context.reject(f"{name}: no row of the pool is known to be passed", SOURCE)
    return out


def _drawn(context: Context, parameters: Mapping[str, Demos], good: Mapping[str, Sequence[int]]) -> Proposal:
    values: dict[str, Any] = dict(context.champion)
    sizes = []
    for name, parameter in parameters.items():
        among = good[name] or demosets.allowed(context.problem, parameter)
        values[name] = demosets.draw(parameter, among, context.rng, parameter.k)
        sizes.append(f"{name}: {len(values[name])} examples" + (" that were passed" if good[name] else ""))
    source = SOURCE if all(good.values()) else f"{SOURCE}:labels"
    rows = demosets.shown(context.problem, values)
    return Proposal(values, source, ", ".join(sizes), (context.history.champion,), read=rows)
