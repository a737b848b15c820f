"""Metrics of answers that are sets, and F1 over a whole set of outputs.

Micro F1 pools the counts of all rows. It is a quotient of two sums, 2 tp / (2 tp + fp + fn), so that a gate can examine
it exactly as it is defined. Macro F1 is the mean over classes of such quotients. It is no quotient of sums: a gate
examines the accuracy of single rows instead, and `over` computes macro F1 for reports.

Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval (2008), section 13.6, for both means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from agent.errors import ConfigError
from agent.llm.jsontext import loads
from agent.metrics.base import Metric, Row, as_text, quoted
from agent.metrics.text import label

_BULLET = re.compile(r"^\s*(?:[-*•]|[0-9]{1,4}[.)])\s+")
_BRACKETS = re.compile(r"[\[({]([^\[\](){}]*)[\])}]")
SHOWN = 5
"""Items that the words name."""


def items_of(value: Any, separator: str = "") -> dict[str, str]:
    """The items of a set, each as `agent.metrics.text.label` has it → as it was written.

    Args:
        value: A list; or a text: a JSON list, else lines, else parts between commas or semicolons.
        separator: What stands between the parts of a text instead.
    """
    if isinstance(value, (list, tuple)):
        parts = [as_text(item) for item in value]
    else:
        parts = _parts(as_text(value).strip(), separator)
    named = {label(part): part.strip() for part in parts}
    named.pop("", None)
    return named


def _parts(text: str, separator: str) -> list[str]:
    if text.startswith("[") and not separator:
        try:
            found = loads(text)
        except ValueError:
            found = None
        if isinstance(found, list):
            return [as_text(item) for item in found]
    inside = _BRACKETS.fullmatch(text)
    text = inside[1] if inside else text
    if separator:
        return text.split(separator)
    lines = [_BULLET.sub("", line) for line in text.splitlines() if line.strip() and not line.startswith("```")]
    return lines if len(lines) > 1 else re.split("[,;]", "".join(lines))


class SetMatch(Metric):
    """How far the items of the output are those of the answer: their F1, or Jaccard's index. Order does not count.

    Args:
        score: "f1" is 2 tp / (2 tp + fp + fn), "jaccard" is tp / (tp + fp + fn); two empty sets are equal.
        separator: What stands between the items of a text; by default a JSON list, lines, or commas and semicolons.
        answer: The row's field with the set: a list, or a text.
        reveal: Whether the words may name items of the answer.
    """

    def __init__(
        self,
        *,
        score: Literal["f1", "jaccard"] = "f1",
        separator: str = "",
        answer: str = "answer",
        reveal: bool = True,
    ) -> None:
        super().__init__(answer=answer, reveal=reveal)
        if score not in ("f1", "jaccard"):
            raise ConfigError(f"score: found {score!r}, allowed is f1 or jaccard")
        self._kind, self._separator = score, separator

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        tp, fp, fn, words = self.counts(output, row)
        times = 2 if self._kind == "f1" else 1
        return quotient(times * tp, times * tp + fp + fn, empty=1.0), words

    def counts(self, output: str, row: Row) -> tuple[int, int, int, str]:
        """True positives, false positives and false negatives, and the words."""
        wanted = self.wanted(row)
        found = items_of(output, self._separator)
        missing = [wanted[key] for key in wanted if key not in found]
        extra = [found[key] for key in found if key not in wanted]
        if not missing and not extra:
            return len(wanted), 0, 0, "right"
        said = []
        if extra:
            said.append(f"{len(extra)} too many: {_some(extra)}")
        if missing:
            said.append(f"{len(missing)} missing" + (f": {_some(missing)}" if self.reveal else ""))
        return len(wanted) - len(missing), len(extra), len(missing), "; ".join(said)

    def wanted(self, row: Row) -> dict[str, str]:
        """The items of the row's answer."""
        return items_of(self.field(row, self.needs), self._separator)


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(quoted(item, 80) for item in items[:SHOWN]) + more


def quotient(above: float, below: float, empty: float = 0.0) -> float:
    """above / below; `empty` where nothing is below."""
    return above / below if below else empty


