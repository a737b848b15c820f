"""Search by order alone: rounds, their costs, the exam, and going on after a cut."""

from __future__ import annotations

import io
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError, RunLocked, StoreError
from agent.lock import Lock
from agent.ordering.loop import optimize_ranked
from agent.ordering.orders import checked, parse
from agent.ordering.result import RankedResult
from agent.ordering.study import FILE, RankedStudy
from agent.parameters import Categorical, Float, Int
from agent.space import Candidate, Space
from agent.texts import Text
from tests.cli_helpers import Ran, call
from tests.test_imports import HEAVY, loaded

SPACE = Space({f"x{number}": Float(0, 1, default=0.9) for number in range(5)})


def bowl(candidate: Candidate) -> float:
    return sum((value - 0.3) ** 2 for value in candidate.values())


def by(cost: Callable[[Candidate], float]) -> Callable[[list[Candidate]], list[int]]:
    """Whoever puts candidates in order of a hidden cost."""
    return lambda shown: sorted(range(len(shown)), key=lambda place: cost(shown[place]))


def rounds(study: RankedStudy, count: int, cost: Callable[[Candidate], float] = bowl) -> RankedStudy:
    for _ in range(count):
        study.tell(by(cost)(study.ask()))
    return study


# ---------------------------------------------------------------- orders

IDS = ["a", "b", "c", "d"]


def test_an_order_names_places_ids_or_candidates_and_groups_equals() -> None:
    assert checked([2, 0, 1, 3], IDS) == [["c"], ["a"], ["b"], ["d"]]
    assert checked(["d", ["a", 1], 2], IDS) == [["d"], ["a", "b"], ["c"]]
    assert checked(([0, 1, 2, 3],), IDS) == [IDS]
    first, second = Candidate({"x": 1}), Candidate({"x": 2})
    assert checked([second, first], [first.id, second.id]) == [[second.id], [first.id]]


def test_an_order_may_come_from_numpy() -> None:
    assert checked(np.argsort([0.3, 0.1, 0.4, 0.2]), IDS) == [["b"], ["d"], ["a"], ["c"]]
    assert checked(list(np.argsort([3, 1, 4, 2])), IDS) == [["b"], ["d"], ["a"], ["c"]]


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ([0, 1, 2], "leaves out 3"),
        ([0, 1, 2, 3, 3], "twice"),
        ([0, "a", 1, 2, 3], "twice"),
        ([0, 1, 2, 4], "'4', which was not shown"),
        ([0, 1, 2, -1], "'-1', which was not shown"),
        ([0, 1, 2, True], "'True', which was not shown"),
        ([0, 1, 2, 3.0], "'3.0', which was not shown"),
        ([0, 1, 2, None], "'None', which was not shown"),
        ([0, 1, 2, "z"], "'z', which was not shown"),
        ([0, 1, [2, [3]]], "which was not shown"),
        ([0, 1, 2, [], 3], "empty group"),
        ([], "leaves out 0, 1, 2, 3"),
        ("abcd", "no list"),
        ({0: 1}, "no list"),
        (7, "no list"),
        (None, "no list"),
        (np.array([[0.5, 1.0, 2.0, 3.0]]), "which was not shown"),
    ],
    ids=str,
)
def test_what_is_no_order_is_refused_with_a_reason(order: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        checked(order, IDS)
    assert "name all 4" in caught.value.hint


@pytest.mark.parametrize("text", ["2 1=4 3", " 2,1 = 4,3\n", "2 > 1=4 > 3", "2, 1 =4 3"])
def test_people_write_orders_in_several_ways(text: str) -> None:
    assert parse(text, 4) == [[1], [0, 3], [2]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 2 3",
        "1 2 3 4 5",
        "1 2 3 3",
        "0 1 2 3",
        "1 2 3 x",
        "1=2=3=",
        "1==2 3 4",
        "-1 2 3 4",
        "9" * 5000,
        "١ 2 3 4",
    ],
)
def test_what_people_cannot_mean_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, 4)
    assert "best first" in caught.value.hint and len(caught.value.message) < 200


@given(st.text(alphabet="0123456789 =,>-x\n", max_size=20))
def test_any_text_is_an_order_or_a_reason(text: str) -> None:
    try:
        groups = parse(text, 3)
    except ConfigError:
        return
    assert sorted(place for group in groups for place in group) == [0, 1, 2]


# ---------------------------------------------------------------- rounds


