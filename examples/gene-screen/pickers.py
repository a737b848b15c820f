"""Who picks the next batch: at random, by the families in genes' names, or a model.

A candidate is the list of all genes picked so far, as places in the pool. A proposal adds one batch to the newest
candidate; what the lab reported stands in the trials' feedback, as JSON: gene -> [score, 1 for a hit].
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.llm.types import Message, ModelRequest
from agent.proposers.asking import replies
from agent.proposers.base import Context, Proposal

GENES = "genes"
MENU = 100
"""Genes that a model is offered where what it named by itself was of no use."""
TOLD = 60
"""Tested genes that a prompt tells of: all hits first, then others in the order of their scores."""


class Picker:
    """A batch of genes that were not tested yet. Subclasses say which."""

    name = "picker"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """One batch: the next one has to wait for what this one shows."""
        pool = context.problem.space[GENES].pool
        newest = context.history.trials[-1]
        picked = list(newest.candidate[GENES])
        known = {gene for place in picked for gene in [pool[place]]}
        left = [gene for gene in pool if gene not in known]
        size = min(context.options["batch"], len(left))
        if not size:
            context.exhausted = True
            return []
        chosen, words = await self.pick(context, left, tested(context), size)
        if len(chosen) < size:
            rest = [gene for gene in left if gene not in set(chosen)]
            chosen = chosen + context.rng.sample(rest, size - len(chosen))
        place = {gene: number for number, gene in enumerate(pool)}
        values = {GENES: picked + [place[gene] for gene in chosen]}
        return [Proposal(values, self.name, words, (newest.id,))]

    async def pick(
        self, context: Context, left: list[str], known: Mapping[str, tuple[float, bool]], size: int
    ) -> tuple[list[str], str]:
        """At most `size` of the genes that are left, and why in words; what is missing is drawn at random."""
        raise NotImplementedError

    def forecast(self, problem: Any, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No calls."""
        return 0, 0, 0


def tested(context: Context) -> dict[str, tuple[float, bool]]:
    """What the lab reported of each gene: its score, and whether it is a hit."""
    out: dict[str, tuple[float, bool]] = {}
    for trial in context.history.trials:
        if trial.feedback:
            out |= {gene: (score, bool(hit)) for gene, (score, hit) in json.loads(trial.feedback).items()}
    return out


class Random(Picker):
    """Draws."""

    name = "random"

    async def pick(self, context, left, known, size):
        return context.rng.sample(left, size), ""


class Families(Picker):
    """A Gaussian process over genes' names, and its upper confidence bound. The first batch is drawn.

    Two genes are as alike as the beginnings of their names: `ATP6V1A` and `ATP6V0B` share five of six or seven. That
    is all that this data says of a gene before it is tested.
    """

    name = "families"
    shortest, noise, bonus = 2, 1.0, 1.0

    async def pick(self, context, left, known, size):
        if not known:
            return context.rng.sample(left, size), "the first batch is drawn"
        names = list(known)
        hits = np.array([hit for _, hit in known.values()], dtype=float)
        across = self.alike(names, left)
        inner = self.alike(names, names) + self.noise * np.eye(len(names))
        solved = np.linalg.solve(inner, np.column_stack([hits - hits.mean(), across]))
        mean = across.T @ solved[:, 0]
        deviation = np.sqrt(np.maximum(0.0, 1 - np.einsum("ij,ij->j", across, solved[:, 1:])))
        scale = max(float(hits.std()), 0.05)
        best = np.argsort(
            -(mean + self.bonus * scale * deviation) - 1e-9 * np.array([context.rng.random() for _ in left])
        )
        return [left[place] for place in best[:size]], "the highest upper bounds by the families of names"

    def alike(self, rows: list[str], columns: list[str]) -> np.ndarray:
        """Shared beginnings over the geometric mean of how many each has: 1 for a gene and itself."""
        places = defaultdict(list)
        for number, gene in enumerate(columns):
            for beginning in self.beginnings(gene):
                places[beginning].append(number)
        out = np.zeros((len(rows), len(columns)))
        for number, gene in enumerate(rows):
            for beginning in self.beginnings(gene):
                out[number, places[beginning]] += 1
        sizes = [np.sqrt([len(self.beginnings(gene)) for gene in side]) for side in (rows, columns)]
        return out / np.outer(*sizes)

    def beginnings(self, gene: str) -> list[str]:
        return [gene[:end] for end in range(min(self.shortest, len(gene)), len(gene) + 1)]


class Model(Picker):
    """A model names genes; those that do not exist or are known are refused, and it is asked again with a menu.

    What it still leaves open is drawn at random. The rationale counts all three, so a table can tell how much of a
    result is the model's.
    """

    name = "model"
    needs_model = True

    async def pick(self, context, left, known, size):
        told = facts(context, known)
        named = await self.ask(context, f"{told}\nName {size} further genes to test.", None, left, size)
        missing = size - len(named)
        menu: list[str] = []
        if missing:
            rest = [gene for gene in left if gene not in named]
            offered = sorted(context.rng.sample(rest, min(MENU, len(rest))))
            words = f"{told}\nChoose {missing} of these to test next: {', '.join(offered)}"
            menu = await self.ask(context, words, offered, rest, missing)
        drawn = missing - len(menu)
        return named + menu, f"{len(named)} named, {len(menu)} from a menu, {drawn} drawn"

    async def ask(self, context, words, offered, left, size):
        one = {"type": "string", "maxLength": 20} if offered is None else {"enum": offered}
        schema = {
            "type": "object",
            "properties": {GENES: {"type": "array", "items": one, "minItems": size, "maxItems": size}},
            "required": [GENES],
            "additionalProperties": False,
        }
        request = ModelRequest(
            (Message("user", words),),
            system="You plan a genetic screen, batch after batch, so that it finds as many hits as it can.",
            schema=schema,
            max_output_tokens=64 + 16 * size,
            temperature=1.0,
        )
        (reply,) = await replies(context, [request], self.name)
        if reply is None:
            return []
        given, allowed = reply.parsed[GENES], set(left)
        good = list(dict.fromkeys(gene.strip().upper() for gene in given if gene.strip().upper() in allowed))[:size]
        if len(good) < len(given):
            context.reject(
                f"{len(given) - len(good)} of {len(given)} genes are unknown, tested or named twice", self.name
            )
        return good

    def forecast(self, problem, candidates, options):
        size = options["batch"]
        return 2 * candidates, 2 * candidates * (1000 + 12 * (MENU + TOLD)), 2 * candidates * (64 + 16 * size)


def facts(context: Context, known: Mapping[str, tuple[float, bool]]) -> str:
    """The task, and what the lab reported, as a prompt tells of it."""
    lines = [context.problem.description]
    if known:
        order = sorted(known, key=lambda gene: (not known[gene][1], -known[gene][0]))
        lines.append(f"Tested so far: {len(known)} genes, {sum(hit for _, hit in known.values())} hits. Among them:")
        lines += [f"{gene}: {known[gene][0]:g}{' (hit)' if known[gene][1] else ''}" for gene in order[:TOLD]]
    return "\n".join(lines)
