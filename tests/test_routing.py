"""Routing: people get the pairs where they are expected to differ from the model, and never more than they may."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.errors import ConfigError
from agent.evaluation import Ask
from agent.evaluators.human import FILE, HumanJudge, Labels
from agent.evaluators.voting import SEARCH, Judged, ModelJudge, Occasion
from agent.gate.audit import audit
from agent.routing import HybridJudge, Router, kind
from agent.space import Candidate

ROW = {"question": "How far?"}
OLD, NEW, NEXT = ({"instruction": text} for text in ("Answer.", "Answer well.", "Answer well, and shortly."))


def of(candidate: dict[str, str], held_out: bool = False) -> Occasion:
    return Occasion(Candidate(candidate).id, Candidate(OLD).id, held_out)


class Model(ModelJudge):
    """Says of a pair what a function of the pair says."""

    def __init__(self, says: Any) -> None:
        super().__init__("better")
        self.says, self.asked = says, 0

    async def compare(self, row: Any, new: str, old: str, ask: Ask | None, occasion: Occasion = SEARCH) -> Judged:
        self.asked += 1
        found = self.says(new, old)
        return found if isinstance(found, Judged) else Judged(float(found))


class Person(HumanJudge):
    """Answers without a terminal: likes what is longer."""

    asked = 0

    async def _ask(self, key: str, row: Any, one: str, two: str, occasion: Occasion = SEARCH) -> float | None:
        self.asked += 1
        return float((len(one) > len(two)) - (len(one) < len(two)))

    def guard(self) -> None:
        self.labels.load()
        self.held_out.load()


def hybrid(folder: Path, says: Any, most: int = 1000, **given: Any) -> HybridJudge:
    made = HybridJudge(Model(says), Person("better", labels=folder, most=most), Router(**given))
    made.guard()
    return made


def run(made: HybridJudge, pairs: list[tuple[str, str]], occasion: Occasion = SEARCH) -> list[Judged]:
    async def all_of_them() -> list[Judged]:
        return [await made.compare(ROW, new, old, None, occasion) for new, old in pairs]

    return asyncio.run(all_of_them())


def words(number: int) -> tuple[str, str]:
    rng = random.Random(number)
    return ("".join(rng.choices("abcdefgh", k=rng.randint(5, 60))), "".join(rng.choices("stuvwxyz", k=30)))


def test_pairs_are_told_apart_by_the_votes_and_the_outputs() -> None:
    assert kind(Judged(1.0), "abc def", "xyz uvw") == "clear apart"
    assert kind(Judged(-1.0), "the same words", "the same word") == "clear alike"
    assert kind(Judged(0.0), "abc", "xyz") == kind(Judged(0.5), "abc", "xyz") == "undecided apart"
    assert kind(Judged(0.0, unreadable=0.5), "abc", "xyz") == "unreadable apart"


def test_at_first_people_get_what_the_model_is_unsure_of() -> None:
    router = Router(share=0.2, minimum=0.05)
    router.learn([{"kind": "clear apart"}] * 70 + [{"kind": "undecided apart"}] * 30)
    clear, unsure = router.chance("clear apart"), router.chance("undecided apart")
    assert 0.05 <= clear < 0.2 < unsure
    assert 0.7 * clear + 0.3 * unsure == pytest.approx(0.2, abs=0.01)


def test_it_learns_where_people_differ_from_the_model() -> None:
    router = Router(share=0.2)
    right = {"kind": "undecided apart", "model": 0.0, "human": 0.0}
    wrong = {"kind": "clear apart", "model": 1.0, "human": -1.0}
    router.learn([right, wrong] * 30)
    assert router.benefit("clear apart") > 1.8 and router.benefit("undecided apart") < 0.2
    assert router.chance("clear apart") > 5 * router.chance("undecided apart")
    assert router.chance("undecided apart") == router.minimum


def test_most_labels_go_where_the_model_is_wrong(tmp_path: Path) -> None:
    def says(new: str, old: str) -> float:  # unsure of half of the pairs; and wrong only where it is sure
        return 0.0 if ord(new[0]) % 2 else -1.0 if len(new) > len(old) else 1.0

    class Tied(Person):
        async def _ask(self, key: str, row: Any, one: str, two: str, occasion: Occasion = SEARCH) -> float | None:
            if any(text[0] in "aceg" for text in (one, two)):
                return 0.0
            return await super()._ask(key, row, one, two)

    made = HybridJudge(Model(says), Tied("better", labels=tmp_path, most=1000), Router(share=0.2))
    found = run(made, [words(number) for number in range(400)])
    late = [(pair, item) for pair, item in zip([words(n) for n in range(400)], found, strict=True)][200:]
    human = [pair for pair, item in late if item.by == "human"]
    assert len(human) > 20 and sum(pair[0][0] not in "aceg" for pair in human) > 0.8 * len(human)


def test_people_have_the_last_word_and_the_budget_holds(tmp_path: Path) -> None:
    made = hybrid(tmp_path, lambda new, old: -1.0, most=10, share=0.5, minimum=0.5)
    found = run(made, [("longer " * 3 + str(number), "short") for number in range(100)])
    by = [item.by for item in found]
    assert by.count("human") == 10 and made.human.asked == 10  # type: ignore[attr-defined]
    assert all(item.difference == (1 if item.by == "human" else -1) for item in found)
    assert any("no label is left" in item.words for item in found) and made.human.left == 0


def test_a_restart_asks_nobody_again_and_draws_nothing_new(tmp_path: Path) -> None:
    pairs = [(f"longer text {number}", "short") for number in range(60)]
    before = hybrid(tmp_path, lambda new, old: -1.0, share=0.3)
    first = [item.difference for item in run(before, pairs)]
    after = hybrid(tmp_path, lambda new, old: -1.0, share=0.3)
    assert [item.difference for item in run(after, pairs)] == first
    people = [pair for pair, said in zip(pairs, first, strict=True) if said == 1]
    assert {item.difference for item in run(after, [(old, new) for new, old in people])} == {-1.0}
    assert after.human.asked == 0 and 0 < first.count(1.0) < 60  # type: ignore[attr-defined]
    assert after.router.benefit("clear apart") == before.router.benefit("clear apart") > 0.4


def test_the_chances_that_are_kept_take_the_models_bias_out(tmp_path: Path) -> None:
    """The model always prefers the new output; a person prefers it in a quarter of the pairs only."""
    pairs = [("n" * (40 if number % 4 == 0 else 10) + str(number), "o" * 30) for number in range(600)]
    made = hybrid(tmp_path, lambda new, old: 1.0, share=0.4, minimum=0.2)
    mixed = float(np.mean([item.difference for item in run(made, pairs, of(NEW))]))
    assert mixed > 0, "the mixture of both has the model's bias"
    labels = Labels(tmp_path)
    labels.load()
    found = audit(labels, NEW, "better")
    assert found.preference == pytest.approx(-0.5, abs=0.15)
    assert found.pairs == 600 and 150 < found.labels == made.human.labels.human < 350


def test_an_estimate_is_of_one_candidate_by_one_judge(tmp_path: Path) -> None:
    """A folder holds what several judges, requirements and candidates left; a human judge's labels have no chance."""
    pairs = [(f"longer text {number}", "short") for number in range(40)]
    run(hybrid(tmp_path, lambda new, old: -1.0, share=0.3), pairs, of(NEW))
    asyncio.run(Person("better", labels=tmp_path, most=1000).compare(ROW, "from a person alone", "x", None, of(NEW)))
    other = HybridJudge(Model(lambda new, old: -1.0), Person("other", labels=tmp_path, most=1000), Router(share=0.3))
    other.guard()
    run(other, pairs, of(NEW))
    again = hybrid(tmp_path, lambda new, old: -1.0, share=0.3)
    run(again, [*pairs[:10], ("y" * 30, "short")], of(NEXT))  # ten pairs with the same outputs
    labels = Labels(tmp_path)
    labels.load()
    assert audit(labels, NEW, "better").pairs == 40 and audit(labels, NEXT, "better").pairs == 11
    assert audit(labels, NEW, "other", OLD).pairs == 40
    for candidate, requirements, initial in ((OLD, "better", None), (NEW, "worse", None), (NEW, "better", NEXT)):
        with pytest.raises(ConfigError, match="has no pair of this candidate"):
            audit(labels, candidate, requirements, initial)
    run(again, [("z" * 30, "short")], Occasion(Candidate(NEW).id, Candidate(NEXT).id))
    labels.load()
    with pytest.raises(ConfigError, match="compared with several"):
        audit(labels, NEW, "better")
    assert audit(labels, NEW, "better", NEXT).pairs == 1