def test_a_round_shows_the_champion_among_new_ones_in_random_order() -> None:
    places = []
    study = RankedStudy(SPACE, candidates=4, seed=1)
    known = {study.initial.id}
    for _ in range(24):
        shown = study.ask()
        ids = [candidate.id for candidate in shown]
        assert len(set(ids)) == 4 and study.best.id in ids
        assert not (set(ids) - {study.best.id}) & known
        known.update(ids)
        places.append(ids.index(study.best.id))
        study.tell(by(bowl)(shown))
    assert {0, 1, 2, 3} == set(places)


def test_asking_again_shows_the_same_until_it_is_told() -> None:
    study = RankedStudy(SPACE)
    assert study.ask() == study.ask()
    with pytest.raises(ConfigError):
        study.tell([0, 1])
    assert study.rounds == 0 and len(study.ask()) == 4


def test_telling_before_asking_is_refused() -> None:
    study = RankedStudy(SPACE)
    with pytest.raises(ConfigError, match="nothing to put in order"):
        study.tell([0, 1, 2, 3])
    rounds(study, 1)
    with pytest.raises(ConfigError, match="nothing to put in order"):
        study.tell([0, 1, 2, 3])


def test_within_a_round_the_place_is_the_cost_and_the_champion_ties_the_rounds_together() -> None:
    study = RankedStudy(SPACE, candidates=4)
    cost = lambda name: study._history[name].values["place"]  # noqa: E731
    first = [c.id for c in study.ask()]
    initial = study.initial.id
    others = [name for name in first if name != initial]
    study.tell([others[0], [others[1], initial], others[2]])
    assert [cost(name) for name in (others[0], others[1], initial, others[2])] == [-1.0, 0.0, 0.0, 1.0]
    assert study.best.id == others[0]
    new = [c.id for c in study.ask() if c.id != others[0]]
    study.tell([new[0], new[1], others[0], new[2]])
    assert [cost(name) for name in (*new[:2], others[0], new[2])] == [-3.0, -2.0, -1.0, 0.0]
    assert study.best.id == new[0]


def test_who_ties_with_the_champion_does_not_replace_it() -> None:
    study = RankedStudy(SPACE)
    others = [candidate for candidate in study.ask() if candidate != study.initial]
    study.tell([[*others, study.initial]])
    assert study.best == study.initial


def test_equal_seeds_show_equal_candidates_and_others_do_not() -> None:
    def shown(seed: int) -> list[list[str]]:
        study, out = RankedStudy(SPACE, seed=seed), []
        for _ in range(6):
            out.append([c.id for c in study.ask()])
            study.tell(by(bowl)(study.ask()))
        return out

    assert shown(1) == shown(1) != shown(2)


def test_the_order_is_all_that_counts() -> None:
    plain = rounds(RankedStudy(SPACE, seed=3), 12)
    other = rounds(RankedStudy(SPACE, seed=3), 12, lambda c: math.exp(9 * bowl(c)) - 4)
    assert plain._events == other._events


@pytest.mark.parametrize("proposer", ["cmaes", "random", "coordinate", "gp"])
def test_other_proposers_can_be_driven_by_order_too(proposer: str) -> None:
    study = rounds(RankedStudy(SPACE, proposer=proposer, candidates=3), 6)
    assert study.result.shown == 13 and bowl(study.best) < bowl(study.initial)


def test_a_finite_space_ends_when_all_was_shown() -> None:
    study = RankedStudy({"kind": Categorical(("a", "b", "c", "d", "e", "f"))}, candidates=3)
    seen: set[Any] = set()
    while shown := study.ask():
        seen.update(c["kind"] for c in shown)
        study.tell(by(lambda c: ord(c["kind"]) % 5)(shown))
    assert seen == set("abcdef") and study.exhausted
    assert study.best["kind"] == "d"


def test_texts_stay_as_they_are() -> None:
    study = RankedStudy({"prompt": Text("Be kind."), "n": Int(1, 99)}, candidates=3)
    assert {c["prompt"] for c in rounds(study, 3, lambda c: c["n"]).ask()} == {"Be kind."}


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidates": 1},
        {"candidates": 2.5},
        {"candidates": True},
        {"seed": "x"},
        {"proposer": "nobody"},
        {"proposer": "evollm"},
        {"options": {"mu": 3}},
        {"space": {"prompt": Text("Be kind.")}},
        {"space": {}},
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RankedStudy(**{"space": SPACE, "folder": tmp_path / "s", **wrong})
    assert not (tmp_path / "s").exists()


# ---------------------------------------------------------------- does it help


