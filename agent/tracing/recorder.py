"""The recorder behind `agent.trace`: it gathers spans while a program runs, and makes a trace of them.

What came from where is told by identity. The recorder keeps what ops return alive (up to `HELD` objects and
`HELD_BYTES` bytes, the newest), so an object that comes in as an argument is the one that went out. Numbers and
texts that Python shares, and objects too large to be kept, are told by their value, which is a guess.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from agent.tracing.previews import Look, elements, look, preview, shared
from agent.tracing.scopes import SCOPE, Scope

if TYPE_CHECKING:
    from agent.tracing.spans import Raised, Trace, Value

LIMIT = 100_000
"""Spans that a recorder keeps: the first half and the last, and as many that raised."""
HELD, HELD_BYTES = 50_000, 32 * 2**20
LARGE = 2**20
"""Bytes of an object that is not kept alive."""
NOTES, NOTE_CHARS, MESSAGE_CHARS, LINE_CHARS = 100, 2000, 500, 300
LEVELS = 16
"""How far out of a span a shared value may have come from."""


class Open:
    """A span while it is recorded."""

    __slots__ = (
        "feeds", "given", "id", "inputs", "kind", "name", "notes", "output", "parent", "raised", "reads", "seconds",
        "source", "start", "tokens",
    )  # fmt: skip

    def __init__(self, number: int, parent: Open | None, kind: str, name: str) -> None:
        self.id, self.parent, self.kind, self.name = number, parent, kind, name
        # Empty until something is there: the collector walks through every container of 100,000 spans.
        self.inputs: tuple[tuple[str, Look], ...] = ()
        self.output: Look | None = None
        self.raised: Raised | None = None
        self.reads: tuple[str, ...] = ()
        self.feeds: dict[int, bool] | None = None
        self.notes: tuple[str, ...] = ()
        self.tokens = (0, 0)
        self.seconds = 0.0
        self.source: Any = None  # the op, which knows its code
        self.given: set[int] | None = None  # what came in inside of something else
        self.start = time.perf_counter()

    def feed(self, source: int, exact: bool) -> None:
        """What another span returned came in."""
        if self.feeds is None:
            self.feeds = {}
        self.feeds[source] = exact or self.feeds.get(source, False)


class _Memory:
    """Which span an object came from, for the newest objects."""

    def __init__(self) -> None:
        self.young: dict[int, tuple[Any, Any]] = {}
        self.old: dict[int, tuple[Any, Any]] = {}
        self.bytes = 0

    def find(self, value: Any) -> Any:
        found = self.young.get(id(value)) or (self.old and self.old.get(id(value)))
        return found[1] if found and found[0] is value else None

    def hold(self, value: Any, origin: Any, size: int) -> None:
        self.young[id(value)] = value, origin
        self.bytes += size
        if self.bytes > HELD_BYTES // 2 or len(self.young) > HELD // 2:
            self.old, self.young, self.bytes = self.young, {}, 0


class Recorder:
    """Gathers spans; may be used by any number of threads and tasks at once."""

    def __init__(self, outer: Recorder | None = None, inside: Open | None = None) -> None:
        self.ended = False
        self.outer, self.inside = outer, inside
        self.count: Iterator[int] = outer.count if outer is not None else itertools.count()
        self.memory: _Memory = outer.memory if outer is not None else _Memory()
        self.params: _Memory = outer.params if outer is not None else _Memory()
        self.by_value: dict[Any, Any] = outer.by_value if outer is not None else {}
        self.first: list[Open] = []
        self.last: deque[Open] = deque(maxlen=LIMIT // 2)
        self.failed: list[Open] = []
        self.total = 0
        self.notes: list[str] = []
        self.start = time.perf_counter()

    def begin(
        self, scope: Scope, kind: str, name: str, inputs: Iterable[tuple[str, Any]], owner: Any = None
    ) -> tuple[Open, Scope]:
        """A new span and the scope inside of it.

        Args:
            scope: Where it is called.
            kind: As in `Span`.
            name: As in `Span`.
            inputs: Names and values of the arguments.
            owner: The object whose method it is.
        """
        span = Open(next(self.count), scope.span, kind, name)
        looks = []
        for argument, value in inputs:
            looks.append((argument, _look(value)))
            self._came_in(span, value)
        span.inputs = tuple(looks)
        if owner is not None:
            self._came_in(span, owner)
        self._keep(span)
        span.start = time.perf_counter()
        return span, Scope(self, span, scope.values, scope.checked, scope)

    def _keep(self, span: Open) -> None:
        self.total += 1
        (self.first if len(self.first) < LIMIT // 2 else self.last).append(span)

    def end(self, span: Open, result: Any) -> None:
        """The span returned."""
        span.seconds = time.perf_counter() - span.start
        span.output = found = _look(result)
        if span.given is None or id(result) not in span.given:  # what was there before did not come from here
            self.came_from(span, result, found)
        span.given = None

    def came_from(self, span: Open, value: Any, found: Look | None = None) -> None:
        """A value left a span."""
        if self.ended:
            return
        if shared(value):
            self._by_value((type(value), value), span)
            return
        parts = elements(value)
        size = _size(value) + sum(map(_size, parts)) if parts else _size(value)
        if size > LARGE:
            self._by_value(found or _look(value), span)
            return
        self.memory.hold(value, span, size)
        for part in parts:
            if not shared(part) and self.memory.find(part) is None:
                self.memory.hold(part, span, 0)

    def _by_value(self, key: Any, origin: Any) -> None:
        if len(self.by_value) > HELD:
            self.by_value.clear()
        self.by_value[key] = origin

    def _came_in(self, span: Open, value: Any) -> None:
        if shared(value):
            source = self.by_value.get((type(value), value))
            if source is not None and _around(source, span):
                span.feed(source.id, False)
            if value is not None and type(value) is not bool:
                self._read(span, self.by_value.get(("param", type(value), value)))
            return
        source = self.memory.find(value)
        if source is not None:
            span.feed(source.id, True)
        elif self.by_value and _size(value) > LARGE:
            source = self.by_value.get(_look(value))
            if source is not None:
                span.feed(source.id, False)
        params = self.params if self.params.young else None
        if params is not None:
            self._read(span, params.find(value))
        for part in elements(value):
            if not shared(part):
                if span.given is None:
                    span.given = set()
                span.given.add(id(part))
                source = self.memory.find(part)
                if source is not None:
                    span.feed(source.id, True)
                if params is not None:
                    self._read(span, params.find(part))

    def _read(self, span: Open, name: str | None) -> None:
        if name is not None and name not in span.reads:
            span.reads = (*span.reads, name)

    def read(self, span: Open | None, name: str, value: Any) -> None:
        """A parameter's value was read."""
        if span is not None:
            self._read(span, name)
        if shared(value):
            self._by_value(("param", type(value), value), name)
        else:
            self.params.hold(value, name, 0)

    def note(self, span: Open | None, text: str) -> None:
        """Something was noted."""
        if span is None and len(self.notes) < NOTES:
            self.notes.append(text[:NOTE_CHARS])
        elif span is not None and len(span.notes) < NOTES:
            span.notes = (*span.notes, text[:NOTE_CHARS])

    def fail(self, span: Open, error: BaseException, passed: bool) -> None:
        """The span raised.

        Args:
            span: The span.
            error: What it raised.
            passed: Whether it came out of a span inside, which has the failing line.
        """
        span.seconds = time.perf_counter() - span.start
        span.raised = raised(error, not passed)
        span.given = None
        if len(self.failed) < LIMIT:
            self.failed.append(span)

    def finish(self) -> None:
        """Nothing is recorded any more, and nothing is kept alive; a recorder around this one has its spans too."""
        self.ended = True
        if self.outer is None:
            self.memory, self.params, self.by_value = _Memory(), _Memory(), {}
            return
        outer, mine = self.outer, {id(span): span for span in (*self.first, *self.last)}
        for span in mine.values():
            span.parent = span.parent or self.inside
            outer._keep(span)
        outer.total += self.total - len(mine)
        outer.failed.extend(self.failed[: LIMIT - len(outer.failed)])
        for text in self.notes:
            outer.note(self.inside, text)

    def trace(self) -> Trace:
        """What was recorded so far. Secrets are masked; see `agent.redact`."""
        from hashlib import blake2b

        from agent.redact import fragments, redact
        from agent.tracing.spans import Raised, Span, Trace

        def clean(text: str) -> str:
            return fragments(redact(text))

        unique = {span.id: span for span in (*self.first, *self.failed, *self.last)}
        spans = [unique[number] for number in sorted(unique)]
        base = spans[0].id if spans else 0
        keys: dict[Look, str] = {}
        values: dict[str, Value] = {}

        def key(found: Look) -> str:
            known = keys.get(found)
            if known is None:
                text = "\0".join(map(str, found)).encode("utf-8", "surrogatepass")
                known = keys[found] = blake2b(text, digest_size=8).hexdigest()
                values[known] = preview(found, clean)
            return known

        def mask(error: Raised | None) -> Raised | None:
            if error is None:
                return None
            return Raised(error.type, clean(error.message), error.file, error.line, clean(error.text))

        made, code = [], {}
        for span in spans:
            parent = span.parent
            while parent is not None and parent.id not in unique:
                parent = parent.parent
            made.append(
                Span(
                    span.id - base,
                    None if parent is None else parent.id - base,
                    span.kind,
                    span.name,
                    {name: key(found) for name, found in span.inputs},
                    "" if span.output is None else key(span.output),
                    mask(span.raised),
                    span.reads,
                    tuple(sorted((i - base, exact) for i, exact in (span.feeds or {}).items() if i in unique)),
                    tuple(map(clean, span.notes)) if span.notes else (),
                    max(0.0, span.start - self.start),
                    span.seconds,
                    span.tokens,
                )
            )
            if span.source is not None and span.name not in code and (text := span.source.code):
                code[span.name] = clean(text)
        dropped = max(0, self.total - len(spans))
        return Trace(tuple(made), values, tuple(map(clean, self.notes)), dropped, code)


