"""Reflection: a model reads what went wrong on a few rows and changes the prompt of a parent that is best somewhere.

After GEPA (Agrawal et al. 2025, "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning", arXiv
2507.19457, sections 3.1 to 3.3): parents are drawn from the fronts of single rows, the model reflects on a few rows
with their feedback, and parents that improved different rows are merged. Other than there, all parameters change in
one call, the prompt tells what was tried with its score and why it was dropped, a reply may edit one section of a text
and claims a result, merging works inside of a text, and whether a child is better is for the race and the gate to say.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned, untrusted
from agent.errors import BudgetExceeded
from agent.problem import Problem
from agent.proposers import (
    cards,
    crossover,
    demosets,
    evidence,
    fronts,
    merging,
    optoprime,
    paraphrase,
    sections,
    typed,
)
from agent.proposers.asking import drawn, replies
from agent.proposers.base import Context, Proposal
from agent.proposers.evidence import Evidence
from agent.proposers.options import number, read, wrong
from agent.proposers.optoprime import FACTS, REASON, TOLD, OptoPrime, untold
from agent.space import Candidate
from agent.texts import Text

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest

MERGE_EVERY = 3
"""Decisions from one merge to the next, as far as there is something to merge."""
POOL = 1500
"""Tokens of the examples that a prompt offers."""
EXAMPLE = 300
"""Characters of one of them."""
REMEMBERED = 100
"""Pairs that were tried."""


@dataclass(frozen=True, slots=True)
class Options(optoprime.Options):
    """What a user may set under [proposer.options]: what OptoPrime has, and

    Args:
        parents: "pareto": drawn from the fronts of rows; "champion": always the champion.
        merge: Whether parents that improved different rows are merged.
        length_cost: What 1000 characters of texts cost, in units of the result; 0 for nothing. It decides between
            parents and is told to the model; the race goes by the result alone.
    """

    parents: str = "pareto"
    merge: bool = True
    length_cost: float = 0.0

    def __post_init__(self) -> None:
        optoprime.Options.__post_init__(self)
        if self.parents not in ("pareto", "champion"):
            raise wrong("parents", self.parents, "pareto or champion")
        if not isinstance(self.merge, bool):
            raise wrong("merge", self.merge, "true or false")
        if not number(self.length_cost) or self.length_cost < 0:
            raise wrong("length_cost", self.length_cost, "a number of at least 0")


class Reflect(OptoPrime):
    """One call per proposal, none for a merge without dispute. Its memory holds the pairs that were tried, and how many
    rejections its prompts have told of."""

    name = "reflect"

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` children. What is of no use is recorded, and the next prompt tells of it once.

        When no reply held anything of use, one more is asked for at once. When it brings nothing either, numbers and
        choices are drawn at random, marked `:fallback`; a space of texts alone gets no proposal.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong.
        """
        options = read(Options, context.options)
        source = f"{self.name}:llm"
        if context.ask is None:
            context.reject("there is no model to ask", source)
            return drawn(context, n, f"{self.name}:fallback")
        memory: dict[str, Any] = dict(context.memory or {})
        earlier, seen = untold(context, self.name)
        tried: list[str] = list(memory.get("merged", []))
        pareto = options.parents == "pareto"
        wins = fronts.fronts(context, options.length_cost) if pareto else {context.history.champion: frozenset[str]()}
        found: dict[str, Proposal] = {}
        if options.merge and pareto and context.decision % MERGE_EVERY == 0:
            await self._merge(context, wins, tried, found)
        chosen = fronts.drawn(context, wins, n - len(found))
        several = list(dict.fromkeys(chosen))
        for parent in several:
            view = fronts.standing_on(context, parent)
            known = await evidence.gathered(view, trace=options.trace, rows=options.rows, attempts=options.attempts)
            await self._ask(view, self._shown(view, options, known, earlier), chosen.count(parent), found)
            refused = [item["reason"] for item in context.rejections]
            if refused and not found and parent == several[-1]:
                seen += len(refused)
                try:
                    await self._ask(view, self._shown(view, options, known, refused), 1, found)
                except BudgetExceeded as error:
                    context.reject(f"no further call was made: {error.message}", source)
        context.memory = {"told": seen, "merged": tried[-REMEMBERED:]}
        return list(found.values()) or drawn(context, n, f"{self.name}:fallback")

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """A call for each candidate, and one more where its reply is of no use; a merge costs less."""
        from agent.llm.estimate import text_bound

        chosen = read(Options, options)
        space, initial = problem.space, problem.initial()
        values = sum(text_bound(f"{name} = {initial[name]}") + 48 for name in space)
        pool = POOL * len(demosets.demos_of(space))
        prompt = text_bound(cards.card(problem, list(space))) + 2 * FACTS + chosen.tokens + values + pool
        calls = self.calls * candidates
        return calls, calls * prompt, calls * _reply_tokens(_schema(problem, initial))

    async def _merge(self, context: Context, wins: fronts.Wins, tried: list[str], found: dict[str, Proposal]) -> None:
        """Add what two parents make together, if there are two that complement one another and were not tried."""
        pair = next(merging.pairs(context, wins, tried), None)
        if pair is None:
            return
        tried.append(pair.key)
        source = f"{self.name}:merge"
        one, other = context.history[pair.one], context.history[pair.other]
        values, disputed = merging.merged(context, pair)
        if disputed:
            request = await crossover.request(context, one, other, disputed, crossover.Options())
            (reply,) = await replies(context, [request], source)
            if reply is None:
                return
            values.update(reply.parsed)
        read_too = demosets.shown(context.problem, values)
        paraphrase.take(context, one, values, source, found, [other.id], read_too)

    def _shown(self, context: Context, options: Options, known: Evidence, refused: Sequence[str]) -> ModelRequest:
        """What the model is asked, on the parent that stands in the champion's place."""
        from agent.llm.types import Message, ModelRequest
        from agent.prompts.render import render

        problem, space = context.problem, context.problem.space
        shape = _schema(problem, context.champion)
        left = context.left.get("evaluations", math.inf)
        parent = context.history[context.history.champion]
        user = render(
            "reflect.txt",
            variables=[(name, _numbered(context, name, value)) for name, value in evidence.variables(context)],
            result=evidence.outcome(context),
            length=fronts.length(context, parent) if options.length_cost else 0,
            length_cost=f"{options.length_cost:.4g}",
            pool=_pool(context),
            evidence=known.text(context, options.tokens),
            left=f"{left:.0f}" if math.isfinite(left) else "",
            refused=list(dict.fromkeys(cleaned(cards.anonymous(reason), REASON) for reason in refused))[-TOLD:],
        )
        system = render(
            "reflect_system.txt",
            card=cards.card(problem, list(space)),
            traced=known.traced,
            sections="edits" in shape["properties"],
            code=any(item.type == "code" for item in space.values()),
        )
        return ModelRequest(
            messages=(Message("user", user),),
            system=system,
            schema=shape,
            max_output_tokens=_reply_tokens(shape),
            temperature=options.temperature,
        )

    def _take(self, context: Context, reply: Completion, source: str, found: dict[str, Proposal]) -> None:
        space, parent = context.problem.space, context.champion
        given, said = reply.parsed, dict(reply.parsed.get("changes") or {})
        refused = _edits(context, given.get("edits") or [], said)
        changes, wrong_ones = typed.taken(space, parent, said) if said or not refused else ({}, [])
        for why in [*refused, *wrong_ones]:
            context.reject(why, source, reply.text)
        if not changes:
            return
        out: dict[str, Proposal] = {}
        read_too = _seen_rows(context, {**parent, **changes})
        paraphrase.take(context, context.history[parent.id], changes, source, out, read=read_too)
        for name, made in out.items():
            why = cards.clip(str(given.get("reasoning", "")), typed.REASONING)
            claim = _claim(context.problem, given.get("claim"))
            if name in found:
                context.reject("the reply is the same as another one just made", source, reply.text)
            else:
                found[name] = Proposal(made.values, source, why, made.parents, claim, made.read)


