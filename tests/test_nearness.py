"""A proposal that is too near to what is known is refused before it is paid for; one at a bound is only flagged."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent import optimize
from agent.decide import decide
from agent.events import CandidateAdmitted, CandidateRejected, Event, ProposalEnded, ProposalStarted
from agent.goals import Objective
from agent.history import History, Warm
from agent.nearness import Known, Nearness
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Context, Proposal
from agent.space import Candidate, Space
from agent.testing.proposers import Search, bowl
from agent.texts import Text
from tests.cli_helpers import TOML, call, folder, only_run

MIXED = Space(
    {
        "rate": Float(1e-5, 1.0, log=True),
        "share": Float(0, 1),
        "steps": Int(1, 1000),
        "depth": Int(1, 9),
        "wide": Int(1, 40, log=True),
        "kind": Categorical(("a", "b", 1, True)),
        "prompt": Text("Be kind."),
    }
)


def point(**changed: Any) -> Candidate:
    base = {"rate": 1e-3, "share": 0.5, "steps": 500, "depth": 5, "wide": 39, "kind": "a", "prompt": "Be kind."}
    return MIXED.candidate({**base, **changed})


@pytest.mark.parametrize(
    ("changed", "near"),
    [
        ({"share": 0.509}, True),
        ({"share": 0.511}, False),
        ({"share": 0.509, "rate": 1.1e-3}, True),  # 10 % of a rate is 0.8 % of its five decades
        ({"share": 0.509, "rate": 1.2e-3}, False),  # near in one coordinate is not near
        ({"steps": 509}, True),
        ({"steps": 511}, False),
        ({"depth": 6}, False),
        ({"wide": 40}, False),  # near on the logarithmic scale, but one of 40 numbers
        ({"kind": "b"}, False),
        ({"kind": 1}, False),
        ({"prompt": "Be kind!"}, False),
        ({}, True),
    ],
    ids=str,
)
def test_near_is_one_percent_in_every_number_and_equal_in_all_else(changed: dict[str, Any], near: bool) -> None:
    known = Nearness(MIXED)
    known.add([point()])
    assert (known.nearest(point(**changed), 0.01) == 0) is near


def test_one_and_true_are_two_choices() -> None:
    known = Nearness(MIXED)
    known.add([point(kind=1)])
    assert known.nearest(point(kind=True), 0.01) is None


def test_neighbours_on_a_grid_of_the_radius_are_not_near() -> None:
    space = Space({"x": Float(0, 1)})
    for step in range(100):
        known = Nearness(space)
        known.add([space.candidate({"x": round(step / 100, 9)})])
        assert known.nearest(space.candidate({"x": round((step + 1) / 100, 9)}), 0.01) is None


def test_a_choice_among_many_is_another_point_although_its_place_is_near() -> None:
    space = Space({"kind": Categorical(tuple(range(500))), "x": Float(0, 1)})
    known = Nearness(space)
    known.add([space.candidate({"kind": 7, "x": 0.5})])
    assert known.nearest(space.candidate({"kind": 8, "x": 0.5}), 0.01) is None
    assert known.nearest(space.candidate({"kind": 7, "x": 0.505}), 0.01) == 0


def brute(space: Space, points: list[Candidate], candidate: Candidate, radius: float) -> int | None:
    """The nearest one by looking at all of them."""
    found = []
    for number, other in enumerate(points):
        same = all(other[name] == candidate[name] for name in space if name not in ("x", "y", "n"))
        gaps = [abs(a - b) for a, b in zip(space.encode(other), space.encode(candidate), strict=True)]
        if same and max(gaps) <= radius - 1e-9:
            found.append((max(gaps), number))
    return min(found)[1] if found else None


@pytest.mark.parametrize("radius", [0.001, 0.01, 0.05, 0.2, 1.0])
def test_the_nearest_point_is_found_however_the_points_came(radius: float) -> None:
    space = Space({"x": Float(0, 1), "y": Float(1e-3, 1, log=True), "n": Int(0, 300), "kind": Categorical(("a", "b"))})
    rng = random.Random(f"{radius}")
    points = [space.sample(rng) for _ in range(150)]
    one_by_one, together, mixed = Nearness(space), Nearness(space), Nearness(space)
    for item in points:
        one_by_one.add([item])
    together.add(points)
    for start, end in ((0, 3), (3, 80), (80, 90), (90, 150)):
        mixed.add(points[start:end])
    hits = 0
    for _ in range(100):
        base, wanted = rng.choice(points), space.sample(rng)
        unit = [min(1.0, max(0.0, place + rng.uniform(-1.5, 1.5) * radius)) for place in space.encode(base)]
        wanted = space.decode([*unit[:-1], space.encode(base)[-1]], base)
        expected = brute(space, points, wanted, radius)
        hits += expected is not None
        assert one_by_one.nearest(wanted, radius) == together.nearest(wanted, radius) == expected
        assert mixed.nearest(wanted, radius) == expected
    assert hits > 5


def history(space: Space, *points: Mapping[str, Any], warm: tuple[Warm, ...] = ()) -> History:
    made = History(space.initial(), Objective("value"), warm)
    for place in points:
        candidate = space.candidate(place)
        made.apply(CandidateAdmitted(1, candidate.id, candidate.values_json, "test"))
    return made


LINE = Space({"x": Float(0, 1)})


def test_the_reason_names_the_candidate_and_says_how_a_repeat_is_measured() -> None:
    known, told = Known(LINE), history(LINE, {"x": 0.2})
    near = LINE.candidate({"x": 0.205})
    assert known.refusal(near, 0.01, told, noisy=False) == "within 1 % of candidate 1 (queued)"
    words = known.refusal(near, 0.01, told, noisy=True)
    assert words.startswith("within 1 % of candidate 1 (queued)") and "replicate" in words
    assert known.refusal(near, 0.0025, told, noisy=True) == ""
    assert known.refusal(near, 0, told, noisy=True) == "", "without a radius only the same candidate is refused"


def test_a_candidate_that_came_later_counts_too() -> None:
    known, near = Known(LINE), LINE.candidate({"x": 0.205})
    assert known.refusal(near, 0.01, history(LINE), False) == ""
    assert "candidate 1" in known.refusal(near, 0.01, history(LINE, {"x": 0.2}), False)


def test_points_that_failed_before_are_avoided_and_others_are_not() -> None:
    failed = Warm(LINE.candidate({"x": 0.8}), None, True, "warm:older")
    good = Warm(LINE.candidate({"x": 0.1}), 0.3, False, "warm:older")
    known, told = Known(LINE, (good, failed)), history(LINE, warm=(good, failed))
    assert known.refusal(LINE.candidate({"x": 0.795}), 0.01, told, False) == (
        "within 1 % of a point that failed in older"
    )
    assert known.refusal(LINE.candidate({"x": 0.105}), 0.01, told, False) == "", "a good point is to be tried here"


def test_a_failed_point_of_another_space_is_no_hindrance() -> None:
    failed = Warm(Candidate({"y": 0.8}), None, True, "warm:older")
    assert Known(LINE, (failed,)).refusal(LINE.candidate({"x": 0.8}), 0.01, history(LINE), False) == ""


@pytest.mark.parametrize("radius", [-0.1, 1.5, "0.01", None, True, math.nan, [0.01]], ids=str)
def test_a_radius_that_is_none_is_refused(radius: Any) -> None:
    words = Known(LINE).refusal(LINE.candidate({"x": 0.9}), radius, history(LINE), False)
    assert words.startswith("not allowed: radius")


def test_asking_costs_little_among_ten_thousand_candidates_of_twenty_parameters() -> None:
    space = Space({f"x{number}": Float(-5, 5) for number in range(20)})
    rng = random.Random(1)
    spread = [space.sample(rng) for _ in range(5000)]
    base = space.initial().values_json
    # The worst case for a search by coordinates: neighbours of one point, each moved in one of them.
    lined = [Candidate({**base, f"x{rng.randrange(20)}": rng.uniform(-5, 5)}) for _ in range(5000)]
    known = Nearness(space)
    known.add([*spread, *lined])
    questions = [space.sample(rng) for _ in range(20)]
    questions += [Candidate({**base, f"x{rng.randrange(20)}": rng.uniform(-5, 5)}) for _ in range(20)]
    begin = time.process_time()
    for question in questions:
        known.nearest(question, 0.01)
        known.add([question])
    each = (time.process_time() - begin) / len(questions)
    assert each < 0.02, f"{1000 * each:.1f} ms"  # some 2 ms on a quiet machine


# In a run.


class Near:
    """Proposes the champion moved by 0.4 %, then by 4 %, with the radius that the options say."""

    name = "near"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        place = context.memory or 0
        context.memory = place + 1
        context.exhausted = place == 1
        moved = min(1.0, context.history.trials[0].candidate["x"] + (0.004, 0.04)[place])
        return [Proposal({"x": moved}, self.name, radius=context.options["radius"])]

    def forecast(self, problem: Any, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


@pytest.mark.parametrize(("radius", "measured"), [(0.01, [0.54]), (0.0, [0.504, 0.54]), (0.05, [])])
def test_a_run_measures_what_is_far_enough(radius: float, measured: list[float]) -> None:
    search = Search(Near(), LINE, bowl(LINE), options={"radius": radius})
    search.run()
    admitted = [event.values["x"] for event in search.events if isinstance(event, CandidateAdmitted)]
    assert admitted == pytest.approx(measured)
    refused = [event for event in search.events if isinstance(event, CandidateRejected)]
    assert len(refused) == 2 - len(measured)
    assert all(event.reason.startswith("within") and event.source == "near" for event in refused)


def test_deciding_is_the_same_whether_the_places_were_worked_out_before_or_not() -> None:
    def state_after(asked: bool) -> list[Event]:
        search = Search(Near(), LINE, bowl(LINE))
        state = search.state
        while not state.proposals:
            for event in decide(state):
                search.apply(event)
                if event.type == "evaluation.started":
                    search._evaluate(event)  # type: ignore[arg-type]
        if asked:
            state.known.refusal(LINE.candidate({"x": 0.9}), 0.01, state.history, False)
        started = next(event for event in search.events if isinstance(event, ProposalStarted))
        search.apply(ProposalEnded(started.id, [{"values": {"x": 0.505}, "source": "s", "radius": 0.01}]))
        return decide(state)

    assert state_after(True) == state_after(False)
    assert isinstance(state_after(True)[0], CandidateRejected)


# Bounds.


@pytest.mark.parametrize(
    ("name", "value", "end"),
    [
        ("rate", 1e-5, "lower"),
        ("rate", 1.1e-5, "lower"),
        ("rate", 2e-5, ""),
        ("share", 0.995, "upper"),
        ("share", 0.98, ""),
        ("steps", 1000, "upper"),
        ("steps", 992, "upper"),
        ("steps", 980, ""),
        ("depth", 9, "upper"),
        ("depth", 8, ""),
        ("wide", 1, "lower"),
        ("kind", "a", ""),
    ],
)
def test_an_end_is_within_one_percent_of_the_scale(name: str, value: Any, end: str) -> None:
    assert MIXED.end(name, value) == end
    assert MIXED.at_bounds(point(wide=20, **{name: value}) if name != "wide" else point(wide=value)) == (
        (name,) if end else ()
    )


def test_of_two_whole_numbers_none_is_called_an_end() -> None:
    assert Space({"n": Int(0, 1)}).at_bounds({"n": 1}) == ()


def test_a_best_candidate_at_a_bound_is_said_to_be_there_and_is_not_refused(tmp_path: Path) -> None:
    result = optimize(
        lambda values: -values["x"],
        space={"x": Float(0, 1)},
        deterministic=True,
        budget=30,
        model=None,
        options={"proposer": "coordinate"},
        runs=tmp_path,
    )
    assert result.best["x"] == 1.0 and result.to_json()["at_bounds"] == ["x"]
    assert result.edges == ["x lies at the upper end of its range: widen it if that is not a natural limit"]


def test_the_command_line_flags_a_bound(tmp_path: Path) -> None:
    evaluate = "def measure(candidate):\n    return candidate['x'] + (candidate['n'] - 5) ** 2"
    place = folder(tmp_path / "p", TOML, evaluate)
    ran = call("run", place, "--evaluations", 40, "--runs", tmp_path / "runs", cwd=tmp_path)
    line = "x lies at the lower end of its range: widen it if that is not a natural limit"
    assert ran.code == 0 and line in ran.out and "n lies" not in ran.out
    run = only_run(tmp_path / "runs")
    assert line in call("show", run, cwd=tmp_path).out
    assert "at an end of its range: x" in call("show", run, "best", cwd=tmp_path).out
    assert "at an end of its range" not in call("show", run, "initial", cwd=tmp_path).out
