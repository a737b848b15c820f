"""Who writes the next optimizer: regularised evolution, and two that it has to beat with the same funnel.

After Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search" (AAAI), algorithm 1, and Chen
et al. 2023 (see `language`), section 2: the oldest of a population dies, whoever wins a tournament has a child, equal
programs are not measured twice, and a funnel of growing tasks and a removal of statements stand before the race.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from language import Program, behaviour, cleaned, drawn, mutated, parsed, shorter, text

from agent.errors import BudgetExceeded, ConfigError
from agent.problem import Problem
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_whole, read

PROGRAM, GAIN = "program", "gain"
RUNGS = ("tiny", "small")
"""How the ids of the rows of train begin that the funnel measures; the race is on the others."""
FAILED = -0.5


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        population: How many programs are alive.
        tournament: How many of them are drawn; the best has a child.
        eta: One in so many goes up a rung of the funnel.
        together: Programs that are made and measured side by side.
        patience: Programs without a record after which evolution begins anew, from the one that holds it.
        tolerance: How much of the gain a statement may be worth and still be removed, in thousandths.
    """

    population: int = 16
    tournament: int = 4
    eta: int = 4
    together: int = 4
    patience: int = 40
    tolerance: int = 2

    def __post_init__(self) -> None:
        least = {"population": 2, "tournament": 1, "eta": 2, "together": 1, "patience": 1, "tolerance": 0}
        check_whole(self, least)


