"""Whether the last number of an output is the right one.

Source: Cobbe et al., Training Verifiers to Solve Math Word Problems (2021): the final number of the answer counts.
"""

from __future__ import annotations

import math
import re

from agent.errors import ConfigError
from agent.metrics.base import Metric, Row, quoted

_UNSIGNED = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,20}(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3}(?![0-9]))?|\.[0-9]+"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)\]])[-+\u2212] ?)?[$€£]?"  # the sign of a number, and not a hyphen or a difference
    rf"(?:(?P<whole>[0-9]{{1,15}}) (?P<over>[0-9]{{1,15}})/(?P<under>[0-9]{{1,15}})|(?P<number>{_UNSIGNED})"
    r"(?: ?/ ?(?P<below>[0-9]+(?:\.[0-9]+)?))?)"
    r" ?(?P<percent>%|percent\b)?"
)
_FRACTION = re.compile(r"\\[dt]?frac\{([0-9]{1,15})\}\{([0-9]{1,15})\}")


def last_number(text: str) -> tuple[float, bool] | None:
    """The last number in a text, and whether it is a percentage; None without one.

    Read are thousands separators (1,234.5), powers (1e3), fractions (3/4, 2 1/2, LaTeX's \\frac), percents, currency
    signs and both minus signs. The value of a percentage is the number before the sign.
    """
    last = None
    for found in _NUMBER.finditer(_FRACTION.sub(r" \1/\2", text)):
        value = _value(found)
        if value is not None:
            last = value, found["percent"] is not None
    return last


def _value(found: re.Match[str]) -> float | None:
    if found["whole"] is not None:
        below = float(found["under"])
        value = float(found["whole"]) + float(found["over"]) / below if below else math.nan
    else:
        below = float(found["below"] or 1)
        value = float(found["number"].replace(",", "")) / below if below else math.nan
    if not math.isfinite(value):
        return None
    return -value if (found["sign"] or "+")[0] in "-\u2212" else value


class NumberMatch(Metric):
    """1 when the last number of the output equals the last number of an accepted answer, else 0.

    A percentage is read both ways where the other number is none: 45% equals 45 and 0.45.

    Args:
        tolerance: Largest difference that counts as equal, in the answer's unit.
        relative: The same as a share of the answer; the larger of the two counts.
        answer: The row's field with the answer: a number, or a text whose last number counts.
        reveal: Whether the words may quote the answer.
    """

    def __init__(
        self, *, tolerance: float = 0.0, relative: float = 1e-6, answer: str = "answer", reveal: bool = True
    ) -> None:
        super().__init__(answer=answer, reveal=reveal)
        for name, value in (("tolerance", tolerance), ("relative", relative)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}: found {value!r}, allowed is a number of at least 0")
        self._tolerance, self._relative = tolerance, relative

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        answers = self.answers(row)
        right = []
        for answer in answers:
            number = last_number(answer)
            if number is None:
                raise ValueError(f"there is no number in the row's {self.needs!r}: {quoted(answer)}")
            right.append(number)
        said = last_number(output)
        if said is None:
            shown = f", right is {quoted(answers[0])}" if self.reveal else ""
            return 0.0, f"wrong: there is no number in the output {quoted(output)}{shown}"
        if any(self._equal(said, number) for number in right):
            return 1.0, "right"
        value = f"{said[0]:.12g}{'%' if said[1] else ''}"
        return 0.0, self.wrong(value, answers, "the last number of the output is")

    def _equal(self, said: tuple[float, bool], right: tuple[float, bool]) -> bool:
        readings = [(said[0], right[0])]
        if said[1] and not right[1]:
            readings.append((said[0] / 100, right[0]))
        elif right[1] and not said[1]:
            readings.append((said[0], right[0] / 100))
        return any(
            abs(found - wanted) <= max(self._tolerance, self._relative * abs(wanted)) for found, wanted in readings
        )
