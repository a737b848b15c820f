"""Data: ids, fields and reports, and splits that share nothing."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.datasets.data import MINIMUM, Dataset, load, load_splits, split
from agent.datasets.similar import shingles, similar
from agent.errors import ConfigError
from agent.problem import Example
from agent.space import digest


def texts(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows that have nothing to do with each other."""
    rng = random.Random(seed)
    return [{"q": "".join(rng.choice("abcdefghijklmnop") for _ in range(30)), "a": n} for n in range(count)]


def sizes(examples: Sequence[Example]) -> tuple[int, int, int]:
    """Rows of train, val and test."""
    found = [example.split for example in examples]
    return found.count("train"), found.count("val"), found.count("test")


def written(folder: Path, name: str, rows: Sequence[Any]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# Ids and fields


def test_ids_are_the_rows_own_or_a_hash_of_the_content() -> None:
    rows = [{"id": 7, "q": "a"}, {"id": None, "q": "b"}, {"id": "", "q": "c"}, {"q": "d"}, "e"]
    found = [example.id for example in load(rows).examples]
    assert found == ["7", *(digest(row) for row in rows[1:])]
    named = [example.id for example in load(rows[:3], id="q").examples]
    assert named == ["a", "b", "c"]


def test_ids_of_the_same_number_may_be_ignored(tmp_path: Path) -> None:
    train, val = [{"id": 1, "q": "a"}], [{"id": 1, "q": "b"}]
    with pytest.raises(ConfigError, match=r"with the id of another row and different content \(val, row 1\)") as error:
        load_splits(train=train, val=val)
    assert 'id = ""' in error.value.hint
    assert [e.id for e in load_splits(train=train, val=val, id="").examples] == [digest(train[0]), digest(val[0])]


def test_a_row_that_comes_twice_is_kept_once() -> None:
    data = load([{"id": 1, "q": "a"}, {"q": "b"}, {"id": 1, "q": "a"}, {"q": "b"}])
    assert len(data.examples) == 2 and data.report.repeated == 2 and data.report.read == 4
    assert "2 rows repeat the id and content of another and are kept once." in data.report.sentences()


def test_named_fields_are_read() -> None:
    rows = [
        {"q": "a", "user": "u1", "gold": ["x", "y"], "part": "Validation", "must": True},
        {"q": "b", "user": 2, "gold": "", "part": "test", "must": "no"},
        {"q": "c", "part": "train", "must": "1"},
        {"q": "d", "part": None},
    ]
    found = load(rows, cluster="user", answer="gold", split="part", anchor="must").examples
    assert [(e.cluster, e.answer, e.split, e.anchor) for e in found] == [
        ("u1", ["x", "y"], "val", True),
        ("2", None, "test", False),
        ("", None, "train", True),
        ("", None, "train", False),
    ]
    assert [e.row for e in found] == rows


def test_splits_and_anchors_that_mean_nothing_are_bad_rows() -> None:
    rows = [{"q": "a", "part": "holdout"}, {"q": "b", "must": "perhaps"}, {"q": "c", "part": "val", "must": 1}]
    found = {item.kind: item.numbers for item in load(rows, split="part", anchor="must", skip_bad=True).report.bad}
    assert found == {"split": (1,), "anchor": (2,)}


@pytest.mark.parametrize("role", ["id", "cluster", "answer", "split", "anchor"])
def test_a_field_that_no_row_has_is_refused_with_those_there_are(role: str) -> None:
    with pytest.raises(ConfigError, match=f"{role}: no row has the field 'targte'") as error:
        load([{"q": "a", "target": "b"}], **{role: "targte"})
    assert error.value.hint == "the rows have: q, target"


# Default shares


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (1, (1, 0, 0)),
        (79, (79, 0, 0)),
        (80, (40, 40, 0)),
        (81, (41, 40, 0)),
        (300, (150, 150, 0)),
        (301, (141, 100, 60)),
        (2000, (1100, 500, 400)),
        (3000, (2000, 500, 500)),
    ],
)
def test_default_shares_by_size(count: int, wanted: tuple[int, int, int]) -> None:
    assert sizes(split(load(texts(count)).examples)) == wanted


