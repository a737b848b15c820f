"""What a run says of a candidate, in one line."""

from __future__ import annotations

import pytest

from agent.cli.words import one_line
from agent.parameters import Float
from agent.space import Space
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
