"""Runs in which a program scores too well to be true: it is kept aside, and measured again before it counts."""

from __future__ import annotations

import ast
import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.cli.run import session_of
from agent.config import load
from agent.errors import ConfigError
from agent.evaluation import Output, Request, Suspicious
from agent.evaluators.function import FunctionEvaluator
from agent.events import (
    CandidateAdmitted,
    CandidateCleared,
    CandidateConvicted,
    CandidateSuspected,
    EvaluationEnded,
    EvaluationStarted,
    Event,
)
from agent.gate.quarantine import CONFIRM, FIRST
from agent.gate.suspicion import newly_internal
from agent.goals import Objective
from agent.history import AGAIN, History
from agent.journal import Journal
from agent.ledger import Budget
from agent.measuring import Unit
from agent.problem import Example, Problem
from agent.proposers import cards
from agent.proposers.base import Context, Proposal
from agent.replay import Replay, compare, replay
from agent.report.tape import Tape
from agent.report.view import load_view
from agent.report.warnings import warnings
from agent.results.result import Result, load_result
from agent.session import Session
from agent.space import Space
from agent.texts import Code
from tests.cli_helpers import call
from tests.evaluators import code_helpers
from tests.support import Direct, bodies, entries, session

SEEN: list[tuple[list[Any], list[str]]] = []
"""What the proposer was given at each decision: the ranked values, and the words of what cannot be used."""


class Listed:
    """Proposes the programs of its options, one at a time."""

    name = "listed"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        told = int(context.memory or 0)
        programs = context.options["programs"]
        SEEN.append(([t.number for t in cards.ranked(context)], [t.failure for t in cards.unusable(context)]))
        context.exhausted = told >= len(programs)
        context.memory = told + 1
        return [] if context.exhausted else [Proposal({"program": programs[told]}, "listed")]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


def program(search: float | str, again: float | str | None = None, more: str = "") -> str:
    """A program that is worth `search`, and `again` on fresh inputs; where that is a text, it fails with it."""
    return f"{more}def solve():\n    return {search!r}, {search if again is None else again!r}\n"


def worth(candidate: Mapping[str, Any], request: Request) -> float:
    tree = ast.parse(candidate["program"])
    values = ast.literal_eval(next(node for node in ast.walk(tree) if isinstance(node, ast.Return)).value)  # type: ignore[arg-type]
    value = values[request.stage == CONFIRM]
    if isinstance(value, str):
        mark, said = value.partition(": ")[::2]
        raise Suspicious(said, "variant" if "words" in said else "bound") if mark == "suspicious" else ValueError(value)
    return float(value)


def noisy(candidate: Mapping[str, Any], request: Request) -> float:
    return worth(candidate, request) + random.Random(f"{sorted(candidate.items())}{request.seed}").gauss(0, 0.02)


def by_rows(candidate: Mapping[str, Any], request: Request) -> float:
    luck = random.Random(f"{request.row['n']} {request.stage}").random()
    return float(luck < worth(candidate, request))


def problem(
    evaluate: Callable[..., float] = worth,
    deterministic: bool = True,
    data: Sequence[Example] = (),
    exclusive: bool = True,
) -> Problem:
    high = {"low": 0, "high": 1} if data else {}
    return Problem(
        name="worth",
        space=Space({"program": Code(default=program(0.50), entry="solve")}),
        evaluator=FunctionEvaluator(evaluate, names=("value",), exclusive=exclusive),
        objectives=(Objective("value", "maximize", **high),),
        deterministic=deterministic,
        data=tuple(data),
        target="population" if data else "suite",
    )


def world(programs: Sequence[str], evaluations: int = 200, chosen: Problem | None = None, **given: Any) -> Session:
    return session(
        problem=chosen or problem(),
        budget=Budget(evaluations=evaluations),
        proposer="tests.test_suspicion_runs:Listed",
        options={"programs": list(programs)},
        models={},
        model=None,
        **given,
    )


USUAL = [program(round(0.5 + step / 100, 2)) for step in (-1, -2, -3, -4, -5, -6, -7)]
"""Seven programs, all a little worse than the initial one: with that one, enough to know what is usual."""


async def events(folder: Path, chosen: Session) -> tuple[Result, list[Event]]:
    result = await chosen.run(folder)
    assert (await replay(folder))[1] is None, "the journal replays to equal events"
    return result, [entry.event for entry in entries(folder)]


