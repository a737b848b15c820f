"""Who writes the next text: VML's step, which asks a model, and others that ask nobody."""

from __future__ import annotations

import numpy as np

from agent.llm.types import Message, ModelRequest
from agent.proposers.asking import replies
from agent.proposers.base import Context, Proposal, RowView

MODEL = "model"
BATCH = 10
"""Rows that a step reads."""


async def batch(context: Context, rows: int) -> list[RowView]:
    """Rows of train, drawn; what comes of them is raced on the others."""
    names = [example.id for example in context.problem.split("train")]
    return [await context.read(name) for name in context.rng.sample(names, min(rows, len(names)))]


class VML:
    """One step of Verbalized Machine Learning (Xiao et al. 2024, arXiv 2406.04344): the model's text and a batch of
    rows with what it predicted go in, a new text comes out. Whether it is kept is for the race to say, not the step.
    """

    name = "vml"
    needs_model = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        text = context.champion[MODEL]
        lines = [
            view.feedback if view.measured and view.score is not None else f"x = {view.row['x']}: it is {view.row['y']}"
            for view in await batch(context, BATCH)
        ]
        size = context.problem.space[MODEL].max_chars
        schema = {
            "type": "object",
            "properties": {
                "reasoning": {"type": "string", "maxLength": 300},
                MODEL: {"type": "string", "maxLength": size},
            },
            "required": ["reasoning", MODEL],
            "additionalProperties": False,
        }
        request = ModelRequest(
            (
                Message(
                    "user", "\n".join(["The model so far:", text, "", "Data:", *lines, "", "Write a better model."])
                ),
            ),
            system=context.problem.description,
            schema=schema,
            max_output_tokens=100 + size // 2,
            temperature=1.0,
        )
        (reply,) = await replies(context, [request], self.name)
        if reply is None:
            return []
        new = reply.parsed[MODEL].strip()
        return [Proposal({MODEL: new}, self.name, reply.parsed["reasoning"], (context.history.champion,))]

    def forecast(self, problem, candidates, options):
        return candidates, candidates * 1500, candidates * (100 + 200)


class LeastSquares:
    """A polynomial for a number, its degree chosen by leaving out one row at a time; a straight border for classes."""

    name = "least-squares"
    needs_model = False
    rows, highest = 40, 5

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        if context.memory is not None:
            context.exhausted = True
            return []
        context.memory = "done"
        views = await batch(context, self.rows)
        x, y = (np.array([view.row[name] for view in views], dtype=float) for name in "xy")
        if x.ndim == 2 and self.highest:
            weights = np.linalg.lstsq(np.column_stack([np.ones(len(y)), x]), 2 * y - 1, rcond=None)[0]
        else:
            weights = polynomial(x if x.ndim == 1 else x[:, 0], y, self.highest)
        words = f"fitted to {len(y)} rows"
        return [Proposal({MODEL: written(weights, x.ndim)}, self.name, words, (context.history.champion,))]

    def forecast(self, problem, candidates, options):
        return 0, 0, 0


class Mean(LeastSquares):
    """The mean of y: what knows nothing of x."""

    name, highest = "mean", 0


class Draws(LeastSquares):
    """Polynomials of degree two, or straight borders, with weights drawn from -5 to 5: as blind as can be."""

    name = "draws"

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        if context.memory is None:  # one row says whether x is a number or two of them
            (view,) = await batch(context, 1)
            context.memory = 2 if isinstance(view.row["x"], list) else 1
        weights = [round(context.rng.uniform(-5, 5), 1) for _ in range(3)]
        return [Proposal({MODEL: written(weights, context.memory)}, self.name, "", (context.history.champion,))]


class Told(LeastSquares):
    """The rule that it is told: no learner, but the most that a model which reads texts can make of one."""

    name = "told"

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        if context.memory is not None:
            context.exhausted = True
            return []
        context.memory = "done"
        return [Proposal({MODEL: context.options["rule"]}, self.name, "", (context.history.champion,))]


def written(weights, dimensions: int) -> str:
    """A formula: a polynomial of x, or on which side of a border x lies."""
    terms = (
        ["", "*x[0]", "*x[1]"]
        if dimensions == 2
        else [f"*x**{power}" if power else "" for power in range(len(weights))]
    )
    total = " + ".join(f"{weight:.4g}{term}" for weight, term in zip(weights, terms, strict=False))
    return f"{total} > 0" if dimensions == 2 and len(weights) > 1 else total


def polynomial(x: np.ndarray, y: np.ndarray, highest: int) -> np.ndarray:
    """Weights of the polynomial whose mean squared error on rows that were left out is the smallest."""

    def fitted(degree):
        columns = np.vander(x, degree + 1, increasing=True)
        inverse = np.linalg.pinv(columns)
        weights = inverse @ y
        leverage = np.einsum("ij,ji->i", columns, inverse)
        return float(np.mean(((columns @ weights - y) / np.maximum(1e-9, 1 - leverage)) ** 2)), weights

    return min((fitted(degree) for degree in range(highest + 1)), key=lambda item: item[0])[1]