def test_what_a_person_says_of_held_out_rows_never_reaches_the_search(tmp_path: Path) -> None:
    """Two worlds that differ in nothing but the person's words on held-out rows end the same for the search."""
    seen = []
    for name in ("long", "short"):
        made = hybrid(tmp_path / name, lambda new, old: 1.0, most=30, share=0.5)
        hidden = [("o" * 30 + str(n), "n") if name == "long" else ("n", "o" * 30 + str(n)) for n in range(200)]
        assert sum(item.by == "human" for item in run(made, hidden, of(NEW, held_out=True))) == 30
        assert made.human.left == 30 and not (tmp_path / name / FILE).exists()
        made.guard()
        found = run(made, [(f"longer text {number}", "short") for number in range(100)], of(NEW))
        seen.append((found, made.router.benefit("clear apart"), (tmp_path / name / FILE).read_bytes()))
    assert seen[0] == seen[1] and sum(item.by == "human" for item in seen[0][0]) == 30


def test_held_out_rows_may_know_what_the_search_was_told(tmp_path: Path) -> None:
    made = hybrid(tmp_path, lambda new, old: -1.0, share=1.0, minimum=1.0)
    run(made, [("longer text", "short")], of(NEW))
    found = run(made, [("longer text", "short")], of(NEW, held_out=True))
    assert found[0].by == "human" and made.human.asked == 1  # type: ignore[attr-defined]
    assert made.human.held_out.human == 0


@pytest.mark.parametrize("given", [{"share": 0}, {"share": 1.5}, {"minimum": 0.0}, {"share": 0.1, "minimum": 0.2}])
def test_chances_are_chances(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"share|minimum"):
        Router(**given)