def told(all_events: Sequence[Event]) -> list[str]:
    """What became of suspects: the kinds of events. Who is only measured once more at the end is none."""
    kinds = ("candidate.suspected", "candidate.cleared", "candidate.convicted")
    mine = [event for event in all_events if event.type in kinds]
    last = next((place for place, event in enumerate(mine) if getattr(event, "reason", "") == AGAIN), len(mine))
    return [event.type.removeprefix("candidate.") for event in mine[:last]]


def again(all_events: Sequence[Event]) -> list[EvaluationStarted]:
    return [e for e in all_events if isinstance(e, EvaluationStarted) and e.stage == CONFIRM]


async def test_a_jump_that_is_not_there_on_fresh_inputs_is_dropped(tmp_path: Path) -> None:
    SEEN.clear()
    result, found = await events(tmp_path / "run", world([*USUAL, program(90.0, 0.4), program(0.52)]))
    assert told(found) == ["suspected", "convicted"]
    suspected = next(e for e in found if e.type == "candidate.suspected")
    assert suspected.reason == "jump" and "gains 89.5 over the best of 8" in suspected.evidence  # type: ignore[attr-defined]
    cheat = result.trials[8]
    assert cheat.state == "failed" and cheat.values is None and cheat.suspicion == "convicted"
    assert cheat.reason.startswith("suspicious: it gains 89.5") and "not better: 0.4 against 0.5" in cheat.reason
    assert result.best["program"] == program(0.52) and result.status == "exact", "it stands in nobody's way"
    first, second = again(found)
    assert {first.candidate, second.candidate} == {cheat.id, result.initial.id} and first.seed == second.seed
    searched = {e.seed for e in found if isinstance(e, EvaluationStarted) and e.stage != CONFIRM}
    assert first.seed not in searched, "the seeds are fresh"
    assert all(8 not in ranked for ranked, _ in SEEN), "no proposer ever builds on it"
    assert any("suspicious" in words for words in SEEN[-1][1]), "and all are told"


async def test_an_honest_jump_is_cleared_and_promoted(tmp_path: Path) -> None:
    result, found = await events(tmp_path / "run", world([*USUAL, program(90.0, 80.0)]))
    assert told(found) == ["suspected", "cleared"]
    kinds = [event.type for event in found]
    assert kinds.index("candidate.cleared") < kinds.index("race.decided", kinds.index("candidate.suspected"))
    trial = result.trials[8]
    assert trial.state == "champion" and trial.values == {"value": 90.0} and trial.suspicion == "cleared"
    assert not trial.failure and result.best["program"] == program(90.0, 80.0)


async def test_a_jump_of_which_little_is_left_does_not_count(tmp_path: Path) -> None:
    result, found = await events(tmp_path / "run", world([*USUAL, program(90.0, 1.0)]))
    assert told(found) == ["suspected", "convicted"] and result.status == "initial"
    assert "the gain was 89.5, and 0.5 on fresh inputs" in result.trials[8].reason


async def test_seven_scores_do_not_say_what_is_usual(tmp_path: Path) -> None:
    _, found = await events(tmp_path / "run", world([*USUAL[:6], program(90.0, 0.4)]))
    assert told(found) == []


async def test_the_usual_gain_is_not_suspicious(tmp_path: Path) -> None:
    _, found = await events(tmp_path / "run", world([*USUAL, program(0.55), program(0.58)]))
    assert told(found) == [] and not again(found)


@pytest.mark.parametrize(
    ("k", "expected"), [(6.0, ["suspected", "cleared"]), (12.0, []), (0.0, [])], ids=["usual", "lax", "off"]
)
async def test_how_large_a_jump_may_be_is_an_option(tmp_path: Path, k: float, expected: list[str]) -> None:
    _, found = await events(tmp_path / "run", world([*USUAL, program(0.80)], suspicion=k))
    assert told(found) == expected, "it gains ten usual deviations"


async def test_with_zero_nothing_is_suspicious(tmp_path: Path) -> None:
    tricks = [*USUAL, program(90.0, 0.4), program("suspicious: that is impossible"), program(91.0, more="import gc\n")]
    _, found = await events(tmp_path / "run", world(tricks, suspicion=0))
    assert told(found) == [] and not again(found)


