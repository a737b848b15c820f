"""Optimization by order alone: a person or a program puts a few candidates in order, round by round.

    study = RankedStudy({"sweet": Float(0, 1), "sour": Float(0, 1)}, candidates=4, folder="runs/lemonade")
    while study.rounds < 10:
        shown = study.ask()              # four candidates; one is the champion, and nobody is told which
        study.tell([2, [0, 3], 1])       # best first; 0 and 3 are equally good
    study.examine()                      # then fresh pairs of the best and the initial one, with ask and tell
    print(study.best)

An order has no numbers, so each candidate gets a place: in its round, the champion has the cost it is known by,
each step before it costs one less and each step behind it one more. Within a round these costs are the
order itself, so an arm that reads order alone reads what was said; across rounds they agree in everything
that follows through the champions, which every round shares, and are a guess otherwise. Arms that read
differences of costs work too, and are told no more than that.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.errors import ConfigError, StoreError
from agent.events import CandidateAdmitted, CandidateRejected, RaceDecided
from agent.gate.evidence import pairs_needed
from agent.gate.exam import LEVEL, PAIRS
from agent.history import History
from agent.inthread import in_thread
from agent.lines import Lines
from agent.measuring import Unit
from agent.ordering.orders import Order, checked
from agent.ordering.result import PLACE, RankedResult, problem_of
from agent.parameters import Parameter
from agent.proposers.base import Context
from agent.proposers.table import load
from agent.space import Candidate, Space

FILE = "ranked.jsonl"
TRIES = 20
"""Times that the proposer is asked for one round, while what it gives is known."""


class RankedStudy:
    """Rounds of `ask` and `tell`, and an exam at the end.

    All that happens is a list of events; with a folder each is on disk before the next thing happens, so a
    session can be cut at any moment, and `load` goes on.

    The exam's claim is that whoever gives the order puts the best candidate before the initial one more
    often than not. When that is false, the chance of "proven" is at most 0.05 as long as the answers of the exam
    are independent of each other: so it is with a program, also one that always answers alike. A person
    who recognises the pair gives one opinion many times; the claim is then about that person's opinion on
    that day. One study has one exam, and several studies have 0.05 each.

    Args:
        space: What may change.
        candidates: How many are shown in a round, the champion included; at least 2.
        proposer: Any that needs no model; "zo-ranksgd" and "cmaes" read nothing but order.
        seed: Of all random numbers.
        options: The proposer's. By default each group of "zo-ranksgd" fills one round.
        folder: Where to keep the study; it must not hold one yet.

    Raises:
        ConfigError: An argument is wrong, or the folder holds a study already.
        StoreError: The folder cannot be written.
    """

    def __init__(
        self,
        space: Space | Mapping[str, Parameter],
        *,
        candidates: int = 4,
        proposer: str = "zo-ranksgd",
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        if isinstance(candidates, bool) or not isinstance(candidates, int) or candidates < 2:
            raise ConfigError(f"candidates: found {candidates!r}, allowed is a whole number of at least 2")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ConfigError(f"seed: found {seed!r}, allowed is a whole number")
        if options is None and proposer == "zo-ranksgd":
            options = {"probes": max(2, candidates - 1), "line": candidates - 1}
        bound = Space.of(space).bound(Path.cwd())
        started = {
            "type": "started",
            "version": 1,
            "space": bound.spec(),
            "candidates": candidates,
            "proposer": proposer,
            "options": dict(options or {}),
            "seed": seed,
        }
        self._begin(started)
        self._proposer.forecast(self._problem, candidates, self._options)
        if self._proposer.needs_model:
            raise ConfigError(
                f"the proposer {proposer} needs a model, and a ranked study has none",
                hint="use zo-ranksgd or cmaes, which read nothing but order",
            )
        if folder is not None:
            self.save(folder)

    def _begin(self, started: dict[str, Any]) -> None:
        space = Space.from_spec(started["space"])
        self._problem = problem_of(space)
        self._candidates, self._seed = int(started["candidates"]), int(started["seed"])
        self._proposer, self._options = load(started["proposer"]), dict(started["options"])
        self._history = History(space.initial(), self._problem.objective)
        self._history.measured(_unit(self._history.initial, 0.0), True)
        self._events: list[dict[str, Any]] = [started]
        self._queue: deque[str] = deque()
        self._memory: Any = None
        self._decision, self._rounds, self._ranked = 0, 0, 1
        self._cost = 0.0
        """The champion's, by which each round is tied to those before it."""
        self._shown: list[str] = []
        self._exhausted = False
        self._planned: int | None = None
        """Pairs of the exam; None before it begins."""
        self._gains: list[int] = []
        self._lines: Lines | None = None

    # ---------------------------------------------------------------- reading

    @property
    def started(self) -> dict[str, Any]:
        """What the study began with, as plain JSON."""
        return self._events[0]

    @property
    def space(self) -> Space:
        """What may change."""
        return self._problem.space

    @property
    def initial(self) -> Candidate:
        """The starting candidate: every parameter's default."""
        return self._history[self._history.initial].candidate

    @property
    def best(self) -> Candidate:
        """The champion."""
        return self._history[self._history.champion].candidate

    @property
    def rounds(self) -> int:
        """Rounds that were put in order; pairs of the exam are not counted."""
        return self._rounds

    @property
    def examining(self) -> bool:
        """Whether the search is over and the exam has begun."""
        return self._planned is not None

    @property
    def exhausted(self) -> bool:
        """Whether no candidate is left that was not shown."""
        return self._exhausted and not self._queue

    @property
    def result(self) -> RankedResult:
        """The outcome, or how things stand."""
        return RankedResult.of(
            self.best,
            self.initial,
            rounds=self._rounds,
            shown=self._ranked,
            gains=self._gains,
            planned=self._planned,
        )

    # ---------------------------------------------------------------- ask and tell

    def ask(self) -> list[Candidate]:
        """What to put in order next; the same again until it is told.

        Returns:
            Candidates in random order; none when the exam is over, or when none is left that was not shown.

        Raises:
            ConfigError: The proposer is not for this space.
            StoreError: The folder cannot be written.
        """
        if not self._shown:
            chosen = self._pair() if self.examining else self._round()
            if not chosen:
                return []
            number = len(self._gains) if self.examining else self._rounds
            random.Random(f"{self._seed} {'pair' if self.examining else 'round'} {number}").shuffle(chosen)
            self._commit({"type": "shown", "candidates": chosen})
        return [self._history[name].candidate for name in self._shown]

    def _pair(self) -> list[str]:
        over = len(self._gains) >= (self._planned or 0)
        return [] if over else [self._history.initial, self._history.champion]

    def _round(self) -> list[str]:
        for _ in range(TRIES):
            if len(self._queue) >= self._candidates - 1 or self._exhausted:
                break
            self._propose()
        new = list(self._queue)[: self._candidates - 1]
        return [self._history.champion, *new] if new else []

    def _propose(self) -> None:
        number = self._decision + 1
        context = Context(
            problem=self._problem,
            history=self._history.freeze(),
            rng=random.Random(f"{self._seed} {number}"),
            decision=number,
            memory=json.loads(json.dumps(self._memory)),
            options=self._options,
        )
        found = in_thread(self._proposer.propose(context, self._candidates - 1 - len(self._queue)))
        admitted: list[dict[str, Any]] = []
        rejected = [{**item, "candidate": ""} for item in context.rejections]
        seen: set[str] = set()
        for proposal in found:
            plain = proposal.to_json()
            try:
                candidate = self.space.candidate(plain["values"])
            except ValueError as error:
                rejected.append({"reason": f"not allowed: {error}", "source": proposal.source, "candidate": ""})
                continue
            if candidate.id in self._history or candidate.id in seen:
                rejected.append({"reason": "seen before", "source": proposal.source, "candidate": candidate.id})
                continue
            seen.add(candidate.id)
            admitted.append({**plain, "values": candidate.values_json, "candidate": candidate.id})
        self._commit(
            {
                "type": "proposed",
                "proposals": admitted,
                "rejected": rejected,
                "memory": context.memory,
                "exhausted": context.exhausted,
            }
        )

    def tell(self, order: Order) -> None:
        """Put in order what `ask` gave.

        Args:
            order: All of them, best first: places in the list that `ask` gave, from 0, or ids, or the candidates
                themselves. A list within it holds candidates that are equally good.

        Raises:
            ConfigError: Nothing was asked, or the order leaves one out, names one twice, or names another.
            StoreError: The folder cannot be written.
        """
        if not self._shown:
            raise ConfigError("there is nothing to put in order", hint="call ask() first")
        self._commit({"type": "told", "order": checked(order, self._shown)})

    def examine(self, pairs: int = PAIRS) -> None:
        """End the search; from now on `ask` gives pairs of the best and the initial candidate, in random order.

        A round that was asked and not told is set aside. When the initial candidate is the best there is nothing
        to examine.

        Raises:
            ConfigError: The exam has begun already, or so few pairs can never reach the level.
        """
        need = pairs_needed(LEVEL)
        if self.examining:
            raise ConfigError("a study has one exam, and it has begun", hint="start another study to search on")
        if isinstance(pairs, bool) or not isinstance(pairs, int) or pairs < need:
            raise ConfigError(
                f"pairs: found {pairs!r}, allowed is a whole number of at least {need}",
                hint=f"fewer pairs can never reach the level of {LEVEL:g}",
            )
        same = self._history.champion == self._history.initial
        self._commit({"type": "exam", "pairs": 0 if same else pairs})

    # ---------------------------------------------------------------- the fold

    def _apply(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if kind == "proposed":
            self._proposed(event)
        elif kind == "shown":
            self._shown = [self._history[name].id for name in event["candidates"]]
            self._queue = deque(name for name in self._queue if name not in self._shown)
        elif kind == "told":
            order = checked(event["order"], self._shown)
            self._shown = []
            if self.examining:
                first = {self._history.champion: 1, self._history.initial: -1}
                self._gains.append(first[order[0][0]] if len(order) > 1 else 0)
            else:
                self._told(order)
        elif kind == "exam":
            self._planned, self._shown = int(event["pairs"]), []
        else:
            raise ValueError(f"unknown event {kind!r}")

    def _proposed(self, event: Mapping[str, Any]) -> None:
        self._decision += 1
        self._memory, self._exhausted = event["memory"], bool(event["exhausted"])
        for item in event["rejected"]:
            self._history.apply(CandidateRejected(self._decision, item["candidate"], item["reason"], item["source"]))
        for item in event["proposals"]:
            self._history.apply(
                CandidateAdmitted(
                    self._decision, item["candidate"], item["values"], item["source"], item.get("rationale", ""),
                    list(item.get("parents", ())),
                )
            )  # fmt: skip
            self._queue.append(item["candidate"])

    def _told(self, order: list[list[str]]) -> None:
        """A round's order becomes costs; see the module's own words."""
        self._rounds += 1
        champion = self._history.champion
        base = next(place for place, group in enumerate(order) if champion in group)
        for place, group in enumerate(order):
            for name in group:
                if name != champion:
                    self._ranked += 1
                    self._history.measured(_unit(name, self._cost + place - base), True)
        winner = champion if champion in order[0] else order[0][0]
        for place, group in enumerate(order):
            for name in group:
                if name in (champion, winner):
                    continue
                why = f"place {place + 1} of {len(order)} in round {self._rounds}"
                self._history.apply(RaceDecided(name, champion, "drop", why, {}))
        if winner != champion:
            why = f"better than the champion in round {self._rounds}"
            self._history.apply(RaceDecided(winner, champion, "promote", why, {}))
            self._cost -= base

    # ---------------------------------------------------------------- keeping

    def _commit(self, event: dict[str, Any]) -> None:
        """Write an event, then let it count."""
        if self._lines is not None:
            self._lines.append([event])
        self._apply(event)
        self._events.append(event)

    def save(self, folder: str | Path) -> None:
        """Write all that happened into a folder, and go on there.

        Raises:
            ConfigError: The folder holds a study already.
            StoreError: It cannot be written.
        """
        path = Path(folder)
        if (path / FILE).exists():
            raise ConfigError(f"{path} holds a ranked study", hint="RankedStudy.load goes on with it")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {path}: {error.strerror}", hint="name a folder that can be made") from None
        lines = Lines(path, FILE)
        lines.append(self._events)
        self._lines = lines

    @classmethod
    def load(cls, folder: str | Path) -> RankedStudy:
        """The study in a folder, as it was before it was cut off; it goes on there.

        Raises:
            ConfigError: There is none.
            StoreError: It cannot be read, or a line other than the last one is damaged.
        """
        study, lines = cls.__new__(cls), Lines(Path(folder), FILE)
        for number, event in enumerate(lines.read(), 1):
            try:
                if number == 1:
                    study._begin(event)
                else:
                    study._apply(event)
                    study._events.append(event)
            except (LookupError, ValueError, TypeError, AttributeError, StopIteration, ConfigError) as error:
                raise lines.damaged(number, error) from None
        study._lines = lines
        return study


def _unit(candidate: str, cost: float) -> Unit:
    return Unit(candidate, 0, 0, "search", {PLACE: cost})
