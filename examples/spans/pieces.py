"""Who writes patterns without a model: a pattern is a list of pieces, of which the first that matches counts.

`Learned` makes pieces of spans in rows of train and keeps those that help there. `Edited` adds pieces of a library to
the champion and takes some away, and knows no row. `Drawn` draws pieces of the library, as blind as can be.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent.proposers.base import Context, Proposal

SLOTS = ("people", "time", "date")
STEPS, BAGS = 5, 5
"""Decisions in which `Learned` reads more rows, half of train in all, and versions of two thirds of them after that."""

MONTH = "(?:jan|feb|mar|apr|may|june?|july?|aug|sep|oct|nov|dec)[a-z]*"
DAY = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
COUNT = "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen)"
KINDS = (
    (re.compile(rf"{MONTH}\Z", re.I), MONTH),
    (re.compile(rf"{DAY}\Z", re.I), DAY),
    (re.compile(rf"{COUNT}\Z", re.I), COUNT),
    (re.compile(r"(?:st|nd|rd|th)\Z", re.I), "(?:st|nd|rd|th)"),
    (re.compile(r"[ap]m\Z", re.I), "[ap]m"),
    (re.compile(r"\d+\Z"), r"\d+"),
)
"""Words that stand for others of their kind."""

LIBRARY: Mapping[str, Sequence[str]] = {
    "people": (
        r"\b\d+ (?:people|guests|persons|adults)\b",
        rf"\b{COUNT}(?: people| guests)?\b",
        r"\b\d+ of us\b",
        r"\b\d+ adults and \d+ child(?:ren)?\b",
        r"(?<=\bfor )\d+\b(?![:.]| ?pm)",
        r"(?<=\bare )\d+\b",
        r"\b\d+\b",
    ),
    "time": (
        r"\b\d{1,2}[:.]\d\d ?(?:pm|am)\b",
        r"\b\d{1,2} ?(?:pm|am)\b",
        r"\b\d{1,2}:\d\d\b",
        r"\bhalf past \d+\b",
        r"\bnoon\b",
        r"\b\d+ in the evening\b",
    ),
    "date": (
        r"\b(?:today|tomorrow|tonight)\b",
        rf"\bnext {DAY}\b",
        rf"\b{DAY}\b",
        rf"\b{MONTH} \d+(?:st|nd|rd|th)?\b",
        rf"\b\d+(?:st|nd|rd|th)? of {MONTH}\b",
        r"\b\d+/\d+/\d+\b",
        r"\bin \d+ days\b",
    ),
}
"""Pieces that a person would write, the sharper ones first."""


def compiles(candidate):
    """Refuse what is no regular expression, before anything is paid for it."""
    for slot in SLOTS:
        try:
            re.compile(candidate[slot])
        except (re.error, OverflowError, RecursionError) as error:
            return f"{slot} is no regular expression: {error}"
    return None


def joined(pieces: Iterable[str]) -> str:
    """A pattern: the pieces as alternatives, in order."""
    return "|".join(pieces)


class Learned:
    """Pieces made of spans in rows of train, chosen by covering: each time the one that finds most that is missing.

    It reads a few rows more in each decision and begins anew with all of them; then it draws from them. What it makes
    is raced on the other rows.
    """

    name, needs_model, texts = "learned", False, True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        known = list((context.memory or {}).get("rows", ()))
        done = (context.memory or {}).get("done", 0)
        free = [item.id for item in context.problem.split("train") if item.id not in known]
        most = (len(known) + len(free)) // 2
        if len(known) >= most and done >= BAGS:
            context.exhausted = True
            return []
        bag = len(known) >= most
        known += context.rng.sample(free, max(0, min(-(-most // STEPS), most - len(known))))
        context.memory = {"rows": known, "done": done + bag}
        rows = [(await context.read(name)).row for name in known]
        if bag:
            rows = context.rng.sample(rows, max(1, 2 * len(rows) // 3))
        room = {slot: context.problem.space[slot].max_chars for slot in SLOTS}
        values = {slot: joined(covering(rows, slot, room[slot])) or context.champion[slot] for slot in SLOTS}
        return [Proposal(values, self.name, f"from {len(rows)} rows", (context.history.champion,))]

    def forecast(self, problem, candidates, options):
        return 0, 0, 0


class Edited:
    """One or two edits of the champion: a piece of the library is added, replaced or taken away."""

    name, needs_model, texts = "edited", False, True
    tries = 50

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        out: dict[str, Proposal] = {}
        for _ in range(self.tries * n):
            candidate = context.problem.space.candidate(self.made(context))
            if candidate.id not in context.history and len(out) < n:
                out[candidate.id] = Proposal(candidate, self.name, "", (context.history.champion,))
        context.exhausted = not out
        return list(out.values())

    def made(self, context: Context) -> dict[str, Any]:
        """The champion with its pieces changed; one that stands in no library is a piece of its own."""
        values = dict(context.champion)
        for slot in context.rng.sample(SLOTS, context.rng.choice((1, 1, 2))):
            pieces = self.pieces(values[slot], slot)
            values[slot] = joined(edited(pieces, LIBRARY[slot], context.rng))
        return values

    @staticmethod
    def pieces(pattern: str, slot: str) -> list[str]:
        """What a pattern is made of: those of the library that are in it, or else the whole as one."""
        found = [piece for piece in LIBRARY[slot] if piece in pattern]
        return found if len(joined(found)) == len(pattern) else [pattern] * bool(pattern)

    def forecast(self, problem, candidates, options):
        return 0, 0, 0


class Drawn(Edited):
    """Any pieces of the library, for every slot."""

    name = "drawn"

    def made(self, context: Context) -> dict[str, Any]:
        rng = context.rng
        return {slot: joined(piece for piece in LIBRARY[slot] if rng.random() < 0.5) for slot in SLOTS}


def edited(pieces: Sequence[str], library: Sequence[str], rng: random.Random) -> list[str]:
    """Pieces after one edit. Those of the library stand in its order, the sharper first."""
    out, others = list(pieces), [piece for piece in library if piece not in pieces]
    kind = rng.choice(("add", "add", "replace", "remove"))
    if out and (kind != "add" or not others):
        out.pop(rng.randrange(len(out)))
    if others and kind != "remove":
        out.append(rng.choice(others))
    order = {piece: place for place, piece in enumerate(library)}
    return sorted(out, key=lambda piece: order.get(piece, len(library)))


def general(text: str) -> str:
    """A span as a pattern: numbers, months, days and number words stand for others of their kind."""
    parts = re.findall(r"\d+|[^\W\d_]+|.", text, re.S)
    out = "".join(next((kind for known, kind in KINDS if known.match(part)), re.escape(part.lower())) for part in parts)
    left, right = (r"\b" if text[end].isalnum() else "" for end in (0, -1))
    return left + out + (right or r"(?!\d)")


def proposals(rows: Sequence[Mapping[str, Any]], slot: str) -> list[str]:
    """Pieces that a slot's spans suggest: by themselves, and behind the word before them."""
    out: dict[str, None] = {}
    for row in rows:
        span = row["slots"].get(slot, "")
        place = row["input"].find(span)
        if not span or place < 0:
            continue
        piece = general(span)
        before = re.search(r"[^\W\d_]+ \Z", row["input"][:place])
        out[piece] = None
        if before:
            out[rf"(?<=\b{before[0].lower()}){piece}"] = None
    return list(out)


