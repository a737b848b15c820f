"""What a run says of a candidate, in one line, and where lines break on a terminal."""

from __future__ import annotations

import io
import os
import termios

import pytest

from agent.ledger import Budget, Ledger, lasting
from agent.parameters import Float
from agent.results.resultfiles import spent_line
from agent.space import Space
from agent.telling.text import fitted
from agent.telling.words import one_line
from agent.texts import Text

SPACE = Space({"prompt": Text("Is the review positive or negative?"), "x": Float(0, 1, default=0.5)})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"x": 0.25}, "x: 0.5 → 0.25"),
        ({"prompt": "Good or bad?"}, "prompt: Is the review posit… → Good or bad?"),
        (
            {"prompt": "Is the review positive or negative? Think carefully."},
            "prompt: Is the review posit… → … Think carefully.",
        ),
        ({"prompt": "Is the review good or negative?"}, "prompt: … positive … → … good …"),
    ],
)
def test_of_a_long_text_the_words_that_differ_are_shown(values: dict[str, object], said: str) -> None:
    initial = SPACE.initial()
    (change,) = SPACE.diff(initial, SPACE.candidate({**initial, **values}))
    assert one_line(SPACE, change) == said


LONG = (
    "  ✓ kept #1, 21.65 ms [agentic:llm]: better in 3 of 3 pairs, by 30.73 ms on average\n"
    "+ a line of a file that is shown before it is written, word for word\n"
    "Stopped; everything that was measured is saved, and resume goes on."
)


def test_lines_break_between_words_on_a_terminal_and_nowhere_else() -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb"):
        termios.tcsetwinsize(terminal.fileno(), (40, 50))
        assert fitted(LONG, terminal).split("\n") == [
            "  ✓ kept #1, 21.65 ms [agentic:llm]: better in 3",
            "      of 3 pairs, by 30.73 ms on average",
            "+ a line of a file that is shown before it is written, word for word",
            "Stopped; everything that was measured is saved,",
            "and resume goes on.",
        ]
        word = "x" * 80
        assert fitted(word, terminal) == word
        termios.tcsetwinsize(terminal.fileno(), (0, 0))
        assert fitted(LONG, terminal) == LONG, "its width is not known"
    assert fitted(LONG, io.StringIO()) == LONG


def test_times_and_numbers_are_said_as_people_do() -> None:
    times = (0.0, 5.5e-05, 0.0009996, 0.0032, 0.99, 1.0, 4.13, 9.6, 33.4, 1330.0)
    said = ["0 s", "55 µs", "1000 µs", "3.2 ms", "990 ms", "1 s", "4.1 s", "10 s", "33 s", "1,330 s"]
    assert [lasting(time) for time in times] == said
    spent = {**Ledger(Budget()).to_json(), "evaluations": 1, "seconds": 0.000132}
    assert spent_line(spent).startswith("1 evaluation, ") and spent_line(spent).endswith(", 130 µs")
    spent = {**spent, "possibly_spent": {**spent["possibly_spent"], "calls": 1}}
    assert "possibly 1 more call (" in spent_line(spent)
