"""Checks that a candidate must pass before anything is paid for it. Each has a name and gives its reason.

The leak check compares what a candidate says with the answers of the held-out rows (val and test). It
catches answers that got into a proposal through a model's memory, a tool or a mistake in the user's data.
A reason never quotes an answer, and does not say which row or which kind of match it was. Still each
refusal tells the proposer a little, so a caller counts them and marks the gate as opened after
`LEAKS_ALLOWED`.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.datasets.similar import leaves
from agent.errors import AgentError, ConfigError
from agent.evaluators.loading import load_target, parse_target
from agent.history import History
from agent.parameters import Value
from agent.problem import Example
from agent.space import Space
from agent.texts import Code, Demos, Text

LEAKS_ALLOWED = 8
"""Refusals by the leak check in a run after which its gate counts as opened."""
WORDS = 5
"""Consecutive words of an answer that count as a leak; answers of fewer words leak as a whole."""
SHARE = 10
"""Of a long answer one in so many runs of `WORDS` words must occur: one alone may be a turn of phrase."""
COMMON = 3
"""Different held-out answers in which a run of words is a common phrase and no answer."""
SHORTEST = 12
"""Characters below which a whole answer may be in a text by chance."""
LONG = 40
"""Characters from which an answer that is copied with changes counts."""
EDITS = 10
"""One edit in so many characters is allowed for in such a copy."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a candidate is not evaluated: the name of the check, and its reason."""

    check: str
    reason: str


@dataclass(frozen=True, slots=True)
class Context:
    """What checks know besides the candidate: the leak index, when there are held-out answers, and the run so far."""

    leak: Leak | None = None
    history: History | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A named check; `run` gives the reason for a refusal, or "" when the candidate passes."""

    name: str
    run: Callable[[Mapping[str, Value], Context], str]


def refusal(checks: Iterable[Check], candidate: Mapping[str, Value], context: Context) -> Refusal | None:
    """The first check's refusal; None when the candidate passes all."""
    for check in checks:
        try:
            reason = check.run(candidate, context)
        except AgentError:
            raise
        except Exception as error:  # what cannot be looked at is not paid for, and is no reason to end a run
            reason = f"it cannot be checked: {type(error).__name__}: {error}"[:500]
        if reason:
            return Refusal(check.name, reason)
    return None


def standard(space: Space) -> list[Check]:
    """The checks that every problem has, in order: values, length, placeholders, leak."""

    def texts_with(**changes: Any) -> dict[str, Text]:
        return {name: replace(item, **changes) for name, item in space.items() if isinstance(item, Text)}

    bare = Space({**space, **texts_with(max_chars=None, placeholders=())})
    lengths, placeholders = texts_with(placeholders=()), texts_with(max_chars=None)

    def values(candidate: Mapping[str, Value], context: Context) -> str:
        try:
            bare.candidate(candidate)
        except ValueError as error:
            return str(error)
        return ""

    def each(parameters: Mapping[str, Text], candidate: Mapping[str, Value]) -> str:
        for name, item in parameters.items():
            try:
                item.check(candidate[name])
            except ValueError as error:
                return f"{name}: {error}"
        return ""

    def leak(candidate: Mapping[str, Value], context: Context) -> str:
        if context.leak is not None:
            for name, text in texts(space, candidate):
                if context.leak.found(text):
                    return f"{name}: the text repeats held-out data; say what to do in general, without answers"
        return ""

    return [
        Check("values", values),
        Check("length", lambda candidate, context: each(lengths, candidate)),
        Check("placeholders", lambda candidate, context: each(placeholders, candidate)),
        Check("leak", leak),
    ]


def leaking(space: Space, data: Sequence[Example]) -> tuple[list[Check], Context]:
    """The check for answers of held-out rows, and what it knows; no check where nothing can leak.

    Args:
        space: Of the problem.
        data: Its rows, divided.
    """
    held = [example for example in data if example.split != "train" and example.answer is not None]
    if not held or not any(True for _ in texts(space, space.initial())):
        return [], Context()
    return [check for check in standard(space) if check.name == "leak"], Context(Leak.of(space, data))


