"""Runs that the report's tests look at, and a reader of pages."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from agent.goals import Objective
from agent.parameters import Categorical
from agent.problem import Example, Problem
from agent.proposers.base import Context, Proposal
from agent.texts import Text
from tests.row_support import Ran, answered, rows, run

NASTY = (
    "<script>alert(1)</script>",
    "</style><style>*{display:none}</style>",
    "]]><svg onload=alert(2)>",
    '"><img src=x onerror=alert(3)>',
    "javascript:alert(4)",
    "{{ 7 * 7 }}{% include 'x' %}",
    "$\\frac{1}{2}$ var(--ink) #0a0b01",
    "\u202eabc\u2066 \x00\x1b[31m\x07",
    "half \ud800 a pair",
    "--><!-- <a href='http://example.org/'>",
)
"""What a model, an evaluator or a row may say."""
ALL = " ".join(NASTY)
WHOLE = ALL.replace("\ud800", "")
"""The same in what is written into files of its own."""


class Words:
    """A proposer of texts, with hostile words about them."""

    name = "words"
    needs_model = False
    texts = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        place = context.memory or 0
        context.memory = place + 1
        context.exhausted = place > 8
        champion = context.history.champion
        text = f"{WHOLE} answer {'well ' * (place % 5)}"
        values = {"prompt": text, "kind": "<b>b</b>" if place % 2 else "a"}
        return [Proposal(values, f"words:{ALL}", rationale=f"{ALL} {place}", parents=(champion,))]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


def proven_run(folder: Path) -> Ran:
    """A run on rows, each split of which is known, that shows a gain."""
    data = (*rows(80), *rows(60, 80, split="val"), *rows(40, 140, split="test"))
    return run(folder, told, data, budget=900)


def told(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[float, str]:
    """As `answered`, with a word about the row."""
    return answered(candidate, row), f"about row-{row['number']}."


def hostile_answer(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> Any:
    """Better with every "well" in the prompt; fails on some rows."""
    if row["number"] % 7 == 0 and candidate["kind"] != "a":
        raise ValueError(f"{ALL} in /home/someone/file{row['number']}.py at 0x{row['number']:x}")
    score = 0.2 + 0.15 * str(candidate["prompt"]).count("well") + 0.01 * (row["number"] % 3)
    return {"accuracy": min(1.0, score), "feedback": f"{ALL} on {row['number']}"}


def hostile_run(folder: Path) -> Ran:
    """A run on rows in which whoever can say something says the worst."""
    data = [Example(f"{ALL} {n}", {"number": n, "text": f"question {n} " + "xyz"[n % 3] * n}) for n in range(90)]
    return run(
        folder,
        hostile_answer,
        data,
        space={"prompt": Text(default=f"{WHOLE}\nanswer"), "kind": Categorical(["a", "<b>b</b>"])},
        objectives=(Objective("accuracy", "maximize", unit=WHOLE, low=0.0, high=1.0, floor=0.0),),
        description=WHOLE,
        proposer="tests.report.support:Words",
        budget=700,
    )


def replaced(value: Any, change: Callable[[str], str]) -> Any:
    """The same data with every text changed; the keys of mappings and the words of closed lists stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = ("decision", "better", "status", "state", "purpose", "direction")
        names = [field.name for field in dataclasses.fields(value) if field.init and field.name not in kept]
        return dataclasses.replace(value, **{name: replaced(getattr(value, name), change) for name in names})
    if isinstance(value, str):
        return value if value in ("failed", "report", "exam", "exact", "rows", "paired", "none") else change(value)
    if isinstance(value, Mapping):
        return {key: replaced(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(replaced(item, change) for item in value)
    return value


class Page(HTMLParser):
    """The elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get("id"))]


HARMLESS = re.compile(
    "html|head|meta|title|style|body|main|section|header|footer|nav|div|p|span|h[1-4]|a|code|pre|strong|b|i|dl|dt|dd|ul|li"
    "|table|thead|tbody|tr|th|td|details|summary|figure|ins|del"
    "|svg|g|defs|path|use|text|tspan|rect|clippath|image|lineargradient|stop|circle"
)
"""Elements that a page may have."""


def check_harmless(page: str) -> Page:
    """Assert that a page has no element or attribute that runs, loads or navigates; gives its elements."""
    found = Page(page)
    assert not {tag for tag, _ in found.tags if not HARMLESS.fullmatch(tag)}
    assert len(found.of("style")) == 1 + sum(tag == "svg" for tag, _ in found.tags)
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcdoc", "action")], tag
        for name in ("href", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target.startswith("#") or (tag == "image" and target.startswith("data:image/png"))
    assert "\ud800" not in page and "\u202e" not in page and "\x1b" not in page and "\x00" not in page
    return found
