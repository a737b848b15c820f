"""A ranked study from its beginning to its end, with a function that gives the orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.gate.exam import PAIRS
from agent.ordering.orders import Order
from agent.ordering.result import RankedResult
from agent.ordering.study import FILE, RankedStudy
from agent.parameters import Parameter
from agent.space import Candidate, Space


def optimize_ranked(
    order: Callable[[list[Candidate]], Order],
    *,
    space: Space | Mapping[str, Parameter],
    rounds: int,
    candidates: int = 4,
    proposer: str = "zo-ranksgd",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    pairs: int = PAIRS,
    folder: str | Path | None = None,
) -> RankedResult:
    """Optimize by a function that puts candidates in order, and examine what was found.

    Args:
        order: Gets a list of candidates and gives their places in it, from 0, best first; see `RankedStudy.tell`.
        rounds: Rounds of the search.
        pairs: Fresh pairs of the exam, at least 5; see `RankedStudy` for what it claims.
        folder: Where to keep the study. One that is there already goes on; it must have been begun alike.
        space, candidates, proposer, seed, options: As for `RankedStudy`.

    Raises:
        ConfigError: An argument is wrong, or an order is. What `order` raises comes through; with a folder, what was
            told before is kept.
    """
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise ConfigError(f"rounds: found {rounds!r}, allowed is a whole number of at least 1")
    there = folder is not None and (Path(folder) / FILE).exists()
    study = RankedStudy(
        space,
        candidates=candidates,
        proposer=proposer,
        seed=seed,
        options=options,
        folder=None if there else folder,
    )
    if folder is not None and there:
        begun, study = study, RankedStudy.load(folder)
        other = [name for name in study.started if study.started[name] != begun.started[name]]
        if other:
            raise ConfigError(
                f"the study in {folder} was begun with another {', '.join(other)}",
                hint="give the same again, or another folder",
            )
    return drive(study, order, rounds, pairs)


def drive(
    study: RankedStudy, order: Callable[[list[Candidate]], Order], rounds: int, pairs: int = PAIRS
) -> RankedResult:
    """Go on with a study to its end: rounds up to so many in all, then the exam."""
    while not study.examining and study.rounds < rounds and (shown := study.ask()):
        study.tell(order(shown))
    if not study.examining:
        study.examine(pairs)
    while shown := study.ask():
        study.tell(order(shown))
    return study.result
