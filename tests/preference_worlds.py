"""A small world without right answers: each kind of task wants one thing of an output, and a judge likes it. Scripted.

Each script is a function of the prompt text alone. The program does what its instruction says; the judge looks for what
the task wants in the two answers; the proposer reads what the outputs lack, and cannot know it otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from agent.llm.scripted import Scripted
from agent.llm.types import ModelRequest
from agent.parameters import Parameter
from agent.texts import Text

WANTED = {
    "Write": ("Begin a letter with a greeting.", "Hello!"),
    "How far": ("Give distances in km.", "km"),
    "Is it true": ("Name the source of a fact.", "(atlas)"),
}
"""By the words that a task begins with: what the instruction must say, and what the output then has."""
REQUIREMENTS = "Letters greet, distances have a unit, facts have a source."
TEMPLATE = "{instruction}\n\nTask: {question}"
SPACE: Mapping[str, Parameter] = {"instruction": Text("Answer.", max_chars=300)}
PLANTED = [{"row": {"question": "How far is it?"}, "good": "12 km", "bad": "12"}]


def rows(count: int) -> list[dict[str, Any]]:
    """Tasks of three kinds in turn, no two of them nearly the same."""
    towns = ["Ulm", "Bonn", "Kiel", "Jena", "Trier", "Mainz", "Worms", "Celle", "Gotha", "Hof"]
    there = [(one, two) for one in towns for two in towns if one < two]
    words = ["north", "east", "south", "west", "bridge", "river", "canal", "ferry", "road", "rail"]
    out = []
    for number in range(count):
        one, two = there[number % len(there)]
        way = " ".join(words[(number * step) % 10] for step in (1, 3, 7, 9))
        asked = list(WANTED)[number % 3]
        out.append({"question": f"{asked} {one}{number} and {two}{number * 7}, by {way}?"})
    return out


def answer(request: ModelRequest) -> str:
    """The task model: does what the instruction asks for."""
    instruction, _, task = request.messages[-1].text.partition("Task:")
    number = str(sum(map(ord, task)) % 900 + 100)
    return " ".join([number, *(mark for wish, mark in WANTED.values() if wish in instruction)])


def liking(task: str, output: str) -> float:
    """What the judge likes: the one thing that this kind of task wants."""
    return float(any(words in task and mark in output for words, (_, mark) in WANTED.items()))


def judged(request: ModelRequest, taste: Callable[[str, str], float] = liking) -> str:
    """The judge; the pairs of the self-test it tells apart too."""
    prompt = request.messages[0].text
    task, _, rest = prompt.partition("Answer 1:")
    first, second = rest.partition("Answer 2:")[::2]
    sure = ("of France is Paris", "120", "Thank you")
    a, b = (taste(task, text) + 10 * any(word in text for word in sure) for text in (first, second))
    verdict = "1" if a > b else "2" if b > a else "tie"
    return json.dumps({"rationale": f"the first has {a:g} of it, the second {b:g}", "verdict": verdict})


def improved(request: ModelRequest) -> str:
    """The proposer: adds what the outputs that it sees lack. Without outputs it can only pad."""
    prompt = request.messages[0].text
    found = re.search(r'instruction =\n(".*")', prompt)
    now = json.loads(found[1]) if found else "Answer."
    seen = re.findall(r'row: \{"question": "(.*?)".*?output: "(.*?)"', prompt, re.S)
    lacks = {w for task, text in seen for ask, (w, mark) in WANTED.items() if task.startswith(ask) and mark not in text}
    add = min(lacks - {wish for wish in lacks if wish in now}, default=f"Please{'!' * (len(prompt) % 17)}")
    said = {"analysis": f"they lack {sorted(lacks)}", "reasoning": add}
    fields = (request.schema or {}).get("properties", {})
    if "changes" not in fields:
        return json.dumps({"instruction": f"{now} {add}"[:300]})
    return json.dumps(
        {**{name: said[name] for name in fields if name in said}, "changes": {"instruction": f"{now} {add}"[:300]}}
    )


def models(**other: Callable[[ModelRequest], Any]) -> dict[str, Scripted]:
    """Model objects by role."""
    scripts: dict[str, Any] = {"propose": improved, "task": answer, "judge": judged, **other}
    return {role: Scripted(script, name=f"scripted:{role}") for role, script in scripts.items()}