def raised(error: BaseException, line: bool = True) -> Raised:
    """The stored form of an exception; with the failing line of the user's own code, or without."""
    from agent.tracing.spans import Raised

    known = getattr(error, "raised", None)
    if line and isinstance(known, Raised):
        return known
    try:
        message = str(error)[:MESSAGE_CHARS]
    except (Exception, SystemExit):  # the user's own __str__
        message = ""
    kind = type(error).__name__
    if not line:
        return Raised(kind, message)
    import linecache

    theirs, nearest = ("", 0), ("", 0)  # an installed package may be all that there is
    place = error.__traceback__
    while place is not None:
        name = place.tb_frame.f_code.co_filename
        if not name.startswith(OURS):
            packaged = "-packages" in name
            if packaged:
                nearest = name, place.tb_lineno
            elif not name.startswith(_NOT_THEIRS):
                theirs = name, place.tb_lineno
        place = place.tb_next
    file, number = theirs if theirs[0] else nearest
    return Raised(kind, message, file, number, linecache.getline(file, number).strip()[:LINE_CHARS])


OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_NOT_THEIRS = (OURS, os.path.dirname(os.__file__) + os.sep, "<frozen")
_PLAIN = (str, int, float, bool, type(None))


def _look(value: Any) -> Look:
    if type(value) in _PLAIN:
        return look(value)
    scope = SCOPE.get()
    SCOPE.set(None)  # what the user's own __repr__ calls is not part of the program
    try:
        return look(value)
    finally:
        SCOPE.set(scope)


def _size(value: Any) -> int:
    try:
        kind = type(value)
        if kind not in _PLAIN and hasattr(kind, "nbytes"):  # an array, whose data lie elsewhere, maybe in another one
            return int(max(value.nbytes, getattr(getattr(value, "base", None), "nbytes", 0)))
        return sys.getsizeof(value)
    except Exception:  # the user's own __sizeof__
        return LARGE + 1


def _around(source: Open, span: Open) -> bool:
    """Whether what a span returned could be seen where another one was called."""
    place = span.parent
    for _ in range(LEVELS):
        if source.parent is place:
            return True
        if place is None:
            return False
        place = place.parent
    return False