def test_below_the_minimum_the_report_says_how_many_are_missing() -> None:
    report = load(texts(79)).divide().report
    assert report.pooled and report.missing == 1
    assert any("unproven; 1 more would allow a gate" in line for line in report.sentences())
    report = load(texts(80)).divide().report
    assert not report.pooled and report.missing == 0
    assert "train 40 rows in 40 clusters, val 40 rows in 40 clusters, test 0 rows in 0 clusters." in report.sentences()


def test_rows_of_few_users_are_few_examples() -> None:
    rows = [{**row, "user": number % 79} for number, row in enumerate(texts(400))]
    report = load(rows, cluster="user").divide().report
    assert report.pooled and report.missing == 1 and report.train.clusters == MINIMUM - 1
    rows = [{**row, "user": number % 100} for number, row in enumerate(texts(400))]
    assert sizes(split(load(rows, cluster="user").examples)) == (200, 200, 0)


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ({}, (50, 0, 0)),
        ({"val": 0.3, "test": 0.2}, (25, 15, 10)),
        ({"test": 20}, (30, 0, 20)),
        ({"val": 1}, (49, 1, 0)),
    ],
)
def test_own_shares(shares: dict[str, float], wanted: tuple[int, int, int]) -> None:
    assert sizes(split(load(texts(50)).examples, shares)) == wanted


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.5}, "found train, allowed is val and test"),
        ({"val": -1}, "val: found -1"),
        ({"val": 1.5}, "val: found 1.5"),
        ({"val": "half"}, "val: found 'half'"),
        ({"val": True}, "val: found True"),
        ({"val": float("nan")}, "val: found nan"),
        ({"val": 51}, "51 rows of 50"),
        ({"val": 40, "test": 10}, "no row is left for train"),
    ],
)
def test_impossible_shares_are_refused(shares: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split(load(texts(50)).examples, shares)


# What depends on each other stays together


@st.composite
def worlds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of which some are copies, near-copies, or of one user."""
    rng = random.Random(draw(st.integers(0, 10**6)))
    rows = texts(draw(st.integers(2, 250)), rng.randrange(10**6))
    for number, row in enumerate(rows):
        row["id"] = f"r{number}"
        row["a"] = rng.choice("xyz")
        kind = rng.random()
        if number and kind < 0.2:
            row.update({k: v for k, v in rows[rng.randrange(number)].items() if k in ("q", "a")})
        elif number and kind < 0.4:
            row["q"] = rows[rng.randrange(number)]["q"] + "!"
        if rng.random() < 0.3:
            row["user"] = f"u{rng.randrange(60)}"
        if rng.random() < 0.1:
            row["user"] = f"r{rng.randrange(len(rows))}"  # a user whose name is some row's id
    return rows


def nothing_is_shared(examples: Sequence[Example]) -> None:
    bare = [{k: v for k, v in e.row.items() if k in ("q", "a")} for e in examples]
    sets = [shingles(row) for row in bare]
    for i, j in itertools.combinations(range(len(examples)), 2):
        a, b = examples[i], examples[j]
        together = (a.row.get("user") or a.id) == (b.row.get("user") or b.id)
        if together or bare[i] == bare[j] or similar(sets[i], sets[j]):
            assert a.split == b.split
            assert (a.cluster or a.id) == (b.cluster or b.id)


@settings(deadline=None, max_examples=30)
@given(worlds(), st.sampled_from([None, {"val": 0.3, "test": 0.2}, {"val": 1}]))
def test_copies_near_copies_and_clusters_are_never_divided(rows: list[dict[str, Any]], shares: Any) -> None:
    examples = load(rows, cluster="user").examples if any("user" in row for row in rows) else load(rows).examples
    try:
        done = split(examples, shares, labels=("id", "user"))
    except ConfigError as error:
        assert "no row is left for train" in error.message
        return
    assert [e.id for e in done] == [e.id for e in examples]
    nothing_is_shared(done)


@settings(deadline=None, max_examples=30)
@given(worlds(), st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[dict[str, Any]], rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))

    def division(given: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
        found = load(given, id="id").divide().examples
        return {(e.id, e.split, e.cluster) for e in found}

    assert division(rows) == division(shuffled)


@settings(deadline=None, max_examples=30)
@given(worlds(), st.integers(0, 10**6))
def test_the_stricter_split_keeps_what_splits_share(rows: list[dict[str, Any]], seed: int) -> None:
    rng = random.Random(seed)
    parts = [{**row, "user": row.get("user", ""), "part": rng.choice(["train", "val", "test"])} for row in rows]
    data = load(parts, cluster="user", split="part")
    done = data.divide()
    nothing_is_shared(done.examples)
    gone = {item.id: item for item in done.report.removed}
    assert {e.id for e in data.examples} == {e.id for e in done.examples} | set(gone)
    assert [e.id for e in data.examples if e.split == "test"] == [e.id for e in done.examples if e.split == "test"]
    order = ("train", "val", "test")
    assert all(order.index(item.split) < order.index(item.kept) for item in gone.values())


def test_quotas_are_met_as_closely_as_whole_clusters_allow() -> None:
    rng = random.Random(3)
    rows = [{"q": row["q"], "user": f"u{rng.randrange(90)}"} for row in texts(900)]
    train, val, test = sizes(split(load(rows, cluster="user").examples, {"val": 300, "test": 100}))
    assert abs(val - 300) <= 5 and abs(test - 100) <= 5 and train + val + test == 900


@pytest.mark.parametrize(("quota", "taken"), [(9, 9), (10, 9), (11, 12), (12, 12)])
def test_a_cluster_more_is_taken_only_when_that_is_closer(quota: int, taken: int) -> None:
    rows = [{**row, "user": f"u{number // 3}"} for number, row in enumerate(texts(60))]
    assert sizes(split(load(rows, cluster="user").examples, {"val": quota})) == (60 - taken, taken, 0)


def test_a_cluster_too_large_for_the_gate_stays_in_train() -> None:
    rows = [{**row, "user": "giant" if number < 500 else f"u{number}"} for number, row in enumerate(texts(600))]
    done = load(rows, cluster="user").divide({"val": 40}).examples
    assert {e.split for e in done if e.cluster == "giant"} == {"train"} and sizes(done) == (560, 40, 0)


def test_a_division_is_the_same_in_every_version() -> None:
    done = split([Example(f"e{n}", {"q": f"row number {n}"}) for n in range(12)], {"val": 3, "test": 2})
    assert "".join(e.split[0:2] for e in done) == "vavatrtrtrtetetrtrtrtrva"


def test_dividing_again_changes_nothing() -> None:
    once = load(texts(400)).divide()
    assert split(once.examples) == once.examples


def test_copies_count_once_and_are_reported() -> None:
    rows = [{"id": f"{n}-{copy}", **row} for n, row in enumerate(texts(60)) for copy in range(2)]
    done = load(rows).divide()
    assert done.report.exact == 60 and done.report.train.clusters == 60 and done.report.train.rows == 120
    assert done.report.pooled and done.report.missing == 20 and done.report.largest == 2
    assert {(a.cluster, b.cluster) for a, b in zip(done.examples[::2], done.examples[1::2], strict=True)} == {
        (f"{n}-0", f"{n}-0") for n in range(60)
    }
    assert any(line.startswith("60 rows copy another row") for line in done.report.sentences())


def test_a_data_set_of_one_row_many_times_is_one_example() -> None:
    report = load([{"id": n, "q": "always the same"} for n in range(100)]).divide().report
    assert (report.exact, report.train.clusters, report.missing) == (99, 1, 79)


def test_near_copies_count_once_and_are_reported() -> None:
    rows = [{"id": f"{n}{mark}", "q": row["q"] + mark} for n, row in enumerate(texts(50)) for mark in ("", "!", "?")]
    report = load(rows).divide().report
    assert (report.exact, report.near, report.train.clusters, report.largest) == (0, 100, 50, 3)


def test_numbers_alone_make_different_rows() -> None:
    report = load([{"q": f"What is {n} plus {n * 7}?"} for n in range(100)]).divide().report
    assert (report.near, report.val.rows) == (0, 50)


def test_an_instruction_that_all_rows_share_does_not_make_them_alike() -> None:
    long = " ".join(f"please{n}" for n in range(100))
    rows = [{"instruction": long, "q": row["q"]} for row in texts(100)]
    assert load(rows).divide().report.near == 0
    template = [{"q": f"{long} {row['q']}"} for row in texts(100)]
    report = load(template).divide().report
    assert report.near == 99 and any("ignore=" in line for line in report.sentences())
    bare = [{"instruction": long}, {"instruction": long, "note": "n.b."}]
    assert load(bare).divide().report.near == 1, "it is all that the first has, so it counts"
    two = [{"instruction": f"{long} {number % 2}", "q": row["q"]} for number, row in enumerate(texts(100))]
    assert load(two).divide().report.near > 90
    assert load(two, ignore=["instruction"]).divide().report.near == 0


# The user's own splits


def test_rows_that_splits_share_are_taken_out_of_the_looser_one(tmp_path: Path) -> None:
    a, b, c, d, e, f = ({"q": row["q"]} for row in texts(6))
    near = {"q": c["q"] + "?"}
    data = load_splits(
        train=written(tmp_path, "train.jsonl", [a, b, c, d]),
        val=written(tmp_path, "val.jsonl", [near, b, e]),
        test=written(tmp_path, "test.jsonl", [b, f]),
    )
    assert [(e.row, e.split) for e in data.examples] == [
        (a, "train"),
        (d, "train"),
        (near, "val"),
        (e, "val"),
        (b, "test"),
        (f, "test"),
    ]
    assert [(r.split, r.kept, r.why) for r in data.report.removed] == [
        ("train", "test", "exact"),
        ("train", "val", "near"),
        ("val", "test", "exact"),
    ]
    sentences = data.report.sentences()
    assert f"Taken out of train, because each is also in test: 1 rows ({digest(b)})." in sentences
    assert not data.report.pooled


def test_a_field_may_name_the_splits() -> None:
    rows = [{"q": row["q"], "part": part} for row, part in zip(texts(4), ("train", "val", "test", "val"), strict=True)]
    rows.append({"q": rows[1]["q"], "part": "train"})
    done = load(rows, split="part").divide()
    assert [e.split for e in done.examples] == ["train", "val", "test", "val"]
    assert [(r.split, r.kept, r.why) for r in done.report.removed] == [("train", "val", "exact")]


def test_one_row_in_two_splits_by_its_field_is_one_row() -> None:
    rows = [{"id": n, "q": row["q"], "part": part} for part in ("train", "val") for n, row in enumerate(texts(2))]
    data = load([*rows, {"id": 2, "q": "z", "part": "train"}], split="part").divide()
    assert [(e.id, e.split) for e in data.examples] == [("0", "val"), ("1", "val"), ("2", "train")]


def test_users_in_two_splits_stay_in_the_stricter() -> None:
    parts = [texts(2, seed) for seed in (1, 2)]
    train, test = ([{**row, "user": number} for number, row in enumerate(part)] for part in parts)
    data = load_splits(train=[*train, {"q": "z", "user": 9}], test=test[:1], shares={}, cluster="user")
    assert [(e.cluster, e.split) for e in data.examples] == [("1", "train"), ("9", "train"), ("0", "test")]
    assert [r.why for r in data.report.removed] == ["cluster"]


def test_without_val_it_is_taken_from_train_and_the_given_test_stays() -> None:
    done = load_splits(train=texts(400, 1), test=texts(30, 2))
    assert sizes(done.examples) == (267, 133, 30)
    assert done.report.test.rows == 30
    assert sizes(load_splits(train=texts(400, 1), val=texts(30, 2)).examples) == (400, 30, 0)
    with pytest.raises(ConfigError, match="val has rows of your own choice"):
        load_splits(train=texts(400, 1), val=texts(30, 2), shares={"val": 0.5})


def test_a_train_file_that_is_all_in_test_is_refused() -> None:
    with pytest.raises(ConfigError, match="no row of train is left"):
        load_splits(train=texts(5), test=texts(5))


def test_the_report_is_plain_json_without_content() -> None:
    data: Dataset = load([*texts(90), None], skip_bad=True).divide()
    plain = json.loads(json.dumps(data.report.to_json()))
    assert plain["bad"] == [{"source": "", "kind": "empty", "count": 1, "numbers": [91], "unit": "row"}]
    assert plain["val"] == {"rows": 45, "clusters": 45} and plain["pooled"] is False and plain["missing"] == 0
    assert not any(row["q"] in json.dumps(plain) for row in texts(90))