def median_of(proposer: str, cost: Callable[[Candidate], float]) -> float:
    """What seven sessions of 40 rounds of four leave of the bowl."""
    found = [
        optimize_ranked(by(cost), space=SPACE, rounds=40, proposer=proposer, seed=seed) for seed in range(7)
    ]  # fmt: skip
    assert {result.shown for result in found} == {121}
    return statistics.median(bowl(result.best) for result in found)


def test_order_alone_gets_several_times_closer_than_random_candidates() -> None:
    """Of a hidden bowl in five dimensions, and of any increasing function of it."""
    theirs = median_of("random", bowl)
    for proposer, share in (("zo-ranksgd", 0.33), ("cmaes", 0.6)):
        ours = median_of(proposer, bowl)
        assert ours < share * theirs
        assert median_of(proposer, lambda c: -math.exp(-20 * bowl(c))) == ours


# ---------------------------------------------------------------- the exam


def test_the_exam_shows_blind_pairs_of_the_best_and_the_initial() -> None:
    study = rounds(RankedStudy(SPACE, seed=4), 8)
    best, initial = study.best, study.initial
    study.examine(10)
    first = []
    while pair := study.ask():
        assert {c.id for c in pair} == {best.id, initial.id}
        first.append(pair[0] == best)
        study.tell(by(bowl)(pair))
    assert len(first) == 10 and 2 <= sum(first) <= 8  # in random order
    result = study.result
    assert (result.status, result.wins, result.losses, result.pairs) == ("proven", 10, 0, 10)
    assert result.p == pytest.approx(2**-10) and result.released == best
    assert "10 of 10 fresh pairs" in result.sentence and "did not depend on each other" in result.sentence


def test_who_answers_at_random_proves_nothing_more_often_than_the_level() -> None:
    proven = 0
    for seed in range(300):
        rng = random.Random(seed)
        study = RankedStudy({"x": Float(0, 1)}, candidates=2, proposer="random", seed=seed)
        shown = study.ask()
        study.tell([0, 1] if shown[1] == study.initial else [1, 0])
        study.examine(12)
        while study.ask():
            study.tell(rng.sample([0, 1], 2))
        proven += study.result.status == "proven"
    assert 0 < proven < 16  # P(10 or more of 12) = 0.019


def test_who_always_takes_the_first_place_proves_nothing() -> None:
    statuses = []
    for seed in range(20):
        statuses.append(optimize_ranked(lambda shown: range(len(shown)), space=SPACE, rounds=5, seed=seed).status)
    assert statuses.count("proven") <= 2


def test_ties_are_neither_won_nor_lost() -> None:
    study = rounds(RankedStudy(SPACE), 5)
    study.examine(5)
    while study.ask():
        study.tell([[0, 1]])
    result = study.result
    assert (result.status, result.wins, result.losses, result.p) == ("unproven", 0, 0, 1.0)
    assert "(5 ties)" in result.sentence and "Not shown." in result.sentence and result.released == study.initial


def test_a_loss_is_told_as_it_is() -> None:
    study = rounds(RankedStudy(SPACE), 5)
    study.examine(6)
    while shown := study.ask():
        study.tell(by(lambda c: -bowl(c))(shown))
    assert (study.result.status, study.result.losses) == ("unproven", 6)


def test_when_nothing_came_before_the_initial_there_is_no_exam() -> None:
    result = optimize_ranked(by(lambda c: c != SPACE.initial()), space=SPACE, rounds=3)
    assert (result.status, result.pairs, result.p) == ("initial", 0, None)
    assert "Nothing came before the initial candidate" in result.sentence


def test_one_study_has_one_exam_and_the_search_is_over_then() -> None:
    study = rounds(RankedStudy(SPACE), 5)
    study.ask()
    study.examine(5)  # sets the open round aside
    assert len(study.ask()) == 2 and study.rounds == 5
    with pytest.raises(ConfigError, match="one exam"):
        study.examine(5)
    while shown := study.ask():
        study.tell(by(bowl)(shown))
    assert study.ask() == []
    with pytest.raises(ConfigError, match="nothing to put in order"):
        study.tell([0, 1])


@pytest.mark.parametrize("pairs", [4, 0, -1, 7.0, True, "12"])
def test_an_exam_that_can_never_reach_the_level_is_refused(pairs: Any) -> None:
    study = rounds(RankedStudy(SPACE), 2)
    with pytest.raises(ConfigError, match="at least 5"):
        study.examine(pairs)
    assert not study.examining and len(study.ask()) == 4


