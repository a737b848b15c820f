"""The surrogates of LLAMBO: the model predicts results, or says which candidates are among the best.

Both are in section 5 of Liu et al. 2024 (arXiv 2402.03921).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import ConfigError
from agent.problem import Problem
from agent.proposers import cards
from agent.proposers.asking import replies
from agent.proposers.base import Context, Proposal
from agent.surrogates.points import Points

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest
    from agent.proposers.llambo import Options

SOURCE = "llambo:surrogate"
FLOOR = 1e-5
"""The smallest standard deviation of a prediction, as a share of the range of the shown results."""
VALUE_TOKENS = 48
GOOD, BAD = "1", "0"
TOP = 20
"""Tokens whose log-probabilities are asked for: the most that providers give."""


@dataclass(frozen=True)
class Evidence:
    """The best measured candidates, as the prompts show them, best first.

    Args:
        problem: Which way is better, and within which bounds results lie.
        results: What race and gate compare, in the problem's own units.
        texts: The configurations as JSON, with what lies at an end of its range.
        numbers: Their order of admission.
    """

    problem: Problem
    results: tuple[float, ...]
    texts: tuple[str, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, context: Context, names: Sequence[str], most: int) -> Evidence:
        """The `most` best of a history."""
        problem = context.problem
        points = Points.of(problem, context.history)
        order = [int(place) for place in np.argsort(points.y, kind="stable")[:most]]
        return cls(
            problem=problem,
            results=tuple(-problem.objective.sign * float(points.y[place]) for place in order),
            texts=tuple(cards.marked(problem.space, points.trials[place].candidate, names) for place in order),
            numbers=tuple(points.trials[place].number for place in order),
        )

    def __len__(self) -> int:
        return len(self.results)

    @property
    def span(self) -> float:
        """How far the shown results lie apart; where they are all equal, the size of one."""
        return max(self.results) - min(self.results) or abs(self.results[0]) or 1.0

    def target(self, alpha: float) -> float:
        """The result to reach: y* = best -+ alpha * range (section 6), within the declared bounds.

        Args:
            alpha: Above 0 for something better than the best, below 0 for something worse.
        """
        goal = self.results[0] + self.problem.objective.sign * alpha * self.span
        bounds = self.problem.bounds
        return goal if bounds is None else min(bounds[1], max(bounds[0], goal))

    def targeted(self, rng: random.Random | None, goal: float) -> tuple[list[str], str]:
        """Lines "result -> configuration", and the result to reach, written as they are.

        Args:
            rng: Gives their order, so that several requests see several; None keeps the order of admission, in which
                the next prompt begins as this one does and is read from the model's cache.
            goal: The result to reach.
        """
        *results, target = cards.rounded([*self.results, goal])
        order = sorted(range(len(self)), key=lambda place: self.numbers[place])
        rows = [f"{results[place]} -> {self.texts[place]}" for place in order]
        if rng is not None:
            rng.shuffle(rows)
        return rows, target

    def predicted(self, rng: random.Random) -> list[str]:
        """Lines "configuration -> result" in a random order."""
        rows = [f"{text} -> {result}" for text, result in zip(self.texts, cards.rounded(self.results), strict=True)]
        rng.shuffle(rows)
        return rows

    def labelled(self, rng: random.Random, share: float) -> list[str]:
        """Lines "configuration -> 1" for the best `share`, but for at least one and not for all, and "-> 0"."""
        good = min(len(self) - 1, max(1, round(share * len(self))))
        rows = [f"{text} -> {GOOD if place < good else BAD}" for place, text in enumerate(self.texts)]
        rng.shuffle(rows)
        return rows


async def choose(
    context: Context, options: Options, names: Sequence[str], evidence: Evidence, proposals: list[Proposal], n: int
) -> list[Proposal]:
    """The `n` proposals that the surrogate likes best, best first; all of them when there is nothing to choose.

    Args:
        context: Of the decision.
        options: The user's.
        names: The parameters shown.
        evidence: At least two results.
        proposals: The sampler's.
        n: How many to keep.

    Raises:
        ConfigError: Log-probabilities are needed and the endpoint gives none.
        BudgetExceeded: A limit refused all of its calls.
        ProviderError: The model cannot be reached.
    """
    if len(proposals) <= n:
        return proposals
    texts = [cards.configuration(context.problem.space, item.values, names) for item in proposals]
    score = _improvement if options.surrogate == "discriminative" else _chance
    judged = await score(context, options, names, evidence, proposals, texts)
    if not judged:
        context.reject("the surrogate gave nothing usable, so that it did not choose", SOURCE)
        return proposals[:n]
    return [made for _, _, made in sorted(judged, key=lambda item: item[:2])[:n]]


Judged = list[tuple[tuple[float, float], int, Proposal]]
"""A key that is small for the best, the place among the candidates, and the proposal with what is expected of it."""


async def _improvement(
    context: Context,
    options: Options,
    names: Sequence[str],
    evidence: Evidence,
    proposals: list[Proposal],
    texts: list[str],
) -> Judged:
    """Expected improvement under the mean and the deviation of several predictions of each candidate."""
    requests, owner = [], []
    for template in range(min(options.templates, options.samples)):
        rows = evidence.predicted(context.rng)
        for place, text in enumerate(texts):
            same = _value_request(context, options, names, rows, text)
            times = len(range(template, options.samples, options.templates))
            requests += [same] * times
            owner += [place] * times
    seen: list[list[float]] = [[] for _ in proposals]
    for place, reply in zip(owner, await replies(context, requests, SOURCE), strict=True):
        if reply is not None:
            seen[place].append(float(reply.parsed["value"]))
    if not any(seen):
        return []
    floor = FLOOR * evidence.span
    moments = [(float(np.mean(got)), max(float(np.std(got)), floor)) if got else None for got in seen]
    known = [item for item in moments if item is not None]
    others = float(np.mean([mean for mean, _ in known])), max(sd for _, sd in known)
    sign, out = -context.problem.objective.sign, []
    for place, (proposal, item) in enumerate(zip(proposals, moments, strict=True)):
        if item is None:
            context.reject("no prediction could be read, so that the mean of the others stands for it", SOURCE)
        mean, sd = item or others
        gain = improvement(sign * evidence.results[0], sign * mean, sd)
        claim = mean if item is not None and context.problem.claim == "primary" else None
        words = f"predicted {mean:.4g}, give or take {sd:.2g}"
        made = replace(proposal, source="llambo:llm:discriminative", claim=claim, rationale=words)
        out.append(((-gain, sign * mean), place, made))
    return out


def improvement(best: float, mean: float, sd: float) -> float:
    """Expected improvement in closed form (Jones, Schonlau and Welch 1998, J. Global Optim. 13, equation 15).

    Args:
        best: The smallest cost so far.
        mean: Of the prediction of a cost.
        sd: Its standard deviation, above 0.
    """
    z = (best - mean) / sd
    below = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    return (best - mean) * below + sd * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


async def _chance(
    context: Context,
    options: Options,
    names: Sequence[str],
    evidence: Evidence,
    proposals: list[Proposal],
    texts: list[str],
) -> Judged:
    """P(good) / (P(good) + P(bad)) by the log-probabilities of the next token, averaged over orders of the history."""
    requests, owner = [], []
    for _ in range(options.templates):
        rows = evidence.labelled(context.rng, options.best)
        for place, text in enumerate(texts):
            requests.append(_label_request(context, options, names, rows, text))
            owner.append(place)
    given = await replies(context, requests, SOURCE)
    if any(reply is not None for reply in given) and not any(reply is not None and reply.logprobs for reply in given):
        raise ConfigError(
            "the generative surrogate needs log-probabilities, and the endpoint gives none",
            hint='set proposer.options.surrogate = "discriminative" or "none", or choose another model',
        )
    seen: list[list[float]] = [[] for _ in proposals]
    for place, reply in zip(owner, given, strict=True):
        share = None if reply is None else chance(reply)
        if share is not None:
            seen[place].append(share)
        elif reply is not None:
            context.reject(f"neither {GOOD} nor {BAD} is among the likely tokens", SOURCE, reply.text)
    out = []
    for place, (proposal, got) in enumerate(zip(proposals, seen, strict=True)):
        if got:
            mean = float(np.mean(got))
            words = f"among the best {100 * options.best:.0f} % with a chance of {mean:.0%}"
            made = replace(proposal, source="llambo:llm:generative", rationale=words)
            out.append(((-mean, 0.0), place, made))
    return out


def chance(reply: Completion) -> float | None:
    """How likely "good" is against "bad" as the first token; None when neither is among those told.

    A token that is not told has at most the smallest probability that is.
    """
    told = [(token.strip(), math.exp(value)) for token, value in reply.logprobs]
    good, bad = (sum(share for token, share in told if token == label) for label in (GOOD, BAD))
    if not good and not bad:
        return None
    least = min(share for _, share in told)
    good, bad = good or least, bad or least
    return good / (good + bad)


def _value_request(
    context: Context, options: Options, names: Sequence[str], rows: list[str], text: str
) -> ModelRequest:
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    value: dict[str, Any] = {"type": "number"}
    bounds = context.problem.bounds
    if bounds is not None:
        value.update(minimum=bounds[0], maximum=bounds[1])
    return ModelRequest(
        messages=(Message("user", render("llambo_value.txt", rows=rows, configuration=text)),),
        system=render("llambo_value_system.txt", card=cards.card(context.problem, names)),
        schema=cards.closed({"value": value}),
        max_output_tokens=VALUE_TOKENS,
        temperature=options.temperature,
    )


def _label_request(
    context: Context, options: Options, names: Sequence[str], rows: list[str], text: str
) -> ModelRequest:
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    share = f"{100 * options.best:g}"
    return ModelRequest(
        messages=(Message("user", render("llambo_label.txt", rows=rows, configuration=text, share=share)),),
        system=render("llambo_label_system.txt", card=cards.card(context.problem, names)),
        max_output_tokens=1,
        temperature=1.0,  # anything else would change the probabilities themselves
        logprobs=TOP,
    )
