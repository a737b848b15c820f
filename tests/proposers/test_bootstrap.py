"""Examples from rows that the candidate passes: which rows count, how sets are drawn, and what that is good for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent.api import optimize
from agent.errors import BudgetExceeded, ConfigError
from agent.goals import Objective
from agent.looking import Look, LookRow
from agent.proposers import demosets
from agent.proposers.base import Proposal, Proposer
from agent.proposers.bootstrap import Bootstrap
from agent.results.result import Result
from agent.space import Space, digest
from agent.testing.proposers import ProposerContract
from agent.texts import Demos, Text
from tests.proposers.text_spaces import POOL, TEXTS, scores
from tests.tools.tool_support import Known, context, measured, with_rows

UNIT = (Objective("score", "maximize", low=0.0, high=1.0),)


def known(pool: Any = None, k: int = 3, **given: Any) -> Known:
    """A decision on six rows; the pool holds them all."""
    rows = {f"r{number}": {"id": f"r{number}", "question": f"{number} + {number}"} for number in range(6)}
    space = {"demos": Demos(tuple(pool if pool is not None else rows.values()), k), "prompt": Text("Answer.")}
    given.setdefault("objectives", UNIT)
    return context(with_rows(6, space=space, **given), rows)


def proposed(at: Known, n: int = 1, **options: Any) -> list[Proposal]:
    at.options = options
    return asyncio.run(Bootstrap().propose(at, n))


def test_only_rows_that_the_champion_passed_are_chosen_and_count_as_read() -> None:
    at = known()
    measured(at, {}, rows=scores("010110"))
    for made in proposed(at, 8):
        assert made.source == "bootstrap" and made.values["prompt"] == "Answer."
        assert set(made.values["demos"]) <= {1, 3, 4} and 1 <= len(made.values["demos"]) <= 3
        assert set(made.read) == {f"r{index}" for index in made.values["demos"]}
        assert made.parents == (at.history.champion,)
    assert not at.rejections


def test_a_row_is_not_passed_by_a_candidate_that_has_it_among_its_examples() -> None:
    at = known()
    at.history.champion = measured(at, {"demos": [1, 3]}, rows=scores("010110"), promote=True)
    assert {index for made in proposed(at, 2) for index in made.values["demos"]} == {4}


def test_other_candidates_teach_when_they_may() -> None:
    at = known()
    measured(at, {}, rows=scores("010000"))
    measured(at, {"prompt": "B"}, rows=scores("000011"))
    alone = {index for made in proposed(at, 6) for index in made.values["demos"]}
    everybody = {index for made in proposed(at, 9, teachers="all") for index in made.values["demos"]}
    assert (alone, everybody) == ({1}, {1, 4, 5})


@pytest.mark.parametrize(
    ("objective", "threshold", "good"),
    [
        (Objective("score", "maximize", low=0.0, high=2.0), 1.0, {5}),
        (Objective("score", "maximize", low=0.0, high=2.0), 0.5, {3, 4, 5}),
        (Objective("score", "minimize", low=0.0, high=2.0), 1.0, {0, 1, 2}),
        (Objective("score", "maximize"), 1.0, {3, 4, 5}),
        (Objective("score", "minimize"), 1.5, {0, 1, 2, 3, 4}),
    ],
)
def test_what_counts_as_passed(objective: Objective, threshold: float, good: set[int]) -> None:
    at = known(objectives=(objective,))
    measured(at, {}, rows=scores("000112"))
    chosen = {index for made in proposed(at, 12, threshold=threshold) for index in made.values["demos"]}
    assert chosen == good


def test_a_failure_is_not_passed() -> None:
    at = known()
    measured(at, {}, rows={"r0": None, "r1": 1.0})
    assert {index for made in proposed(at, 3) for index in made.values["demos"]} == {1}


class Measuring(Known):
    """A context that can look: r2 and r4 are passed. It keeps what it measured."""

    looked: ClassVar[list[str]] = []

    async def look(self, values: Mapping[str, Any], examples: Any = (), *, key: str) -> Look:
        self.looked.extend(examples)
        rows = [LookRow(row, {"score": float(row in ("r2", "r4"))}) for row in examples]
        return Look("candidate", values, tuple(rows))


def test_rows_that_were_not_measured_are_measured_once_and_a_few_at_a_time() -> None:
    plain = known()
    measured(plain, {}, rows=scores("0"))
    at = Measuring(**{item.name: getattr(plain, item.name) for item in fields(Known)})
    at.effects = object()  # type: ignore[assignment]
    Measuring.looked.clear()
    for _ in range(4):
        proposed(at, measure=2)
    assert sorted(at.looked) == ["r1", "r2", "r3", "r4", "r5"] and at.memory["passed"] == ["r2", "r4"]
    assert {index for made in proposed(at, 2, measure=2) for index in made.values["demos"]} == {2, 4}
    proposed(at, measure=0)
    assert len(at.looked) == 5
    at.history.champion = measured(at, {"prompt": "B"}, rows=scores("0"), promote=True)
    proposed(at, measure=2)
    assert len(at.looked) == 7, "another champion passes other rows"


def test_what_was_measured_in_a_decision_counts_in_it() -> None:
    plain = known()
    at = Measuring(**{item.name: getattr(plain, item.name) for item in fields(Known)})
    at.effects = object()  # type: ignore[assignment]
    made = proposed(at, 3, measure=6)
    assert {index for item in made for index in item.values["demos"]} == {2, 4} and not at.rejections


def test_a_limit_on_measurements_is_told() -> None:
    plain = known()
    at = Measuring(**{item.name: getattr(plain, item.name) for item in fields(Known)})
    at.effects = object()  # type: ignore[assignment]

    async def refused(*_: Any, **__: Any) -> Look:
        raise BudgetExceeded("evaluations", 5, 5)

    at.look = refused  # type: ignore[method-assign]
    assert proposed(at)[0].source == "bootstrap:labels"
    assert at.rejections[0]["reason"].startswith("no row was measured: ")


def test_where_nothing_is_passed_sets_are_drawn_from_the_whole_pool_and_that_is_said() -> None:
    at = known()
    measured(at, {}, rows=scores("000000"))
    assert {made.source for made in proposed(at, 3)} == {"bootstrap:labels"}
    assert at.rejections[0]["reason"] == "demos: no row of the pool is known to be passed"


def test_a_pool_that_is_no_part_of_the_data_is_told() -> None:
    at = known(POOL)
    measured(at, {}, rows=scores("111111"))
    assert proposed(at)[0].source == "bootstrap:labels"
    assert at.rejections[0]["reason"].startswith("demos: no example of the pool is a row of train")


def test_what_is_held_out_is_never_drawn_from_a_pool_that_holds_it() -> None:
    at = known([{"id": "r1"}, {"id": "held1"}, {"id": "r2"}, {"id": "held2"}, {"id": "r3"}])
    drawn = {index for made in proposed(at, 12) for index in made.values["demos"]}
    assert drawn == {0, 2, 4}


def test_a_set_is_of_unlike_examples() -> None:
    pool = [{"q": "one two three four"}] * 5 + [{"q": "five six"}] + [{"q": "one two three four"}] * 4
    parameter = Demos(tuple(pool), 2)
    rng = random.Random(3)
    sets = [demosets.draw(parameter, range(10), rng, 2) for _ in range(200)]
    pairs = [chosen for chosen in sets if len(chosen) == 2]
    assert 60 < len(pairs) < 140 and sum(5 in chosen for chosen in pairs) > 0.75 * len(pairs)
    assert sum(chosen[0] == 5 for chosen in pairs) > 10, "their order is not shuffled"


def test_a_row_without_an_id_is_known_by_its_content() -> None:
    assert demosets.row_id({"a": 1}) == digest({"a": 1}) and demosets.row_id({"id": 7}) == "7"
    assert demosets.row_id("text") == digest("text")


def test_sets_that_are_used_up_are_told() -> None:
    at = known(k=1)
    measured(at, {}, rows=scores("100000"))
    (made,) = proposed(at, 3)
    measured(at, dict(made.values), rows=scores("1"))
    assert proposed(at, 3) == [] and at.rejections[-1]["reason"] == "every set that was drawn is a known candidate"


@pytest.mark.parametrize("options", [{"threshold": "high"}, {"measure": -1}, {"teachers": "me"}, {"k": 3}])
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        proposed(known(), **options)
    with pytest.raises(ConfigError):
        Bootstrap().forecast(known().problem, 3, options)


def test_a_space_without_examples_is_refused() -> None:
    with pytest.raises(ConfigError, match="no parameter of the type demos"):
        asyncio.run(Bootstrap().propose(context(with_rows(3, space={"prompt": Text("A")}), {}), 1))


# A task in which three labels of four are wrong, and a single wrong example spoils the others.

ROWS = [{"id": f"n{number}", "n": number, "sum": 2 * number + bool(number % 4)} for number in range(160)]


def added(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """Stands for a model that adds: one in four of the well labelled rows; all of them with four right examples.

    Fewer than three say too little, and with a wrong one among them it is never right.
    """
    shown = [ROWS[index] for index in candidate["demos"]]
    spoilt = any(item["sum"] != 2 * item["n"] for item in shown)
    power = 0 if spoilt else (1, 1, 1, 3, 4)[len(shown)]
    answer = 2 * row["n"] if row["n"] % 16 < 4 * power else -1
    return float(answer == row["sum"])


def searched(runs: Path, **options: Any) -> Result:
    return optimize(
        lambda candidate, row: added(candidate, row),
        space={"demos": Demos(tuple(ROWS[:60]), 4)},
        data={"train": ROWS[:60], "val": ROWS[60:]},
        objectives=Objective("value", "maximize", floor=0.0, low=0.0, high=1.0),
        deterministic=True,
        budget=700,
        seed=3,
        model=None,
        options={"proposer": "bootstrap", "options": options},
        runs=runs,
    )


def test_a_run_finds_right_examples_by_what_the_candidate_passes(tmp_path: Path) -> None:
    result = searched(tmp_path, measure=30)
    chosen = [ROWS[index] for index in result.best["demos"]]  # type: ignore[union-attr]
    assert len(chosen) >= 3 and all(item["sum"] == 2 * item["n"] for item in chosen)
    made = [trial for trial in result.trials if trial.source == "bootstrap"]
    assert made and all(ROWS[index]["n"] % 4 == 0 for trial in made for index in trial.candidate["demos"])
    assert result.status == "proven"


def test_it_cannot_tell_right_from_wrong_when_the_scores_are_masked(tmp_path: Path) -> None:
    result = searched(tmp_path, threshold=0.0, measure=30)
    made = [trial.candidate["demos"] for trial in result.trials if trial.source == "bootstrap"]
    assert len(made) > 10 and any(index % 4 for chosen in made for index in chosen)  # type: ignore[union-attr]
    assert result.status == "initial" and not result.best["demos"]


class TestBootstrapContract(ProposerContract):
    spaces: ClassVar = {
        "demos": Space({"demos": Demos(POOL, 4)}),
        "few": Space({"demos": Demos(POOL[:2], 1)}),
        "all": TEXTS["all"],
    }
    finite: ClassVar = {"few": 3}

    def make(self) -> Proposer:
        return Bootstrap()
