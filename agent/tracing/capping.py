"""A trace cut down to a bounded size, so that a program that loops does not fill a journal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from agent.tracing.spans import Span, Trace

CHARS = 200_000
"""Most characters of a trace as JSON in an output."""
SMALL = 400
"""Characters that a span takes at least, about."""


def capped(trace: Trace, chars: int = CHARS) -> Trace:
    """The trace with so many spans that its JSON has at most `chars` characters.

    Spans that raised come first, then the first and the last in turn, and the spans around those that
    stay take the place of dropped parents.
    """
    code = _fitting(trace.code.items(), chars // 5)
    notes = tuple(text for _, text in _fitting(enumerate(trace.notes), chars // 5).items())
    room = chars - 200 - sum(len(json.dumps(item)) + 6 for item in (*code.items(), *notes))
    kept: set[int] = set()
    seen: set[str] = set()
    slim = {span.id: _slim(span, chars // 20) for span in trace.spans}
    for span in map(slim.__getitem__, (item.id for item in _by_need(trace.spans))):
        keys = {*span.inputs.values(), span.output} & trace.values.keys()
        cost = len(json.dumps(span.to_json())) + 2
        for key in keys - seen:
            value = trace.values[key]
            cost += len(json.dumps([key, value.type, value.size, value.text])) + 4
        if cost > room:
            if room < SMALL:
                break
            continue
        room -= cost
        kept.add(span.id)
        seen |= keys
    spans = tuple(slim[span.id] for span in trace.spans)
    if len(kept) == len(trace.spans):
        return replace(trace, spans=spans, code=code, notes=notes)
    return replace(
        trace,
        spans=tuple(_among(spans, kept)),
        values={key: value for key, value in trace.values.items() if key in seen},
        notes=notes,
        dropped=trace.dropped + len(trace.spans) - len(kept),
        code=code,
    )


def _slim(span: Span, chars: int) -> Span:
    """A span that takes no more than so many characters, about: some of its notes, arguments and reads."""
    if len(span.notes) + len(span.inputs) + len(span.reads) < 8 or len(json.dumps(span.to_json())) <= chars:
        return span
    notes = [text[: chars // 8] for text in (*span.notes[:2], *span.notes[-1:])]
    if len(span.notes) > 3:
        notes.insert(2, f"… {len(span.notes) - 3} more notes")
    few = max(4, chars // 200)
    inputs = dict(list(span.inputs.items())[:few])
    return replace(span, notes=tuple(notes), inputs=inputs, reads=span.reads[:few], feeds=span.feeds[: 4 * few])


def _by_need(spans: tuple[Span, ...]) -> Iterator[Span]:
    yield from (span for span in spans if span.raised)
    rest = [span for span in spans if not span.raised]
    for i in range((len(rest) + 1) // 2):
        yield rest[i]
        if len(rest) - 1 - i > i:
            yield rest[len(rest) - 1 - i]


def _among(spans: tuple[Span, ...], kept: set[int]) -> Iterator[Span]:
    """The spans that are kept, with edges only to one another."""
    around: dict[int, int | None] = {}  # nearest kept span, from outside in
    for span in spans:
        parent = span.parent
        if parent is not None and parent not in kept:
            parent = around.get(parent)
        around[span.id] = parent
        if span.id in kept:
            yield replace(span, parent=parent, feeds=tuple(feed for feed in span.feeds if feed[0] in kept))


def _fitting(items: Iterable[tuple[Any, str]], chars: int) -> dict[Any, str]:
    out = {}
    for name, text in items:
        chars -= len(json.dumps([name, text]))
        if chars < 0:
            break
        out[name] = text
    return out
