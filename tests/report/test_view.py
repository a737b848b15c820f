"""What the view is folded from, and who may see it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import StoreError
from agent.events import RunEnded
from agent.journal import Journal, read, read_all
from agent.ledger import Budget
from agent.report.cards import Allowance, standing
from agent.report.failures import Told, clusters, normal
from agent.report.page import report
from agent.report.tape import Tape
from agent.report.view import View, load_view, view_of
from agent.report.words import pieces
from agent.results.result import load_result
from agent.wall import mark_opened
from tests.report.support import hostile_run, proven_run
from tests.row_support import Ran
from tests.support import noisy, problem, session


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return proven_run(tmp_path_factory.mktemp("rows") / "run")


def as_open(folder: Path) -> View:
    """The run as it was one event before its end."""
    known = [entry for entry in read(folder) if not isinstance(entry.event, RunEnded)]
    tape = Tape.of(known)
    assert tape is not None
    return view_of(tape, folder)


def test_the_view_agrees_with_the_result(ran: Ran) -> None:
    view, result = load_view(ran.folder), load_result(ran.folder)
    assert (view.status, view.sentence, view.spent) == (result.status, result.sentence, result.spent)
    assert view.gate == result.gate
    assert [card.id for card in view.cards] == [trial.id for trial in result.trials]
    assert view.cards[view.best].id == result.best.id
    assert [card.rows for card in view.cards] == [len(trial.rows) for trial in result.trials]


def test_the_view_is_plain_json(ran: Ran) -> None:
    data = json.loads(json.dumps(load_view(ran.folder).to_json(), allow_nan=False))
    assert data["cards"][0]["number"] == 0 and data["steps"][0]["decision"] == "initial"


def test_the_stair_goes_up_with_the_costs(ran: Ran) -> None:
    view = load_view(ran.folder)
    costs = [step.evaluations for step in view.steps]
    assert costs == sorted(costs) and costs[-1] <= view.spent["evaluations"]
    kept = [step.number for step in view.steps if step.decision == "promote"]
    assert kept and kept[-1] == view.champion
    assert [bit.accepted for bit in view.bits][-1] and view.bits[-1].evaluations > costs[-1]
    assert set(kept) | {0} == {card.number for card in view.cards if card.kept}


def test_a_candidate_that_waited_for_a_word_at_the_end_is_unfinished(ran: Ran) -> None:
    for entries, word in ((read_all(ran.folder), "unfinished"), (read(ran.folder), "racing")):
        tape = Tape.of(entry for entry in entries if word == "unfinished" or not isinstance(entry.event, RunEnded))
        assert tape is not None
        first, other = tape.state.history.trials[:2]
        assert standing(tape.state, replace(other, state="racing")) == word
        assert standing(tape.state, replace(other, state="dropped")) == "dropped"
        assert standing(tape.state, replace(other, state="racing", suspicion="suspected")) == "suspicious"
        assert standing(tape.state, replace(first, state="measured")) == "measured"


def test_while_the_run_is_open_only_the_bits_are_there(ran: Ran) -> None:
    ended, view = load_view(ran.folder), as_open(ran.folder)
    assert view.open and "nothing is claimed" in view.sentence
    assert view.gate["open"] and set(view.gate) == {"open", "sentence", "bits"}
    assert view.test is None
    assert any(card.evaluations for card in view.cards)
    text = json.dumps(view.to_json())
    assert ended.sentence not in text
    held = [example.id for name in ("val", "test") for example in ran.split(name)]
    assert held and not [row for row in held if f'"{row}"' in text]


def test_test_rows_show_scores_and_once_opened_all_and_rows_of_the_gate_nothing(tmp_path: Path) -> None:
    ran = proven_run(tmp_path / "run")
    folder = ran.folder
    val, test = ({example.id for example in ran.split(name)} for name in ("val", "test"))
    closed = load_view(folder, full=True)
    assert closed.test is not None and len(closed.test.examples) == len(test)
    assert closed.test.counts["scored"] == len(test) * len(closed.test.numbers)
    told = json.dumps(closed.to_json())
    assert not [row for row in test | val if f'"{row}"' in told or f"about {row}." in told]
    assert "stays closed" in report(closed) and "heat_test" in report(closed)
    mark_opened(folder, time.time())
    view = load_view(folder, full=True)
    assert view.test is not None and set(view.test.examples) <= test and len(view.test.numbers) == 2
    assert view.train is not None and not set(view.train.examples) & (val | test)
    text = json.dumps(view.to_json())
    assert any(f"about {row}." in text for row in test), "what was said of a test row"
    assert 'class="heat_test"' in report(view)
    assert not [row for row in val if f'"{row}"' in text or f"about {row}." in text]


def test_a_run_without_rows_shows_its_repeats(tmp_path: Path) -> None:
    asyncio.run(
        session(problem=problem(noisy, deterministic=False), budget=Budget(evaluations=80)).run(tmp_path / "run")
    )
    view = load_view(tmp_path / "run")
    assert view.train is None and set(view.repeats) <= {card.number for card in view.cards}
    assert len(view.repeats[0]) == view.cards[0].measured > 1
    mean = sum(value or 0.0 for value in view.repeats[0]) / len(view.repeats[0])
    assert mean == pytest.approx(view.cards[0].value)


def test_failures_are_told_once(tmp_path: Path) -> None:
    view = load_view(hostile_run(tmp_path / "run").folder)
    (cluster,) = view.failures
    assert view.train is not None
    assert cluster.count >= view.train.counts["failed"] > 1
    assert "‹path›" in cluster.pattern and "‹address›" in cluster.pattern
    assert cluster.example is not None and len(cluster.who) >= 1
    assert any("gate new" in line for line in view.warnings), "the rows are exhausted"


def test_models_are_those_that_answered(tmp_path: Path) -> None:
    asyncio.run(session(proposer="evollm", budget=Budget(evaluations=40)).run(tmp_path / "run"))
    view = load_view(tmp_path / "run")
    assert view.spent["calls"] and sum(item["calls"] for item in view.served) == view.spent["calls"]
    assert view.served[0]["asked"] == "scripted:test"


def test_a_young_journal_has_no_report(tmp_path: Path) -> None:
    Journal(tmp_path / "run").close()
    with pytest.raises(StoreError):
        load_view(tmp_path / "run")


def test_a_damaged_journal_says_so(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.sqlite").write_bytes(b"SQLite format 3\0" + b"rubbish" * 99)
    with pytest.raises(StoreError):
        load_view(tmp_path / "run")


def test_texts_share_what_all_of_them_may_take() -> None:
    allowance = Allowance(each=10, left=25)
    shown = [allowance.text(letter * 12) for letter in "wxyz"]
    assert [text.count(letter) for letter, text in zip("wxyz", shown, strict=True)] == [10, 10, 5, 0]
    assert shown[2] == "yyyyy… (7 more characters)" and allowance.sentences() == ["23 characters of long texts"]
    assert Allowance(each=10).text("w" * 50, most=40).count("w") == 40
    whole = Allowance.full()
    assert whole.text("a" * 10_000) == "a" * 10_000 and not whole.sentences()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("took 3.5 s", "took 120 s"),
        ("at 0x7f00", "at 0xdead"),
        ("no /home/a/b.py", "no /tmp/x-1/c/d.py"),
        ("run 01234567-89ab-cdef-0123-456789abcdef", "run 99999999-89ab-cdef-0123-456789abcdee"),
        ("key  a", "key a"),
    ],
)
def test_messages_are_the_same_but_for_what_changes_every_time(one: str, other: str) -> None:
    assert normal(one) == normal(other)
    assert normal(one) != normal(f"another {other}")


def test_clusters_count_and_keep_the_first() -> None:
    told = [Told("late by 3 s", 4), Told("bad key", 1), Told("late by 9 s", 2, "more", "row-1"), Told("late by 9 s", 4)]
    first, second = clusters(told)
    assert (first.count, first.first, first.who) == (3, "late by 3 s", [4, 2])
    assert (second.count, second.pattern) == (1, "bad key")


def test_a_long_message_is_normalised_in_no_time() -> None:
    began = time.perf_counter()
    for text in ("/a" * 500_000, "a" * 1_000_000, "1" * 1_000_000, "0x" * 500_000, " " * 1_000_000):
        normal(text)
    assert time.perf_counter() - began < 60


def test_a_diff_by_words_gives_both_texts_back() -> None:
    for before, after in (
        ("answer in one word", "answer in two words, please"),
        ("", "all new\n"),
        ("a  b\n\tc", ""),
        ("same", "same"),
        ("x y " * 9000, "x z " * 9000),
    ):
        found = pieces(before, after)
        assert "".join(text for kind, text in found if kind != "new") == before
        assert "".join(text for kind, text in found if kind != "gone") == after
    assert pieces("one word", "two word") == [("gone", "one"), ("new", "two"), ("same", " word")]
