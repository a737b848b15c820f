"""What is left of a space when a person has pinned and banned values, and what prompts say of it."""

from __future__ import annotations

import asyncio
import random
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from agent.events import CandidateRejected, EpochStarted, HintGiven, ProposalEnded, ValueBanned, ValuePinned
from agent.journal import read
from agent.ledger import Budget
from agent.loop import Run
from agent.parameters import Categorical, Float, Int
from agent.proposers import cards
from agent.replay import replay
from agent.session import Session
from agent.settings import Settings
from agent.space import Space
from agent.state import State
from agent.texts import Code, Text
from agent.wishes import HINT, SHOWN, Narrowed, Wishes, around, nearest
from tests.agentic_support import alone
from tests.agentic_support import problem as small
from tests.support import Direct, problem, session

SPACE = Space(
    {
        "x": Float(0, 1),
        "n": Int(1, 5),
        "kind": Categorical(("a", "b", "c")),
        "prompt": Text("Answer: {q}", placeholders=("q",)),
    }
)
WISHES = Wishes(
    pins={"kind": "b"},
    bans={"x": ({"low": 0.4, "high": 1.0},), "n": ({"low": 2, "high": 4},), "prompt": ({"words": "please"},)},
)


def test_a_narrowed_space_gives_whole_candidates_that_keep_to_the_wishes() -> None:
    left, rng = Narrowed(SPACE, WISHES), random.Random(1)
    assert list(left) == ["x", "n", "prompt"] and left.numeric == ("x", "n") and left["kind"] == SPACE["kind"]
    other = SPACE.candidate({"x": 0.9, "n": 3, "kind": "c", "prompt": "{q}"})
    drawn = [left.sample(rng) for _ in range(200)]
    drawn += [left.decode([rng.random(), rng.random()], other) for _ in range(200)]
    drawn += [left.from_bins([rng.randrange(1000), rng.randrange(5)], other) for _ in range(50)]
    for candidate in [*drawn, left.initial()]:
        assert SPACE.candidate(candidate) == candidate
        assert candidate["kind"] == "b" and candidate["x"] < 0.4 and candidate["n"] in (1, 5)
    assert len({candidate["x"] for candidate in drawn}) > 100 and {candidate["n"] for candidate in drawn} == {1, 5}
    assert left.candidate({**other, "x": 0.1, "n": 1})["kind"] == "b"
    assert left.candidate(other)["x"] == pytest.approx(0.399), "what is known stays valid for who asks"
    with pytest.raises(ValueError, match="no such parameter"):
        left.candidate({**other, "y": 1})


@pytest.mark.parametrize(
    ("parameter", "bans", "value", "found"),
    [
        (Int(1, 5), [{"low": 2, "high": 3}], 3, 4),
        (Int(1, 5), [{"low": 1, "high": 2}, {"low": 3, "high": 5}], 3, None),
        (Categorical(("a", "b", "c")), [{"choice": "b"}, {"choice": "c"}], "c", "a"),
        (Categorical((1, True, "x")), [{"choice": 1}], 1, True),
        (Float(0, 1), [{"low": 0.0, "high": 1.0}], 0.5, None),
        (Float(0, 1), [{"low": 0.2, "high": 0.4}], 0.39, 0.401),
        (Float(1e-4, 1, log=True), [{"low": 0.01, "high": 1.0}], 0.5, 0.00990831945),
    ],
)
def test_the_nearest_value_that_is_left(parameter: Any, bans: Any, value: Any, found: Any) -> None:
    got = nearest(parameter, bans, value)
    assert got == found and type(got) is type(found)


def test_one_real_number_is_banned_with_what_lies_around_it() -> None:
    assert around(Float(0, 10), 5.0) == {"low": 4.9, "high": 5.1}
    assert around(Float(0, 10), 0.0) == {"low": 0.0, "high": 0.1}


def test_programs_of_several_files_are_searched_for_banned_words() -> None:
    space = Space({"code": Code(default="def f(): return 1", entry="f"), "x": Float(0, 1)})
    wishes = Wishes(bans={"code": ({"words": "return 2"},)})
    assert not wishes.refusal(space.initial())
    assert "banned code" in wishes.refusal({**space.initial(), "code": "def f(): return 2"})
    assert "banned code" in wishes.refusal({**space.initial(), "code": {"a.py": "", "b.py": "return 2"}})


def test_wishes_of_another_space_are_dropped_where_they_mean_nothing() -> None:
    after = WISHES.fit(Space({"x": Float(0, 1), "kind": Categorical(("a", "c")), "n": Categorical(("p", "q"))}))
    assert not after.pins and list(after.bans) == ["x"]
    assert not Wishes(pins={"x": 0.5}).fit(Space({"x": Float(0, 1)})).pins, "something must be left to change"