def test_nothing_is_claimed_before_the_exam_is_over() -> None:
    study = rounds(RankedStudy(SPACE), 4)
    assert (study.result.status, study.result.released) == ("open", study.initial)
    study.examine(5)
    study.tell(by(bowl)(study.ask()))
    assert study.result.status == "open" and study.result.p is None
    assert json.dumps(study.result.to_json(), allow_nan=False)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"rounds": 1.5}, {"rounds": 3, "pairs": 2}])
def test_a_program_is_told_what_is_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        optimize_ranked(by(bowl), space=SPACE, **wrong)


# ---------------------------------------------------------------- cut off and going on


def finished(study: RankedStudy) -> RankedResult:
    """After four rounds in all, and the exam."""
    while not study.examining and study.rounds < 4:
        rounds(study, 1)
    if not study.examining:
        study.examine(5)
    while shown := study.ask():
        study.tell(by(bowl)(shown))
    return study.result


def test_a_session_that_was_cut_after_any_byte_comes_to_the_same_end(tmp_path: Path) -> None:
    expected = finished(RankedStudy(SPACE, folder=tmp_path / "whole", seed=5))
    whole = (tmp_path / "whole" / FILE).read_bytes()
    first = whole.index(b"\n") + 1
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    cuts = sorted({*ends, *random.Random(0).sample(range(first, len(whole)), 6)})
    for cut in cuts:
        place = tmp_path / str(cut)
        place.mkdir()
        (place / FILE).write_bytes(whole[:cut])
        study = RankedStudy.load(place)
        assert finished(study) == expected, f"cut after byte {cut}"
        assert (place / FILE).read_bytes() == whole


def test_a_study_in_memory_can_be_saved_and_goes_on_in_its_folder(tmp_path: Path) -> None:
    study = rounds(RankedStudy(SPACE, seed=6), 3)
    study.save(tmp_path / "s")
    rounds(study, 2)
    shown = study.ask()
    again = RankedStudy.load(tmp_path / "s")
    assert (again.rounds, again.best, again.ask()) == (5, study.best, shown)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "s" / FILE).stat().st_mode & 0o777 == 0o600


def test_a_folder_with_a_study_is_never_written_over(tmp_path: Path) -> None:
    rounds(RankedStudy(SPACE, folder=tmp_path), 1)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ConfigError, match="holds a ranked study"):
        RankedStudy(SPACE, folder=tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    study = RankedStudy(SPACE, folder=tmp_path)
    other = RankedStudy.load(tmp_path)
    rounds(study, 1)
    with pytest.raises(StoreError, match="changed by somebody else"):
        other.ask()
    lock = Lock(tmp_path)
    with pytest.raises(RunLocked):
        rounds(study, 1)
    lock.release()
    assert rounds(study, 1).rounds == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], "{", *lines[1:]],
        lambda lines: [lines[0], '{"type":"party"}', *lines[1:]],
        lambda lines: [lines[0], "[]", *lines[1:]],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [lines[0].replace('"candidates":4', '"candidates":"x"'), *lines[1:]],
        lambda lines: ["{}", *lines[1:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [],
        lambda lines: ["\udcff"],
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, damage: Callable[[list[str]], Iterable[str]]) -> None:
    rounds(RankedStudy(SPACE, folder=tmp_path), 2)
    path = tmp_path / FILE
    lines = damage(path.read_text().splitlines())
    path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=r"line \d+, is damaged|is empty") as caught:
        RankedStudy.load(tmp_path)
    assert caught.value.hint


def test_loading_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        RankedStudy.load(tmp_path / "nothing")


