"""A person with a script, and drafts as a model would answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.drafting import draft
from agent.drafting.flow import Drafted
from agent.llm.scripted import Scripted

TOML = """
description = "How well a line fits."

[evaluator]
function = "evaluate:measure"
timeout = 20

[space.slope]
type = "float"
low = -2
high = 2
default = 1.5

[space.power]
type = "int"
low = 1
high = 5

[[objectives]]
name = "loss"
direction = "minimize"

[budget]
evaluations = 40
"""

BOWL = """
def measure(candidate, seed=0):
    return {"loss": (candidate["slope"] - 0.3) ** 2 + 0.1 * (candidate["power"] - 4) ** 2}
"""


class Person:
    """Answers by what a question is about; anything it has no answer for gets Enter, or a no."""

    def __init__(self, answers: Mapping[str, Any] | None = None, yes: bool = True) -> None:
        self.answers = {
            key: list(value) if isinstance(value, list) else [value] for key, value in (answers or {}).items()
        }
        self.yes = yes
        self.said: list[str] = []
        self.questions: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def ask(self, question: str) -> str:
        found = self._answer(question)
        return "" if found is None else str(found)

    def confirm(self, question: str) -> bool:
        found = self._answer(question)
        return self.yes if found is None else bool(found)

    def _answer(self, question: str) -> Any:
        self.questions.append(question)
        for part, answers in self.answers.items():
            if part in question and answers:
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return None

    @property
    def heard(self) -> str:
        """All that was said to it."""
        return "\n".join(self.said)

    def was_asked(self, part: str) -> bool:
        return any(part in question for question in self.questions)


def reply(toml: str = TOML, evaluate: str | None = BOWL, explanation: str = "It fits a line.", **more: str) -> str:
    """What the model answers."""
    files = {"problem.toml": toml, **({"evaluate.py": evaluate} if evaluate is not None else {}), **more}
    return json.dumps(
        {"explanation": explanation, "files": [{"path": path, "text": text} for path, text in files.items()]}
    )


async def drafted(
    folder: Path, person: Person, *replies: Any, goal: str = "the fit of the line", **more: Any
) -> tuple[Drafted | None, Scripted]:
    """The whole way with a model that answers these, and what it was asked."""
    model = Scripted(replies)
    more.setdefault("here", folder)
    return await draft(folder, person, "scripted:test", goal=goal, adapter=model, **more), model


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder that a person would see there."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
