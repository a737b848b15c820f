"""ClaPS: find out what each segment of a prompt does, then search where it matters and leave out what does nothing.

After Zhou, Wan, Vulić and Korhonen 2023 ("Survival of the Most Influential Prompts: Efficient Black-Box Prompt Search
via Clustering and Pruning", Findings of EMNLP, arXiv 2310.12774). There the words of a vocabulary are clustered, the
influence of each is measured alone, the most influential stay, and prompts of five of them are searched. Here the
words are sentences and lines of the prompt itself and of the user's own `vocabulary`; near-duplicates count as one; the
influence of one is the paired difference that it makes to the champion on the same rows of train; and the search
rewrites, moves, adds or leaves out segments that have one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned
from agent.datasets.similar import near_duplicates
from agent.errors import BudgetExceeded
from agent.problem import Problem
from agent.proposers import cards
from agent.proposers.asking import replies
from agent.proposers.base import Context, Proposal
from agent.proposers.influence import Ablation, Influence
from agent.proposers.instinct import text_names
from agent.proposers.merits import merits
from agent.proposers.options import check_temperature, check_whole, number, read, wrong
from agent.proposers.segments import Parts, changes, key, parted, pruned, shuffled
from agent.space import Candidate
from agent.texts import Text

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

SOURCE = "claps"
FACTS = 400
"""Tokens of a prompt that are neither the card nor the text, in a forecast."""
DRAWS = 100
"""Random edits in a row that were all known, after which there is nothing left to try without a model."""
TRIED = 60
"""Rewritten segments that are remembered, so that a near-duplicate of one is not paid for."""
TOLD = 60
"""Characters of a segment in a rationale."""
ATTEMPTS = 5
"""New segments that a prompt tells of: the latest."""
LONG = 400
"""Characters of one of them."""
WHY = 200
"""Characters of a reason in a reply."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        rows: Rows of train on which segments are measured, at most a third of all; where a candidate is measured as
            a whole and not exactly, how often it is. These rows count as read, so the race leaves them out.
        segments: Most segments of a text; of more, neighbours count as one.
        share: Of the evaluations that are left, how many may go into measuring segments.
        tolerance: A difference up to this is none; by default the objective's `min_effect`.
        vocabulary: Segments of the user's own, which are measured too and may be added.
        temperature: Of the model that rewrites.
    """

    rows: int = 8
    segments: int = 24
    share: float = 0.5
    tolerance: float | None = None
    vocabulary: Sequence[str] = ()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self, {"rows": 1, "segments": 2})
        check_temperature(self.temperature)
        if not number(self.share) or not 0 < self.share <= 1:
            raise wrong("share", self.share, "a number above 0 and at most 1")
        if self.tolerance is not None and (not number(self.tolerance) or self.tolerance < 0):
            raise wrong("tolerance", self.tolerance, "a number of at least 0")
        words = self.vocabulary
        if isinstance(words, str) or not all(isinstance(item, str) and item.strip() for item in words):
            raise wrong("vocabulary", words, "a list of texts")


class ClaPS:
    """Influence first, then pruned texts, then edits of what has an influence. Its memory is what segments do."""

    name = SOURCE
    needs_model = False
    uses_model = True
    texts = True
    """It changes texts, so that a space needs no numbers and no choices."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` candidates; other parameters stay the champion's.

        Raises:
            BudgetExceeded: A limit keeps it from calling its model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong, or the space has no text.
        """
        options, names = read(Options, context.options), text_names(context.problem)
        memory: dict[str, Any] = {"influence": {}, "rows": [], "tried": [], **(context.memory or {})}
        known = {tuple(json.loads(key)): Influence(**item) for key, item in memory["influence"].items()}
        await self._measure(context, options, names, memory, known)
        limit = context.problem.objective.min_effect if options.tolerance is None else options.tolerance
        kinds = {place: found.kind(limit) for place, found in known.items()}
        if not any(found.mean or found.error for found in known.values()):
            # Where every measurement is the same, as with all answers wrong, nothing can be told of any segment.
            kinds = {place: "helps" if found.needed else "unclear" for place, found in known.items()}
            if known and context.memory is None:
                context.reject("no segment made any difference, so none is taken to be idle", f"{SOURCE}:influence")
        parts = parted(context.champion, names, options.segments, kinds)
        out: dict[str, Proposal] = {}

        def add(values: Mapping[str, str], how: str, why: str) -> bool:
            try:
                candidate = context.problem.space.candidate({**context.champion.values_json, **values})
            except ValueError as error:
                context.reject(f"a text is not allowed: {error}", f"{SOURCE}:{how}", json.dumps(dict(values)))
                return False
            if candidate.id in context.history or candidate.id in out:
                return False
            source, parents = f"{SOURCE}:{how}", (context.history.champion,)
            out[candidate.id] = Proposal(candidate, source, why, parents, read=tuple(memory["rows"]))
            return True

        words = [(m, w) for w in options.vocabulary for m in names if kinds.get((m, key(w))) == "helps"]
        for values, why in pruned(parts, words):
            if len(out) < n:
                add(values, "prune", why)
        base = self._shorter(context, parts, names, options, limit)
        if len(out) < n and context.ask is not None:
            await self._rewrite(context, options, base, known, n - len(out), memory, add)
        elif len(out) < n:
            draws = 0
            while len(out) < n and draws < DRAWS:
                edit, why = shuffled(base, words, context.rng)
                draws = 0 if edit and add(edit, "search", why) else draws + 1
            context.exhausted = not out
        memory["influence"] = {json.dumps(place): item.to_json() for place, item in known.items()}
        context.memory = memory
        return list(out.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """A call for each candidate at most; measuring segments takes evaluations and no calls."""
        from agent.llm.estimate import text_bound

        chosen, names = read(Options, options), text_names(problem)
        initial = problem.initial()
        texts = sum(text_bound(str(initial[name])) for name in names) + 40 * chosen.segments * len(names)
        prompt = text_bound(cards.card(problem, names)) + FACTS + texts
        return candidates, candidates * prompt, candidates * cards.reply_tokens(_fields(""))

    async def _measure(
        self,
        context: Context,
        options: Options,
        names: Sequence[str],
        memory: dict[str, Any],
        known: dict[tuple[str, str], Influence],
    ) -> None:
        """Find out what the segments do of which that is not known yet."""
        parts = parted(context.champion, names, options.segments, {})
        wanted = [
            item
            for item in changes(parts, options.vocabulary)
            if any((item.name, key) not in known for key in item.keys)
        ]
        if not wanted or context.effects is None:
            return
        room = int(options.share * min(context.left.get("evaluations", math.inf), 1e9))
        rows = memory["rows"]
        if context.problem.by_rows and not rows:
            train = [item.id for item in context.problem.split("train")]
            count = min(options.rows, max(1, len(train) // 3), max(1, room // (len(wanted) + 1)))
            rows = context.rng.sample(train, count)
        ablation = Ablation(context, rows, options.rows)
        most = max(0, room // ablation.each - 1)
        if most < len(wanted):
            told = f"the share of the budget measures {most} of {len(wanted)} segments, the longest first"
            context.reject(told, f"{SOURCE}:influence")
            wanted = sorted(wanted, key=lambda item: -item.size)[:most]
        values = context.champion.values_json
        tasks = []
        for item in wanted:
            try:
                context.problem.space.candidate({**values, item.name: item.text})
                tasks.append(item)
            except ValueError as error:
                known.update(item.found(Influence(0.0, None, 0, "" if item.added else str(error))))
        if not tasks:
            return
        try:
            await ablation.begin(values)
        except BudgetExceeded as error:
            context.reject(f"no segment was measured: {error.message}", f"{SOURCE}:influence")
            return
        memory["rows"] = list(rows)
        keyed = [(f"segment.{place}", {**values, item.name: item.text}) for place, item in enumerate(tasks)]
        for item, found in zip(tasks, await ablation.without(keyed), strict=True):
            if found is not None:
                known.update(item.found(found))

    def _shorter(self, context: Context, parts: Parts, names: Sequence[str], options: Options, limit: float) -> Parts:
        """What edits begin with: the champion, or a shorter one that was measured as no worse."""
        rewards = {item.trial.id: item.reward for item in merits(context)}
        least = rewards.get(context.history.champion, math.inf) - limit
        for kinds in (("harms", "inert"), ("inert",), ("harms",)):
            values = parts.without(*kinds)
            if values is not None:
                candidate = Candidate({**context.champion.values_json, **values})
                if rewards.get(candidate.id, -math.inf) >= least:
                    return parted(candidate, names, options.segments, parts.kinds)
        return parts

    async def _rewrite(
        self,
        context: Context,
        options: Options,
        parts: Parts,
        known: Mapping[tuple[str, str], Influence],
        n: int,
        memory: dict[str, Any],
        add: Callable[[Mapping[str, str], str, str], bool],
    ) -> None:
        """Have a model rewrite segments that have an influence, one in each candidate; the rest stays as it is."""
        source = f"{SOURCE}:llm"
        open_ = [
            (m, i) for m, found in parts.segments.items() for i, p in enumerate(found) if parts.kind(m, p) != "inert"
        ]
        places = open_ or [(name, i) for name, found in parts.segments.items() for i in range(len(found))]
        weights = [1.0 + (parts.kind(name, parts.segments[name][i]) != "unclear") for name, i in places]
        targets = context.rng.choices(places, weights, k=n)
        lines = _attempts(context, memory["tried"])
        requests = [_request(context, options, parts, known, name, place, lines) for name, place in targets]
        for (name, place), reply in zip(targets, await replies(context, requests, source), strict=True):
            if reply is None:
                continue
            old, new = parts.segments[name][place], str(reply.parsed["text"]).strip()
            tried = [key(old), *(text for text, _ in memory["tried"])]
            if not new:
                context.reject("the segment is empty", source, reply.text)
            elif new in tried or any(j == len(tried) for _, j in near_duplicates([*tried, new])):
                context.reject("the segment is a near-duplicate of one that was tried", source, reply.text)
            else:
                white = old[len(old.rstrip()) :]
                changed = [*parts.segments[name][:place], new + white, *parts.segments[name][place + 1 :]]
                why = f"rewrote “{cards.clip(key(old), TOLD)}”: {cards.clip(str(reply.parsed['why']), WHY)}"
                values = parts.values({**parts.segments, name: changed})
                candidate = Candidate({**context.champion.values_json, **values})
                memory["tried"] = [*memory["tried"], [new, candidate.id]][-TRIED:]
                if not add(values, "llm", why):
                    context.reject("the text repeats one that is known", source, reply.text)


def _fields(old: str) -> dict[str, Any]:
    most = max(400, 2 * len(old))
    return {"why": {"type": "string", "maxLength": WHY}, "text": {"type": "string", "maxLength": most}}


def _attempts(context: Context, tried: Sequence[Sequence[str]]) -> list[str]:
    """The latest new segments, each with the result of the prompt that it was tried in."""
    out = []
    for text, candidate in tried[-ATTEMPTS:]:
        known = candidate in context.history
        trial = context.history[candidate] if known else None
        if trial is not None and trial.values is not None:
            result = f"{context.problem.compared(trial.values):.4g}"
        else:
            result = (
                "failed" if trial is not None and trial.failure else "refused" if trial is None else "not known yet"
            )
        out.append(f"{result}: {cleaned(text, LONG)}")
    return out


def _request(
    context: Context,
    options: Options,
    parts: Parts,
    known: Mapping[tuple[str, str], Influence],
    name: str,
    place: int,
    attempts: Sequence[str],
) -> ModelRequest:
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    problem, found = context.problem, parts.segments[name]
    lines = []
    for number_, part in enumerate(found, 1):
        influence = known.get((name, key(part)))
        lines.append((number_, str(influence) if influence is not None else "not measured", part.strip()))
    text = problem.space[name]
    assert isinstance(text, Text)
    user = render(
        "claps.txt",
        name=name,
        lines=lines,
        target=place + 1,
        attempts=attempts,
        keep=[f"{{{item}}}" for item in text.placeholders if f"{{{item}}}" in found[place]],
        refused=cards.refusals(context, f"{SOURCE}:llm"),
    )
    fields = _fields(found[place])
    return ModelRequest(
        messages=(Message("user", user),),
        system=render("claps_system.txt", card=cards.card(problem, [name])),
        schema=cards.closed(fields),
        max_output_tokens=cards.reply_tokens(fields),
        temperature=options.temperature,
    )