@pytest.mark.parametrize(("later", "word"), [(0.6, "cleared"), (0.3, "convicted")])
async def test_a_program_that_names_internals_must_show_its_gain_again(tmp_path: Path, later: float, word: str) -> None:
    result, found = await events(tmp_path / "run", world([program(0.6, later, "import gc\n")]))
    assert told(found) == ["suspected", word]
    assert (result.status == "exact") == (word == "cleared")
    suspected = next(e for e in found if e.type == "candidate.suspected")
    assert suspected.reason == "internals" and suspected.evidence == "it names gc (line 1)"  # type: ignore[attr-defined]


async def test_one_that_would_lose_anyway_is_not_measured_again(tmp_path: Path) -> None:
    _, found = await events(tmp_path / "run", world([program(0.4, 0.6, "import gc\n")]))
    assert told(found) == [] and not again(found)


def test_what_the_author_wrote_is_no_trick() -> None:
    assert newly_internal(["import gc\nimport math"], ["import gc"]) is None
    assert newly_internal(["import gc\nimport inspect"], ["import gc"]).evidence == "it names inspect (line 2)"  # type: ignore[union-attr]
    assert newly_internal(["import gc ("], []) is None, "what does not parse does nothing either"


IMPOSSIBLE = "suspicious: value is 9, beyond its bound, which is impossible"


async def test_an_impossible_score_that_comes_again_is_dropped(tmp_path: Path) -> None:
    result, found = await events(tmp_path / "run", world([program(IMPOSSIBLE), program(0.6)]))
    assert told(found) == ["suspected", "convicted"]
    assert result.trials[1].reason.startswith("suspicious: value is 9") and "failed again" in result.trials[1].reason
    assert next(e.reason for e in found if e.type == "candidate.suspected") == "bound"  # type: ignore[attr-defined]
    assert [e.candidate for e in again(found)] == [result.trials[1].id], "there is nothing to compare it with"


async def test_the_range_of_an_objective_is_a_bound_for_any_evaluator(tmp_path: Path) -> None:
    chosen = replace(problem(), objectives=(Objective("value", "maximize", low=0.0, high=1.0),))
    result, found = await events(tmp_path / "run", world([program(1.5, 1.5), program(0.6)], chosen=chosen))
    assert told(found) == ["suspected", "convicted"] and result.best["program"] == program(0.6)
    assert "value is 1.5, and more than 1 is impossible" in result.trials[1].reason
    assert next(e.reason for e in found if e.type == "candidate.suspected") == "bound"  # type: ignore[attr-defined]


async def test_the_second_look_is_no_score_in_the_report(tmp_path: Path) -> None:
    await events(tmp_path / "run", world([*USUAL, program(90.0, 80.0)]))
    view = load_view(tmp_path / "run")
    assert view.repeats[8] == [90.0]


@pytest.mark.parametrize("words", ["suspicious: x", "error: suspicious: x"])
async def test_a_program_cannot_make_itself_a_suspect_by_what_it_says(tmp_path: Path, words: str) -> None:
    """Who is measured again without having a score has a second chance."""

    def measure(candidate: Mapping[str, Any], request: Request) -> float:
        if "lucky" in candidate["program"]:
            raise ValueError(words)
        return worth(candidate, request)

    _, found = await events(tmp_path / "run", world([program(0.9, more="lucky = 1\n")], chosen=problem(measure)))
    assert told(found) == []


async def test_who_was_forgiven_is_no_less_suspicious_of_other_things(tmp_path: Path) -> None:
    seen: list[bool] = []

    def measure(candidate: Mapping[str, Any], request: Request) -> float:
        if "gc" in candidate["program"] and request.stage != CONFIRM:
            seen.append(True)
            if len(seen) == 1:
                raise Suspicious("impossible, this time")
        return worth(candidate, request)

    made = world([program(0.9, 0.1, "import gc\n")], chosen=problem(measure))
    result, found = await events(tmp_path / "run", made)
    assert told(found) == ["suspected", "cleared", "suspected", "convicted"] and result.status == "initial"
    reasons = [e.reason for e in found if e.type == "candidate.suspected"]  # type: ignore[attr-defined]
    assert reasons == ["bound", "internals"]


