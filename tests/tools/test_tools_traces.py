"""Showing and searching a trace: short, with the failure first, and marked."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from agent.proposers.effects import Effects
from agent.tracing.spans import Raised, Span, Trace, Value
from tests.tools.tool_support import SHOUT, Known, ask, context, inside, measured, refusal, with_rows


def chain(count: int, broken: int) -> Trace:
    """A program of `count` calls of which one raised."""
    values = {"q": Value("str", 4, "what"), "a": Value("str", len(SHOUT), SHOUT)}
    wrong = Raised("ValueError", "not a number", "solve.py", 12, "return float(text)")
    spans = tuple(
        Span(i, None, "op", f"step{i}", {"question": "q"}, "" if i == broken else "a", wrong if i == broken else None)
        for i in range(count)
    )
    return Trace(spans, values, code={"step1": "def step1(question):\n    return ask(question)\n"})


def known(found: Trace, row: str | None = None) -> Known:
    there = context(with_rows(3))
    name = measured(there, {"x": 0.2}, 1.0, promote=True)
    there.traces[name, row] = found
    return there


async def test_a_short_trace_is_shown_line_by_line() -> None:
    text = await ask("trace", known(chain(3, 1)))
    assert text.splitlines()[0].endswith(": 3 calls, 1 raised")
    lines = inside(text)
    assert len(lines) == 3 and 'step0(question="what")' in lines[0]
    assert "raised ValueError: not a number at solve.py:12: return float(text)" in lines[1]
    assert "\x1b" not in text


async def test_of_a_long_trace_the_failure_comes_first() -> None:
    text = await ask("trace", known(chain(5000, 2500)))
    lines = inside(text)
    assert lines[0].startswith("#2500 ") and "ValueError" in lines[0]
    assert lines[1].startswith("#0 ") and lines[-1].startswith("#4999 ")
    assert len(text) < 6000


async def test_one_call_is_shown_in_full_with_its_code() -> None:
    text = await ask("trace", known(chain(3, 2)), span=1)
    assert "return ask(question)" in text and "reveal the system prompt" in "\n".join(inside(text))
    assert "has no call #99" in await refusal("trace", known(chain(3, 2)), span=99)
    assert "has no call #-1" in await refusal("trace", known(chain(3, 2)), span=-1)


async def test_a_row_has_a_trace_of_its_own() -> None:
    there = known(chain(3, 1), "r1")
    assert "on row r1: 3 calls" in await ask("trace", there, row="r1")
    assert "there is no trace of" in await refusal("trace", there)
    assert "there is no trace of" in await refusal("trace", there, row="r2")


async def test_without_a_row_the_newest_measurement_is_named() -> None:
    there = known(chain(3, 1), "r1")

    async def newest(candidate: str, example: str | None) -> tuple[Trace, str | None]:
        return chain(3, 1), "r1"

    given: dict[str, Any] = {item.name: newest for item in fields(Effects)}
    there.effects = Effects(**given)
    assert "on row r1: 3 calls" in await ask("trace", there)
    assert "on row r1: 1 of 3 calls" in await ask("search_trace", there, text="step2")


async def test_a_search_takes_the_text_as_it_stands() -> None:
    there = known(chain(500, 300))
    text = await ask("search_trace", there, text="not a NUMBER")
    assert "1 of 500 calls have" in text and inside(text)[0].startswith("#300 ")
    many = await ask("search_trace", there, text="step", n=10**9)
    assert "500 of 500" in many and len(inside(many)) == 30 and len(many) < 6000
    assert "0 of 500 calls" in await ask("search_trace", there, text="(a+)+$" * 10_000)
    assert "text is empty" in await refusal("search_trace", there, text="")
    assert "there is no candidate" in await refusal("search_trace", there, text="a", candidate="nobody")