def covering(rows: Sequence[Mapping[str, Any]], slot: str, room: int) -> list[str]:
    """Pieces, longest first, chosen greedily by spans found less false alarms on the rows; `room` is in characters."""
    free = {piece: _matches(piece, rows) for piece in proposals(rows, slot)}
    wanted = [row["slots"].get(slot) for row in rows]
    chosen: list[str] = []
    now: dict[int, tuple[int, int, str]] = {}  # by row: where the pattern so far matches, and what
    while free:
        gains = {piece: sum(_gains(wanted, now, there)) for piece, there in free.items()}
        piece = max(gains, key=lambda one: (gains[one], -len(one)))
        if gains[piece] <= 0 or len(joined([*chosen, piece])) > room:
            break
        there = free.pop(piece)
        chosen.append(piece)
        now |= {row: match for row, match in there.items() if row not in now or match < now[row]}
    return sorted(chosen, key=len, reverse=True)


def _matches(piece: str, rows: Sequence[Mapping[str, Any]]) -> dict[int, tuple[int, int, str]]:
    """By row, where a piece matches and what; the first place counts, and there the longest piece."""
    found = ((place, re.search(piece, row["input"], re.I)) for place, row in enumerate(rows))
    return {place: (match.start(), -len(piece), match[0]) for place, match in found if match}


def _gains(wanted: Sequence[str | None], now: Mapping[int, Any], there: Mapping[int, Any]) -> Iterator[int]:
    for row, match in there.items():
        before = now.get(row)
        if before is None or match < before:
            yield _worth(match[2], wanted[row]) - (_worth(before[2], wanted[row]) if before else 0)


def _worth(found: str, wanted: str | None) -> int:
    return 1 if found == wanted else -1
