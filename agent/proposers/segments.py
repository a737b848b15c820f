"""Texts as sentences and lines, so that each can be left out, moved or rewritten alone."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from agent.datasets.similar import near_duplicates
from agent.proposers.influence import Influence

_END = re.compile(r"[.!?…]+[\"'’”)\]]*\s+|[。！？]+[”’」』)]*\s*|\s*\n\s*")
_LETTER = re.compile(r"\w")


def split(text: str, most: int) -> list[str]:
    """The segments of a text; joined they are the text again, byte for byte.

    A segment ends after a sentence or a line. One without a letter or a figure belongs to the one before it.

    Args:
        text: Any text.
        most: Of more segments, the neighbours that are shortest together count as one.
    """
    ends = [match.end() for match in _END.finditer(text)]
    cuts = [0, *(end for end in ends if end < len(text)), len(text)]
    out: list[str] = []
    for start, end in pairwise(cuts):
        part = text[start:end]
        if out and not (_LETTER.search(part) and _LETTER.search(out[-1])):
            out[-1] += part
        elif part:
            out.append(part)
    while len(out) > max(1, most):
        place = min(range(len(out) - 1), key=lambda i: len(out[i]) + len(out[i + 1]))
        out[place : place + 2] = [out[place] + out[place + 1]]
    return out


def joined(parts: Sequence[str], like: str) -> str:
    """Segments as one text that ends as `like` does; between two of them there is white space."""
    out = ""
    for part in parts:
        gap = "" if not out or out[-1].isspace() or part[:1].isspace() else " "
        out += gap + part
    return out if like[-1:].isspace() else out.rstrip()


def left_out(parts: Sequence[str], places: Collection[int]) -> list[str]:
    """Segments without some of them; where the lines of a text ended with one that goes, they still end there."""
    out: list[str] = []
    for place, part in enumerate(parts):
        if place not in places:
            out.append(part)
        elif out and "\n" in _white(part) and "\n" not in _white(out[-1]):
            out[-1] = out[-1].rstrip() + _white(part)
    return out


def moved(parts: Sequence[str], old: int, new: int) -> list[str]:
    """Segments with one in another place; the white space between places stays."""
    bodies = [part.rstrip() for part in parts]
    bodies.insert(new, bodies.pop(old))
    return [body + _white(part) for body, part in zip(bodies, parts, strict=True)]


def _white(part: str) -> str:
    return part[len(part.rstrip()) :]


def clusters(parts: Sequence[str]) -> list[list[int]]:
    """Places of segments that are near-duplicates of each other, in order; most stand alone."""
    home = list(range(len(parts)))
    for i, j in near_duplicates([part.strip() for part in parts]):
        old, new = home[j], home[i]
        home = [new if place == old else place for place in home]
    return [[j for j in range(len(parts)) if home[j] == i] for i in dict.fromkeys(home)]


def key(part: str) -> str:
    """What a segment is known by: itself, without the white space around it."""
    return part.strip()


@dataclass(frozen=True)
class Parts:
    """A candidate's texts in segments, and what each does.

    Args:
        segments: By the name of the text.
        texts: As they are.
        kinds: By name and key: helps, harms, inert or unclear.
    """

    segments: Mapping[str, list[str]]
    texts: Mapping[str, str]
    kinds: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def kind(self, name: str, part: str) -> str:
        """What a segment of a text does, as far as it is known."""
        return self.kinds.get((name, key(part)), "unclear")

    def of(self, *kinds: str) -> list[str]:
        """The segments of these kinds."""
        return [part for name, parts in self.segments.items() for part in parts if self.kind(name, part) in kinds]

    def without(self, *kinds: str) -> dict[str, str] | None:
        """The texts less their segments of these kinds; None where one would be empty or nothing is left out."""
        kept = {
            name: left_out(parts, [i for i, part in enumerate(parts) if self.kind(name, part) in kinds])
            for name, parts in self.segments.items()
        }
        return self.values(kept) if all(kept.values()) and kept != self.segments else None

    def values(self, changed: Mapping[str, list[str]]) -> dict[str, str]:
        """The texts with these segments in their places; a text whose segments did not change stays as it is."""
        same = self.segments
        return {n: self.texts[n] if p == same[n] else joined(p, self.texts[n]) for n, p in changed.items()}

    def adding(self, name: str, word: str) -> dict[str, list[str]]:
        """The segments with one more: before the first that holds a placeholder, or at the end."""
        found = self.segments[name]
        place = next((i for i, part in enumerate(found) if "{" in part), len(found))
        white = "\n" if place and found[place - 1].endswith("\n") else " "
        return {**self.segments, name: [*found[:place], word + white, *found[place:]]}


def parted(values: Mapping[str, Any], names: Sequence[str], most: int, kinds: Mapping[tuple[str, str], str]) -> Parts:
    """A candidate's texts in segments, at most so many of each."""
    return Parts({name: split(values[name], most) for name in names}, {name: values[name] for name in names}, kinds)


