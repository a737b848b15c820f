"""Metrics that compare texts: exact match, token F1, and whether the answer occurs.

Source: Rajpurkar et al., SQuAD (2016), section 6.1, for exact match, F1 and the normalisation, with several accepted
answers the best one counting. Unlike there, what makes another number of a number stays: signs, points and operators.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import Literal

from agent.errors import ConfigError
from agent.metrics.base import Metric, Row, quoted

Normalize = Literal["squad", "strip"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_LEFT = r"(?:(?<=[\w)\]])|(?<=[\w)\]] ))"  # something to calculate with or to compare, with or without a space
_MARKS = re.compile(
    r"(?P<kept>(?<=\d)(?:[./:^-]|\*{1,2})(?=\d)"  # 1.5, 1/2, 10-12, 2**3
    r"|(?<=\d),(?=\d)(?!\d{3}(?!\d))"  # 1,5; the comma of 1,234 goes
    r"|(?<![\w.])\.(?=\d)"  # .5
    r"|(?<=[\d)\]] )[*/](?= ?[\d(\[])"  # 6 / 2
    r"|(?<=\w)[/^](?=\d)"  # x^2
    r"|(?<=[\w)\]])\++|(?<=[\w)\]] )\+(?= )"  # x+y, C++, A+; +5 is 5
    r"|(?<=[a-z])\#(?!\w)"  # C#
    rf"|{_LEFT}(?:[<>]=?|!=)|(?:[<>]=?|!=)(?=[ ]?[-.\d]))"  # x > y, <5
    r"|(?P<sign>(?<![\w.)\]])-) ?(?=[$€£]?\.?\d)"  # the sign of a number, and no hyphen
    rf"|[{re.escape(string.punctuation)}]"
)
_AROUND = re.compile(r"""\*\*(.+)\*\*|\*(.+)\*|`(.+)`|"(.+)"|'(.+)'|\((.+)\)|\[(.+)\]""", re.DOTALL)


def squad(text: str) -> str:
    """A text in lower case without ASCII punctuation and English articles, with single spaces.

    Signs, decimal points and operators of numbers stay: -5, 1.5, 10-12, x > 3.
    """
    flat = " ".join(text.lower().replace("\u2212", "-").split())
    bare = _MARKS.sub(lambda found: found["kept"] or found["sign"] or "", flat)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def label(text: str) -> str:
    """A name of a class, or an item of a set, as it is compared: without case, with single spaces.

    Brackets, quotation marks or asterisks around it and punctuation at its end go, unless nothing else is there.
    """
    bare = " ".join(text.casefold().split())
    for _ in range(3):
        cut = bare.rstrip(".,;:!?")
        if cut[-1:].isdigit():
            cut = bare.rstrip(".,;:?")  # 5! is a number
        around = _AROUND.fullmatch(cut)
        bare = (around[around.lastindex or 0].strip() if around else cut) or bare
    return bare


def same(said: str, right: str) -> bool:
    """Whether two texts are equal after `squad`, or as a `label` where that leaves nothing of one: A, +, <=."""
    one, other = squad(said), squad(right)
    return one == other if one and other else label(said) == label(right)


def normalizer(name: Normalize) -> Normalize:
    """The name of a normalisation, checked.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in ("squad", "strip"):
        raise ConfigError(f"normalize: found {name!r}, allowed is squad or strip")
    return name


def normalized(text: str, how: Normalize) -> str:
    """A text as it is compared: by `squad`, or only without white space around it."""
    return squad(text) if how == "squad" else text.strip()


class ExactMatch(Metric):
    """1 when the output is one of the accepted answers after normalisation, else 0.

    Args:
        normalize: "squad" drops case, articles and punctuation except of numbers, where that leaves something;
            "strip" only white space around the text.
        answer: The row's field with the answer, or a list of accepted ones.
        reveal: Whether the words may quote the answer.
    """

    def __init__(self, *, normalize: Normalize = "squad", answer: str = "answer", reveal: bool = True) -> None:
        super().__init__(answer=answer, reveal=reveal)
        self._how = normalizer(normalize)

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        answers = self.answers(row)
        if any(
            same(output, answer) if self._how == "squad" else output.strip() == answer.strip() for answer in answers
        ):
            return 1.0, "right"
        return 0.0, self.wrong(output, answers)


class TokenF1(Metric):
    """F1 of the words that output and answer share, counted with repetition; the best accepted answer counts.

    Args:
        answer: The row's field with the answer, or a list of accepted ones.
        reveal: Whether the words may quote the answer.
    """

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        answers = self.answers(row)
        best, precision, recall = max(overlap(*_words(output, answer)) for answer in answers)
        if best == 1.0:
            return 1.0, "right"
        shares = f"{precision:.0%} of its words are in the answer, {recall:.0%} of the answer's words are in it"
        return (
            best,
            f"{self.wrong(output, answers)}; {shares}"
            if not best
            else f"partly {self.wrong(output, answers)}; {shares}",
        )


def _words(said: str, right: str) -> tuple[Counter[str], Counter[str]]:
    """The words of both, normalised as in `same`."""
    how = squad if squad(said) and squad(right) else label
    return Counter(how(said).split()), Counter(how(right).split())


def overlap(said: Counter[str], right: Counter[str]) -> tuple[float, float, float]:
    """F1, precision and recall of words; without words on either side, 1 when both have none."""
    if not said or not right:
        return (1.0, 1.0, 1.0) if said == right else (0.0, 0.0, 0.0)
    shared = (said & right).total()
    precision, recall = shared / said.total(), shared / right.total()
    return (2 * precision * recall / (precision + recall) if shared else 0.0), precision, recall


class Contains(Metric):
    """1 when the answer occurs in the output as whole words, else 0.

    Args:
        normalize: As for `ExactMatch`; with "strip" the characters must occur as they are.
        every: Whether all answers of a list must occur; by default one is enough.
        answer: The row's field with the answer, or a list.
        reveal: Whether the words may quote the answer.
    """

    def __init__(
        self, *, normalize: Normalize = "squad", every: bool = False, answer: str = "answer", reveal: bool = True
    ) -> None:
        super().__init__(answer=answer, reveal=reveal)
        self._how, self._every = normalizer(normalize), every

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        answers = self.answers(row)
        said = normalized(output, self._how)
        missing = [answer for answer in answers if not self._occurs(answer, said)]
        if not missing or (not self._every and len(missing) < len(answers)):
            return 1.0, "right"
        lacks = "an answer" if not self.reveal else " and ".join(quoted(a) for a in missing[:3])
        return 0.0, f"wrong: the output {quoted(output)} does not contain {lacks}"

    def _occurs(self, answer: str, said: str) -> bool:
        wanted = normalized(answer, self._how)
        if not wanted:
            raise ValueError(f"the row's {self.needs!r} has an answer without a word, which every output contains")
        return f" {wanted} " in f" {said} " if self._how == "squad" else wanted in said
