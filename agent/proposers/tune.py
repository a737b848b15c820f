"""Numbers in programs: a numeric proposer sees the holes of a program as parameters, and the program stays as it is.

So the structure of a program is for models to change, and its numbers for those who are good at numbers: by default a
portfolio of them that never asks a model, even where the run has one. Only who names `by` may have another one that
does. See `agent.code.holes` for what a hole is. The other numbers and choices of the space are tuned with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.code import holes
from agent.code.holes import Structure
from agent.errors import ConfigError
from agent.history import History, Trial
from agent.parameters import Numeric, Value
from agent.problem import Problem
from agent.proposers.base import Context, Proposal
from agent.proposers.options import read, wrong
from agent.proposers.table import load
from agent.space import Candidate, Space, digest

SOURCE = "tune"
NONE = "there is nothing to tune: neither a hole in a program nor a number or choice in the space"
DEFAULT = "portfolio"
HINT = "write tune(value, low, high) in the program where a number is, or choose another proposer"


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        by: The numeric proposer that tunes; "" for the portfolio, kept from asking a model.
        own: Options of that.
    """

    by: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.by, str) or self.by == SOURCE:
            raise wrong("by", self.by, "the name of another proposer")
        if not isinstance(self.own, Mapping):
            raise wrong("own", self.own, "a table of that proposer's options")


@dataclass(frozen=True)
class Numbers:
    """The holes of a candidate's programs and the space's other numbers, as one numeric space.

    Args:
        space: A float, int or categorical parameter for each.
        structures: By name of the code parameter and path of the file, where there are holes.
        names: The holes' names in `space`, in the order of structures and of holes.
        plain: Names of the other numbers, which are the same in both spaces.
        base: The candidate.
    """

    space: Space
    structures: Mapping[tuple[str, str], Structure]
    names: Mapping[tuple[str, str], list[str]]
    plain: tuple[str, ...]
    base: Candidate

    @classmethod
    def of(cls, space: Space, base: Candidate) -> Numbers | None:
        """What can be tuned in a candidate; None where there is nothing."""
        parameters: dict[str, Numeric] = {}
        for name in space.numeric:
            item = space[name]
            assert isinstance(item, Numeric)
            parameters[name] = item
        structures, names = holes.structures(space, base), {}
        for place, found in structures.items():
            names[place] = [_free(hole.name, parameters) for hole in found.holes]
            parameters.update((name, hole.parameter) for name, hole in zip(names[place], found.holes, strict=True))
        return cls(Space(parameters), structures, names, space.numeric, base) if parameters else None

    @property
    def key(self) -> str:
        """Equal for candidates that differ in numbers alone."""
        pieces = {"\n".join(place): item.pieces for place, item in self.structures.items()}
        return digest([pieces, {name: value for name, value in self.base.items() if name not in self._open}])

    @property
    def _open(self) -> set[str]:
        return {*self.plain, *(name for name, _ in self.structures)}

    def read(self, candidate: Mapping[str, Value]) -> Candidate | None:
        """A candidate's numbers; None where it differs from the base in more than numbers."""
        out = {name: candidate[name] for name in self.plain}
        for name, value in candidate.items():
            if name in self.plain:
                continue
            base = self.base[name]
            if (texts := _texts(value)).keys() != (ours := _texts(base)).keys() or type(value) is not type(base):
                return None
            for path, text in texts.items():
                structure = self.structures.get((name, path))
                if structure is None:
                    if text != ours[path]:
                        return None
                    continue
                found = structure.values(text)
                if found is None:
                    return None
                out.update(zip(self.names[name, path], found, strict=True))
        return Candidate(out)

    def write(self, numbers: Mapping[str, Value]) -> dict[str, Value]:
        """The values of the candidate with these numbers."""
        values = {place: [numbers[name] for name in names] for place, names in self.names.items()}
        out: dict[str, Value] = holes.filled(self.base.values_json, self.structures, values)
        return {**out, **{name: numbers[name] for name in self.plain}}