@dataclass(frozen=True, slots=True)
class Change:
    """A text without some segments, or with one more.

    Args:
        name: Of the text.
        keys: Of the segments: one, or near-duplicates, which would stand in for each other.
        text: What becomes of it.
        added: Whether it is one more.
        size: Characters of the segments.
    """

    name: str
    keys: tuple[str, ...]
    text: str
    added: bool
    size: int

    def found(self, influence: Influence) -> dict[tuple[str, str], Influence]:
        """What the difference says of each segment."""
        turned = influence if not self.added else Influence(-influence.mean, influence.error, influence.pairs)
        return {(self.name, each): turned for each in self.keys}


def changes(parts: Parts, vocabulary: Sequence[str]) -> list[Change]:
    """Every text without each of its segments, near-duplicates together; and with each word of a vocabulary."""
    out: list[Change] = []
    for name, found in parts.segments.items():
        for places in clusters(found):
            rest = left_out(found, places)
            keys, size = tuple(dict.fromkeys(key(found[place]) for place in places)), sum(len(found[p]) for p in places)
            if rest:
                out.append(Change(name, keys, parts.values({**parts.segments, name: rest})[name], False, size))
        present = {key(part) for part in found}
        for word in dict.fromkeys(vocabulary):
            if key(word) not in present:
                text = parts.values(parts.adding(name, word))[name]
                out.append(Change(name, (key(word),), text, True, len(word)))
    return out


def pruned(parts: Parts, words: Sequence[tuple[str, str]]) -> Iterator[tuple[dict[str, str], str]]:
    """Texts with less in them, the boldest first, each with why; and with all words that help.

    Args:
        parts: With what each segment does.
        words: Name of a text, and a word of the vocabulary that helps there.
    """
    harms, inert = len(parts.of("harms")), len(parts.of("inert"))
    told = {"harms": f"{harms} segment{'s' * (harms != 1)} that made it worse", "inert": f"{inert} that did nothing"}
    for kinds in (("harms", "inert"), ("harms",), ("inert",)):
        count = {"harms": harms, "inert": inert}
        values = parts.without(*kinds)
        if values is not None and all(count[kind] for kind in kinds):
            yield values, "without " + " and ".join(told[kind] for kind in kinds)
    for name, found in parts.segments.items():
        doubled = {place for places in clusters(found) for place in places[1:]}
        if doubled:
            yield (
                parts.values({**parts.segments, name: left_out(found, doubled)}),
                f"{len(doubled)} near-duplicates in {name} left out",
            )
    more = {name: list(found) for name, found in parts.segments.items()}
    for name, word in words:
        if key(word) not in {key(part) for part in more[name]}:
            more = Parts(more, parts.texts).adding(name, word)
    if more != parts.segments:
        longer = Parts(more, parts.texts, parts.kinds)
        yield (
            longer.without("harms") or parts.values(more),
            "with all segments of the vocabulary that help, and without those that harm",
        )


def shuffled(parts: Parts, words: Sequence[tuple[str, str]], rng: random.Random) -> tuple[dict[str, str] | None, str]:
    """The texts after a random edit of what has an influence, and what it was; None where there is nothing to edit."""
    name = rng.choice(list(parts.segments))
    found = list(parts.segments[name])
    live = [place for place, part in enumerate(found) if parts.kind(name, part) != "inert"]
    missing = [w for n, w in words if n == name and key(w) not in {key(part) for part in found}]
    loose = [place for place in live if parts.kind(name, found[place]) != "helps"]
    moves = ["add"] * bool(missing) + ["move"] * (len(live) > 1) + ["drop"] * (len(found) > 1 and bool(loose))
    if not moves:
        return None, ""
    move = rng.choice(moves)
    if move == "add":
        word = rng.choice(missing)
        return parts.values(parts.adding(name, word)), f"added “{key(word)}”"
    if move == "move":
        old, new = rng.sample(live, 2)
        changed, why = moved(found, old, new), f"moved “{key(found[old])[:60]}” to place {new + 1}"
    else:
        place = rng.choice(loose)
        changed, why = left_out(found, [place]), f"left out “{key(found[place])[:60]}”"
    return parts.values({**parts.segments, name: changed}), why