def _schema(problem: Problem, parent: Candidate) -> dict[str, Any]:
    """Of a reply: OptoPrime's, with a claim, and edits of sections where a text has more than one."""
    shape = typed.schema(problem.space, parent)
    parts = dict(shape["properties"])
    split = [name for name, item in problem.space.items() if isinstance(item, Text)]
    split = [name for name in split if len(sections.split(str(parent[name]))[0]) > 1]
    if split:
        longest = max(cards.properties(problem.space, [name], parent)[name]["maxLength"] for name in split)
        edit = cards.closed(
            {
                "parameter": {"enum": split},
                "section": {"type": "integer"},
                "text": {"type": "string", "maxLength": longest},
            }
        )
        parts["edits"] = {"type": "array", "items": edit}
    parts["claim"] = {"type": "number"}
    return {**cards.closed(parts), "required": ["reasoning", "changes"]}


def _reply_tokens(shape: Mapping[str, Any]) -> int:
    edits = shape["properties"].get("edits")
    more = cards.reply_tokens(edits["items"]["properties"]) if edits else 0
    return typed.reply_tokens(shape) + more + 16


def _numbered(context: Context, name: str, value: str) -> str:
    text = context.champion[name]
    if isinstance(context.problem.space[name], Text) and len(sections.split(str(text))[0]) > 1:
        return sections.numbered(str(text))
    return value


