"""Reading rows: every format, and every kind of bad row, without a crash."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.datasets.data import load
from agent.datasets.rows import LARGEST_ROW
from agent.errors import ConfigError
from agent.space import digest


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


ROWS = [{"q": "Grüße, 世界 🌍", "n": 1}, {"q": "two\nlines", "n": 2.5}, {"id": "third", "q": "3", "n": -3}]


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["q", "n"], extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


# Sources


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.json", "ROWS.JSONL"])
def test_files_lists_and_generators_give_the_same(tmp_path: Path, name: str, pack: bool) -> None:
    content = (json.dumps(ROWS) if name.endswith(".json") else lines(ROWS)).encode()
    path = written(tmp_path, name + (".gz" if pack else ""), gzip.compress(content, mtime=0) if pack else content)
    given = load(ROWS)
    assert load(path).examples == load(str(path)).examples == load(row for row in ROWS).examples == given.examples
    assert [example.row for example in given.examples] == ROWS
    assert [example.id for example in given.examples] == [digest(ROWS[0]), digest(ROWS[1]), "third"]


def test_csv_with_unicode_quotes_and_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", b"\xef\xbb\xbf" + as_csv(ROWS[:2]).encode())
    assert [example.row for example in load(path).examples] == ROWS[:2]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.jsonl", b"\xef\xbb\xbf" + lines(ROWS).encode())
    assert load(path).examples == load(ROWS).examples


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("7", 7),
        ("-3", -3),
        ("0.5", 0.5),
        ("007", "007"),
        ("1.50", "1.50"),
        ("+3", "+3"),
        ("1_000", "1_000"),
        ("1e999", "1e999"),
        ("nan", "nan"),
        ("1234567890123456", "1234567890123456"),
        ("٣", "٣"),
        ("", ""),
        ("true", "true"),
    ],
)
def test_a_csv_cell_becomes_a_number_only_when_nothing_is_lost(tmp_path: Path, cell: str, value: Any) -> None:
    (example,) = load(written(tmp_path, "one.csv", f"q,n\nx,{cell}\n")).examples
    assert example.row == {"q": "x", "n": value} and type(example.row["n"]) is type(value)


def test_rows_may_be_strings_or_lists() -> None:
    assert [example.row for example in load(["one", ["two", 2]]).examples] == ["one", ["two", 2]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", "x", r"found rows.txt, allowed is .jsonl"),
        ("rows.json", '{"a": 1}', "holds one dict"),
        ("rows.json", "[1,", "is not JSON"),
        ("rows.json", b"[\xff]", "is not UTF-8"),
        ("rows.jsonl.gz", b"no gzip", "cannot read"),
        ("rows.jsonl.gz", gzip.compress(b"1\n" * 9, mtime=0)[:-9], "cannot read"),
        ("rows.csv", "a,a\n1,2\n", "header"),
        ("rows.csv", "a,\n1,2\n", "header"),
        ("rows.csv", '"a\n1,2\n', "header"),
        *[(f"rows.{kind}", "", "has no rows") for kind in ("jsonl", "json", "csv")],
        ("rows.jsonl", "\n\n \n", "has no rows"),
        ("rows.csv", "a,b\n", "has no rows"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load(written(tmp_path, name, content))
    assert error.value.hint


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("none.jsonl", "folder.jsonl"):
        with pytest.raises(ConfigError, match=f"cannot read .*{name}"):
            load(tmp_path / name)


@pytest.mark.parametrize("source", [{"a": 1}, b"rows", 7, None])
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(ConfigError, match="allowed is a path, a list or an iterator"):
        load(source)


def test_an_iterator_that_fails_is_reported_with_its_place() -> None:
    def broken() -> Iterator[Any]:
        yield from ROWS
        raise OSError("the line is dead")

    with pytest.raises(ConfigError, match="failed after 3 rows: OSError: the line is dead"):
        load(broken())


# Bad rows

DEEP = "[" * 100_000 + "]" * 100_000
BAD = b"\n".join(
    [
        b'{"q": "good"}',
        b"",  # 2
        b"null",
        b"{}",
        b'""',
        b"[]",
        b'{"q": "", "a": null}',
        b'{"q": "caf\xe9"}',  # 8
        b'{"q": "lone \\ud800"}',
        b"{not json}",  # 10
        DEEP.encode(),
        b'{"q": NaN}',  # 12
        b'{"q": 1e999}',
        b'{"q": "' + b"x" * LARGEST_ROW + b'"}',  # 14
        b'{"id": 1, "q": "one"}',
        b'{"id": "1", "q": "another"}',  # 16
        b'{"q": "last"}\r',
        b"",
        b"",
    ]
)
KINDS = {"empty": (2, 3, 4, 5, 6, 7), "utf8": (8, 9), "json": (10, 11), "number": (12, 13), "large": (14,), "id": (16,)}


def test_bad_rows_are_refused_with_counts_lines_and_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, "bad.jsonl", BAD))
    message = error.value.message
    assert message.startswith("the data has 14 bad rows: ")
    assert "6 empty (bad.jsonl, lines 2, 3, 4, 5, 6, 7)" in message
    assert "1 larger than 1 MB (bad.jsonl, line 14)" in message
    assert "2 not UTF-8" in message and "2 not JSON" in message and "2 with a number that is NaN" in message
    assert "1 with the id of another row and different content (bad.jsonl, line 16)" in message
    assert "skip_bad" in error.value.hint


def test_bad_rows_can_be_left_out_and_stand_in_the_report(tmp_path: Path) -> None:
    data = load(written(tmp_path, "bad.jsonl", BAD), skip_bad=True)
    assert [example.row["q"] for example in data.examples] == ["good", "one", "last"]
    assert {item.kind: item.numbers for item in data.report.bad} == KINDS
    assert data.report.read == 17
    sentences = data.divide().report.sentences()
    assert "17 rows were read." in sentences and "Left out: 2 not UTF-8 (bad.jsonl, lines 8, 9)." in sentences


def test_many_bad_rows_are_counted_and_the_first_ones_named() -> None:
    (bad,) = load([*[None] * 1000, "good"], skip_bad=True).report.bad
    assert (bad.count, bad.numbers) == (1000, tuple(range(1, 11)))
    assert str(bad) == "1000 empty (rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …)"


def test_bad_python_rows() -> None:
    looped: list[Any] = []
    looped.append(looped)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    given = [{1, 2}, object(), float("nan"), {"q": [float("inf")]}, looped, "x" * LARGEST_ROW, "\udfff", " ", deep]
    found = {item.kind: item.numbers for item in load([*given, "good"], skip_bad=True).report.bad}
    assert found == {"json": (1, 2, 5, 9), "number": (3, 4), "large": (6,), "utf8": (7,), "empty": (8,)}


def test_a_row_of_just_under_one_megabyte_is_read(tmp_path: Path) -> None:
    line = json.dumps("x" * (LARGEST_ROW - 2))
    assert len(load(written(tmp_path, "large.jsonl", line + "\r\n" + '"next"')).examples) == 2
    (bad,) = load(written(tmp_path, "large.jsonl", " " + line + '\n"next"'), skip_bad=True).report.bad
    assert (bad.kind, bad.numbers) == ("large", (1,))


def test_a_line_without_end_is_never_in_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write(b"x" * 2**20)
        file.write(b'\n"good"\n')
    tracemalloc.start()
    data = load(tmp_path / "bomb.jsonl.gz", skip_bad=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [example.row for example in data.examples] == ["good"] and peak < 10 * LARGEST_ROW


def test_bad_rows_of_a_csv_file(tmp_path: Path) -> None:
    content = [
        b"q,n",
        b"good,1",
        b"one,2,3",  # 3
        b"",
        b",",
        b"caf\xe9,6",
        b"x" * LARGEST_ROW + b",7",
        b"x" * 140_000 + b",8",
        b'"two\nlines",9',
        b'"a" b,11',
        b"fine,12",
        b'"open,13',
    ]
    data = load(written(tmp_path, "bad.csv", b"\n".join(content)), skip_bad=True)
    assert [example.row["n"] for example in data.examples] == [1, 9, 12]
    found = {item.kind: item.numbers for item in data.report.bad}
    assert found == {"columns": (3,), "empty": (4, 5), "utf8": (6,), "large": (7, 8), "csv": (11, 13)}


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300), st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.jsonl.gz"]))
def test_no_file_crashes_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), name, content)
    try:
        load(path, skip_bad=True).divide()
    except ConfigError as error:
        assert error.hint


def test_rows_of_a_json_list_are_numbered_as_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"1 empty \(rows.json, row 2\)"):
        load(written(tmp_path, "rows.json", '[\n"a",\n\nnull]'))