@dataclass
class Memory:
    """What is left from decision to decision.

    Args:
        alive: Texts and gains on the rung where they did worst, the oldest first.
        seen: What the programs do that were measured.
        record: The gain on the small rows that the next one has to surpass,
        holder: and the program that has it.
        results: By rung, the gains there so far.
        equal: Programs that were made and not measured, since one was that does the same.
        useless: Those that were not, since no gradient moves them, or all too far.
        removed: Statements that were removed, as they changed nothing or nothing for the worse.
        measured: Programs that were measured.
    """

    alive: list[list[Any]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    record: float = FAILED
    holder: str = ""
    results: dict[str, list[float]] = field(default_factory=lambda: {rung: [] for rung in RUNGS})
    equal: int = 0
    useless: int = 0
    removed: int = 0
    measured: int = 0

    def told(self) -> str:
        """The counts in words."""
        spared = f"{self.equal} equal to one of them and {self.useless} useless ones were not"
        return f"{self.measured} programs were measured, {spared}; {self.removed} statements were removed"


class RegularisedEvolution:
    """Each decision makes programs until one has passed the funnel, removes what it can from it, and proposes it."""

    name = "evolution"
    needs_model = False
    texts = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """A program that did better on the small rows than any before, for the race on the others."""
        options = read(Options, context.options)
        memory = Memory(**(context.memory or {}))
        work = _Work(context, options, memory)
        found: tuple[float, Program] | None = None
        try:
            if not memory.alive:
                first = parsed(context.history[context.history.initial].candidate[PROGRAM])
                memory.seen.append(behaviour(first))
                memory.holder = text(first)
                memory.record = max((gain for gain, _ in await work.climbed([first])), default=FAILED)
            made = 0
            while found is None and made < options.patience:
                group = self._group(context, options, memory)
                made += len(group)
                best = max(await work.climbed(group), default=None, key=lambda item: item[0])
                if best is not None and best[0] > memory.record:
                    found = best
                    memory.record = best[0]
                    found = await work.removed(*best)
                    memory.record, memory.holder = max(best[0], found[0]), text(found[1])
        except BudgetExceeded as error:
            context.exhausted = found is None
            if found is None:
                context.reject(f"the funnel can pay no further program: {error.message}", self.name)
        context.memory = vars(memory)
        if found is None:
            if not context.exhausted:  # evolution has lost its way
                memory.alive = [[memory.holder, memory.record]]
                context.reject(f"none of {made} programs did better on the small rows than all before", self.name)
            return []
        gain, program = found
        why = f"{len(program)} statements, {gain:+.3f} on the small tasks; {memory.told()}"
        return [Proposal({PROGRAM: text(program)}, self.name, why, (context.history.initial,))]

    def _group(self, context: Context, options: Options, memory: Memory) -> list[Program]:
        """Programs that do what none before did."""
        out: list[Program] = []
        initial = parsed(context.history[context.history.initial].candidate[PROGRAM])
        while len(out) < options.together:
            made = self.child(context.rng, options, memory.alive, initial)
            does = behaviour(made)
            if not does:
                memory.useless += 1
            elif does in memory.seen:
                memory.equal += 1
            else:
                memory.seen.append(does)
                out.append(cleaned(made))
                memory.removed += len(made) - len(out[-1])
        return out

    def child(self, rng: random.Random, options: Options, alive: list[list[Any]], initial: Program) -> Program:
        """A program like the best of some that are drawn, but for one change, or a few."""
        best = max(rng.sample(alive, min(options.tournament, len(alive))), key=lambda item: item[1])
        return _changed(rng, parsed(best[0]))

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is asked.

        Raises:
            ConfigError: An option is wrong, the initial program is not in the language, or the funnel has no rows.
        """
        read(Options, options)
        try:
            parsed(problem.initial()[PROGRAM])
        except ValueError as error:
            raise ConfigError(f"the initial program: {error}", hint="write it as update.py is written") from None
        names = [item.id for item in problem.split("train")]
        if missing := [rung for rung in RUNGS if not any(name.startswith(rung) for name in names)]:
            raise ConfigError(f"no row of train has an id that begins with {missing[0]}", hint="see rows.py")
        return 0, 0, 0


class Mutants(RegularisedEvolution):
    """The best of many programs that differ from the initial one in a few changes: what evolution has to beat."""

    name = "mutants"

    def child(self, rng: random.Random, options: Options, alive: list[list[Any]], initial: Program) -> Program:
        return _changed(rng, initial)


class RandomPrograms(RegularisedEvolution):
    """The best of many random programs."""

    name = "random-programs"

    def child(self, rng: random.Random, options: Options, alive: list[list[Any]], initial: Program) -> Program:
        return drawn(rng, rng.randint(3, 12))


def _changed(rng: random.Random, program: Program) -> Program:
    for _ in range(rng.choice((1, 1, 1, 2))):
        program = mutated(rng, program)
    return program


class _Work:
    """Measurements of one decision."""

    def __init__(self, context: Context, options: Options, memory: Memory) -> None:
        self.context, self.options, self.memory = context, options, memory
        names = [item.id for item in context.problem.split("train")]
        self.rows = {rung: [name for name in names if name.startswith(rung)] for rung in RUNGS}
        self._looks = 0

    async def gain(self, program: Program, rows: list[str]) -> float:
        """The mean gain on rows; a row that failed counts as lost."""
        self._looks += 1
        found = await self.context.look({PROGRAM: text(program)}, rows, key=f"look-{self._looks}")
        return round(sum(FAILED if row.values is None else row.values[GAIN] for row in found.rows) / len(rows), 6)

    async def _gains(self, programs: list[Program], rows: list[str]) -> list[float]:
        """Measure side by side, and wait for all of them even where one cannot be paid."""
        found = await asyncio.gather(*(self.gain(item, rows) for item in programs), return_exceptions=True)
        for item in found:
            if isinstance(item, BaseException):
                raise item
        return [item for item in found if not isinstance(item, BaseException)]

    async def climbed(self, group: list[Program]) -> list[tuple[float, Program]]:
        """Send programs through the funnel, and into the population.

        Returns:
            Those that got to its end, with their gains on the last rung.
        """
        ahead = group
        out: list[tuple[float, Program]] = []
        lowest: dict[Program, float] = {}
        for rung in RUNGS:
            gains = await self._gains(ahead, self.rows[rung])
            for gain, program in zip(gains, ahead, strict=True):
                lowest[program] = min(gain, lowest.get(program, gain))
            known = self.memory.results[rung]
            known.extend(gains)
            if rung == RUNGS[0]:
                self.memory.measured += len(ahead)
            if not known:
                break  # nobody ever came so far
            bar = sorted(known, reverse=True)[(len(known) - 1) // self.options.eta]
            out = [(gain, p) for p, gain in zip(ahead, gains, strict=True) if gain >= bar]
            ahead = [program for _, program in out]
        # What is good on tiny tasks alone shall have no children, so the worst rung counts.
        self.memory.alive.extend([text(program), lowest[program]] for program in group)
        del self.memory.alive[: -self.options.population]
        return out

    async def removed(self, gain: float, program: Program) -> tuple[float, Program]:
        """Remove statements as long as the gain on tiny rows and then on small ones stays, from the last one on."""
        before, slack = len(program), self.options.tolerance / 1000
        tiny = await self.gain(program, self.rows[RUNGS[0]])
        tried = {behaviour(program)}
        ahead = shorter(program)
        while ahead:
            made = ahead.pop(0)
            does = behaviour(made)
            if not does or does in tried:
                continue
            tried.add(does)
            if (first := await self.gain(made, self.rows[RUNGS[0]])) < tiny - slack:
                continue
            if (now := await self.gain(made, self.rows[RUNGS[1]])) >= gain - slack:
                tiny, gain, program = first, now, cleaned(made)
                ahead = shorter(program)
        self.memory.removed += before - len(program)
        return gain, program
