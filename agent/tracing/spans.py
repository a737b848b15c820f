"""What a traced program did, as plain data: spans, the values that went through them, and how to read them.

A trace is flat: a tuple of spans in the order in which they began. A span names its parent, and each value
is stored once, under the hash of its content, as a preview of bounded length. `agent.trace` records traces.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

PREVIEW = 600
"""Most characters of a value that are kept: its head and its tail."""
NAME = 200
"""Characters of a name."""
LINE, INDENT = 60, 20
"""Of `Trace.show`: characters of a value in a line, and levels after which it indents no further."""


UNITS = {"bytes": "bytes", "bytearray": "bytes"} | dict.fromkeys(("list", "tuple", "dict", "set", "frozenset"), "items")


def unit(kind: str) -> str:
    """In what the size of a value of this type is told."""
    return UNITS.get(kind, "characters")


def shorten(head: str, tail: str, size: str, limit: int = PREVIEW) -> str:
    """A text of at most `limit` characters for a longer one, of which `head` and `tail` are the two ends.

    Args:
        head: At least the first `limit` characters, or all of them.
        tail: Its last characters; "" when `head` is the whole text.
        size: Of the whole, in words: "3,000 characters".
        limit: Characters that the result may have, 40 or more.
    """
    if not tail and len(head) <= limit:
        return head
    tail = tail or head
    gap = f" …[{size}]… "
    front = (limit - len(gap)) * 2 // 3
    back = limit - len(gap) - front
    return head[:front] + gap + tail[-back:]


@dataclass(frozen=True, slots=True)
class Value:
    """A value that went through a span.

    Args:
        type: Name of its Python type: "str", "list", "Row" …
        size: Of the whole: characters of a text, bytes, items of a container; else the length of its repr as far as it
            was looked at.
        text: Preview: the text itself or the repr, head and tail, at most `PREVIEW` characters.
    """

    type: str
    size: int
    text: str

    def line(self, limit: int = LINE) -> str:
        """The value in one line without control characters; a text is in quotes."""
        text = self.text
        if len(text) > limit:
            text = shorten(text, "", f"{self.size:,} {unit(self.type)}", limit)
        return plain(json.dumps(text, ensure_ascii=False) if self.type == "str" else text)


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception, and the line of the user's own code that failed.

    Args:
        type: Name of the exception's class.
        message: Its text, capped.
        file: File of the failing line; "" where it is not known.
        line: Its number, from 1; 0 where it is not known.
        text: The line itself.
    """

    type: str
    message: str
    file: str = ""
    line: int = 0
    text: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Raised:
        """What a span's JSON has of it."""
        kind, message, file, text = (str(data.get(name, "")) for name in ("type", "message", "file", "text"))
        return cls(kind, message, file, int(data.get("line", 0)), text)

    def __str__(self) -> str:
        where = f" at {self.file}:{self.line}" if self.file else ""
        code = f": {self.text}" if self.text else ""
        return plain(f"{self.type}: {self.message}{where}{code}")


