"""Reading what was measured: short, marked where others wrote, and an error that says what to do."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from agent.goals import Objective
from agent.texts import Code, Demos, Text
from tests.tools.tool_support import SHOUT, Known, ask, context, inside, measured, problem, refusal, with_rows

PROMPT = "Answer briefly."
TEXTS = {
    "prompt": Text(PROMPT),
    "helper": Code("def helper(x):\n    return x\n", entry="helper"),
    "shots": Demos(("one", "two", "three"), k=2),
}


def ten() -> Known:
    """Ten measured candidates; the best has x = 0.9."""
    known = context()
    for i in range(10):
        measured(known, {"x": i / 10}, 0.1 * i, promote=i == 9)
    return known


async def test_the_best_come_first_in_a_line_each() -> None:
    text = await ask("top", ten(), n=2)
    head, first, second = text.splitlines()
    assert head == "2 of 10, by score (larger is better):"
    assert 'champion  score=0.9  x=0.9 n=5 kind="a"  by listed' in first and first.startswith("#9 ")
    assert "x=0.8" in second
    assert len(text) < 300


async def test_what_a_smaller_result_makes_better_is_listed_the_other_way_round() -> None:
    known = context(problem(objectives=(Objective("loss"),)))
    for i in range(3):
        measured(known, {"x": i / 10}, float(i))
    assert "loss=0" in (await ask("top", known, n=1)).splitlines()[1]


async def test_candidates_that_break_a_constraint_are_not_among_the_best() -> None:
    known = ten()
    measured(known, {"x": 0.95}, 5.0, feasible=False)
    assert "score=5" not in await ask("top", known)
    assert "breaks a constraint" in await ask("failures", known)


@pytest.mark.parametrize("name", ["top", "recent", "failures", "pareto", "rows"])
async def test_so_many_lines_are_never_shown(name: str) -> None:
    known = context(problem(objectives=(Objective("score", "maximize"), Objective("cost"))))
    for i in range(60):
        measured(known, {"x": i / 100}, {"score": i, "cost": i})
        measured(known, {"x": i / 100 + 0.005}, "error: boom")
    text = await ask(name, known, n=10**9)
    assert 1 <= len(text.splitlines()) < 40
    assert "allowed is 1 to 30" in await refusal(name, known, n=-3)
    assert "not called" in await refusal(name, known, n=float("nan"))


async def test_an_empty_history_is_no_error() -> None:
    assert await ask("top", context()) == "no candidate has a result yet"
    assert "nothing failed" in await ask("failures", context())
    assert "at least 2" in await ask("parameters", context())
    assert (await ask("recent", context())).splitlines()[0] == "1 of 1, newest first:"


async def test_the_newest_come_first_with_what_became_of_them() -> None:
    known = ten()
    measured(known, {"n": 9})
    lines = (await ask("recent", known, n=2)).splitlines()
    assert "queued" in lines[1] and "n=9" in lines[1]
    assert "better in 9 of 10 pairs" in lines[2]


async def test_failures_are_between_marks_that_a_program_cannot_forge() -> None:
    known = ten()
    measured(known, {"n": 1}, f"error: {SHOUT}")
    known.history.rejections = deque([{"reason": "repeats candidate 3", "source": "agentic"}])
    known.history.rejected = {"agentic": 4}
    text = await ask("failures", known)
    assert text.startswith("1 candidates failed, 4 proposals were refused:")
    lines = inside(text)
    assert "reveal the system prompt" in lines[0] and "\x1b" not in text
    assert lines[1] == "refused: repeats candidate 3 (agentic)"


async def test_the_front_needs_two_objectives() -> None:
    known = context(problem(objectives=(Objective("score", "maximize"), Objective("cost"))))
    for i, cost in enumerate((3, 1, 9)):
        measured(known, {"x": i / 10}, {"score": i, "cost": cost})
    text = await ask("pareto", known)
    assert text.startswith("2 of 2 on the front of score (maximize), cost (minimize):")
    assert "score=0" not in text
    assert "a Pareto front needs 2" in await refusal("pareto", ten())


@pytest.mark.parametrize("name", ["champion", "best", "#9", "id", "prefix"])
async def test_a_candidate_has_several_names(name: str) -> None:
    known = ten()
    champion = known.history.champion
    called = {"id": champion, "prefix": champion[:6]}.get(name, name)
    assert "#9 " in await ask("candidate", known, candidate=called)


@pytest.mark.parametrize("name", ["#99", "#-1", "#" + "9" * 5000, "ffffffff", "", "abc", "\x00", "x" * 10**6, "../x"])
async def test_an_unknown_candidate_is_an_error_that_says_what_there_is(name: str) -> None:
    text = await refusal("candidate", ten(), candidate=name)
    assert "there is no candidate" in text and "take champion, initial" in text and len(text) < 500


def written() -> Known:
    """A champion with texts of its own."""
    known = context(problem(TEXTS))
    measured(known, {}, 0.1)
    changed: dict[str, Any] = {"prompt": f"Think.\n{SHOUT}\n" + "word " * 5000, "shots": [0, 2]}
    changed["helper"] = "def helper(x):\n    return x + 1\n"
    measured(known, changed, 0.4, promote=True, words="row 3 was wrong", why="it was vague")
    return known


async def test_a_candidate_in_full_is_marked_and_capped() -> None:
    text = await ask("candidate", written())
    lines = inside(text)
    assert "    return x + 1" in lines and "shots = [0, 2]" in lines
    assert "evaluator: row 3 was wrong" in lines and "why: it was vague" in lines
    assert any("of 25" in line and "characters" in line for line in lines), "the prompt is cut"
    assert len(text) < 6000


async def test_texts_are_marked_in_lists_too() -> None:
    text = await ask("top", written())
    lines = inside(text)
    assert "helper=(program, 2 lines)" in lines[0] and "Think." in lines[0]
    assert len(lines) == 2


async def test_the_same_call_writes_the_same_marks_and_another_one_others() -> None:
    known = written()
    assert await ask("top", known) == await ask("top", known)
    known.decision = 2
    later = await ask("top", known)
    known.decision = 1
    assert later != await ask("top", known)


async def test_numbers_differ_from_to_and_texts_line_by_line() -> None:
    known = written()
    text = await ask("diff", known)
    assert text.splitlines()[0].endswith("3 parameters differ; score=0.1 → score=0.4")
    lines = inside(text)
    assert "-    return x" in lines and "+    return x + 1" in lines and "shots: [] → [0, 2]" in lines
    assert "-Answer briefly." in lines
    known = ten()
    assert "x: 0.5 → 0.9" in await ask("diff", known)
    assert "0 parameters differ" in await ask("diff", known, before="best", after="champion")
    assert "there is no candidate" in await refusal("diff", known, before="nobody")


async def test_a_long_text_does_not_take_long_to_compare() -> None:
    known = context(problem({"prompt": Text("x\n" * 50_000)}))
    measured(known, {"prompt": "y\nx\n" * 50_000}, 1.0, promote=True)
    assert "too many to lay beside each other" in await ask("diff", known)


async def test_of_many_parameters_those_that_differ_are_shown() -> None:
    from agent.parameters import Float

    known = context(problem({f"p{i}": Float(0, 1, default=0.5) for i in range(20)}))
    measured(known, {}, 0.1)
    measured(known, {"p7": 0.25}, 0.2)
    first = (await ask("top", known)).splitlines()[1]
    assert "p7=0.25" in first and "p8" not in first


async def test_words_on_single_rows_are_left_to_read_row_which_keeps_account() -> None:
    known = context(with_rows(2))
    measured(known, {"x": 0.2}, rows={"r0": 1.0}, words="it was Paris", promote=True)
    assert known.history[known.history.champion].feedback == "it was Paris"
    assert "Paris" not in await ask("candidate", known)
