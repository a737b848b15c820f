"""Metrics that compare texts: exact match, token F1, and whether the answer occurs.

Source: Rajpurkar et al., SQuAD (2016), section 6.1, for exact match, F1 and the normalisation, with several accepted
answers the best one counting.
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
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(text: str) -> str:
    """A text in lower case without ASCII punctuation and English articles, with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


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
        normalize: "squad" drops case, punctuation and articles; "strip" only white space around the text.
        answer: The row's field with the answer, or a list of accepted ones.
        reveal: Whether the words may quote the answer.
    """

    def __init__(self, *, normalize: Normalize = "squad", answer: str = "answer", reveal: bool = True) -> None:
        super().__init__(answer=answer, reveal=reveal)
        self._how = normalizer(normalize)

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        answers = self.answers(row)
        said = normalized(output, self._how)
        if any(said == normalized(answer, self._how) for answer in answers):
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
        said = Counter(squad(output).split())
        best, precision, recall = max(overlap(said, Counter(squad(answer).split())) for answer in answers)
        if best == 1.0:
            return 1.0, "right"
        shares = f"{precision:.0%} of its words are in the answer, {recall:.0%} of the answer's words are in it"
        return (
            best,
            f"{self.wrong(output, answers)}; {shares}"
            if not best
            else f"partly {self.wrong(output, answers)}; {shares}",
        )


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