async def test_another_answer_to_other_words_that_comes_once_is_forgiven_once(tmp_path: Path) -> None:
    other = "suspicious: the same question in other words has another answer"
    result, found = await events(tmp_path / "run", world([program(other, 0.6), program(0.55)]))
    assert told(found) == ["suspected", "cleared"]
    assert next(e.reason for e in found if e.type == "candidate.suspected") == "variant"  # type: ignore[attr-defined]
    mine = [e for e in found if isinstance(e, EvaluationStarted) and e.candidate == result.trials[1].id]
    assert [e.stage == CONFIRM for e in mine] == [False, True, False], "again, and then as if for the first time"
    assert result.trials[1].state == "failed" and result.best["program"] == program(0.55)


async def test_what_is_claimed_as_exact_was_measured_twice(tmp_path: Path) -> None:
    result, found = await events(tmp_path / "run", world([program(0.6), program(0.7)]))
    first, *_, last = [e for e in found if isinstance(e, EvaluationStarted) and e.candidate == result.best.id]
    assert result.status == "exact" and last.stage == AGAIN and (first.seed, first.example) == (last.seed, last.example)
    assert result.trials[2].count == 1 and result.trials[2].suspicion == "", "it makes up no score"


@pytest.mark.parametrize("evaluations", [4, 5, 40])
async def test_luck_that_lasts_a_while_is_no_gain_either(tmp_path: Path, evaluations: int) -> None:
    """Programs that answer by the clock: two runs in a row agree, and one at the end does not."""

    def measure(candidate: Mapping[str, Any], request: Request) -> float:
        calls[candidate["program"]] = calls.get(candidate["program"], 0) + 1
        late = calls[candidate["program"]] > 1 and "clock" in candidate["program"]
        return 0.1 if late else worth(candidate, request)

    calls: dict[str, int] = {}
    tricks = [program(value, more="clock = 1\n") for value in (0.9, 0.8)]
    made = world([*tricks, program(0.6)], evaluations, problem(measure))
    result, _ = await events(tmp_path / "run", made)
    assert result.spent["evaluations"] <= evaluations
    # With 4, the tricks are all there is and the first takes the one check; with 5, the second cannot be checked.
    assert result.status == {4: "initial", 5: "unproven", 40: "exact"}[evaluations]
    if evaluations == 40:
        assert result.best["program"] == program(0.6)
        assert "it scored 0.9 and later 0.1" in result.trials[1].reason


@pytest.mark.parametrize(("evaluations", "searched"), [(12, 9), (45, 41), (59, 55), (60, 55), (200, 195)])
async def test_a_few_checks_before_the_claim_are_held_back(tmp_path: Path, evaluations: int, searched: int) -> None:
    """One at least, three at most; the first two of the rest measure the initial candidate."""
    falling = [program(0.7 - number / 1000) for number in range(evaluations)]
    result, _ = await events(tmp_path / "run", world(falling, evaluations))
    assert len(result.trials) - 1 == searched and result.status == "exact"


async def test_in_the_noise_the_race_in_pairs_decides(tmp_path: Path) -> None:
    chosen = problem(noisy, deterministic=False)
    result, found = await events(tmp_path / "run", world([*USUAL, program(9.0, 0.4), program(5.0, 5.0)], chosen=chosen))
    assert told(found) == ["suspected", "convicted", "suspected", "cleared"]
    assert result.best["program"] == program(5.0, 5.0) and result.status == "proven"
    pairs: dict[int, set[int]] = {}
    for event in again(found):
        pairs.setdefault(event.pair, set()).add(event.seed)
    assert all(len(seeds) == 1 for seeds in pairs.values()) and len(pairs) == len(set.union(*pairs.values())) == 5
    assert [e.replicate for e in again(found)] == [e.pair for e in again(found)], "none is used twice"


ROWS = tuple(Example(f"row-{n}", {"n": n}, split="train" if n < 60 else "val") for n in range(120))


@pytest.mark.parametrize(("later", "word"), [(0.9, "cleared"), (0.2, "convicted")])
async def test_on_rows_it_is_raced_again_on_the_rows_of_its_race(tmp_path: Path, later: float, word: str) -> None:
    chosen = problem(by_rows, data=ROWS)
    result, found = await events(
        tmp_path / "run", world([program(0.95, later, "import gc\n"), program(0.5)], 900, chosen)
    )
    assert told(found) == ["suspected", word]
    suspected = next(e for e in found if e.type == "candidate.suspected")
    rows = suspected.rows  # type: ignore[attr-defined]
    assert [e.example for e in again(found)][::2] == rows and len(again(found)) == 2 * len(rows) > 10
    trial = result.trials[1]
    assert trial.state == ("champion" if word == "cleared" else "failed")
    assert (trial.values is None) == (word == "convicted")
    if word == "convicted":
        assert trial.reason.startswith("suspicious: it names gc"), trial.reason


