"""A newcomer at a terminal: `truegain session` in an empty folder, to a released candidate and the report."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from agent.replay import replay
from agent.results.result import load_result
from tests.cli_helpers import call, only_run
from tests.drafting.support import BOWL, TOML, reply
from tests.fake_provider import Behaviour, Request, structured
from tests.session_support import ended, keys, model, provider, spawn

MODEL = "openai-chat:m"


def author(request: Request) -> Behaviour:
    """Drafts, with an evaluator that fails at first; what is asked afterwards is the run's."""
    said = json.dumps(request.body)
    if "problem.toml" not in said:
        return model(request)
    good = "did not work" in said
    return structured(json.loads(reply(TOML, BOWL if good else BOWL.replace('"slope"', '"slop"'))))


def test_with_a_model(tmp_path: Path) -> None:
    place = tmp_path / "line"
    place.mkdir()
    with provider(author) as running:
        more = ("--model", MODEL, "--proposer", "coordinate", "--runs", tmp_path / "runs")
        child = spawn(place, *more, cwd=tmp_path, term="xterm", **keys(running))
        for question, answer in (
            ("What shall be better", "the fit of my line"),
            ("Which files or folders", ""),
            ("Ask openai-chat:m for a draft", "y"),
            ("higher or a lower loss", ""),
            ("Write this into", "y"),
            ("Measure the defaults", "y"),
            ("It does not work yet", None),
            ("May the model read this", "y"),
            ("Write this into", "y"),
            ("Measure the defaults", "y"),
            ("it is deterministic", None),
            ("Spent on models so far: 2 model calls", None),
            ("Start the search now", "y"),
        ):
            child.expect(question)
            if answer is not None:
                child.sendline(answer)
        child.expect("EXACT")
        child.expect("2 model calls .* out; 2 for the draft")
        assert ended(child) == 0
    run = only_run(tmp_path / "runs")
    result = load_result(run)
    assert result.status == "exact" and result.released != result.initial
    assert result.spent["calls"] == result.spent["by_role"]["draft"]["calls"] == 2, "one ledger has all of it"
    assert asyncio.run(replay(run))[1] is None
    assert (place / "evaluate.py").read_text() == BOWL
    assert call("report", run, cwd=tmp_path).code == 0 and (run / "report.html").exists()


def test_with_questions_alone(tmp_path: Path) -> None:
    place = tmp_path / "p"
    place.mkdir()
    (place / "train.py").write_text("def train(lr=0.1, layers=3):\n    return (lr - 0.5) ** 2 + (layers - 6) ** 2\n")
    more = ("--model", "none", "--runs", tmp_path / "runs")
    child = spawn(place, *more, cwd=place, term="dumb")
    for question, answer in (
        ("What shall be better", "the loss of train.py"),
        ("1 or 2", ""),
        ("File and function", "train.py"),
        ("lr .now 0.1", "0.0 1.0"),
        ("layers .now 3", ""),
        ("What is the number called", "loss"),
        ("higher or a lower loss", ""),
        ("How many measurements", "40"),
        ("Seconds after which", ""),
        ("Write this into", "y"),
        ("Measure the defaults", "y"),
        ("it is deterministic", None),
        ("Start the search now", "y"),
        ("the default proposer searches, since there is no model", None),
        ("EXACT", None),
    ):
        child.expect(question)
        if answer is not None:
            child.sendline(answer)
    assert ended(child) == 0
    result = load_result(only_run(tmp_path / "runs"))
    assert result.status == "exact" and result.released["layers"] == 6


def test_a_no_ends_it_with_nothing_written(tmp_path: Path) -> None:
    place = tmp_path / "p"
    with provider(author) as running:
        child = spawn(place, "--model", MODEL, cwd=tmp_path, term="dumb", **keys(running))
        child.expect("What shall be better")
        child.sendline("the fit")
        child.expect("Which files")
        child.sendline("")
        child.expect("Ask openai-chat:m")
        child.sendline("n")
        child.expect("Fill in a template")
        child.sendline("n")
        child.expect("Nothing is written")
        assert ended(child) == 2  # there is no problem to search in
        assert running.calls == 0 and not place.exists()


def test_an_empty_folder_without_a_model_has_a_way_out(tmp_path: Path) -> None:
    place = tmp_path / "new" / "p"
    child = spawn(place, "--model", "none", "--runs", tmp_path / "runs", cwd=tmp_path, term="dumb")
    for question, answer in (
        ("There is no (folder|problem.toml in) .*; I help you to write", None),
        ("What shall be better", "something"),
        ("There is no Python file in", None),
        ("1 or 2", "2"),
        ("The command", ""),  # back
        ("1 or 2", ""),
        ("Write this into", "y"),
        ("Measure the defaults", "y"),
        ("Start the search now", "y"),
        ("EXACT", None),
    ):
        child.expect(question)
        if answer is not None:
            child.sendline(answer)
    assert ended(child) == 0
    assert load_result(only_run(tmp_path / "runs")).released["n"] == 7


def test_an_evaluator_that_fails_is_searched_after_another_yes_alone(tmp_path: Path) -> None:
    place = tmp_path / "p"
    place.mkdir()
    (place / "train.py").write_text("def train(lr=0.1):\n    raise OSError('no')\n")
    child = spawn(place, "--model", "none", "--runs", tmp_path / "runs", cwd=place, term="dumb")
    for question, answer in (
        ("What shall be better", "the loss of train.py"),
        ("1 or 2", ""),
        ("File and function", "train.py"),
        ("lr .now 0.1", ""),
        ("What is the number called", ""),
        ("higher or a lower", ""),
        ("How many measurements", ""),
        ("Seconds after which", ""),
        ("Write this into", "y"),
        ("Measure the defaults", "y"),
        ("Try again, when you have mended", "n"),
        ("It does not work yet. Start the search now all the same", "n"),
        ("mend it, then: truegain session", None),
    ):
        child.expect(question)
        if answer is not None:
            child.sendline(answer)
    assert ended(child) == 3
    assert not (tmp_path / "runs").exists()


def test_the_end_of_input_says_what_happened_and_what_to_do(tmp_path: Path) -> None:
    child = spawn(tmp_path / "p", "--model", "none", cwd=tmp_path, term="dumb")
    child.expect("What shall be better")
    child.sendeof()
    child.expect("the input ended before all questions were answered")
    child.expect("truegain session .* at a terminal asks again")
    assert ended(child) == 2


def test_what_is_no_problem_is_not_drafted(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for name, said in (("notes.txt", "is no problem file"), ("other.toml", "there is no")):
        ran = call("session", tmp_path / name, cwd=tmp_path)
        assert ran.code == 2 and said in ran.err and not (tmp_path / "problem.toml").exists()