class MicroF1(SetMatch):
    """F1 over the pooled items of all outputs. A row reports its own F1 and the counts tp, fp and fn.

    Args:
        positive: Only these items count. With the one positive class of a yes/no question this is the binary F1.
        most: Items that one row counts at most, right, wrong and missing together: wrong ones beyond it are not
            counted, and a row with more right answers is an error. Without it, or `positive`, nothing can be proven.
        separator: As for `SetMatch`.
        answer: As for `SetMatch`; for a classification, the one label.
        reveal: As for `SetMatch`.
    """

    numerator = {"tp": 2.0}  # noqa: RUF012
    denominator = {"tp": 2.0, "fp": 1.0, "fn": 1.0}  # noqa: RUF012
    names = ("micro_f1", "tp", "fp", "fn")

    def __init__(
        self,
        *,
        positive: Sequence[str] = (),
        most: int | None = None,
        separator: str = "",
        answer: str = "answer",
        reveal: bool = True,
    ) -> None:
        super().__init__(separator=separator, answer=answer, reveal=reveal)
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise ConfigError(f"most: found {most!r}, allowed is a whole number of at least 1")
        given = [positive] if isinstance(positive, str) else list(positive)
        self._positive = {label(as_text(item)) for item in given}
        self.most = most if most is not None else len(self._positive) or None

    def _values(self, output: str, row: Row) -> tuple[dict[str, float], str]:
        tp, fp, fn, words = self.counts(output, row)
        if self._positive:
            wanted, found = set(self.wanted(row)) & self._positive, set(items_of(output, self._separator))
            found &= self._positive
            tp, fp, fn = len(wanted & found), len(found - wanted), len(wanted - found)
        if self.most is not None:
            if tp + fn > self.most:
                raise ValueError(f"the row has {tp + fn} items to find, and most = {self.most} was declared")
            fp = min(fp, int(self.most) - tp - fn)
        f1 = quotient(2 * tp, 2 * tp + fp + fn, empty=1.0)
        return {"micro_f1": f1, "tp": float(tp), "fp": float(fp), "fn": float(fn)}, words

    def failed(self, row: Row) -> dict[str, float]:
        wanted = set(self.wanted(row))
        missed = wanted & self._positive if self._positive else wanted
        return {"micro_f1": 0.0, "tp": 0.0, "fp": 0.0, "fn": float(len(missed))}


class MacroF1(Metric):
    """Mean over the classes of their F1, where each row has one class. A row reports its accuracy, 0 or 1.

    An output that is none of the classes is a miss of the right one and no false alarm of another.

    Args:
        labels: The classes; by default those of the answers. A class without rows and without alarms counts 0.
        answer: The row's field with the class.
        reveal: Whether the words may quote it.
    """

    names = ("accuracy",)
    note = (
        "macro F1 is a mean of quotients, which the rows' sums do not give: what is examined and claimed is the"
        " accuracy of single rows; macro F1 of all outputs is in the report"
    )

    def __init__(self, *, labels: Sequence[str] = (), answer: str = "answer", reveal: bool = True) -> None:
        super().__init__(answer=answer, reveal=reveal)
        self._labels = [label(as_text(name)) for name in labels]
        if len(set(self._labels)) < len(self._labels):
            raise ConfigError("labels: two of them are the same after normalisation")

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        right = self._class(row)
        return (1.0, "right") if label(output) == right else (0.0, self.wrong(output, self.answers(row)))

    def _class(self, row: Row) -> str:
        given = self.field(row, self.needs)
        if isinstance(given, (list, tuple, Mapping)):
            raise ValueError(f"the row's {self.needs!r} must be one class, not {type(given).__name__}")
        right = label(as_text(given))
        if self._labels and right not in self._labels:
            raise ValueError(f"the row's {self.needs!r} {quoted(right)} is none of the labels")
        return right

    def _over(self, outputs: Sequence[str | None], rows: Sequence[Row]) -> float:
        each = self.by_class(outputs, rows)
        return sum(each.values()) / len(each)

    def by_class(self, outputs: Sequence[str | None], rows: Sequence[Row]) -> Mapping[str, float]:
        """F1 of each class."""
        matrix = confusion(
            [None if output is None else label(output) for output in outputs], [self._class(row) for row in rows]
        )
        if not matrix:
            raise ValueError("macro F1 needs at least one row")
        labels = self._labels or sorted({right for right, _ in matrix})
        out = {}
        for name in labels:
            hit = matrix.get((name, name), 0)
            either = sum(count * ((right == name) + (said == name)) for (right, said), count in matrix.items())
            out[name] = quotient(2 * hit, either)
        return out


def confusion(said: Sequence[str | None], right: Sequence[str]) -> dict[tuple[str, str | None], int]:
    """The confusion matrix: (right class, class that was said) → number of rows."""
    if len(said) != len(right):
        raise ValueError("as many outputs as rows are needed")
    out: dict[tuple[str, str | None], int] = {}
    for pair in zip(right, said, strict=True):
        out[pair] = out.get(pair, 0) + 1
    return out