class Tune:
    """Its memory is that of the proposer that tunes, for the structure that was tuned last."""

    name = SOURCE
    needs_model = False
    uses_model = True
    """Where `by` names a proposer that does."""
    texts = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """`n` proposals that have the champion's structure, and other numbers.

        Raises:
            ConfigError: An option is wrong.
            BudgetExceeded, ProviderError: As of the proposer that tunes.
        """
        return await tuned(context, context.champion, n, read(Options, context.options))

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """What the proposer that tunes would take."""
        chosen = read(Options, options)
        numbers = Numbers.of(problem.space, problem.initial())
        if numbers is None:
            raise ConfigError(NONE, hint=HINT)
        taken = load(chosen.by or DEFAULT, problem.folder).forecast(_problem(problem, numbers), candidates, chosen.own)
        return taken if chosen.by else (0, 0, 0)


async def tuned(context: Context, base: Candidate, n: int, options: Options) -> list[Proposal]:
    """Proposals that differ from a candidate in the values of its holes and in the space's numbers alone.

    All that was measured of its structure counts, whoever made it.

    Args:
        context: Its memory is read and set.
        base: A candidate of the history.
        n: How many.
        options: Who tunes.

    Raises:
        ConfigError, BudgetExceeded, ProviderError: As of the proposer that tunes.
    """
    numbers = Numbers.of(context.problem.space, base)
    if numbers is None:
        context.reject(NONE, SOURCE)
        context.exhausted = True
        return []
    history, known = _history(context, numbers)
    memory = context.memory if isinstance(context.memory, Mapping) else {}
    own = memory.get("own") if memory.get("of") == numbers.key else None
    inner = replace(
        context,
        problem=_problem(context.problem, numbers),
        history=history,
        memory=own,
        options=options.own,
        exhausted=False,
        ask=context.ask if options.by else None,
    )
    made = await load(options.by or DEFAULT, context.problem.folder).propose(inner, n)
    context.memory = {"of": numbers.key, "own": inner.memory}
    context.exhausted = inner.exhausted
    return [
        replace(
            item,
            values=numbers.write(item.values),
            source=f"{SOURCE}:{item.source}",
            parents=tuple(known[parent] for parent in item.parents if parent in known) or (base.id,),
        )
        for item in made
    ]


def _history(context: Context, numbers: Numbers) -> tuple[History, dict[str, str]]:
    """What was measured of a structure, as a history of numbers, and whose numbers each of its candidates are."""
    read = {trial.id: numbers.read(trial.candidate) for trial in context.history.trials}
    trials: list[Trial] = []
    known: dict[str, str] = {}
    for trial in context.history.trials:
        found = read[trial.id]
        if found is None:
            continue
        known.setdefault(found.id, trial.id)
        parents = [read.get(name) for name in trial.parents]
        trials.append(
            replace(
                trial,
                candidate=found,
                source=trial.source.removeprefix(f"{SOURCE}:"),
                parents=tuple(parent.id for parent in parents if parent is not None),
            )
        )
    base = read[numbers.base.id]
    assert base is not None, "a candidate has its own structure"
    made = History.of(trials, base.id, context.history.objective)
    made.rejections, made.rejected = context.history.rejections, context.history.rejected
    return made, known


def _problem(problem: Problem, numbers: Numbers) -> Problem:
    return Problem.from_json({**problem.to_json(), "space": numbers.space.spec()})


def _texts(value: Value) -> Mapping[str, Any]:
    """A value's parts by path, each of which must be equal or have a structure."""
    return value if isinstance(value, Mapping) else {"": value}


def _free(name: str, taken: Mapping[str, Numeric]) -> str:
    """A name that no other number has."""
    out, count = name, 1
    while out in taken:
        count += 1
        out = f"{name}_{count}"
    return out
