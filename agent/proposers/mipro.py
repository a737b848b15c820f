"""Instructions and sets of examples searched together: a model writes the instructions once, numbers choose.

After MIPRO (Opsahl-Ong et al. 2024, "Optimizing Instructions and Demonstrations for Multi-Stage Language Model
Programs", EMNLP, arXiv 2406.11695, sections 4.1 to 4.3): instructions grounded in rows of the data, in examples and in
a tip for the style, sets of examples by bootstrapping, and a surrogate model of how they do together. Here the search
is any of the numeric proposers, over the number of the version of each text, the number of each set, and the space's
own numbers and choices as well. Small batches of rows are the race's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import untrusted
from agent.errors import ConfigError
from agent.events import CandidateAdmitted
from agent.history import History, Trial
from agent.measuring import Unit
from agent.parameters import Categorical, Parameter
from agent.problem import Problem
from agent.proposers import bootstrap, cards, demosets, evidence, paraphrase
from agent.proposers.asking import replies
from agent.proposers.base import Context, Proposal, Proposer
from agent.proposers.options import check_temperature, check_whole, read, wrong
from agent.proposers.optoprime import untold
from agent.proposers.packing import Case, packed
from agent.proposers.table import load
from agent.space import Candidate, Space, canonical
from agent.texts import Demos, Text

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

SOURCE = "mipro"
TIPS = (
    "",
    "Be inventive: come at the task from a side that nobody would expect.",
    "Keep it simple and short.",
    "Be thorough: say what matters at each step.",
    "Make clear how much depends on a right answer.",
    "Give the model the part of somebody who does this for a living.",
)
ATTEMPTS = 2
"""Decisions that ask for versions, where the first one got none."""
DRAWS = 20
"""Draws of a set of examples that was not drawn yet."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        instructions: Versions of the texts, the initial ones among them.
        sets: Sets of examples, the initial one among them.
        search: The proposer that chooses: any for numbers and choices, such as "portfolio", or MIPROv2's own, "tpe".
        rows: Rows of train that the instructions are grounded in; they count as read.
        tokens: Of these rows and of the examples in a prompt.
        threshold: What counts as passed when examples are chosen, as for `bootstrap`.
        measure: Most rows that are measured for the sets of examples, at the search's cost.
        temperature: Of the model.
    """

    instructions: int = 6
    sets: int = 6
    search: str = "portfolio"
    rows: int = 5
    tokens: int = 2000
    threshold: float = 1.0
    measure: int = 8
    temperature: float = 1.0

    def __post_init__(self) -> None:
        least = {"instructions": 1, "sets": 1, "rows": 0, "tokens": evidence.LEAST, "measure": 0}
        check_whole(self, least)
        check_temperature(self.temperature)
        bootstrap.Options(self.threshold, self.measure)  # which checks them
        if not isinstance(self.search, str) or self.search == SOURCE:
            raise wrong("search", self.search, "the name of a proposer for numbers and choices")


class MIPRO:
    """A few calls in its first decision and none later. Memory: the versions, the sets, the rows that they were made
    with, and that of the search."""

    name = SOURCE
    needs_model = False
    uses_model = True
    texts = True
    """It changes texts and examples too, so that a space needs no numbers."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """What the search chooses: a version of each text, a set of examples, and the space's numbers.

        Without a model there is but the initial version of each text, and that is recorded. A reply of no use costs a
        version. When every version and set was measured together, the search is at its end.

        Raises:
            BudgetExceeded: A limit keeps it from writing any instruction.
            ProviderError: The model cannot be reached.
            ConfigError: There is nothing to choose from in this space, or an option is wrong.
        """
        options = read(Options, context.options)
        search = _search(context.problem, options)
        memory: dict[str, Any] = dict(context.memory or {})
        if "sets" not in memory:
            memory = {"sets": await _sets(context, options), "search": None, "asked": 0}
        if memory["asked"] < ATTEMPTS and all(len(found) == 1 for found in memory.get("texts", {}).values()):
            memory |= {**await _versions(context, options), "asked": memory["asked"] + 1}
        made = await _chosen(context, memory, search, n)
        context.memory = memory
        return made

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """A call for each version but the first, and once more where none of the replies is of use.

        Raises:
            ConfigError: As for `propose`.
        """
        chosen = read(Options, options)
        _search(problem, chosen)
        if not any(isinstance(item, Text) for item in problem.space.values()):
            return 0, 0, 0
        calls, prompt, reply = paraphrase.bound(problem, ATTEMPTS * (chosen.instructions - 1), 1)
        return calls, prompt + calls * chosen.tokens, reply


def _search(problem: Problem, options: Options) -> Proposer:
    """The proposer that chooses."""
    space = problem.space
    if not space.numeric and not any(isinstance(item, (Text, Demos)) for item in space.values()):
        raise ConfigError(
            f"the proposer {SOURCE} chooses texts, examples, numbers and choices, and the space has none",
            hint="declare such a parameter, or choose another proposer",
        )
    search = load(options.search)
    if search.needs_model or (getattr(search, "texts", False) and search.name != "portfolio"):
        raise wrong("search", options.search, "a proposer for numbers and choices that needs no model")
    return search


async def _versions(context: Context, options: Options) -> dict[str, Any]:
    """The versions of each text, the known ones first, and the rows that the others were made with."""
    problem, source = context.problem, f"{SOURCE}:llm"
    names = [name for name, item in problem.space.items() if isinstance(item, Text)]
    texts: dict[str, list[str]] = {name: [str(value) for value in _known(context, name)] for name in names}
    if not names or options.instructions == 1:
        return {"texts": texts, "read": []}
    if context.ask is None:
        context.reject("there is no model to ask, so texts stay as they are", source)
        return {"texts": texts, "read": []}
    refused, _ = untold(context, SOURCE)
    cases = await _rows(context, options.rows)
    requests = [_request(context, options, place, cases, refused) for place in range(options.instructions - 1)]
    for reply in await replies(context, requests, source):
        for name, value in {} if reply is None else reply.parsed.items():
            try:
                text = str(problem.space[name].check(value))
            except ValueError as error:
                context.reject(f"{name}: {error}", source, str(value))
                continue
            if text in texts[name]:
                context.reject(f"{name}: this version is there already", source, text)
            else:
                texts[name].append(text)
    return {"texts": texts, "read": list(context.reads)}


async def _rows(context: Context, most: int) -> list[Case]:
    known = [item.id for item in context.problem.split("train")] if context.reader is not None else []
    views = [await context.read(row) for row in context.rng.sample(known, min(most, len(known)))]
    return [
        Case(f"row {view.id}", json.dumps(view.row, ensure_ascii=False, default=str), view.feedback) for view in views
    ]


def _request(
    context: Context, options: Options, place: int, cases: Sequence[Case], refused: Sequence[str]
) -> ModelRequest:
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    problem, champion = context.problem, context.champion
    names = [name for name, item in problem.space.items() if isinstance(item, Text)]
    fields = cards.properties(problem.space, names, champion)
    examples = [
        Case(f"example {index} of {name}", json.dumps(parameter.pool[index], ensure_ascii=False))
        for name, parameter in demosets.demos_of(problem.space).items()
        for index in demosets.draw(parameter, demosets.allowed(problem, parameter), context.rng, min(3, parameter.k))
    ]
    told = packed([*cases, *examples], names, options.tokens - evidence.MARKS)
    shown = [name_and_value for name_and_value in evidence.variables(context) if name_and_value[0] in names]
    user = render(
        "mipro.txt",
        texts=shown,
        evidence=untrusted(told, context.rng, len(told) + 100) if told else "",
        tip=TIPS[place % len(TIPS)],
        refused=list(dict.fromkeys(cards.clip(cards.anonymous(reason), paraphrase.REASON) for reason in refused))[-3:],
    )
    return ModelRequest(
        messages=(Message("user", user),),
        system=render("mipro_system.txt", card=cards.card(problem, names)),
        schema=cards.closed(fields),
        max_output_tokens=cards.reply_tokens(fields),
        temperature=options.temperature,
    )


def _known(context: Context, name: str) -> list[Any]:
    """The initial value of a parameter, and the champion's where that is another one."""
    initial = context.history[context.history.initial].candidate[name]
    now = context.champion[name]
    return [initial] if canonical(now) == canonical(initial) else [initial, now]