def test_a_program_goes_on_where_it_stopped(tmp_path: Path) -> None:
    calls = 0

    def order(shown: list[Candidate]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("coffee")
        return by(bowl)(shown)

    given = {"space": SPACE, "rounds": 6, "seed": 7, "pairs": 5}
    with pytest.raises(RuntimeError, match="coffee"):
        optimize_ranked(order, folder=tmp_path, **given)  # type: ignore[arg-type]
    assert RankedStudy.load(tmp_path).rounds == 3
    result = optimize_ranked(order, folder=tmp_path, **given)  # type: ignore[arg-type]
    assert result == optimize_ranked(by(bowl), **given)  # type: ignore[arg-type]
    assert calls == 4 + 3 + 5


def test_going_on_with_other_arguments_is_refused(tmp_path: Path) -> None:
    optimize_ranked(by(bowl), space=SPACE, rounds=2, folder=tmp_path)
    with pytest.raises(ConfigError, match="begun with another seed"):
        optimize_ranked(by(bowl), space=SPACE, rounds=2, folder=tmp_path, seed=9)


# ---------------------------------------------------------------- the command

TOML = """
[space.x]
type = "float"
low = 0
high = 1
default = 0.9

[space.kind]
type = "categorical"
choices = ["a", "b"]
"""

ORDER = """
import json, sys
shown = json.load(sys.stdin)
print(*[1 + place for place in sorted(range(len(shown)), key=lambda i: abs(shown[i]["x"] - 0.3))])
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "problem.toml").write_text(TOML)
    (tmp_path / "order.py").write_text(ORDER)
    return tmp_path


def rank(place: Path, *more: object) -> Ran:
    return call("rank", "p", "--order", f"{sys.executable} order.py", "--runs", "runs", *more, cwd=place)


def test_a_program_gives_the_orders(place: Path) -> None:
    ran = rank(place, "--rounds", 6, "--pairs", 5, "--json")
    assert ran.code == 0
    assert ran.json["status"] == "proven" and abs(ran.json["best"]["x"] - 0.3) < 0.3
    assert (Path(ran.json["study"]) / FILE).exists()
    assert Path(ran.json["study"]).parent == place / "runs"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("print(1, 2)", "printed no order"),
        ("raise SystemExit('no time')", "ended with code 1: no time"),
        ("print('\\x1b[2J')", "printed no order"),
    ],
)
def test_a_program_that_gives_none_stops_it_and_it_can_go_on(place: Path, script: str, why: str) -> None:
    (place / "order.py").write_text(script)
    ran = rank(place)
    assert ran.code == 3 and why in ran.err and "\x1b" not in ran.err
    (place / "order.py").write_text(ORDER)
    again = call(
        "rank", "--resume", "last", "--order", f"{sys.executable} order.py", "--runs", "runs", "--rounds", 2, "--json",
        cwd=place,
    )  # fmt: skip
    assert again.code == 0 and again.json["rounds"] == 2


def person(place: Path, *arguments: object, says: str, monkeypatch: pytest.MonkeyPatch) -> Ran:
    monkeypatch.setattr("sys.stdin", io.StringIO(says))
    return call("rank", *arguments, "--runs", "runs", cwd=place)


def test_a_person_sees_a_table_may_err_stop_and_go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = person(place, "p", "--candidates", 3, says="3 1\n2 1=3\nq\n", monkeypatch=monkeypatch)
    assert first.code == 0 and "OPEN" in first.out and "--resume" in first.out
    assert "PARAMETER  [1]" in first.err and "does not name 1 to 3, each once" in first.err
    says = "1 2 3\n" + "1 2\n" * 5
    second = person(place, "--resume", "last", "--rounds", 2, "--pairs", 5, says=says, monkeypatch=monkeypatch)
    assert second.code == 0 and "The search is over. Pair 1 of the exam" in second.err
    assert "PROVEN" in second.out
    third = person(place, "--resume", "last", "--json", says="", monkeypatch=monkeypatch)
    assert third.json["rounds"] == 2 and third.json["exam"]["pairs"] == 5


def test_when_the_input_ends_what_was_told_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = person(place, "p", says="1 2 3 4\n", monkeypatch=monkeypatch)
    assert ran.code == 130 and "rank --resume" in ran.err
    (folder,) = (place / "runs").glob("[!.]*")
    assert RankedStudy.load(folder).rounds == 1


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("nowhere",),
        ("p", "--resume", "last"),
        ("--resume", "last"),
        ("--resume", "last", "--seed", 3),
        ("p", "--proposer", "evollm"),
        ("p", "--pairs", 3),
        ("p", "--order", ""),
        ("p", "--order", "'"),
    ],
    ids=str,
)
def test_wrong_use_of_the_command_is_refused(place: Path, wrong: tuple[object, ...]) -> None:
    ran = call("rank", *wrong, "--runs", "runs", "--json", cwd=place)
    assert ran.code == 2 and ran.json["error"]["kind"] == "config"


@pytest.mark.parametrize("text", ["[space]\nx = 3\n", "space = 3\n", "[evaluator]\n", "[space.x]\ntype = 'x'\n", "["])
def test_a_problem_without_a_space_is_refused(place: Path, text: str) -> None:
    (place / "p" / "problem.toml").write_text(text)
    ran = rank(place)
    assert ran.code == 2 and "problem.toml" in ran.err


def test_help_loads_nothing_numeric(place: Path) -> None:
    assert not loaded("rank", "--help", cwd=place) & set(HEAVY)
