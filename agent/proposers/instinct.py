"""INSTINCT: a neural bandit over embeddings chooses which proposal of a pool is worth paying for.

After Lin et al. 2024 ("Use Your INSTINCT: Instruction optimization for LLMs using Neural bandits coupled with
Transformers", ICML, arXiv 2310.02905). There a local model turns soft prompts into instructions and its hidden states
are the features. Here any model writes a pool of texts, or the user gives one; each is embedded (`agent.embeddings`);
the first few are drawn far apart, since an untrained network knows nothing; and from then on NeuralUCB
(`agent.proposers.neural`), fitted anew to all that was measured, takes the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.embeddings import CHARACTERS, Embeddings
from agent.errors import BudgetExceeded, ConfigError
from agent.problem import Problem
from agent.proposers import cards
from agent.proposers.asking import replies
from agent.proposers.base import Context, Proposal
from agent.proposers.merits import merits
from agent.proposers.options import check_temperature, check_whole, number, read, wrong
from agent.texts import Text

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

SOURCE = "instinct"
FACTS = 500
"""Tokens of a prompt that are neither the card nor texts nor rows, in a forecast."""
ROW = 1000
"""Characters of a row of train in a prompt."""
WRITTEN = 300
"""Characters of a text that is there already, in a prompt."""
SHOWN = 5
"""Of the best texts so far, in a prompt that asks for more."""
MANNERS = (
    "Say plainly what is wanted, in a sentence or two.",
    "Give the steps in order.",
    "Name the mistakes that are easily made, and how to avoid them.",
    "Describe what a good answer looks like.",
    "Be as short as you can.",
    "Try something that none of the others tries.",
)
"""One for each call that is made at once, so that their replies differ."""
LEARNED_FROM = 100
"""Candidates that the network is fitted to: of more, the latest."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        pool: Texts that the pool begins with; a model is asked for more when half of them are measured.
        per_call: Texts in one reply.
        texts: A pool of the user's own: texts for a space with one text, else mappings from name to text. Without a
            model these are all.
        start: Candidates that are drawn far apart before the bandit chooses, those from elsewhere included.
        exploration: ν, the weight of what is not known.
        hidden: Width of the network's hidden layer.
        rows: Rows of train in a prompt. They count as read, so the race leaves them out.
        embeddings: "auto" for a model's, "hashing" for none.
        temperature: Of the model that writes.
    """

    pool: int = 40
    per_call: int = 5
    texts: Sequence[Any] = ()
    start: int = 4
    exploration: float = 0.5
    hidden: int = 100
    rows: int = 3
    embeddings: str = "auto"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self, {"pool": 1, "per_call": 1, "start": 1, "hidden": 2, "rows": 0})
        check_temperature(self.temperature)
        if self.hidden % 2:
            raise wrong("hidden", self.hidden, "an even number")
        if not number(self.exploration) or self.exploration < 0:
            raise wrong("exploration", self.exploration, "a number of at least 0")
        if self.embeddings not in ("auto", "hashing"):
            raise wrong("embeddings", self.embeddings, '"auto" or "hashing"')
        if isinstance(self.texts, str) or not isinstance(self.texts, Sequence):
            raise wrong("texts", self.texts, "a list of texts")


class Instinct:
    """A pool of texts, and a bandit that chooses. Its memory is the pool, the vectors, and what was refused."""

    name = SOURCE
    needs_model = False
    uses_model = True
    texts = True
    """It changes texts, so that a space needs no numbers and no choices."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """The `n` texts of the pool that promise most; other parameters stay the champion's.

        Raises:
            BudgetExceeded: A limit keeps it from calling its model, and the pool is used up.
            ProviderError: The model cannot be reached, and the pool is used up.
            ConfigError: An option is wrong, the space has no text, or there is neither a model nor a pool.
        """
        options, names = read(Options, context.options), text_names(context.problem)
        memory = dict(context.memory or {})
        pool: list[dict[str, str]] = list(memory.get("pool", ()))
        shown = set(memory.get("read", ()))
        seen = {_content(names, trial.candidate) for trial in context.history.trials}
        if "pool" not in memory:
            for given in _given(context.problem, names, options):
                self._add(context, names, given, "texts", pool, seen)
            if not pool and context.ask is None:
                raise _nothing()
        pool = [item for item in pool if _content(names, item) not in seen]
        wanted = options.per_call if "pool" in memory else options.pool - len(pool)
        writes = context.ask is not None and not options.texts
        if writes and len(pool) < max(n, (options.pool + 1) // 2):
            shown |= await self._write(context, options, names, -(-wanted // options.per_call), pool, seen)
        kept = Embeddings(memory.get("embeddings"))
        chosen = await self._choose(context, options, names, pool, n, kept) if pool else []
        left = [item for item in pool if item not in [arm for arm, _ in chosen]]
        context.memory = {"pool": left, "read": sorted(shown), "embeddings": kept.to_json()}
        context.exhausted = not chosen and not writes
        parents = (context.history.champion,)
        return [
            Proposal({**context.champion.values_json, **arm}, f"{SOURCE}:{why[0]}", why[1], parents, read=tuple(shown))
            for arm, why in chosen
        ]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Calls for the first pool, then a call for each candidate that asks for more texts, and their embeddings."""
        from agent.llm.estimate import text_bound

        chosen, names = read(Options, options), text_names(problem)
        initial = problem.initial()
        one = sum(text_bound(str(initial[name])) + 32 for name in names)
        prompt = (
            text_bound(cards.card(problem, names)) + FACTS + (SHOWN + 1) * one + chosen.rows * ROW + SHOWN * WRITTEN
        )
        writing = 0 if chosen.texts else -(-chosen.pool // chosen.per_call) + 2 * candidates
        reply = _reply_tokens(problem, names, chosen, initial)
        vectors = 0 if chosen.embeddings == "hashing" else 1 + candidates + chosen.pool // 64
        texts = chosen.pool + chosen.per_call * candidates + len(chosen.texts)
        heard = writing * prompt + (texts * min(one, CHARACTERS) if vectors else 0)
        return writing + vectors, heard, writing * reply

    async def _write(
        self,
        context: Context,
        options: Options,
        names: Sequence[str],
        calls: int,
        pool: list[dict[str, str]],
        seen: set[str],
    ) -> set[str]:
        """Ask for more texts, and add what is new. Gives the rows that were shown."""
        rows = await _rows(context, options.rows)
        first = context.rng.randrange(len(MANNERS))
        known = [*sorted(seen), *(_content(names, item) for item in pool)]
        written = context.rng.sample(known, min(SHOWN, len(known)))
        manners = [MANNERS[(first + number) % len(MANNERS)] for number in range(calls)]
        requests = [_request(context, options, names, rows, written, manner) for manner in manners]
        try:
            given = await replies(context, requests, f"{SOURCE}:llm")
        except BudgetExceeded as error:
            if not pool:
                raise
            context.reject(f"no further call was made: {error.message}", f"{SOURCE}:llm")
            return set(context.reads)
        for reply in given:
            for item in reply.parsed["variants"] if reply is not None else ():
                self._add(context, names, item, "llm", pool, seen)
        return set(context.reads)

    def _add(
        self,
        context: Context,
        names: Sequence[str],
        given: Mapping[str, Any],
        by: str,
        pool: list[dict[str, str]],
        seen: set[str],
    ) -> None:
        """One more text for the pool, or a record of why not."""
        item, source = {name: given.get(name, context.champion[name]) for name in names}, f"{SOURCE}:{by}"
        told = json.dumps(item, ensure_ascii=False, default=str)
        try:
            context.problem.space.candidate({**context.champion.values_json, **item})
        except ValueError as error:
            context.reject(f"a text is not allowed: {error}", source, told)
            return
        if _content(names, item) in seen | {_content(names, other) for other in pool}:
            context.reject("a text repeats one that is known", source, told)
            return
        pool.append(item)

    async def _choose(
        self,
        context: Context,
        options: Options,
        names: Sequence[str],
        pool: Sequence[dict[str, str]],
        n: int,
        kept: Embeddings,
    ) -> list[tuple[dict[str, str], tuple[str, str]]]:
        """Up to `n` arms, each with how it was chosen and why in words."""
        import numpy as np

        from agent.proposers.neural import NeuralUCB, features, spread
        from agent.surrogates.blas import one_thread

        known = merits(context)[-LEARNED_FROM:]
        told = {item.trial.id for item in known}
        open_ = [
            trial.candidate for trial in context.history.trials if trial.state == "queued" and trial.id not in told
        ]
        all_of_them = [*(item.trial.candidate for item in known), *open_, *pool]
        texts = [_content(names, values) for values in all_of_them]
        before = kept.how

        async def ask(request: ModelRequest) -> Any:
            return await context.consult(request, role="embed", key="embed")

        wanted = ask if options.embeddings == "auto" and context.ask is not None else None
        vectors = np.array(await kept.of(texts, wanted))
        if kept.how == "hashing" and before != "hashing" and options.embeddings == "auto":
            context.reject(f"texts are compared by their words, not by their meaning: {kept.why}", f"{SOURCE}:hashing")
        rng = np.random.default_rng(context.rng.getrandbits(64))
        with one_thread():
            places = features(vectors) if len(vectors) > 1 else vectors
            pulled, waiting, arms = np.split(places, [len(known), len(known) + len(open_)])
            count = min(n, len(pool))
            far = min(count, max(0, options.start - len(known) - len(open_)))
            picked = spread(arms, np.vstack([pulled, waiting]), far, rng)
            words = [("start", f"far from what is known, by {kept.how}")] * len(picked)
            if len(picked) < count and not known:
                picked += spread(arms, arms[picked], count - len(picked), rng)
            elif len(picked) < count:
                rewards, weights = (np.array([getattr(item, name) for item in known]) for name in ("reward", "weight"))
                net = NeuralUCB(pulled, rewards, weights, seed=int(rng.integers(2**32)), hidden=options.hidden)
                mean = net.mean(arms)
                while len(picked) < count:
                    bonus = net.bonus(arms, np.vstack([waiting, arms[picked]]))
                    value = mean + options.exploration * bonus
                    value[picked] = -np.inf
                    best = int(np.argmax(value))
                    picked.append(best)
                    words.append(
                        ("ucb", f"expected {mean[best]:.4g} ± {bonus[best]:.2g} of {len(pool)}, by {kept.how}")
                    )
        words += [("start", f"far from the others, by {kept.how}")] * (count - len(words))
        return [(pool[place], why) for place, why in zip(picked, words, strict=True)]


def text_names(problem: Problem) -> list[str]:
    """The texts of a space.

    Raises:
        ConfigError: It has none.
    """
    names = [name for name, parameter in problem.space.items() if isinstance(parameter, Text)]
    if not names:
        raise ConfigError(
            "this proposer changes texts, and the space has none",
            hint='declare a parameter of type "text", or choose another proposer',
        )
    return names


def _nothing() -> ConfigError:
    return ConfigError(
        "there is neither a model to write texts nor a pool of them",
        hint="name a model as provider:model, or give proposer.options.texts",
    )


def _content(names: Sequence[str], values: Mapping[str, Any]) -> str:
    """What is embedded."""
    return "\n\n".join(str(values[name]) for name in names)


def _given(problem: Problem, names: Sequence[str], options: Options) -> list[Mapping[str, Any]]:
    """The user's own pool."""
    out: list[Mapping[str, Any]] = []
    for item in options.texts:
        if isinstance(item, str) and len(names) == 1:
            out.append({names[0]: item})
        elif isinstance(item, Mapping) and item and set(item) <= set(names):
            out.append(item)
        else:
            form = "texts" if len(names) == 1 else f"tables with {', '.join(names)}"
            raise wrong("texts", item, f"a list of {form}")
    return out


async def _rows(context: Context, most: int) -> list[str]:
    """Rows of train, as JSON; drawn at random."""
    if context.reader is None or not most:
        return []
    known = [item.id for item in context.problem.split("train")]
    views = [await context.read(name) for name in context.rng.sample(known, min(most, len(known)))]
    return [cards.clip(json.dumps(view.row, ensure_ascii=False, default=str), ROW) for view in views]


def _shape(problem: Problem, names: Sequence[str], options: Options, now: Any) -> dict[str, Any]:
    item = cards.closed(cards.properties(problem.space, names, now))
    return {"type": "array", "items": item, "minItems": 1, "maxItems": options.per_call}


def _reply_tokens(problem: Problem, names: Sequence[str], options: Options, now: Any) -> int:
    return 32 + options.per_call * cards.reply_tokens(cards.properties(problem.space, names, now))


def _request(
    context: Context,
    options: Options,
    names: Sequence[str],
    rows: Sequence[str],
    written: Sequence[str],
    manner: str,
) -> ModelRequest:
    from agent.code.untrusted import untrusted
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    problem = context.problem
    best = [trial for trial in cards.ranked(context) if trial.id != context.history.champion][: SHOWN - 1]
    best = [*reversed(best), context.history[context.history.champion]]
    known = [trial.values for trial in best if trial.values is not None]
    results = iter(cards.rounded([problem.compared(values) for values in known]))
    lines = [
        f"{next(results) if trial.values is not None else 'not known'}:"
        f" {cards.configuration(problem.space, trial.candidate, names)}"
        for trial in best
    ]
    user = render(
        "instinct.txt",
        best=lines,
        written=[json.dumps(cards.clip(text, WRITTEN), ensure_ascii=False) for text in written],
        manner=manner,
        rows=untrusted("\n".join(rows), context.rng, len(rows) * (ROW + 1) + 100) if rows else "",
        count=options.per_call,
        refused=cards.refusals(context, f"{SOURCE}:llm"),
    )
    return ModelRequest(
        messages=(Message("user", user),),
        system=render("instinct_system.txt", card=cards.card(problem, list(names))),
        schema=cards.closed({"variants": _shape(problem, names, options, context.champion)}),
        max_output_tokens=_reply_tokens(problem, names, options, context.champion),
        temperature=options.temperature,
    )