def texts(space: Space, candidate: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    """What a candidate says in words, by parameter: its texts, programs and chosen few-shot examples."""
    for name, item in space.items():
        if isinstance(item, Code):
            yield from ((name, text) for text in item.texts(candidate[name]).values())
        elif isinstance(item, Text):
            yield name, candidate[name]
        elif isinstance(item, Demos):
            yield from ((name, text) for demo in item.chosen(candidate[name]) for text in leaves(demo))


class Leak:
    """An index of held-out answers, built once a run.

    An answer leaks when a text has `WORDS` consecutive words of it (of a long one, a tenth of all such
    runs); or, when it has fewer words and at least `SHORTEST` characters, all of it; or, from `LONG`
    characters, all of it with at most one edit in `EDITS` characters. Case, punctuation and spaces do
    not count. What the initial candidate or a train row has does not count either: a proposer may know it.

    Args:
        held_out: Examples of val and test; those without an answer are not looked for.
        train: Examples that proposers may see.
        known: Further texts that may be repeated: those of the initial candidate.
    """

    def __init__(self, held_out: Iterable[Example], train: Iterable[Example] = (), known: Iterable[str] = ()) -> None:
        answers = sorted({_plain(text) for example in held_out for text in leaves(example.answer)} - {""})
        allowed = {_plain(text) for example in train for part in (example.row, example.answer) for text in leaves(part)}
        allowed |= {_plain(text) for text in known}
        grams: defaultdict[str, list[str]] = defaultdict(list)
        for answer in answers:
            for gram in set(_grams(answer)):
                grams[gram].append(answer)
        self._short: dict[str, list[str]] = defaultdict(list)
        for answer in answers:
            if len(answer) >= SHORTEST and answer.count(" ") + 1 < WORDS:
                self._short[answer[:SHORTEST]].append(answer)
        self._copies = _Copies([answer for answer in answers if len(answer) >= LONG])
        for text in allowed:
            for gram in _grams(text):
                grams.pop(gram, None)
            for answer in set(self._whole(text)):
                self._short[answer[:SHORTEST]].remove(answer)
            self._copies.allow(text)
        self._grams = {gram: found for gram, found in grams.items() if len(found) < COMMON}
        self._sizes = Counter(answer for found in self._grams.values() for answer in found)

    @classmethod
    def of(cls, space: Space, examples: Sequence[Example]) -> Leak:
        """The index for a problem: its val and test rows are held out, its train rows and initial candidate known."""
        held_out = [example for example in examples if example.split != "train"]
        train = [example for example in examples if example.split == "train"]
        return cls(held_out, train, [text for _, text in texts(space, space.initial())])

    def found(self, text: str) -> bool:
        """Whether a text repeats an answer."""
        plain = _plain(text)
        runs = Counter(answer for gram in set(_grams(plain)) for answer in self._grams.get(gram, ()))
        if any(SHARE * count >= self._sizes[answer] for answer, count in runs.items()):
            return True
        return any(True for _ in self._whole(plain)) or any(True for _ in self._copies.inside(plain))

    def _whole(self, plain: str) -> Iterator[str]:
        """The short answers that a text has."""
        if not self._short:
            return
        for at in range(len(plain) - SHORTEST + 1):
            for answer in self._short.get(plain[at : at + SHORTEST], ()):
                end = at + len(answer)
                # Scripts that write no spaces have no word ends to respect.
                bounded = (at == 0 or plain[at - 1] == " ") and (end == len(plain) or plain[end : end + 1] == " ")
                if plain.startswith(answer, at) and (bounded or not answer.isascii()):
                    yield answer


def _plain(text: str) -> str:
    """Casefolded words with one space between them."""
    return " ".join(_WORD.findall(text.casefold()))


def _grams(plain: str) -> Iterator[str]:
    words = plain.split()
    return (" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1))


class _Copies:
    """Finds answers in texts up to one edit in `EDITS` characters.

    An answer with k allowed edits is cut into k + 1 pieces, so one of them is untouched in a copy. Texts are
    searched for pieces; around each the match is grown to 2, 4, 8 … pieces, of which n may have n - 1
    edits, until the whole answer is compared (Navarro and Baeza-Yates, Improving an algorithm for
    approximate pattern matching, Algorithmica 2001). Chance hits end after the first such step.
    """

    def __init__(self, answers: Iterable[str]) -> None:
        self.pieces: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        self.allowed: set[str] = set()
        for answer in answers:
            for number in range(_parts(answer)):
                self.pieces[answer[_cut(answer, number) : _cut(answer, number + 1)]].append((answer, number))
        self.sizes = sorted({len(piece) for piece in self.pieces})

    def allow(self, plain: str) -> None:
        """Stop looking for the answers that are in a text which may be repeated."""
        self.allowed.update(self.inside(plain))

    def inside(self, plain: str) -> Iterator[str]:
        """The answers that a text has."""
        for size in self.sizes:
            for at in range(len(plain) - size + 1):
                for answer, number in self.pieces.get(plain[at : at + size], ()):
                    if answer not in self.allowed and _grows(plain, at, answer, number):
                        yield answer


def _parts(answer: str) -> int:
    return len(answer) // EDITS + 1


def _cut(answer: str, number: int) -> int:
    """Where a piece of an answer begins."""
    return number * len(answer) // _parts(answer)


def _grows(plain: str, at: int, answer: str, number: int) -> bool:
    """Whether the match of an answer's piece with the text at a place grows to the whole answer."""
    low, high = 0, _parts(answer)
    around = []
    while high - low > 1:
        around.append((low, high))
        middle = (low + high + 1) // 2
        low, high = (low, middle) if number < middle else (middle, high)
    zero = at - _cut(answer, number)  # where the answer would begin
    for low, high in reversed(around):
        start, end, edits = _cut(answer, low), _cut(answer, high), high - low - 1
        window = plain[max(0, zero + start - edits) : zero + end + edits]
        if distance(answer[start:end], window) > edits:
            return False
    return True


def distance(pattern: str, text: str) -> int:
    """The fewest edits (insert, delete, replace a character) that turn a pattern into some part of a text.

    One step for each character of the text, on integers as wide as the pattern (Myers, A fast bit-vector
    algorithm for approximate string matching based on dynamic programming, JACM 1999).
    """
    masks: dict[str, int] = {}
    for at, letter in enumerate(pattern):
        masks[letter] = masks.get(letter, 0) | 1 << at
    full, last = (1 << len(pattern)) - 1, 1 << (len(pattern) - 1) if pattern else 0
    up, down, score = full, 0, len(pattern)
    best = score
    for letter in text:
        equal = masks.get(letter, 0)
        diagonal = (((equal & up) + up) ^ up) | equal | down
        more = down | ~(diagonal | up) & full
        fewer = up & diagonal
        score += bool(more & last) - bool(fewer & last)
        best = min(best, score)
        more, fewer = more << 1 & full, fewer << 1 & full
        up, down = fewer | ~(diagonal | more) & full, more & diagonal
    return best


def user_check(function: Callable[..., Any], name: str = "") -> Check:
    """A check of the user's own.

    Args:
        function: Gets the candidate. A text that it returns is the reason for a refusal, False refuses without
            one, an exception refuses with its words; None, True and "" let the candidate pass.
        name: Without it, the function's name.

    Raises:
        ConfigError: The function is asynchronous.
    """
    called = name or str(getattr(function, "__name__", type(function).__name__))
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"check {called}: is asynchronous", hint="write it with def instead of async def")

    def run(candidate: Mapping[str, Value], context: Context) -> str:
        try:
            found = function(candidate)
        except (Exception, SystemExit) as error:
            return f"{called} failed: {type(error).__name__}: {error}"[:500]
        if isinstance(found, str):
            return found
        if found is None or found is True:
            return ""
        if found is False:
            return f"{called} does not hold"
        return f"{called} returned {type(found).__name__}; a check returns a reason, None, True or False"

    return Check(called, run)


def load_check(target: str, folder: Path | None) -> Check:
    """The user's check that "module:function" names.

    Raises:
        ConfigError: It cannot be imported or is no function.
    """
    try:
        return user_check(load_target(*parse_target(target), folder))
    except ConfigError as error:
        message, hint = (text.replace("evaluator", "check") for text in (error.message, error.hint))
        raise ConfigError(message, hint=hint) from None
