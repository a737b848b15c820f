"""Reading a trace: subgraphs, failures, search, text, and the cap on its size."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.tracing.capping import capped
from agent.tracing.spans import PREVIEW, Raised, Span, Trace, Value, shorten

OUCH = Raised("ZeroDivisionError", "division by zero", "app.py", 7, "return 1 / x")


def chain(n: int) -> Trace:
    """n spans, each fed by the one before; the first one reads the parameter `limit`."""
    spans = [
        Span(i, None, "op", f"f{i}", {"x": f"v{i}"}, f"v{i + 1}", feeds=((i - 1, True),) if i else ()) for i in range(n)
    ]
    spans[0] = replace(spans[0], reads=("limit",))
    return Trace(tuple(spans), {f"v{i}": Value("int", len(str(i)), str(i)) for i in range(n + 1)})


PROGRAM = Trace(
    spans=(
        Span(0, None, "op", "main", {"q": "q"}, "good"),
        Span(1, 0, "op", "load", {"q": "q"}, "rows"),
        Span(2, 0, "op", "pick", {"rows": "rows"}, "row", reads=("limit",), feeds=((1, True),)),
        Span(3, 0, "op", "unrelated", {}, "q", reads=("other",)),
        Span(4, 0, "llm", "answer", {"row": "row"}, "good", feeds=((2, False),), notes=("short",), tokens=(10, 2)),
    ),
    values={
        "q": Value("str", 5, "where"),
        "rows": Value("list", 9, "[1, 2, 3]"),
        "row": Value("int", 1, "3"),
        "good": Value("str", 3, "Oslo"),
    },
    notes=("begin",),
    code={"load": "def load(q): ..."},
)


def test_json_keeps_everything() -> None:
    assert Trace.from_json(json.loads(json.dumps(PROGRAM.to_json()))) == PROGRAM
    failed = Trace((Span(0, None, "op", "f", {}, raised=OUCH, start=0.5, seconds=2.0),), {}, dropped=3)
    assert Trace.from_json(json.loads(json.dumps(failed.to_json()))) == failed


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"spans": [{}], "values": {}},
        {"spans": 3, "values": {}},
        {"spans": [], "values": {"a": ["str"]}},
        {"spans": [{"id": 1, "kind": "op", "name": "f", "parent": 1}], "values": {}},
        {"spans": [{"id": 1, "kind": "op", "name": "f", "feeds": [[2, True]]}], "values": {}},
        {"spans": [{"id": 1, "kind": "op", "name": "f"}, {"id": 1, "kind": "op", "name": "g"}], "values": {}},
    ],
)
def test_what_is_not_a_trace_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a trace"):
        Trace.from_json(broken)


def test_a_subgraph_holds_what_the_parameter_reaches_and_what_is_around_it() -> None:
    assert [s.name for s in PROGRAM.subgraph({"limit"})] == ["main", "pick", "answer"]
    assert [s.name for s in PROGRAM.subgraph({"other"})] == ["main", "unrelated"]
    assert [s.id for s in PROGRAM.subgraph({"limit", "other"})] == [0, 2, 3, 4]
    assert PROGRAM.subgraph({"nobody"}) == ()


def test_the_subgraph_of_a_failure_leaves_out_what_did_not_lead_to_it() -> None:
    spans = (
        Span(0, None, "op", "a", {}, "x", reads=("p",)),
        Span(1, None, "op", "b", {}, "x", reads=("p",)),
        Span(2, None, "op", "c", {}, raised=OUCH, feeds=((0, True),)),
    )
    assert [s.name for s in Trace(spans, {}).subgraph({"p"})] == ["a", "c"]


def test_a_long_chain_is_walked_without_recursion() -> None:
    assert len(chain(5000).subgraph({"limit"})) == 5000
    nested = Trace(tuple(Span(i, i - 1 if i else None, "op", "f") for i in range(5000)), {})
    assert nested.show().count("\n") == 4999


def test_failing_gives_the_innermost_first() -> None:
    outer = Raised("ZeroDivisionError", "division by zero")
    spans = (Span(0, None, "op", "a", raised=outer), Span(1, 0, "op", "b", raised=OUCH), Span(2, None, "op", "c"))
    assert [s.name for s in Trace(spans, {}).failing()] == ["b", "a"]


def test_show_is_one_indented_line_a_span() -> None:
    lines = PROGRAM.show().splitlines()
    assert lines[0] == "note: begin"
    assert lines[1].startswith('#0 main(q="where") → "Oslo"')
    assert lines[3].startswith("  #2 pick(rows=[1, 2, 3]) → 3") and lines[3].endswith("reads limit from #1")
    assert "llm answer(row=3)" in lines[5] and "[10 + 2 tokens]" in lines[5] and "from #2? note: short" in lines[5]
    assert (
        "raised ZeroDivisionError: division by zero at app.py:7: return 1 / x"
        in Trace((Span(0, None, "op", "f", raised=OUCH),), {}).show()
    )


def test_one_span_in_detail() -> None:
    text = PROGRAM.show(4)
    assert "row (int, 1 characters):\n    3" in text and text.endswith("note: short")
    with pytest.raises(KeyError):
        PROGRAM.show(99)


def test_hostile_text_moves_no_cursor() -> None:
    hostile = "\x1b[2J\r\u202eevil\n#9 fake() → 1"
    spans = (Span(0, None, "op", hostile, {hostile: "v"}, "w", Raised(hostile, hostile), (hostile,), notes=(hostile,)),)
    trace = Trace(spans, {"v": Value("str", 9, hostile), "w": Value("list", 9, hostile)}, (hostile,))
    for text in (trace.show(), trace.show(0)):
        assert not set("\x1b\r\u202e") & set(text)
    assert len(trace.show().splitlines()) == 2


def test_search_looks_into_everything() -> None:
    assert [s.id for s in PROGRAM.search("OSLO")] == [0, 4]
    assert [s.id for s in PROGRAM.search("limit")] == [2]
    assert [s.id for s in PROGRAM.search("short")] == [4]
    assert PROGRAM.search("nowhere else") == ()


@pytest.mark.parametrize("size", [10, PREVIEW, PREVIEW + 1, 5000])
def test_a_preview_has_head_and_tail(size: int) -> None:
    text = "a" * (size - 3) + "end"
    cut = shorten(text, "", size)
    assert len(cut) <= PREVIEW and cut.startswith("aaa") and cut.endswith("end")
    assert (cut == text) == (size <= PREVIEW)


def test_a_cap_keeps_the_first_the_last_and_what_raised() -> None:
    big = chain(2000)
    spans = list(big.spans)
    spans[1000] = replace(spans[1000], raised=OUCH, output="", parent=999)
    spans[999] = replace(spans[999], parent=0)
    small = capped(replace(big, spans=tuple(spans)), 20_000)
    ids = [s.id for s in small.spans]
    assert len(json.dumps(small.to_json())) <= 20_000
    assert ids[0] == 0 and ids[-1] == 1999 and 1000 in ids and 999 not in ids
    assert small.dropped == 2000 - len(ids) > 1500
    assert small.spans[ids.index(1000)].parent == 0  # 999 is gone, the one around it is not
    assert Trace.from_json(small.to_json()) == small
    assert "spans are left out" in small.show()
    assert {key for s in small.spans for key in s.inputs.values()} <= small.values.keys()


def test_a_cap_holds_for_notes_and_code_and_one_huge_span_too() -> None:
    huge = replace(PROGRAM, notes=("n" * 9000,) * 50, code={f"f{i}": "x" * 9000 for i in range(50)})
    assert len(json.dumps(capped(huge, 30_000).to_json())) <= 30_000
    assert len(capped(huge, 30_000).spans) == len(PROGRAM.spans)
    many = Trace((Span(0, None, "op", "f", {f"a{i}": "v" for i in range(9000)}),), {})
    (slim,) = capped(many, 2000).spans
    assert 4 <= len(slim.inputs) < 9000 and len(json.dumps(capped(many, 2000).to_json())) <= 2000


def test_one_huge_span_does_not_take_the_place_of_the_others() -> None:
    """Above all not of what failed, nor by what a program notes there."""
    loud = Span(9, None, "op", "loud", notes=tuple(f"{n} " + "é" * 2000 for n in range(100)), raised=Raised("E", "m"))
    kept = capped(replace(PROGRAM, spans=(*PROGRAM.spans, replace(loud, id=PROGRAM.spans[-1].id + 1))), 60_000)
    assert [span.name for span in kept.spans][-1] == "loud" and len(kept.spans) == len(PROGRAM.spans) + 1
    assert any("97 more notes" in text for text in kept.spans[-1].notes)


def test_what_a_worker_sends_is_checked() -> None:
    good = PROGRAM.to_json()
    for broken in ({"reads": [1]}, {"name": "x" * 10**6}, {"seconds": "soon"}, {"inputs": ["a"]}, {"kind": None}):
        spans = [{**good["spans"][0], **broken}, *good["spans"][1:]]
        try:
            found = Trace.from_json({**good, "spans": spans})
        except ValueError as error:
            assert "this is not a trace" in str(error)
        else:
            found.show(), found.search("x"), found.subgraph(["prompt"])
            assert len(found.spans[0].name) <= 200
    assert capped(PROGRAM) == PROGRAM