async def _sets(context: Context, options: Options) -> dict[str, list[list[int]]]:
    """The sets of examples of each pool, the known ones first."""
    parameters = demosets.demos_of(context.problem.space)
    if not parameters:
        return {}
    view = replace(context, memory=None)
    good = await bootstrap.found(view, bootstrap.Options(options.threshold, options.measure), parameters)
    out: dict[str, list[list[int]]] = {}
    for name, parameter in parameters.items():
        out[name] = [parameter.check(value) for value in _known(context, name)]
        enough = len(good[name]) > parameter.k  # else most draws would be the same set
        among = good[name] if enough else demosets.allowed(context.problem, parameter)
        for _ in range(DRAWS * (options.sets - 1)):
            if len(out[name]) >= options.sets:
                break
            drawn = demosets.draw(parameter, among, context.rng, parameter.k)
            if drawn not in out[name]:
                out[name].append(drawn)
    return out


async def _chosen(context: Context, memory: dict[str, Any], search: Proposer, n: int) -> list[Proposal]:
    """What the search proposes on the numbers of versions and sets, as candidates of the problem."""
    versions: dict[str, list[Any]] = {**memory["texts"], **memory["sets"]}
    space = _numbers(context.problem.space, versions)
    if space is None:
        context.exhausted = memory["asked"] >= ATTEMPTS or context.ask is None
        context.reject("there is one version of every text and one set of examples: nothing to choose from", SOURCE)
        return []
    history = _translated(context, space, versions)
    inner = replace(
        context,
        problem=replace(context.problem, space=space),
        history=history,
        ask=None,
        memory=memory["search"],
        options={},
        exhausted=False,
        effects=None,
        reader=None,
    )
    out: dict[str, Proposal] = {}
    for made in await search.propose(inner, n):
        values: dict[str, Any] = dict(context.champion)
        for name, value in made.values.items():
            values[name] = versions[name][int(value)] if name in versions else value
        candidate = context.problem.space.candidate(values)
        if candidate.id in context.history or candidate.id in out:
            context.reject("the combination is known", f"{SOURCE}:{made.source}")
            continue
        read_too = tuple(dict.fromkeys([*memory["read"], *demosets.shown(context.problem, candidate)]))
        parents = (context.history.initial,)
        out[candidate.id] = Proposal(candidate, f"{SOURCE}:{made.source}", made.rationale, parents, None, read_too)
    memory["search"] = inner.memory
    context.exhausted = inner.exhausted
    return list(out.values())


