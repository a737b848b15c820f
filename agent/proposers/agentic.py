"""An agent: a model with tools works until it submits proposals, or until its allowance is spent.

Each decision is a conversation of its own. The model reads the history, traces and rows through tools, measures,
computes and asks others, and calls `submit`. What it supposes is kept in the notebook, and the next conversation begins
with it. A model that cannot call tools is asked once, for a reply that fits a schema, with the same evidence.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, BudgetExceeded, ConfigError, OutputInvalid, ProviderError
from agent.problem import Problem
from agent.proposers import cards, typed
from agent.proposers.agentic_options import Options
from agent.proposers.asking import drawn, replies
from agent.proposers.base import Context, Proposal
from agent.proposers.conversation import Allowance, Conversation, Untooled
from agent.proposers.offering import TRACES, offered, traced
from agent.proposers.options import read
from agent.tools.base import CONSULTS, Desk, Tool, ToolError
from agent.tools.hypothesis import lines
from agent.tools.submit import RATIONALE, SOURCE, Submissions

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

FALLBACK = "agentic:fallback"
TALK = "agentic:conversation"
"""Source of what is said of a conversation as a whole, which no later prompt repeats."""
CONSULTED = (6000, 2000)
"""Tokens in and out of a call of another model, at most, in a forecast."""
SHOWN = 8
"""Configurations in the first message."""
CHARACTERS = 6000
"""Of them."""
MOST = 50
"""Evaluations of a conversation where the budget has no limit on them."""
AGAIN = 20
"""Decisions after which a model that could not call tools is offered them again: a resume may have changed it."""


PASSING = (401, 402, 403, 407, 408, 409, 425, 429)
"""Codes of refusals that say nothing of the request: who asks, how often, and when."""


class Refused(Untooled):
    """The first request of a conversation was refused, which had tools."""


class Agentic:
    """A conversation for each decision. It remembers its hypotheses, and whether the model calls tools."""

    name = "agentic"
    needs_model = True
    texts = True
    any_space = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """What the model submits: as many as are asked for, or fewer.

        When it submits nothing, numbers and choices are drawn at random, marked `agentic:fallback`; texts are left
        alone, so that a space of texts alone gets no proposal.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong, or a tool of the user's own cannot be loaded.
        """
        options = read(Options, context.options)
        if context.ask is None:
            context.reject("there is no model to ask", TALK)
            return drawn(context, n, FALLBACK)
        memory = dict(context.memory or {})
        notebook: dict[str, Any] = {"hypotheses": [], **memory}
        untooled, noted = notebook.pop("untooled", None), notebook.pop("noted", [])
        context.counting(noted)  # what the user's tools wrote down may tell of these rows
        earlier = copy.deepcopy({**notebook, "hypotheses": None})
        submissions = Submissions(context, max(n, options.proposals))
        if untooled is None or context.decision - untooled >= AGAIN:
            try:
                await self._talk(context, options, submissions, notebook)
                untooled = None
            except Untooled as caught:
                if untooled is None:
                    context.reject(f"{caught}; it is asked for a reply that fits a schema instead", TALK)
                untooled = context.decision
        if untooled is not None and not submissions.taken:
            await _plain(context, submissions, notebook)
        for proposal, hypothesis in submissions.taken:
            for item in notebook["hypotheses"]:
                if item["number"] == hypothesis:
                    item["candidate"] = context.problem.space.candidate(proposal.values).id
        own = {} if untooled is None else {"untooled": untooled}
        if {**notebook, "hypotheses": None} != earlier and context.reads:
            noted = context.reads[:]
        context.memory = {**notebook, **own, **({"noted": noted} if noted else {})}
        return [proposal for proposal, _ in submissions.taken] or drawn(context, n, FALLBACK)

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """A conversation for each candidate, and each as long as it may be.

        Only the last turn of a conversation may go beyond its allowance of tokens, and hears no more than that and the
        latest answers. Two calls more are those that a model gets which calls no tools.
        """
        from agent.llm.estimate import text_bound

        chosen = read(Options, options)
        tools = offered(problem, chosen)
        if chosen.mcp:
            _servers().check(chosen.mcp)
        consults = chosen.consults if any(tool.name in CONSULTS for tool in tools) else 0
        card = text_bound(cards.card(problem, list(problem.space)))
        first = card + 2 * CHARACTERS + sum(text_bound(f"{tool.description}{tool.schema}") for tool in tools)
        reply = _reply_tokens(problem, chosen)
        calls = max(chosen.turns, 2) + 2 + consults
        heard = 2 * (chosen.tokens + first) + 2 * (card + 2 * CHARACTERS) + consults * CONSULTED[0]
        said = min(chosen.turns * reply, chosen.tokens) + reply + 2 * reply + consults * CONSULTED[1]
        return candidates * calls, candidates * heard, candidates * said

    async def _talk(
        self, context: Context, options: Options, submissions: Submissions, notebook: dict[str, Any]
    ) -> None:
        """Hold the conversation; what it submits stands in `submissions`.

        Raises:
            Untooled: The model calls no tools.
        """
        tools = offered(context.problem, options)
        if not await traced(context):
            tools = [tool for tool in tools if tool.name not in TRACES]
        allowance = _allowance(context, options, submissions.wanted)
        if not options.mcp:
            return await self._held(context, options, submissions, notebook, tools, allowance)
        async with _servers().opened(options.mcp, context) as remote:
            taken = {"submit", *(tool.name for tool in tools)}
            more = []
            for tool in remote:
                if tool.name in taken:
                    context.reject(f"the tool {tool.name} of a server has the name of another one", TALK)
                else:
                    taken.add(tool.name)
                    more.append(tool)
            try:
                return await self._held(context, options, submissions, notebook, [*tools, *more], allowance)
            except Refused as refused:
                if not more:
                    raise
                context.reject(f"{refused}; it is asked without those of servers", TALK)
            await self._held(context, options, submissions, notebook, tools, allowance)

    async def _held(
        self,
        context: Context,
        options: Options,
        submissions: Submissions,
        notebook: dict[str, Any],
        tools: list[Tool],
        allowance: Allowance,
    ) -> None:
        request = await _request(context, options, submissions, notebook, tools, allowance)
        conversation = Conversation(context, tools, submissions, allowance, notebook)
        try:
            ended = await conversation.run(request)
        except OutputInvalid as error:
            ended = f"the reply cannot be used: {error.message}"
        except (BudgetExceeded, ProviderError, ConfigError) as error:
            if not conversation.turn and _refuses_tools(error):
                raise Refused(f"the model takes no tools ({cards.clip(error.message, 200)})") from None
            if not submissions.taken or isinstance(error, ConfigError) or getattr(error, "fatal", False):
                raise
            ended = error.message
        if ended and len(submissions.taken) < submissions.wanted:
            context.reject(f"{len(submissions.taken)} of {submissions.wanted} submitted: {ended}", TALK)


def _servers() -> Any:
    """What speaks to MCP servers; it stands on a higher floor, and most runs do without."""
    return importlib.import_module("agent.integrations.mcp_tools")


def _refuses_tools(error: AgentError) -> bool:
    """Whether a failed first call may mean that the model, or its server, takes no tools, or not these.

    Servers say so in many ways, and some with a code alone; so whatever is wrong with the request itself counts.
    """
    if isinstance(error, BudgetExceeded) or getattr(error, "fatal", False):
        return False
    status = getattr(error, "status", None)
    if status is not None and 400 <= status < 500:
        return status not in PASSING
    return status in (None, 500, 501) and "tool" in error.message.lower()


def _allowance(context: Context, options: Options, wanted: int) -> Allowance:
    evaluations = MOST if options.evaluations else 0
    if math.isfinite(context.share):
        free = math.floor(context.share - wanted * context.each)  # what is proposed must still be measured
        evaluations = max(0, min(math.ceil(options.evaluations * context.share), free))
    return Allowance(options.turns, options.calls, evaluations, options.consults, options.tokens)


def _reply_tokens(problem: Problem, options: Options) -> int:
    return options.reply + typed.reply_tokens(typed.schema(problem.space, problem.initial()))


async def _request(
    context: Context,
    options: Options,
    submissions: Submissions,
    notebook: dict[str, Any],
    tools: Sequence[Tool],
    allowance: Allowance,
) -> ModelRequest:
    """The first request of a conversation; its tools are added by the conversation."""
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render
    from agent.tools.history import candidate
    from agent.tools.shared import row, said

    desk = Desk(context, "first", context.options, notebook)
    shown = [row(desk, trial) for trial in reversed(cards.ranked(context)[:SHOWN])]
    names = {tool.name for tool in tools}
    user = render(
        "agentic.txt",
        tools=True,
        rows=cards.clip(said(desk, "", shown).strip(), CHARACTERS) if shown else "",
        champion=cards.clip(await candidate(desk, "champion"), CHARACTERS),
        allowance=str(allowance if "evaluate" in names else replace(allowance, evaluations=0)),
        **_told(context, notebook, submissions),
    )
    shape = typed.schema(context.problem.space, context.champion)
    system = render(
        "agentic_system.txt",
        card=cards.card(context.problem, list(context.problem.space)),
        tools=True,
        hypotheses="hypothesis" in names,
    )
    return ModelRequest(
        messages=(Message("user", user),),
        system=system,
        max_output_tokens=options.reply + typed.reply_tokens(shape),
        temperature=options.temperature,
    )


def _told(context: Context, notebook: Mapping[str, Any], submissions: Submissions) -> dict[str, Any]:
    """What is said of the state of the search, with tools and without."""
    train = [item.id for item in context.problem.split("train")]
    return {
        "facts": cards.facts(context, SOURCE, list(context.problem.space)),
        "hypotheses": lines(context, notebook),
        "examples": f"{len(train)}, with ids such as {', '.join(train[:5])}" if train else "",
        "wanted": submissions.wanted,
    }


async def _plain(context: Context, submissions: Submissions, notebook: Mapping[str, Any]) -> None:
    """One call for a reply that fits a schema, and one more with the reasons where nothing of it was of use."""
    reasons: list[str] = []
    for _ in range(2):
        request = _plain_request(context, submissions, notebook, reasons)
        try:
            given = (await replies(context, [request], SOURCE))[0]
        except BudgetExceeded as error:
            if not reasons:
                raise
            context.reject(f"no further call was made: {error.message}", SOURCE)
            return
        if given is None:
            return
        reasons = [reason for item in given.parsed["proposals"] if (reason := await _submitted(item, submissions))]
        for reason in reasons:
            context.reject(reason, SOURCE, given.text)
        if submissions.taken:
            return


async def _submitted(item: Mapping[str, Any], submissions: Submissions) -> str:
    """Submit a proposal of a structured reply; why it cannot be taken, or ""."""
    tool = submissions.tool()
    now = submissions.context.champion
    changes = cards.matched(submissions.context.problem.space, item["changes"])
    given = {name: item[name] for name in ("rationale", "claim") if name in item}
    changed = {name: value for name, value in changes.items() if name not in now or now[name] != value}
    try:
        await tool.function(Desk(submissions.context), **tool.read({"rationale": "", **given, "changes": changed}))
    except (ToolError, ValueError) as error:
        return str(error)
    return ""


def _plain_request(
    context: Context, submissions: Submissions, notebook: Mapping[str, Any], reasons: Sequence[str]
) -> ModelRequest:
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    problem, names = context.problem, list(context.problem.space)
    changes = typed.schema(problem.space, context.champion)["properties"]["changes"]
    fields = {
        "rationale": {"type": "string", "maxLength": RATIONALE // 2},
        "changes": changes,
        "claim": {"type": "number"},
    }
    items = {**cards.closed(fields), "required": ["rationale", "changes"]}
    wanted = submissions.wanted
    user = render(
        "agentic.txt",
        tools=False,
        rows="\n".join(_rows(context)),
        champion=cards.configuration(problem.space, context.champion, names),
        allowance="",
        **_told(context, notebook, submissions),
        refused=[cards.anonymous(cards.clip(reason, 200)) for reason in reasons[-cards.TOLD :]],
    )
    return ModelRequest(
        messages=(Message("user", user),),
        system=render("agentic_system.txt", card=cards.card(problem, names), tools=False, hypotheses=False),
        schema=cards.closed({"proposals": {"type": "array", "items": items, "minItems": 1, "maxItems": wanted}}),
        max_output_tokens=64 + wanted * typed.reply_tokens(typed.schema(problem.space, context.champion)),
    )


def _rows(context: Context) -> list[str]:
    """Lines "#number result: configuration" of the best, worst first."""
    problem, names = context.problem, list(context.problem.space)
    best = cards.ranked(context)[:SHOWN]
    results = cards.rounded([problem.compared(trial.values or {}) for trial in best])
    out: list[str] = []
    for trial, result in zip(best, results, strict=True):
        text = f"#{trial.number} {result}: {cards.marked(problem.space, trial.candidate, names)}"
        if out and sum(map(len, out)) + len(text) > CHARACTERS:
            break
        context.showing(trial)
        out.append(text)
    return out[::-1]
