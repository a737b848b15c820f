"""What a report shows, and that nothing anybody writes becomes part of the page."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import re
import sys
from pathlib import Path

import pytest

from agent.errors import PrerequisiteError
from agent.goals import Objective
from agent.ledger import Budget
from agent.report import page
from agent.report.comparison import comparison
from agent.report.view import View, load_view
from tests.report.support import ALL, NASTY, Page, check_harmless, hostile_run, proven_run, replaced
from tests.support import loss, problem, session


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> View:
    """A run on rows that proved something."""
    return load_view(proven_run(tmp_path_factory.mktemp("rows") / "run").folder)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> View:
    return load_view(hostile_run(tmp_path_factory.mktemp("hostile") / "run").folder)


def test_the_report_tells_the_run_in_its_order(rows: View) -> None:
    text = page.report(rows)
    found = check_harmless(text)
    ids = [name for name in found.ids if name in SECTIONS]
    assert ids == list(SECTIONS)
    words = " ".join(found.words)
    assert rows.sentence in words and rows.status in ("proven", "exact")
    assert f"#{rows.best}" in words
    for wanted in (
        "accuracy",
        "random seed",
        "search scores",
        "test rows that nobody had seen",
        "evaluations",
        "never drawn",
    ):
        assert wanted in words, wanted


SECTIONS = (
    "verdict",
    "diff",
    "cost",
    "examples",
    "lineage",
    "gate",
    "spend",
    "candidates",
    "failures",
    "configuration",
)


def test_one_word_is_used_for_what_was_kept(rows: View) -> None:
    for text in (page.report(rows), page.compare(comparison([rows, rows]))):
        assert "kept" in text and "promot" not in text.lower()
    section = page.report(rows).partition('<section id="cost">')[2].partition("</section>")[0]
    decided = re.findall(r"#c\d+\">#\d+</a><td>(\w+)<td", section)
    assert set(decided) == {"initial", "kept", "dropped"} and len(decided) == len(rows.steps)


def test_every_link_leads_somewhere_and_no_name_is_given_twice(rows: View) -> None:
    found = Page(page.report(rows))
    targets = {str(item["href"]) for item in found.of("a")}
    assert len(targets) > len(rows.cards)
    assert not targets - {f"#{name}" for name in found.ids}
    assert len(set(found.ids)) == len(found.ids)


def test_equal_runs_give_equal_bytes(rows: View) -> None:
    assert page.report(rows) == page.report(rows)
    assert not re.search(r"\b20\d\d-\d\d-\d\dT", page.report(rows)), "a date of today"


def test_it_loads_nothing_and_runs_nothing(rows: View) -> None:
    policy = {str(item.get("http-equiv")): item.get("content") for item in Page(page.report(rows)).of("meta")}
    assert policy["Content-Security-Policy"] == page.POLICY
    assert "script" not in page.POLICY and page.POLICY.startswith("default-src 'none'")
    assert "http" not in page.POLICY


def test_a_table_stands_under_every_picture(rows: View) -> None:
    tags = [tag for tag, attributes in Page(page.report(rows)).tags if tag in ("svg", "table")]
    assert tags.count("svg") >= 3
    for here, after in itertools.pairwise(tags):
        assert here == "table" or after == "table"


def test_colours_follow_the_reader_and_text_stays_text(rows: View) -> None:
    for svg in re.findall(r"<svg.*?</svg>", page.report(rows), re.S):
        assert "<text" in svg and "var(--ink)" in svg
        assert not re.search(r"#0a0[bc]0\d", svg), "a name of a colour that no style gave"


def test_what_was_not_evaluated_differs_from_what_failed(hostile: View) -> None:
    assert hostile.train is not None
    counts = hostile.train.counts
    assert counts["failed"] and counts["scored"] and counts["not evaluated"]
    text = page.report(hostile)
    table = text[text.index("<table class=cells>") :]
    table = table[: table.index("</table>")]
    assert table.count("<td>failed") == counts["failed"]
    assert len(re.findall(r"<td>(?=<|\n)", table)) == counts["not evaluated"]


def test_hostile_words_of_a_real_run_stay_words(hostile: View) -> None:
    text = page.report(hostile)
    found = check_harmless(text)
    words = "".join(found.words)
    assert words.count("<script>alert(1)</script>") > 20
    assert "{{ 7 * 7 }}" in words and "\\xd800" in words and "\\x202e" in words and "\\x1b" in words
    (title,) = re.findall(r"<title>(.*?)</title>", text)
    assert title == f"{hostile.run}: {hostile.status}"


@pytest.mark.parametrize("nasty", [*NASTY, "x" * 1_000_000, "a\n" * 5000, "wörter ☃ 漢字"], ids=lambda t: ascii(t[:12]))
def test_hostile_words_in_every_field_stay_words(rows: View, nasty: str) -> None:
    few = dataclasses.replace(rows, cards=rows.cards[:3], best=0, released=0, champion=0, steps=rows.steps[:3])
    few = dataclasses.replace(few, train=None, gate={**few.gate, "exams": [], "candidates": []})
    short = nasty if len(nasty) < 1000 else nasty[:4000]
    check_harmless(page.report(replaced(few, lambda _: short)))


def test_a_long_line_does_not_make_a_long_page(tmp_path: Path) -> None:
    def shouts(candidate: object, seed: int = 0, replicate: int = 0) -> object:
        return {"value": loss(candidate), "feedback": "é" * 300_000}

    asyncio.run(session(problem=problem(shouts), budget=Budget(evaluations=20)).run(tmp_path / "run"))
    view = load_view(tmp_path / "run")
    text = page.report(view)
    assert len(text.encode()) < 3_000_000
    assert any("characters" in line for line in view.left_out)
    assert view.left_out[0] in text
    whole = load_view(tmp_path / "run", full=True)
    assert not whole.left_out and max(len(card.feedback) for card in whole.cards) == 300_000


def test_text_is_compared_by_words(hostile: View) -> None:
    assert hostile.best != hostile.initial
    text = page.report(hostile)
    part = text[text.index('id="diff"') : text.index('id="cost"')]
    assert "<ins>" in part and "well" in part
    check_harmless(part.join(("<html><style></style>", "")))


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    def two(candidate: object, seed: int = 0, replicate: int = 0) -> dict[str, float]:
        return {"value": loss(candidate), "size": float(candidate["n"])}  # type: ignore[index]

    chosen = dataclasses.replace(problem(two), objectives=(Objective("value"), Objective("size", "maximize")))
    chosen.evaluator._names = ["value", "size"]  # type: ignore[attr-defined]
    asyncio.run(session(problem=chosen).run(tmp_path / "run"))
    view = load_view(tmp_path / "run")
    text = page.report(view)
    check_harmless(text)
    assert view.front is not None and len(view.front["trials"]) > 1
    assert "the Pareto front" in text and 'class="front"' in text
    assert view.repeats and view.train is None and 'class="repeats"' in text


def test_without_the_plotting_library_it_says_what_to_install(rows: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PrerequisiteError) as caught:
        page.report(rows)
    assert caught.value.fix == "pip install 'truegain[report]'"


def test_runs_are_drawn_beside_each_other(rows: View, hostile: View) -> None:
    text = page.compare(comparison([rows, hostile, dataclasses.replace(rows, run=ALL)]))
    found = check_harmless(text)
    assert len(found.of("svg")) == 2, "one picture for each objective"
    assert "claims nothing" in " ".join(found.words)
    assert len(set(found.ids)) == len(found.ids)