def test_prompts_show_the_newest_hints_and_no_terminal_commands() -> None:
    wishes = Wishes()
    for number in range(SHOWN + 3):
        wishes = wishes.told(HintGiven(f"hint \x1b[31m{number}\x07"), alone().history)
    assert wishes.guidance[0] == "hint 3�" and len(wishes.guidance) == SHOWN
    wishes = wishes.told(HintGiven("y" * HINT), alone().history).told(HintGiven("z" * HINT), alone().history)
    assert sum(map(len, wishes.guidance)) <= 2 * HINT and wishes.guidance[-1] == "z" * HINT
    seen = WISHES.told(HintGiven("mind the gap"), alone().history).view(small())
    card = cards.card(seen, list(seen.space))
    assert "mind the gap" in card and 'kind stays "b"' in card and "- kind: one of" not in card
    assert "never x from 0.4 to 1" in card
    assert small().space["kind"] and cards.card(small(), list(small().space)).count("says") == 0


def test_every_prompt_that_proposes_has_the_guidance() -> None:
    """All do by the card of the problem, or by themselves; judges are told nothing."""
    folder = files("agent.prompts")
    missing = [
        item.name
        for item in folder.iterdir()
        if item.name.endswith("_system.txt") and not item.name.startswith(("judge", "draft"))
        and not any(word in item.read_text() for word in ("{{ card }}", "guidance"))
    ]  # fmt: skip
    assert not missing


def run_with(folder: Path, proposer: str, *events: Any, at: int = 3, evaluations: int = 16, **more: Any) -> Run:
    """A run in which a person says something when so many evaluations have ended."""
    given = problem()
    made: list[Run] = []
    count = 0

    def tell(event: Any, state: Any) -> None:
        nonlocal count
        count += event.type == "evaluation.ended"
        if event.type == "evaluation.ended" and count == at:
            for said in events:
                # As a command does: from outside, when the loop comes to it.
                asyncio.get_running_loop().call_soon(made[0].record, said)

    chosen = Session(
        given,
        Settings(proposer=proposer, workers=1, **more),
        Budget(evaluations=evaluations),
        seed=5,
        executor=Direct(given, 0.001),
        observers=(tell,),
    )
    asyncio.run(chosen.run(folder, made.append))
    return made[0]


@pytest.mark.parametrize("proposer", ["coordinate", "random", "lhs", "tpe", "gp", "portfolio"])
def test_classical_proposers_search_in_what_is_left(tmp_path: Path, proposer: str) -> None:
    said = (ValuePinned("kind", "c"), ValueBanned("x", {"low": -1.0, "high": 0.0}), ValuePinned("n", 4))
    run_with(tmp_path / "run", proposer, *said, evaluations=9 if proposer == "portfolio" else 16)
    events = [entry.event for entry in read(tmp_path / "run")]
    after = next(place for place, event in enumerate(events) if event.type == "value.pinned")
    open_ = {event.id for event in events[:after] if event.type == "proposal.started"}
    open_ -= {event.id for event in events[:after] if event.type == "proposal.ended"}
    made = [
        item["values"]
        for event in events[after:]
        if isinstance(event, ProposalEnded) and event.id not in open_
        for item in event.proposals
    ]
    assert made and all(values["kind"] == "c" and values["n"] == 4 and values["x"] > 0 for values in made)
    assert len({values["x"] for values in made}) >= min(5, len(made)), "it goes on searching"
    assert not [event for event in events if event.type == "proposal.ended" and event.error]
    assert asyncio.run(replay(tmp_path / "run"))[1] is None


def test_what_was_proposed_before_a_ban_is_not_measured_after_it(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", "random", ValueBanned("n", {"low": 1, "high": 9}))
    events = [entry.event for entry in read(tmp_path / "run")]
    refused = [event for event in events if isinstance(event, CandidateRejected)]
    assert any("has banned n from 1 to 9" in event.reason for event in refused)
    assert run.state.ended is not None


def test_a_new_epoch_keeps_the_hints() -> None:
    state = State(session().started("run"), 0.0)
    state.apply(HintGiven("stay low"), 1.0)
    state.apply(ValuePinned("n", 4), 1.0)
    state.apply(EpochStarted(1, {}, problem().to_json(), ["evaluator"]), 2.0)
    assert state.wishes.hints == ("stay low",) and state.wishes.pins == {"n": 4}
