"""How a child is made of its parents: what a model is told, and how its reply becomes a candidate."""

from __future__ import annotations

import bisect
import random
from collections.abc import Mapping
from typing import Any

from agent.code import holes
from agent.code.edits import revised, revised_tree
from agent.evolution.archive import Elite
from agent.evolution.population import Population
from agent.parameters import Value
from agent.problem import Problem
from agent.space import Candidate
from agent.texts import Code

OPERATORS = ("edit", "rewrite", "cross", "fix", "tune")
"""edit: some lines of one parent. rewrite: another program for the same end. cross: of two parents. fix: of one that
failed, with what was said about it. tune: other values in the holes of one parent, without a model."""
WHOLE = ("rewrite", "cross")
"""Operators whose reply is a whole program."""
TOURNAMENT = 3
EXPLORE, BEST = 0.2, 0.1
"""Shares of the parents that are drawn with equal chance from the island's cells, and that are its best."""
BEYOND, ROOM = 3, 10_000
"""Characters of a reply that is read: so many times as a program may have, and so many more."""
STEP = 0.15
"""Standard deviation of a step in a hole, as a share of its range."""


def codes(problem: Problem) -> dict[str, Code]:
    """The programs of a space, by name."""
    return {name: item for name, item in problem.space.items() if isinstance(item, Code)}


def parent(population: Population, island: int, rng: random.Random) -> Elite | None:
    """An elite of an island to make a child of; None where it has none."""
    archive = population.islands[island]
    if not len(archive):
        return None
    dice = rng.random()
    if dice < EXPLORE:
        return archive.draw(rng)
    if dice < EXPLORE + BEST:
        return archive.top
    drawn = [archive.draw(rng) for _ in range(TOURNAMENT)]
    # Of equals the one whose behaviour is rarer, so that many copies of one idea do not crowd out the others.
    return min(drawn, key=lambda elite: (elite.violated, elite.cost, population.behaviours.get(elite.behaviour, 0)))


def inspirations(population: Population, island: int, chosen: Elite, count: int, rng: random.Random) -> list[Elite]:
    """Others of the island that behave differently: its best, a neighbour of the parent, and some at random."""
    archive = population.islands[island]
    wanted = [archive.top, archive.near(archive.grid.cell(chosen.descriptor), rng)]
    wanted += [archive.draw(rng) for _ in range(2 * count)]
    out: list[Elite] = []
    seen = {chosen.behaviour}
    for elite in wanted:
        if len(out) < count and elite is not None and elite.behaviour not in seen:
            out.append(elite)
            seen.add(elite.behaviour)
    return out


def partner(population: Population, island: int, chosen: Elite, rng: random.Random) -> Elite | None:
    """Another one to cross with: of the same island, or of the next ones where there is no other."""
    count = len(population.islands)
    for number in range(count):
        archive = population.islands[(island + number) % count]
        for _ in range(TOURNAMENT if len(archive) else 0):
            elite = archive.tournament(rng, 2)
            if elite.candidate != chosen.candidate:
                return elite
    return None


def child(problem: Problem, base: Mapping[str, Any], name: str, reply: str) -> Candidate:
    """The candidate that a reply makes of one program of a parent; all else is the parent's.

    Args:
        problem: Of the run.
        base: The parent.
        name: Of the code parameter.
        reply: With search/replace blocks or fenced files.

    Raises:
        ValueError: The reply cannot be applied (`EditRejected`), or what comes of it is no value of the space.
    """
    if why := endless(problem, name, reply):
        raise ValueError(why)
    before = base[name]
    after = revised_tree(reply, before) if isinstance(before, Mapping) else revised(reply, before)
    if why := problem.overlong({name: after}):
        raise ValueError(why)
    return problem.space.candidate({**base, name: after})


def endless(problem: Problem, name: str, reply: str) -> str:
    """Why a reply is not even read, or "": it is far longer than any program may be, with all that it searches for."""
    most = problem.longest(name)
    if most is None or len(reply) <= BEYOND * most + ROOM:
        return ""
    return f"the reply has {len(reply):,} characters, and a program may have {most:,}; max_chars of {name} allows more"


def rationale(reply: str) -> str:
    """The first line of a reply that says something in words."""
    for line in reply.splitlines():
        text = line.strip()
        if text.startswith(("```", "~~~", "<<<<<<<")):
            return ""
        if text:
            return text
    return ""


def stale(population: Population, candidate: Candidate, variants: int, place: int) -> str:
    """Why a program is too little of a change, or "": so many others differ from it in numbers alone.

    Args:
        population: Of the run; it may know more by now than the decision does.
        candidate: That was just made.
        variants: How many may; 0 for any number.
        place: `Population.place` at the decision.
    """
    known = population.skeletons.get(population.features(candidate).skeleton, [])
    count = bisect.bisect_left(known, place)
    if not variants or count < variants:
        return ""
    return f"it differs in numbers alone from {count} programs that were tried; change the structure"


def tuned(problem: Problem, base: Candidate, rng: random.Random) -> Candidate | None:
    """The parent with other values in some of the holes of its programs; None where there is no hole."""
    found = holes.structures(problem.space, base)
    count = sum(len(structure.holes) for structure in found.values())

    def moved(hole: holes.Hole) -> Value:
        place = hole.parameter.encode(hole.value)
        if rng.random() < max(2.0 / count, 0.3):
            place = min(1.0, max(0.0, place + rng.gauss(0.0, STEP)))
        return hole.parameter.decode(place)

    values = {place: [moved(hole) for hole in structure.holes] for place, structure in found.items()}
    return problem.space.candidate(holes.filled(base, found, values)) if found else None
