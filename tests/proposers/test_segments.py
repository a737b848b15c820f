"""Texts in segments: nothing is lost, what is left out leaves no hole, and near-duplicates are found."""

from __future__ import annotations

import random

import pytest

from agent.proposers.influence import Influence
from agent.proposers.segments import Parts, changes, clusters, joined, left_out, moved, parted, pruned, shuffled, split

TEXT = 'Be brief. Think "hard!" Then answer:\n\n- one\n- two…\n\nQuestion: {question}\n'


@pytest.mark.parametrize(
    "text", [TEXT, "", "one", "\n\n", "...", "第一。第二！完", "a.b.c 3.14 is pi", "x " * 5000, "é\r\n\tb\n"]
)
@pytest.mark.parametrize("most", [1, 3, 24])
def test_the_segments_of_a_text_are_the_text(text: str, most: int) -> None:
    found = split(text, most)
    assert "".join(found) == text and len(found) <= most and all(found)


def test_sentences_and_lines_are_segments_and_marks_alone_are_none() -> None:
    bodies = [part.strip() for part in split(TEXT, 24)]
    assert bodies == ["Be brief.", 'Think "hard!"', "Then answer:", "- one", "- two…", "Question: {question}"]
    assert split("第一。第二！完", 9) == ["第一。", "第二！", "完"]
    assert split("Use 3.14 as pi. ----\nGo on.", 9) == ["Use 3.14 as pi. ----\n", "Go on."]


def test_of_too_many_the_shortest_neighbours_become_one() -> None:
    assert split("A. B. This one is long enough. C.", 3) == ["A. B. ", "This one is long enough. ", "C."]


def test_what_is_left_out_takes_its_line_end_to_the_segment_before_it() -> None:
    parts = split("Be kind. Go slow.\nEnd.", 9)
    assert joined(left_out(parts, [1]), "x") == "Be kind.\nEnd."
    assert joined(left_out(parts, [2]), "x") == "Be kind. Go slow." and joined(left_out(parts, [0, 1]), "x") == "End."
    assert joined(left_out(parts, [2]), "x\n") == "Be kind. Go slow.\n"


def test_moving_a_segment_leaves_the_lines_as_they_are() -> None:
    assert "".join(moved(split("A b. C d.\nE f.", 9), 2, 0)) == "E f. A b.\nC d."


def test_near_duplicates_are_one_cluster() -> None:
    parts = ["Show every step of your reasoning before the answer.", "Be brief."]
    parts += ["Show every step of your reasoning before the answer!", "Show 2 steps of it all."]
    assert clusters(parts) == [[0, 2], [1], [3]]


def of(text: str, **kinds: str) -> Parts:
    parts = parted({"p": text}, ["p"], 24, {})
    names = {("p", part.strip()): kinds.get(part.strip()[:1], "unclear") for part in parts.segments["p"]}
    return parted({"p": text}, ["p"], 24, names)


def test_a_text_is_never_emptied_and_one_that_does_not_change_stays_as_it_is() -> None:
    parts = of("A one.  B two.", A="inert", B="inert")
    assert parts.without("inert") is None and parts.without("harms") is None
    assert parts.values(parts.segments) == {"p": "A one.  B two."}
    assert [item.keys for item in changes(of("Alone."), [])] == []


def test_pruned_texts_come_boldest_first_and_only_where_there_is_something_to_leave_out() -> None:
    parts = of("A one. B two. C three.", A="harms", B="inert", C="helps")
    texts = [(values["p"], why) for values, why in pruned(parts, [])]
    assert texts == [
        ("C three.", "without 1 segment that made it worse and 1 that did nothing"),
        ("B two. C three.", "without 1 segment that made it worse"),
        ("A one. C three.", "without 1 that did nothing"),
    ]
    assert not list(pruned(of("A one. B two.", A="helps"), []))


def test_words_that_help_are_added_before_the_first_placeholder() -> None:
    found = [values["p"] for values, _ in pruned(of("A one.\nQ: {q}", A="harms"), [("p", "Think.")])]
    assert found[-1] == "Think.\nQ: {q}"
    (_, _, added) = changes(of("A one.\nQ: {q}"), ["Think.", "A one."])
    assert added.added and added.text == "A one.\nThink.\nQ: {q}", "what is there already is no new word"
    assert added.found(Influence(-0.5, 0.1, 4)) == {("p", "Think."): Influence(0.5, 0.1, 4)}


def test_random_edits_touch_nothing_that_is_inert_and_drop_nothing_that_helps() -> None:
    parts = of("A one. B two. C three. D four.", A="helps", B="inert", C="helps")
    rng, texts = random.Random(1), set()
    for _ in range(200):
        values, why = shuffled(parts, [], rng)
        assert values is not None and why
        texts.add(values["p"])
    bodies = [[part.strip() for part in split(text, 24)] for text in texts]
    assert all({"A one.", "C three.", "B two."} <= set(body) for body in bodies)
    assert any("D four." not in body for body in bodies) and len(texts) > 5
    assert shuffled(of("A one.", A="inert"), [], rng) == (None, "")


@pytest.mark.parametrize(
    ("mean", "error", "kind"),
    [
        (0.2, 0.1, "helps"),
        (0.2, 0.3, "unclear"),
        (-0.2, 0.1, "harms"),
        (0.0, 0.0, "inert"),
        (0.01, 0.0, "inert"),
        (0.0, 0.1, "unclear"),
        (0.3, None, "unclear"),
    ],
)
def test_one_standard_error_decides(mean: float, error: float | None, kind: str) -> None:
    assert Influence(mean, error, 4).kind(0.02) == kind
    assert Influence(mean, error, 4, needed="a check").kind(0.02) == "helps"
