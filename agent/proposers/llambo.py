"""LLAMBO: the LLM as warm start, candidate sampler and surrogate of Bayesian optimization.

After Liu, Astorga, Seedat and van der Schaar 2024 ("Large Language Models to Enhance Bayesian
Optimization", ICLR, arXiv 2402.03921): the first points come from what the model knows of such
problems (section 4); later ones from a sampler that is told the result to reach, a share alpha of the
seen range beyond the best (section 6); a surrogate, again the model, says which of them to measure
(section 5). By default there is no surrogate, and each proposal is one call: the sampler's point.

Scores may have any sign and size. Where the objective declares its bounds, the target keeps to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import BudgetExceeded
from agent.problem import Problem
from agent.proposers import cards
from agent.proposers import llambo_surrogates as surrogates
from agent.proposers.asking import Round, drawn, replies
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.options import check_temperature, check_whole, number, read, wrong

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

SOURCE = "llambo"
SURROGATES = ("none", "discriminative", "generative")
FACTS = 400
"""Tokens of a prompt that are not the card and not the history, in a forecast."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        surrogate: "none": the sampler's point is measured, at one call per proposal. "discriminative": the model
            predicts each candidate's result several times, and expected improvement chooses. "generative": the
            model says how likely each candidate is to be among the best; the endpoint must give log-probabilities.
        candidates: That the sampler makes for a surrogate to choose from.
        samples: Predictions of each candidate by the discriminative surrogate, over all templates.
        templates: Orders of the history that the sampler and a surrogate are shown.
        alpha: How far beyond the best the asked-for result lies, as shares of the shown range, used in turn;
            from -1 to 1, below 0 for something slightly worse.
        warm: Configurations asked for before anything is known; 0 for none.
        shown: The best measured configurations shown.
        best: Share of the shown configurations that the generative surrogate calls good.
        temperature: Of the model.
    """

    surrogate: str = "none"
    candidates: int = 6
    samples: int = 4
    templates: int = 2
    alpha: float | Sequence[float] = (0.1, 0.01)
    warm: int = 4
    shown: int = 10
    best: float = 0.25
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.surrogate not in SURROGATES:
            raise wrong("surrogate", self.surrogate, f"one of {', '.join(SURROGATES)}")
        check_whole(self, {"candidates": 2, "samples": 2, "templates": 1, "warm": 0, "shown": 2})
        if not self.alphas or not all(number(share) and -1 <= share <= 1 for share in self.alphas):
            raise wrong("alpha", self.alpha, "a number from -1 to 1, or a list of them")
        if not (number(self.best) and 0 < self.best < 1):
            raise wrong("best", self.best, "a number between 0 and 1")
        check_temperature(self.temperature)

    @property
    def alphas(self) -> list[float]:
        """The shares that are used in turn."""
        return list(self.alpha) if isinstance(self.alpha, (list, tuple)) else [self.alpha]  # type: ignore[list-item]


class LLAMBO:
    """A warm start first, then a round of sampling (and of choosing). Memory: rounds so far, and whether it is warm."""

    name = SOURCE
    needs_model = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """The warm start as a group; after it, `n` proposals, or fewer when the model has fewer new ones.

        A reply that holds nothing new is asked for once more, with the reasons. When that brings nothing either,
        the proposals are random, marked `llambo:fallback`.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: The space has no numbers and no choices, an option is wrong, or the generative surrogate is
                wanted and the endpoint gives no log-probabilities.
        """
        options = read(Options, context.options)
        names = numeric(context.problem, SOURCE)
        memory = dict(context.memory or {"round": 0, "warm": False})
        if context.ask is None:
            context.reject("there is no model to ask", f"{SOURCE}:llm")
            return drawn(context, n, f"{SOURCE}:fallback")
        evidence = surrogates.Evidence.of(context, names, options.shown)
        # A search that knows something already, from other arms or the user's own points, has no need of it.
        warm = bool(options.warm) and not memory["warm"] and len(evidence) <= 1
        memory["warm"] = memory["warm"] or warm
        memory["round"] += 1
        asker = _Asker(context, options, names, evidence, memory["round"])
        if warm:
            out = await self._found(asker, "warm", [max(n, options.warm)])
        elif options.surrogate == "none" or len(evidence) < 2:
            out = await self._found(asker, "sample", [1] * n)
        else:
            each = -(-max(n, options.candidates) // options.templates)
            out = await self._found(asker, "sample", [each] * options.templates)
            out = await surrogates.choose(context, options, names, evidence, out[: max(n, options.candidates)], n)
        if not out:
            out = drawn(context, n, f"{SOURCE}:fallback")
        context.memory = memory
        return out

    async def _found(self, asker: _Asker, kind: str, counts: list[int]) -> list[Proposal]:
        """New configurations by the model, from one request per count; one more when all were of no use."""
        source = f"{SOURCE}:llm:warm" if kind == "warm" else f"{SOURCE}:llm"
        found = Round(asker.context, source)
        requests = [asker.request(kind, count, turn) for turn, count in enumerate(counts)]
        asker.take(found, counts, await replies(asker.context, requests, source))
        if found.refused and not found.found:
            wanted = [min(sum(counts), max(counts))]
            again = [asker.request(kind, wanted[0], len(counts), found.refused[-cards.TOLD :])]
            try:
                asker.take(found, wanted, await replies(asker.context, again, source))
            except BudgetExceeded as error:
                asker.context.reject(f"no further call was made: {error.message}", source)
        return found.proposals()

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Every sampler call may be made a second time; a surrogate adds its own for each of its candidates."""
        from agent.llm.estimate import text_bound

        chosen = read(Options, options)
        names = numeric(problem, SOURCE)
        initial = problem.initial()
        fields = cards.properties(problem.space, names, initial)
        card = text_bound(cards.card(problem, names)) + FACTS
        line = text_bound(cards.configuration(problem.space, initial, names)) + 16 + 8 * len(names)
        prompt, reply = card + chosen.shown * line, cards.reply_tokens(fields)
        warm = 1 if chosen.warm else 0
        calls, heard, said = 2 * warm, 2 * warm * (card + line), 2 * warm * max(1, chosen.warm) * reply
        rounds = max(0, candidates - chosen.warm)
        if chosen.surrogate == "none":
            return calls + 2 * rounds, heard + 2 * rounds * prompt, said + 2 * rounds * reply
        each = -(-chosen.candidates // chosen.templates)
        sampled = chosen.templates + 1
        asked = chosen.candidates * (chosen.samples if chosen.surrogate == "discriminative" else chosen.templates)
        calls += rounds * (sampled + asked)
        heard += rounds * (sampled + asked) * (prompt + line)
        answer = surrogates.VALUE_TOKENS if chosen.surrogate == "discriminative" else 16
        return calls, heard, said + rounds * (sampled * each * reply + asked * answer)


class _Asker:
    """Makes the requests of one decision and reads their replies."""

    def __init__(
        self,
        context: Context,
        options: Options,
        names: Sequence[str],
        evidence: surrogates.Evidence,
        number: int,
    ) -> None:
        self.context = context
        self._options = options
        self._names = names
        self._evidence = evidence
        self._number = number
        self._fields = cards.properties(context.problem.space, names, context.champion)
        self._facts = cards.facts(context, SOURCE, names)

    def request(self, kind: str, count: int, turn: int, refused: Sequence[str] = ()) -> ModelRequest:
        """A request for so many configurations: for a warm start, or for the result to reach."""
        from agent.llm.types import Message, ModelRequest
        from agent.prompts.render import render

        context, evidence, options = self.context, self._evidence, self._options
        given: dict[str, Any] = {"facts": self._facts, "refused": refused, "count": count}
        if kind == "warm" or not len(evidence):
            user = render("llambo_warm.txt", **given)
        else:
            shares = options.alphas
            goal = evidence.target(shares[(self._number + turn) % len(shares)])
            rows, target = evidence.targeted(context.rng if options.surrogate != "none" else None, goal)
            user = render("llambo_sample.txt", rows=rows, target=target, **given)
        one = cards.closed(self._fields)
        many = {"type": "array", "items": one, "minItems": count, "maxItems": count}
        return ModelRequest(
            messages=(Message("user", user),),
            system=render("llambo_system.txt", card=cards.card(context.problem, self._names)),
            schema=one if count == 1 else cards.closed({"configurations": many}),
            max_output_tokens=count * cards.reply_tokens(self._fields),
            temperature=options.temperature,
        )

    def take(self, found: Round, counts: Sequence[int], given: Sequence[Any]) -> None:
        """What the replies hold."""
        for count, reply in zip(counts, given, strict=True):
            if reply is not None:
                for parsed in [reply.parsed] if count == 1 else reply.parsed["configurations"]:
                    found.take(parsed, reply.text)