@pytest.mark.parametrize("evaluations", [12, 13, 14])
async def test_without_budget_for_a_second_look_it_does_not_count(tmp_path: Path, evaluations: int) -> None:
    result, found = await events(tmp_path / "run", world([*USUAL, program(90.0, 80.0)], evaluations))
    assert result.spent["evaluations"] <= evaluations and len(again(found)) == min(2, evaluations - 11)
    if evaluations == 12:
        assert told(found) == ["suspected", "convicted"] and result.status == "initial"
        assert "the search ended before it was measured again" in result.trials[8].reason
    else:
        assert result.status == "exact"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["exact", "noisy", "rows"])
async def test_with_four_at_a_time_no_suspect_is_ever_champion(tmp_path: Path, kind: str, seed: int) -> None:
    rng = random.Random(f"{kind} {seed}")
    programs = [program(0.95, rng.choice([0.2, 0.95]), "import gc\n")]
    for number in range(12):
        first, later = rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.9)
        trick = f"suspicious: {number}"
        kinds = (program(first), program(first, later, f"import gc\nN = {number}\n"), program(trick, first))
        programs.append(rng.choice(kinds[: 2 if kind == "rows" else 3]))
    measure = {"exact": worth, "noisy": noisy, "rows": by_rows}[kind]
    chosen = problem(measure, kind == "exact", ROWS if kind == "rows" else (), exclusive=False)
    made = world(programs, 260 if kind == "rows" else 90, chosen, workers=4, executor=Direct(chosen, 0.003, seed))
    result, found = await events(tmp_path / "run", made)
    assert "suspected" in told(found) and len(told(found)) % 2 == 0, "nobody is a suspect at the end"
    assert result.spent["evaluations"] <= (260 if kind == "rows" else 90)
    under: set[str] = set()
    for event in found:
        if event.type == "candidate.suspected":
            under.add(event.candidate)  # type: ignore[attr-defined]
        elif event.type == "candidate.cleared":
            under.remove(event.candidate)  # type: ignore[attr-defined]
        elif event.type == "race.decided" and event.decision in ("promote", "continue"):  # type: ignore[attr-defined]
            assert event.candidate not in under  # type: ignore[attr-defined]
        elif event.type in ("exam.started", "exam.planned"):
            assert event.champion not in under  # type: ignore[attr-defined]
    assert result.best.id not in under


class Late(Direct):
    """Measures at once, but for second looks: the initial candidate's are late, and those of a trick later still."""

    async def submit(self, request: Request) -> Output:
        if request.stage == CONFIRM:
            text = str(request.candidate["program"])
            await asyncio.sleep(0.2 if text == program(0.5) else 0.8 if "odd" in text else 0.0)
        return await super().submit(request)


async def test_what_comes_too_late_for_one_suspect_says_nothing_of_the_next(tmp_path: Path) -> None:
    chosen = problem(exclusive=False)
    programs = [program(0.9, "it breaks", "import gc\n"), program("suspicious: odd")]
    result, found = await events(tmp_path / "run", world(programs, 60, chosen, workers=2, executor=Late(chosen)))
    ends = [e.id for e in found if isinstance(e, EvaluationEnded)]
    broke, late, odd = sorted((e.id for e in again(found)), key=ends.index)
    assert {broke, late, odd} == {e.id for e in again(found)} and found[-1].type == "run.ended"
    initial = next(e.id for e in again(found) if e.candidate == result.initial.id)
    assert initial == late, "it came between the end of the first suspect and that of the second"
    assert told(found) == ["suspected", "convicted", "suspected", "convicted"]


