"""Whether an output chooses the right option of a multiple-choice question, by its letter or by its text."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from agent.metrics.base import Metric, Row, as_text, quoted
from agent.metrics.text import same, squad

MOST = 200
"""Options of one question."""
_NOT = re.compile(
    r"(?:\b|^)(?:not|never|neither|nor|cannot|can['’]?t|won['’]?t"
    r"|(?:is|are|was|were|do|does|did|has|have|had|would|could|should|must|need)n['’]?t)$",
    re.IGNORECASE,
)
READ = 20_000
"""Characters of the output in which options' texts are looked for: the last ones, where an answer ends up."""


class ChoiceMatch(Metric):
    """1 when the output chooses the right option, else 0; an output that chooses none or several is wrong.

    Looked for in this order: the output is nothing but a label, "B" or "(b)."; the last "answer is B" or "answer: (B)";
    the output is an option's text; labels stand in brackets, "(B)", or begin a line, "B) …"; an option's text occurs
    as words, where one within a longer one that occurs too does not count. A label in brackets or a text right after a
    negation, "not (B)" or "isn't red", is no choice; one further away is not seen.

    Args:
        choices: The row's field with the options, or the options themselves where they are the same for all rows: a
            list, labelled A, B, C …, or a mapping from label to text. A row may lack the field: then labels are A to
            Z, and the answer is a label.
        answer: The row's field with the right option: its label, its text or, in a list, its place from 0.
        reveal: Whether the words may quote the answer.
    """

    def __init__(
        self,
        *,
        choices: str | Sequence[Any] | Mapping[str, Any] = "choices",
        answer: str = "answer",
        reveal: bool = True,
    ) -> None:
        super().__init__(answer=answer, reveal=reveal)
        self._choices = choices if isinstance(choices, str) else ""
        self._where = f"the row's {choices!r}" if isinstance(choices, str) else "the option `choices`"
        self._all = None if isinstance(choices, str) else _options(choices, self._where)

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        right = self.field(row, self.needs)
        options = self._options(row)
        label = _label_of(right, options)
        if label is None and self._choices and row.get(self._choices) is None:
            raise ValueError(
                f"the row has no {self._choices!r}, which choice_match needs where the answer, here"
                f" {quoted(as_text(right))}, is no letter; give the option `choices`"
            )
        if label is None:
            raise ValueError(f"the row's {self.needs!r} {quoted(as_text(right))} is none of {self._where}")
        chosen = choose(output, options)
        if chosen == label:
            return 1.0, "right"
        shown = f", right is {self._named(label, options)}" if self.reveal else ""
        if chosen is None:
            return 0.0, f"wrong: the output {quoted(output)} chooses no option, or several{shown}"
        return 0.0, f"wrong: the output chooses {self._named(chosen, options)}{shown}"

    def _options(self, row: Row) -> dict[str, str]:
        if self._all is not None:
            return self._all
        given = row.get(self._choices) if isinstance(row, Mapping) else None
        return dict.fromkeys(string.ascii_uppercase, "") if given is None else _options(given, self._where)

    @staticmethod
    def _named(label: str, options: Mapping[str, str]) -> str:
        return f"{label} ({quoted(options[label])})" if options[label] else label


def _options(given: Any, where: str) -> dict[str, str]:
    """Label → text.

    Raises:
        ValueError: They are no mapping and no list, or too many.
    """
    if isinstance(given, Mapping):
        options = {str(key).strip(): as_text(value) for key, value in given.items()}
    elif isinstance(given, (list, tuple)) and len(given) <= len(string.ascii_uppercase):
        options = dict(zip(string.ascii_uppercase, map(as_text, given), strict=False))
    else:
        raise ValueError(f"{where} must be a mapping, or a list of at most 26 options")
    if not 0 < len(options) <= MOST:
        raise ValueError(f"{where} has {len(options)} options, allowed are 1 to {MOST}")
    return options


def _label_of(right: Any, options: Mapping[str, str]) -> str | None:
    """The label that a row's answer names."""
    text = as_text(right).strip()
    bare = text.strip("()[]. ")
    for label in (text, bare, bare.upper()):
        if label in options:
            return label
    if isinstance(right, int) and not isinstance(right, bool) and 0 <= right < len(options):
        return list(options)[right]
    found = [label for label, option in options.items() if option and same(option, text)]
    return found[0] if len(found) == 1 else None


def choose(output: str, options: Mapping[str, str]) -> str | None:
    """The label of the one option that an output chooses; None when there is none, or more than one.

    Args:
        output: What the model said.
        options: Label → text; the text may be "".
    """
    text = output.strip()
    folded = {label.casefold(): label for label in options}
    alone = folded.get(text.strip("()[]{}*.:\"' ").casefold()) if len(text) < 50 else None
    if alone is not None:
        return alone
    labels = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    stated = list(
        re.finditer(
            rf"(?i:\banswer(?: is)?:?) ?\*{{0,3}}:? ?(?:(?:(?i:option|choice)) )?"
            rf"(?:[(\[](?P<marked>(?i:{labels}))[)\]]|\*{{0,3}}(?P<bare>{labels})(?!\w|'))",
            text,
        )
    )
    if stated:
        return folded[(stated[-1]["marked"] or stated[-1]["bare"]).casefold()]
    said = text[-READ:]
    alike = [label for label, option in options.items() if option and same(option, said)]
    if len(alike) == 1:
        return alike[0]
    bracketed = re.finditer(rf"[(\[]({labels})[)\]]", text)
    marked = {found[1] for found in bracketed if not _negated(text[max(0, found.start() - 30) : found.start()])}
    marked |= set(re.findall(rf"(?m)^({labels})(?:[).:]|$)", text))
    if marked:
        return marked.pop() if len(marked) == 1 else None
    return _occurs(squad(said), options)


def _negated(before: str) -> bool:
    """Whether a negation ends the text."""
    return _NOT.search(before.rstrip()) is not None


def _occurs(said: str, options: Mapping[str, str]) -> str | None:
    """The one option whose text occurs as words, outside of the longer options that occur."""
    rest, found = f" {said} ", set()
    for label, option in sorted(options.items(), key=lambda item: len(item[1]), reverse=True):
        words = squad(option)
        before = rest.split(f" {words} ") if words else [rest]
        if not all(_negated(part[-30:]) for part in before[:-1]):
            found.add(label)
        rest = " \0 ".join(before)
    return found.pop() if len(found) == 1 else None