@dataclass(frozen=True, slots=True)
class Span:
    """One call that was recorded.

    Args:
        id: Number of the span, in the order in which they began, from 0.
        parent: The span in which it was called, or None.
        kind: "op", "llm" or "tool".
        name: Qualified name of the function, or of the model.
        inputs: Argument name → hash in `Trace.values`.
        output: Hash of what it returned; "" when it raised or has not ended.
        raised: What it raised, or None. The spans around the one that failed have it too, without the line.
        reads: Names of the parameters whose value it read, or that came in as an argument.
        feeds: Earlier spans whose output came in, with True when it was that very object, False when
            it is a guess: small numbers and short texts are the same object wherever they come from.
        notes: What the program noted while it was innermost.
        start: Seconds after the beginning of the trace.
        seconds: How long it took.
        tokens: Input and output tokens of a model call.
    """

    id: int
    parent: int | None
    kind: str
    name: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    output: str = ""
    raised: Raised | None = None
    reads: tuple[str, ...] = ()
    feeds: tuple[tuple[int, bool], ...] = ()
    notes: tuple[str, ...] = ()
    start: float = 0.0
    seconds: float = 0.0
    tokens: tuple[int, int] = (0, 0)

    def to_json(self) -> dict[str, Any]:
        """The span as JSON, without fields that hold nothing."""
        out: dict[str, Any] = {"id": self.id, "kind": self.kind, "name": self.name, "inputs": dict(self.inputs)}
        if self.parent is not None:
            out["parent"] = self.parent
        if self.output:
            out["output"] = self.output
        if self.raised is not None:
            out["raised"] = {f.name: value for f in fields(Raised) if (value := getattr(self.raised, f.name))}
        for name in ("reads", "notes"):
            if items := getattr(self, name):
                out[name] = list(items)
        if self.feeds:
            out["feeds"] = [list(feed) for feed in self.feeds]
        out["start"], out["seconds"] = round(self.start, 6), round(self.seconds, 6)
        if any(self.tokens):
            out["tokens"] = list(self.tokens)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Span:
        """The span that `to_json` wrote; a worker may have sent anything.

        Raises:
            TypeError, ValueError, KeyError: It is none.
        """
        parent, raised = data.get("parent"), data.get("raised")
        return cls(
            id=int(data["id"]),
            parent=None if parent is None else int(parent),
            kind=str(data["kind"])[:NAME],
            name=str(data["name"])[:NAME],
            inputs={str(name)[:NAME]: str(key) for name, key in data["inputs"].items()},
            output=str(data.get("output", "")),
            raised=None if raised is None else Raised.from_json(raised),
            reads=tuple(str(name) for name in data.get("reads", ())),
            notes=tuple(str(text) for text in data.get("notes", ())),
            feeds=tuple((int(a), bool(exact)) for a, exact in data.get("feeds", ())),
            start=float(data.get("start", 0.0)),
            seconds=float(data.get("seconds", 0.0)),
            tokens=_pair(data.get("tokens", (0, 0))),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Trace:
    """What a program did, from the beginning of a recording to its end.

    Args:
        spans: In the order in which they began.
        values: Hash of the content → value.
        notes: What was noted outside of any span.
        dropped: Spans that are left out: the first and the last are kept, and those that raised.
        code: Name of an op → its source text, capped.
    """

    spans: tuple[Span, ...] = ()
    values: Mapping[str, Value] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    dropped: int = 0
    code: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The trace as JSON; a value is `[type, size, text]`."""
        out: dict[str, Any] = {
            "spans": [span.to_json() for span in self.spans],
            "values": {key: [value.type, value.size, value.text] for key, value in self.values.items()},
        }
        if self.notes:
            out["notes"] = list(self.notes)
        if self.dropped:
            out["dropped"] = self.dropped
        if self.code:
            out["code"] = dict(self.code)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trace:
        """The trace that `to_json` wrote.

        Raises:
            ValueError: It is not one.
        """
        try:
            out = cls(
                spans=tuple(Span.from_json(item) for item in data.get("spans", ())),
                values={str(k): Value(str(kind), int(n), str(text)) for k, (kind, n, text) in data["values"].items()},
                notes=tuple(map(str, data.get("notes", ()))),
                dropped=int(data.get("dropped", 0)),
                code={str(name): str(text) for name, text in data.get("code", {}).items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not a trace: {error!r}") from None
        last = -1
        for span in out.spans:
            if span.id <= last:
                raise ValueError("this is not a trace: its spans are not in order")
            last = span.id
            if any(
                i >= span.id for i in (*([] if span.parent is None else [span.parent]), *(i for i, _ in span.feeds))
            ):
                raise ValueError(f"this is not a trace: span {span.id} begins before what it comes from")
        return out

    def __repr__(self) -> str:
        raised = sum(span.raised is not None for span in self.spans)
        return f"<Trace of {len(self.spans):,} spans, {raised:,} raised; print(trace.show())>"

    def failing(self) -> tuple[Span, ...]:
        """The spans that raised, each exception's innermost span before those around it."""
        return tuple(
            sorted((s for s in self.spans if s.raised), key=lambda s: (not s.raised or not s.raised.line, s.id))
        )

    def subgraph(self, params: Collection[str]) -> tuple[Span, ...]:
        """The spans on paths from reads of these parameters to the end.

        A path follows outputs into the spans that they feed, and a span into the one around it. The end is
        the failure that ended the program, with everything that led to it; else every outermost span.
        """
        wanted = {str(getattr(item, "name", item)) for item in params}
        follow: dict[int, list[int]] = {}
        for span in self.spans:
            for source, _ in span.feeds:
                follow.setdefault(source, []).append(span.id)
            if span.parent is not None:
                follow.setdefault(span.id, []).append(span.parent)
        reached = _closure((s.id for s in self.spans if wanted.intersection(s.reads)), follow)
        ends = self._ends()
        before: dict[int, list[int]] = {}
        for source, targets in follow.items():
            for target in targets:
                before.setdefault(target, []).append(source)
        leads = _closure(ends, before)
        return tuple(s for s in self.spans if s.id in reached and s.id in leads)

    def _ends(self) -> list[int]:
        outer = [span for span in self.spans if span.parent is None]
        return [span.id for span in (outer[-1:] if outer and outer[-1].raised else outer)]

    def show(self, span: int | None = None) -> str:
        """The trace as text, one line for each span, indented by its parents; or one span in detail.

        Args:
            span: Id of the span to show in detail.

        Raises:
            KeyError: There is no such span.
        """
        if span is not None:
            return "\n".join(self._detail({item.id: item for item in self.spans}[span]))
        lines = [plain(f"note: {text}") for text in self.notes]
        depth: dict[int, int] = {}
        for item in self.spans:
            depth[item.id] = depth.get(item.parent, -1) + 1 if item.parent is not None else 0
            lines.append("  " * min(depth[item.id], INDENT) + self.line(item))
        if self.dropped:
            lines.append(f"({self.dropped:,} spans are left out between the first and the last)")
        return "\n".join(lines)

    def line(self, span: Span) -> str:
        """A span in one line: `#id name(inputs) → output`, and what it read, was fed, noted or raised."""
        kind = "" if span.kind == "op" else f"{span.kind} "
        inputs = ", ".join(f"{plain(name)}={self._short(key)}" for name, key in span.inputs.items())
        out = [f"#{span.id} {kind}{plain(span.name)}({inputs})"]
        if span.raised:
            out.append(f"raised {span.raised}")
        elif span.output:
            out.append(f"→ {self._short(span.output)}")
        else:
            out.append("has not ended")
        out.append(f"[{span.seconds * 1000:.3g} ms]")
        if any(span.tokens):
            out.append(f"[{span.tokens[0]:,} + {span.tokens[1]:,} tokens]")
        if span.reads:
            out.append(f"reads {', '.join(map(plain, span.reads))}")
        if span.feeds:
            out.append(f"from {', '.join(f'#{i}' + ('' if exact else '?') for i, exact in span.feeds)}")
        out.extend(f"note: {plain(text)}" for text in span.notes)
        return " ".join(out)

    def _short(self, key: str) -> str:
        value = self.values.get(key)
        return "…" if value is None else value.line()

    def _detail(self, span: Span) -> Iterator[str]:
        yield self.line(replace(span, inputs={}, notes=()))
        for name, key in (*span.inputs.items(), ("→", span.output)):
            value = self.values.get(key)
            if value is not None:
                yield f"{plain(name)} ({plain(value.type)}, {value.size:,} {unit(value.type)}):"
                yield "\n".join("    " + plain(line) for line in value.text.splitlines())
        for text in span.notes:
            yield plain(f"note: {text}")

    def search(self, text: str) -> tuple[Span, ...]:
        """The spans in whose name, values, notes, parameters or exception a text occurs, in any case."""
        wanted = text.casefold()
        hits = {key for key, value in self.values.items() if wanted in value.text.casefold()}

        def fits(span: Span) -> bool:
            if span.output in hits or not hits.isdisjoint(span.inputs.values()):
                return True
            words = (span.name, *span.reads, *span.notes, str(span.raised or ""), *span.inputs)
            return any(wanted in word.casefold() for word in words)

        return tuple(filter(fits, self.spans))


def plain(text: str) -> str:
    """A text in one line: control and invisible characters, which may be hostile, as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _pair(tokens: Iterable[int]) -> tuple[int, int]:
    used, written = tokens
    return int(used), int(written)


def _closure(start: Iterable[int], edges: Mapping[int, list[int]]) -> set[int]:
    found = set(start)
    waiting = [*found]
    while waiting:
        for target in edges.get(waiting.pop(), ()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found
