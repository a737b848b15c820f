"""The black boxes: functions of a number or a text that nobody is shown. FIND_BOX names the one that is asked."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PROBES = 20
"""How often a box may be asked in a run, whoever asks."""
LETTERS = "aaaabcdeeeefghiiklmnoooprstuvyAEIOBRST"


@dataclass(frozen=True)
class Box:
    """A hidden function.

    Args:
        function: What it really does.
        kind: "number" or "text".
        low, high: Of a number, where it is asked.
        noise: Standard deviation that is added to a number's answer.
        broken: Of a number, a region in which the answer is any number: it is to be seen through, not learned.
    """

    function: Callable[[Any], Any]
    kind: str = "number"
    low: float = -5.0
    high: float = 5.0
    noise: float = 0.0
    broken: tuple[float, float] = (0.0, 0.0)

    def draw(self, rng: random.Random) -> Any:
        """An input, outside of what is broken."""
        if self.kind == "text":
            words = ("".join(rng.choices(LETTERS, k=rng.randint(1, 7))) for _ in range(rng.randint(1, 3)))
            return " ".join(words)
        while self.broken[0] <= (x := round(rng.uniform(self.low, self.high), 3)) < self.broken[1]:
            pass
        return x

    def ask(self, given: Any, key: str) -> Any:
        """What the box answers to a probe; `key` decides the noise.

        Raises:
            ValueError: That is no number, or too long a text.
        """
        if self.kind == "text":
            if len(given) > 200:
                raise ValueError("a text of at most 200 characters, please")
            return self.function(given)
        x, rng = float(given), random.Random(key)
        if not self.low <= x <= self.high:
            raise ValueError(f"a number from {self.low:g} to {self.high:g}, please")
        if self.broken[0] <= x < self.broken[1]:
            return round(rng.uniform(-20, 20), 3)
        return round(self.function(x) + rng.gauss(0, self.noise), 3)

    def right(self, given: Any, output: Any) -> bool:
        """Whether a program answers as the box does: a number to a twentieth, and never nearer than 0.1 is asked."""
        wanted = self.function(given)
        if self.kind == "text":
            return output == wanted
        return abs(output - wanted) <= max(0.1, abs(wanted) / 20)

    @property
    def words(self) -> str:
        """What everybody is told."""
        if self.kind == "text":
            return "A black box takes a text and gives a text."
        noisy = " Its answers are noisy, and there may be a region where it is broken and answers anything."
        return f"A black box takes a number from {self.low:g} to {self.high:g} and gives a number." + noisy


def vowels(text: str) -> str:
    return "".join(c.upper() if c in "aeiou" else c for c in text)


BOXES = {
    "cubic": Box(lambda x: 0.2 * x**3 - x + 2, noise=0.05),
    "wave": Box(lambda x: 3 * math.sin(1.5 * x) + 1, noise=0.05),
    "ramp": Box(lambda x: 2 * x + 1 if x < 1 else 3.0, noise=0.05, broken=(2.0, 3.0)),
    "swell": Box(lambda x: x * math.sin(2 * x), noise=0.05),
    "mirror": Box(lambda text: text[::-1].upper(), "text"),
    "vowels": Box(vowels, "text"),
}


def chosen() -> Box:
    """The box of this run.

    Raises:
        ValueError: There is none of that name.
    """
    name = os.environ.get("FIND_BOX", "ramp")
    if name not in BOXES:
        raise ValueError(f"FIND_BOX: found {name!r}, allowed is one of {', '.join(BOXES)}")
    return BOXES[name]