def test_the_convicted_have_no_score_whatever_comes_in_late() -> None:
    chosen = problem()
    history = History(chosen.initial(), chosen.objective)
    other = chosen.space.candidate({"program": program(0.9)})
    history.apply(CandidateAdmitted(1, other.id, other.values_json, "listed"))
    history.measured(Unit(other.id, 0, -1, "search", {"value": 0.9}), feasible=True)
    history.apply(CandidateSuspected(other.id, chosen.initial().id, "jump", "it gains much"))
    assert history[other.id].values is None and history.ranked() == []
    history.measured(Unit(other.id, 1, -1, "search", {"value": 0.7}), feasible=True)
    assert history[other.id].values is None and history[other.id].held == {"value": pytest.approx(0.8)}
    view = history.freeze()
    history.apply(CandidateCleared(other.id, "better in 3 of 3 pairs"))
    cleared = history[other.id]
    assert cleared.values == {"value": pytest.approx(0.8)} and cleared.count == 2 and cleared.state == "measured"
    assert view[other.id].state == "suspected", "an older view is what it was"
    history = view
    history.apply(CandidateConvicted(other.id, "not better"))
    history.measured(Unit(other.id, 2, -1, "search", {"value": 0.9}), feasible=True)
    assert history[other.id].values is None and history[other.id].state == "failed"
    assert history[other.id].failure == "suspicious: it gains much; not better"


TASK = """
class Task:
    def inputs(self, seed, stage):
        return list(range(100, 110)) if stage == "confirm" else [] if stage == "smoke" else list(range(10))
    def score(self, given, output):
        return float(output == given * given)
"""
TOML = r"""
[evaluator]
code = "quiz:Task"
deterministic = true
[evaluator.sandbox]
kind = "plain_box:Plain"
unsafe = true
seconds = 20
[[objectives]]
name = "right"
direction = "maximize"
[budget]
evaluations = 30
[models]
propose = "none"
[space.program]
type = "code"
default = "def solve(x):\n    return 0 if x else 0\n"
entry = "solve"
[gate]
suspicion = 5.0
[proposer]
name = "tests.test_suspicion_runs:Listed"
[proposer.options]
programs = {programs}
"""
LEARNED = "import gc\ndef solve(x):\n    return {n: n * n for n in range(10)}.get(x, 1)\n"
HONEST = "def solve(x):\n    return x * x if x > 2 else 1\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "quiz.py").write_text(TASK)
    (tmp_path / "p" / "plain_box.py").write_text(Path(code_helpers.__file__).read_text())
    programs = json.dumps([LEARNED, HONEST])
    (tmp_path / "p" / "problem.toml").write_text(TOML.replace("{programs}", programs))
    return tmp_path / "p"


async def test_a_task_has_other_inputs_for_the_second_look(place: Path, tmp_path: Path) -> None:
    """The first program knows the search's ten inputs by heart."""
    folder = tmp_path / "runs" / "one"
    result, found = await events(folder, session_of(load(place)))
    assert told(found) == ["suspected", "convicted"]
    assert result.trials[1].suspicion == "convicted" and result.trials[2].state == "champion"
    outputs = {e.id: e.output for e in found if isinstance(e, EvaluationEnded)}
    values = [outputs[e.id]["value"]["values"]["right"] for e in again(found)]
    assert values == [0.0, 0.0], "neither knows an answer"
    assert load_result(folder).trials[1].suspicion == "convicted"


