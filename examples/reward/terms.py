"""Rewards made of written terms, without a model: drawn, climbed, and by a script that answers ICPL's prompts."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable

from agent.llm.types import Completion, ModelRequest, Usage
from agent.proposers.base import Context, Proposal

TERMS = (
    "-abs(position)",
    "-abs(speed)",
    "-abs(angle)",
    "-abs(spin)",
    "-abs(force)",
    "-position**2",
    "-speed**2",
    "-angle**2",
    "-spin**2",
    "(abs(angle) < 0.2095)",
    "(abs(position) < 2.4)",
    "-(position * speed)",
    "-(angle * spin)",
)
WEIGHTS = ("0.01", "0.1", "1", "10")
HEAD = "def reward(position, speed, angle, spin, force):\n    return "
TRUE = f"{HEAD}float(abs(position) < 2.4 and abs(angle) < 0.2095)\n"
"""What is counted in the end, as a reward."""
SHAPED = f"{HEAD}-10 * angle**2 - 0.1 * position**2 - 0.05 * speed**2 - 0.05 * spin**2\n"
"""What a person wrote who knows control: a quadratic cost."""


def program(terms: Iterable[str]) -> str:
    """A reward as the sum of weighted terms."""
    return HEAD + " + ".join(terms) + "\n"


def terms_of(text: str) -> list[str]:
    """The weighted terms of such a reward; of another one what it returns, as one term."""
    found = re.search(r"return (.*)", text)
    body = found[1].strip() if found else ""
    return body.split(" + ") if " + " in body or " * " in body else [f"1 * {body}"] * bool(body)


def drawn(rng: random.Random) -> list[str]:
    """Two to four terms with weights: blind."""
    return [f"{rng.choice(WEIGHTS)} * {term}" for term in rng.sample(TERMS, rng.randint(2, 4))]


def changed(terms: list[str], rng: random.Random) -> list[str]:
    """One edit: another weight, a term more, or a term less."""
    out, kind = list(terms), rng.choice(("weight", "add", "drop"))
    place = rng.randrange(len(out))
    free = [term for term in TERMS if not any(one.endswith(f" * {term}") for one in out)]
    if kind == "drop" and len(out) > 1:
        out.pop(place)
    elif kind == "weight":
        weight, _, rest = out[place].partition(" * ")
        out[place] = f"{rng.choice([one for one in WEIGHTS if one != weight])} * {rest}"
    elif free:
        out.append(f"{rng.choice(WEIGHTS)} * {rng.choice(free)}")
    return out


class Draw:
    """Best of N: rewards drawn from the terms, as blind as can be."""

    name, needs_model, texts = "draw", False, True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        out = {}
        for _ in range(50 * n):
            candidate = context.problem.space.candidate({"program": self.made(context)})
            if candidate.id not in context.history and len(out) < n:
                out[candidate.id] = Proposal(candidate, self.name, "", (context.history.champion,))
        context.exhausted = not out
        return list(out.values())

    def made(self, context: Context) -> str:
        return program(drawn(context.rng))

    def forecast(self, problem, candidates, options):
        return 0, 0, 0


class Climb(Draw):
    """One edit of the champion."""

    name = "climb"

    def made(self, context: Context) -> str:
        return program(changed(terms_of(context.champion["program"]), context.rng))


class Writer:
    """Stands for a model that answers ICPL's prompts, as a function of the prompt's words alone.

    It takes the best version that it is shown and edits it, keeps clear of terms that only the worst has, and draws
    where nothing was put in order yet. `blind` masks the evidence: then it always draws.
    """

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind

    def written(self, prompt: str) -> str:
        """A reward, from what the prompt shows."""
        rng = random.Random(prompt)
        shown = re.findall(r"def reward\(.*?\n +return .*", prompt)
        if self.blind or "The worst of them:" not in prompt or len(shown) < 2:
            return program(drawn(rng))
        best, worst = (terms_of(text) for text in shown[:2])
        bad = {term.partition(" * ")[2] for term in worst} - {term.partition(" * ")[2] for term in best}
        made = changed(best, rng)
        for _ in range(20):
            if not any(term.partition(" * ")[2] in bad for term in made):
                break
            made = changed(best, rng)
        return program(made)

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        prompt = request.messages[0].text
        text = json.dumps({"program": self.written(f"{prompt}\n{seed}")})
        return Completion(text, usage=Usage(input=len(prompt.split()), output=len(text.split())), model="terms:Writer")

    async def close(self) -> None:
        """Nothing to free."""
