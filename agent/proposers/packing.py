"""Evidence under a token budget: what happened on a few rows, in as much detail as fits and no more.

Spans that raised come first, repeats are folded into one line ("×97, e.g. …"), values show head and tail. Where the
budget is short, values get shorter, then kinds of calls are folded, then calls that read no parameter are left out,
and the text says how many. Its length is bounded by the budget however long the trace is. Tokens are counted as the
ledger does (`agent.llm.estimate.text_bound`), which is more than any model counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.code.untrusted import cleaned
from agent.llm.estimate import text_bound
from agent.tracing.spans import plain

if TYPE_CHECKING:
    from agent.tracing.spans import Span, Trace

DETAIL = ((8, 300), (8, 100), (1, 300), (1, 100), (1, 40))
"""Tried in this order until everything fits: the most calls of one kind that stand apart, characters of a value."""
MORE = 60
"""Tokens kept for the line that tells what was left out."""
SOURCE = 900
"""Characters of one function's source."""
NOTES = 3
"""Notes of one call."""
WORDS = 4000
"""Characters of a feedback or of a row that are looked at."""


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement of a candidate.

    Args:
        title: Which, and what came of it: "row q7: 0.25".
        content: Of its row; "" where there is none.
        words: The evaluator's feedback, or why it failed.
        trace: What happened, where that is known.
    """

    title: str
    content: str = ""
    words: str = ""
    trace: Trace | None = None


def packed(cases: Sequence[Case], names: Collection[str], tokens: int) -> str:
    """All cases in at most so many tokens; what one does not need, the next ones get.

    Args:
        cases: The most telling first.
        names: Parameters; calls that have nothing to do with any of them are left out.
        tokens: At least 0.
    """
    code = sources([case.trace for case in cases if case.trace is not None], names, tokens // 4)
    left = tokens - text_bound(code) - 1
    parts = []
    for place, case in enumerate(cases):
        part = _case(case, names, left // (len(cases) - place) - 1)
        left -= text_bound(part) + 1
        parts.append(part)
    return "\n".join(part for part in [*parts, code] if part)


def _case(case: Case, names: Collection[str], tokens: int) -> str:
    head = cut(plain(ends(case.title, 200)), tokens // 4)
    left = tokens - text_bound(head) - 4
    share = left // 2 if case.trace is not None else left
    words = cut(cleaned(f"feedback: {case.words}", WORDS), share // 2 if case.content else share) if case.words else ""
    share = min(share, left) - text_bound(words)
    content = cut(plain(ends(f"row: {case.content}", WORDS)), share) if case.content else ""
    left -= text_bound(words) + text_bound(content)
    body = spans(case.trace, names, left) if case.trace is not None else ""
    return "\n".join(part for part in (head, content, words, body) if part)


def cut(text: str, tokens: int) -> str:
    """The head and the tail of a text, in at most so many tokens; "" where not even a mark fits."""
    if text_bound(text) <= tokens:
        return text
    room = 2 * tokens
    while room > 8:
        short = ends(text, room)
        found = text_bound(short)
        if found <= tokens:
            return short
        room = min(room - 1, room * tokens // found)
    return ""


def ends(text: str, most: int) -> str:
    """A text of at most `most` characters: its head, …, and its tail."""
    if len(text) <= most:
        return text
    tail = (most - 3) // 3
    return f"{text[: most - 3 - tail]} … {text[len(text) - tail :]}" if most > 8 else text[:most]


def relevant(trace: Trace, names: Collection[str]) -> tuple[Span, ...]:
    """The spans between the parameters and the result, and those that raised; all where no parameter was read."""
    chosen = {span.id: span for span in (*trace.subgraph(names), *trace.failing())}
    return tuple(chosen[key] for key in sorted(chosen)) or trace.spans


def spans(trace: Trace, names: Collection[str], tokens: int) -> str:
    """The spans of a trace that matter for some parameters, in at most so many tokens.

    Each line is a call: its number, the call it was made in, its arguments (and the call that they came from), what
    it gave or raised, the parameters that it read, and its notes.
    """
    chosen = relevant(trace, names)
    by_id = {span.id: span for span in trace.spans}
    told = {span.id: span for span in chosen}
    lines: dict[int, tuple[tuple[bool, bool], str]] = {}
    groups: list[list[Span]] = []
    for apart, chars in DETAIL:
        groups = _groups(chosen, by_id, apart)
        order = sorted(groups, key=lambda group: _rank(group[0]))
        lines, left = {}, tokens - MORE
        for group in order:
            text = _line(group, trace, told, chars)
            if (apart, chars) == DETAIL[-1]:  # one call with very many arguments does not hide all the others
                text = cut(text, left if len(order) == 1 else max(MORE, tokens // 2))
            cost = text_bound(text) + 1
            if cost > left:
                if left < 8:
                    break
                continue
            left -= cost
            lines[group[0].id] = _rank(group[0])[:2], text
        if len(lines) == len(groups):
            break
    out = [text for _, (_, text) in sorted(lines.items(), key=lambda item: (item[1][0], item[0]))]
    lost = sum(len(group) for group in groups if group[0].id not in lines)
    dropped = [f"{lost} of {len(chosen)} calls are not shown"] if lost else []
    if trace.dropped:
        dropped.append(f"{trace.dropped} more were not kept")
    if dropped:
        out.append(f"({'; '.join(dropped)})")
    if trace.notes:
        room = tokens - sum(text_bound(text) + 1 for text in out)
        out.append(cut(plain(ends("notes: " + "; ".join(trace.notes[:NOTES]), 900)), room - 1))
    return cut("\n".join(text for text in out if text), tokens)


def _rank(span: Span) -> tuple[bool, bool, bool, int]:
    """What is shown first: where something failed, then what reads a parameter, then what is nearest to the end."""
    return span.raised is None, not (span.raised and span.raised.line), not span.reads, -span.id


def _groups(chosen: Sequence[Span], by_id: dict[int, Span], apart: int) -> list[list[Span]]:
    """Equal calls together, and all calls of one kind where there are more than `apart` different ones."""
    kinds: dict[object, dict[object, list[Span]]] = {}
    for span in chosen:
        above = by_id.get(span.parent) if span.parent is not None else None
        raised = (span.raised.type, span.raised.file, span.raised.line) if span.raised else None
        kind = (span.kind, span.name, above.name if above else "", raised, span.reads)
        same = (tuple(span.inputs.items()), span.output, span.notes)
        kinds.setdefault(kind, {}).setdefault(same, []).append(span)
    out: list[list[Span]] = []
    for members in kinds.values():
        out += [[s for group in members.values() for s in group]] if len(members) > apart else members.values()
    return out


def _line(group: Sequence[Span], trace: Trace, told: Mapping[int, Span], chars: int) -> str:
    """A call, or the first of several."""
    span = group[0]
    times = f"×{len(group)}, e.g. " if len(group) > 1 else ""
    inside = f" in #{span.parent}" if span.parent is not None else ""
    given = ", ".join(_argument(name, key, span, trace, told, chars) for name, key in span.inputs.items())
    text = f"{times}#{span.id}{inside} {plain(ends(span.name, 100))}({given})"
    if span.raised is not None:
        text += f" raised {ends(str(span.raised), 300 + chars)}"
    elif span.output:
        text += f" → {_value(trace, span.output, chars)}"
    if span.reads:
        text += f"; reads {', '.join(map(plain, span.reads))}"
    notes = (plain(ends(note, max(60, chars))) for note in span.notes[:NOTES])
    return text + "".join(f"; note: {note}" for note in notes)


def _argument(name: str, key: str, span: Span, trace: Trace, told: Mapping[int, Span], chars: int) -> str:
    """An argument, and the call whose result it is."""
    sources = [(number, exact) for number, exact in span.feeds if number in told and told[number].output == key]
    if not sources:
        return f"{plain(name)}={_value(trace, key, chars)}"
    number, exact = sources[-1]
    return f"{plain(name)}={_value(trace, key, min(chars, 60))} {'from' if exact else 'perhaps from'} #{number}"


def _value(trace: Trace, key: str, chars: int) -> str:
    value = trace.values.get(key)
    return "…" if value is None else value.line(chars)


def sources(traces: Sequence[Trace], names: Collection[str], tokens: int) -> str:
    """What the functions do that these traces tell of: their source, those that raised first."""
    found: dict[str, tuple[bool, str]] = {}
    for trace in traces:
        for span in relevant(trace, names):
            if span.name in names:
                continue  # a call of a parameter's own code, which stands among the parameters
            if span.name in trace.code and (span.name not in found or span.raised is not None):
                found[span.name] = span.raised is None, trace.code[span.name]
    out = []
    left = tokens - 16
    for _, text in sorted(found.values(), key=lambda item: item[0]):
        shown = ends(cleaned(text, 4 * SOURCE).strip(), SOURCE)
        left -= text_bound(shown) + 1
        if left < 0:
            break
        out.append(shown)
    return "\n".join(["source of these functions:", *out]) if out else ""