def test_people_are_told(place: Path, tmp_path: Path) -> None:
    ran = call("run", place, "--runs", tmp_path / "runs", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert "? suspicious #1 [listed], measured again: it names gc (line 1)" in ran.err
    assert "dropped #1 [listed]" in ran.err and "suspicious: it names gc (line 1); not better: 0 against 0" in ran.err
    shown = call("show", "last", "--runs", tmp_path / "runs", cwd=tmp_path)
    assert "suspicious: it names gc" in shown.out
    one = call("show", "last", "1", "--runs", tmp_path / "runs", cwd=tmp_path)
    assert "suspicion: convicted" in one.out and ": failed" in one.out
    found = call("show", "last", "--all", "--json", "--runs", tmp_path / "runs", cwd=tmp_path).json
    assert [trial["suspicion"] for trial in found["trials"]] == ["", "convicted", ""]
    folder = next((tmp_path / "runs").glob("*/journal.sqlite")).parent
    result = load_result(folder)
    told_by_report = warnings(result, Tape.of(entries(folder)), result.gate)
    assert any("1 candidate was suspicious" in line and "1 did not (#1)" in line for line in told_by_report)
    gate = call("show", "last", "--gate", "--json", "--runs", tmp_path / "runs", cwd=tmp_path).json
    assert gate["proposer"]["suspected"] == gate["proposer"]["convicted"] == 1


@pytest.mark.parametrize("wrong", [-1, "much", float("inf")])
def test_the_option_is_checked(place: Path, wrong: object) -> None:
    with pytest.raises(ConfigError, match="suspicion"):
        load(place, {"gate.suspicion": wrong})
    assert load(place).settings.suspicion == 5.0 and load(place, {"gate.suspicion": 0}).settings.suspicion == 0


@pytest.mark.parametrize("kind", ["exact", "noisy", "rows"])
async def test_a_run_cut_off_at_any_event_goes_on_exactly(tmp_path: Path, kind: str) -> None:
    programs = {
        "exact": [*USUAL, program(90.0, 0.4), program("suspicious: odd", 0.5), program(50.0, 50.0)],
        "noisy": [program(0.9, 0.4, "import gc\n"), program(0.8, 0.8, "import gc\n")],
        "rows": [program(0.95, 0.2, "import gc\n"), program(0.9, 0.9, "import inspect\n")],
    }[kind]

    def fresh() -> Session:
        if kind == "rows":
            return world(programs, 300, problem(by_rows, data=ROWS))
        return world(programs, 60, problem(noisy if kind == "noisy" else worth, kind == "exact"))

    await fresh().run(tmp_path / "whole")
    whole = entries(tmp_path / "whole")
    found = told([entry.event for entry in whole])
    assert {"suspected", "cleared", "convicted"} == set(found)
    started = [isinstance(e.event, EvaluationStarted) and e.event.stage == CONFIRM for e in whole]
    first, last = started.index(True) - 2, len(started) - started[::-1].index(True) + 4
    step = 1 if kind != "rows" else 7
    for cut in range(first, min(last, len(whole)), step):
        place, chosen = tmp_path / f"cut{cut}", fresh()
        journal = Journal(place)
        for entry in whole[:cut]:
            journal.append(entry.event, entry.time)
        journal.close()
        await chosen.resume(place)
        got = entries(place)
        assert compare(got, await Replay(got).replayed()) is None, f"cut at {cut}: the resumed run replays too"
        search = ("run.resumed", *(("run.ended", "exam.started", "holdout.fixed") if kind == "rows" else ()))
        same = [bodies(items, skip=search) for items in (got, whole)]
        end = next((n for n, (name, _) in enumerate(same[1]) if name.startswith("exam.")), None)
        assert same[0][:end] == same[1][:end], f"cut at {cut}"
        ended = sum(isinstance(e.event, EvaluationEnded) for e in whole[:cut])
        total = sum(isinstance(e.event, EvaluationEnded) for e in got)
        assert len(chosen.executor.requests) == total - ended, "no finished evaluation is repeated"  # type: ignore[attr-defined]


def falls(candidate: Mapping[str, Any], request: Request) -> float:
    """A clock scores well until it is measured before a claim."""
    return 0.1 if request.replicate >= FIRST and "clock" in candidate["program"] else worth(candidate, request)


@pytest.mark.parametrize(("evaluations", "more"), [(6, None), (9, None), (6, 12)])
async def test_a_run_cut_off_in_the_checks_before_a_claim_goes_on(
    tmp_path: Path, evaluations: int, more: int | None
) -> None:
    """With 6 evaluations the second cannot be checked, unless the resume gives more."""
    programs = [program(0.6), program(0.9, more="clock = 1\n"), program(0.7), program(0.8, more="clock = 1\n")]

    def fresh() -> Session:
        return world(programs, evaluations, problem(falls, exclusive=False), workers=4)

    await fresh().run(tmp_path / "whole")
    whole = entries(tmp_path / "whole")
    last = next(n for n, e in enumerate(whole) if isinstance(e.event, CandidateSuspected))
    for cut in sorted({*range(last, len(whole), 2), len(whole) - (more is None)}):  # at its end, where there is more
        place = tmp_path / f"cut{cut}"
        journal = Journal(place)
        for entry in whole[:cut]:
            journal.append(entry.event, entry.time)
        journal.close()
        result = await fresh().resume(place, changes={"budget": {"evaluations": more}} if more else None)
        got = entries(place)
        assert compare(got, await Replay(got).replayed()) is None, f"cut at {cut}: the resumed run replays too"
        assert result.status == ("unproven" if evaluations == 6 and not more else "exact"), f"cut at {cut}"
        assert result.best["program"] == program(0.7)
        assert result.spent["evaluations"] <= (more or evaluations)
