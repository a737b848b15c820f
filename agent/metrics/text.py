"""Metrics that compare texts: exact match, token F1, and whether the answer occurs.

Source: Rajpurkar et al., SQuAD (2016), section 6.1, for exact match, F1 and the normalisation, with several accepted
answers the best one counting.
"""

from __future__ import annotations

import re
import string
from typing import Literal

from agent.errors import ConfigError
from agent.metrics.base import Metric, Row

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
