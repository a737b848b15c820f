"""Which pairs a person compares and which a model: where a person's label is expected to change most, under a limit.

The model compares every pair. How far a person would be from it is predicted by kind of pair, and learned from the
labels that are there; in proportion to that each pair has a chance to go to the person, and never less than a minimum.
A pair that went to the person has the person's verdict.

Source: Miranda et al., Hybrid Preferences: learning to route instances for human vs. AI feedback (2024, arXiv
2410.19133): a predicted gain from features of the pair, and the pairs with the largest one to people. Here the gain is
the expected distance of the two verdicts, and a pair is drawn instead of ranked, since pairs come one by one and since
only known chances let `agent.gate.preferences.audited` take the model's bias out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any

from agent.errors import ConfigError
from agent.evaluation import Ask
from agent.evaluators.human import HumanJudge, oriented, pair_key
from agent.evaluators.voting import SEARCH, Judged, ModelJudge, Occasion
from agent.metrics.base import Row

EXPECTED = {"clear": 0.4, "undecided": 0.8, "unreadable": 1.0}
"""How far a person is taken to be from a model before any label is there: 0 is the same verdict, 2 the opposite one."""
WEIGHT = 4.0
"""So many labels weigh as much as what was expected."""
COMPARED = 2000
"""Characters by which outputs count as alike, and
"""
ALIKE = 0.6
"""the ratio of `difflib` from which they do."""


def kind(judged: Judged, new: str, old: str) -> str:
    """What sort of pair it is: how the model's votes went, and whether the outputs are alike."""
    verdict = "unreadable" if judged.unreadable else "clear" if abs(judged.difference) == 1 else "undecided"
    matcher = SequenceMatcher(None, new[:COMPARED], old[:COMPARED], autojunk=False)
    alike = matcher.real_quick_ratio() >= ALIKE and matcher.quick_ratio() >= ALIKE and matcher.ratio() >= ALIKE
    return f"{verdict} {'alike' if alike else 'apart'}"


class Router:
    """The chance of each pair to go to a person.

    Args:
        share: Of all pairs that is to go to people, in (0, 1].
        minimum: The smallest chance, in (0, share].

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(self, share: float = 0.2, minimum: float = 0.05) -> None:
        for name, value, top in (("share", share, 1.0), ("minimum", minimum, share)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= top:
                raise ConfigError(f"{name}: found {value!r}, allowed is above 0 and at most {top:g}")
        self.share, self.minimum = share, minimum
        self._pairs: dict[str, int] = {}
        self._labels: dict[str, list[float]] = {}

    def learn(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take what is known of pairs: their kind, the model's verdict, and the person's where there is one."""
        for record in records:
            if "kind" in record:
                self._pairs[record["kind"]] = self._pairs.get(record["kind"], 0) + 1
                if record.get("human") is not None:
                    self._labels.setdefault(record["kind"], []).append(abs(record["human"] - record["model"]))

    def benefit(self, kind: str) -> float:
        """The expected distance of a person's verdict from the model's, 0 to 2."""
        there = self._labels.get(kind, [])
        expected = EXPECTED[kind.partition(" ")[0]]
        return (expected * WEIGHT + sum(there)) / (WEIGHT + len(there))

    def chance(self, kind: str) -> float:
        """The probability of a pair of this kind to go to a person: the share, times its benefit over the mean one."""
        pairs = {**self._pairs, kind: self._pairs.get(kind, 0) + 1}
        mean = sum(count * self.benefit(name) for name, count in pairs.items()) / sum(pairs.values())
        wanted = self.share * self.benefit(kind) / mean if mean else self.share
        return min(1.0, max(self.minimum, wanted))


class HybridJudge:
    """A model compares every pair, and a person some of them. What it kept of each pair is in the person's labels.

    The chances are learned from the search's pairs alone: a person's word on a held-out row must not move the search.

    Args:
        model: Compares all.
        human: Compares what is routed to it, as long as it has labels left.
        router: Gives the chances.
        seed: Of the draws.
    """

    def __init__(self, model: ModelJudge, human: HumanJudge, router: Router, seed: int = 0) -> None:
        self.model, self.human, self.router, self._seed = model, human, router, seed
        self.uses = model.uses
        self.at_terminal = human.at_terminal

    @property
    def fingerprint(self) -> str:
        """Changes with either of them."""
        return f"{self.model.fingerprint}-{self.human.fingerprint}"

    def guard(self) -> None:
        """As the person's; what is known of earlier pairs is learned.

        Raises:
            PrerequisiteError, StoreError: As `HumanJudge.guard`.
        """
        self.human.guard()
        self.router = Router(self.router.share, self.router.minimum)
        self.router.learn(self.human.labels.known.values())

    async def self_test(self, ask: Ask | None) -> None:
        """The model's."""
        await self.model.self_test(ask)

    async def compare(self, row: Row, new: str, old: str, ask: Ask | None, occasion: Occasion = SEARCH) -> Judged:
        """As `agent.evaluators.voting.Judge`."""
        key, labels = pair_key(self.human.requirements, row, new, old), self.human.place(occasion)
        known = self.human.known(key, occasion)  # of this run before a restart, or of an earlier one
        mine = labels.known.get(key, {})
        if "chance" in mine and not labels.has(key, occasion):
            again = {**self.human.record(key, occasion), "sign": oriented(1.0, new, old)}
            await labels.add({**mine, **again})  # another candidate's pair as well, with the draw that it had
        if known is not None and known.get("human") is not None:
            return Judged(oriented(float(known["human"]), new, old), "a person compared them", by="human")
        judged = await self.model.compare(row, new, old, ask)
        if known is not None:
            return judged
        sort = kind(judged, new, old)
        chance = self.router.chance(sort)
        sign = oriented(1.0, new, old)  # verdicts in a record are for the output that sorts first
        record = {"kind": sort, "model": sign * judged.difference, "chance": chance, "sign": sign}
        if random.Random(f"{self._seed}:{key}").random() < chance:
            found = await self.human.label(row, new, old, occasion, **record)
            if found is not None:
                self._learn({**record, "human": oriented(found, new, old)}, occasion)
                return self._human(judged, found)
            words = f"{judged.words}; it was a person's turn, and no label is left".removeprefix("; ")
            return Judged(judged.difference, words, judged.unreadable)
        self._learn(record, occasion)
        await labels.add({**self.human.record(key, occasion), **record, "human": None})
        return judged

    def _learn(self, record: Mapping[str, Any], occasion: Occasion) -> None:
        if not occasion.held_out:
            self.router.learn([record])

    @staticmethod
    def _human(judged: Judged, said: float) -> Judged:
        words = f"a person compared them (the judge: {judged.difference:+.2g}, {judged.words})"
        return Judged(said, words, judged.unreadable, by="human")