def _edits(context: Context, given: Sequence[Mapping[str, Any]], changes: dict[str, Any]) -> list[str]:
    """Make edits of sections into changes of whole texts; gives why some cannot be."""
    refused = []
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for edit in given:
        by_name.setdefault(str(edit["parameter"]), []).append(edit)
    for name, edits in by_name.items():
        if name in changes:
            refused.append(f"{name}: it is in both changes and edits; the whole text was taken")
            continue
        try:
            changes[name] = sections.edited(str(context.champion[name]), edits)
        except ValueError as error:
            refused.append(f"{name}: {error}")
    return refused


def _claim(problem: Problem, given: Any) -> float | None:
    """A claimed result, within what a result can be; None without one."""
    if not number(given):
        return None
    low, high = problem.bounds or (-math.inf, math.inf)
    return min(high, max(low, float(given)))


def _offered(context: Context) -> dict[str, list[int]]:
    """The examples that a prompt offers of each pool: those in use, and others at random, as many as fit."""
    from agent.llm.estimate import text_bound

    out: dict[str, list[int]] = {}
    for name, parameter in demosets.demos_of(context.problem.space).items():
        # The same in every decision: each further example that is shown is one more row that no race can use.
        rng = random.Random(f"{context.history.initial} {name}")
        used: list[int] = list(context.champion[name])
        others = [index for index in demosets.allowed(context.problem, parameter) if index not in used]
        left, out[name] = POOL - evidence.MARKS, []
        for index in [*used, *rng.sample(others, len(others))]:
            left -= text_bound(_example(name, index, parameter.pool[index])) + 1
            if left < 0:
                break
            out[name].append(index)
    return out


def _example(name: str, index: int, item: Any) -> str:
    return cleaned(f"{name} {index}: {cards.clip(json.dumps(item, ensure_ascii=False), EXAMPLE)}", 2 * EXAMPLE)


def _pool(context: Context) -> str:
    pools = demosets.demos_of(context.problem.space)
    lines = [
        _example(name, index, pools[name].pool[index]) for name, found in _offered(context).items() for index in found
    ]
    text = "\n".join(lines)
    return untrusted(text, context.rng, len(text) + 100) if text else ""


def _seen_rows(context: Context, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Rows of train that the model was offered as examples, and those that a child has among its own."""
    out = dict.fromkeys(demosets.shown(context.problem, values))
    for name, indices in _offered(context).items():
        rows = demosets.rows_of(context.problem, demosets.demos_of(context.problem.space)[name])
        out.update((rows[index], None) for index in indices if index in rows)
    return tuple(out)