def _numbers(space: Space, versions: Mapping[str, Sequence[Any]]) -> Space | None:
    """The space of what is chosen: numbers of versions, and the space's own numbers; None when there is no choice."""
    items: dict[str, Parameter] = {name: space[name] for name in space.numeric}
    several = {name: tuple(range(len(found))) for name, found in versions.items() if len(found) > 1}
    items.update({name: Categorical(numbers) for name, numbers in several.items()})
    return Space(items) if items else None


def _translated(context: Context, space: Space, versions: Mapping[str, Sequence[Any]]) -> History:
    """The past in numbers: the candidates that are made of known versions, with what was found of them."""
    problem, past = context.problem, context.history
    places = {name: {canonical(item): at for at, item in enumerate(found)} for name, found in versions.items()}
    history = History(space.initial(), past.objective)
    champion = past.champion
    for trial in past.trials:
        numbers = _numbered(space, trial.candidate, places)
        if numbers is None:
            continue
        made = space.candidate(numbers)
        if made.id not in history:
            source = trial.source.removeprefix(f"{SOURCE}:")
            history.apply(CandidateAdmitted(trial.proposal, made.id, made.values_json, source, "", []))
        _measured(history, made, trial, problem)
        if trial.id == champion:
            history.champion = made.id
    return history


def _numbered(space: Space, candidate: Candidate, places: Mapping[str, Mapping[str, int]]) -> dict[str, Any] | None:
    """A candidate in numbers; None where it has a text or a set of others."""
    out: dict[str, Any] = {}
    for name in candidate:
        if name in places:
            at = places[name].get(canonical(candidate[name]))
            if at is None:
                return None
            if name in space:
                out[name] = at
        elif name in space:
            out[name] = candidate[name]
    return out


def _measured(history: History, made: Candidate, trial: Trial, problem: Problem) -> None:
    if trial.values is not None:
        history.measured(Unit(made.id, 0, -1, "search", dict(trial.values)), trial.feasible)
    elif trial.state == "failed":
        history.measured(Unit(made.id, 0, -1, "search", None, trial.failure or "error"), False)
