"""A model with tools, turn by turn, until it has submitted what is wanted or its allowance is spent.

Everything that the next request depends on is recorded: replies by the gateway, answers of tools by `Context.step`.
So a conversation that was cut off is held again to the same point without paying, and goes on from there.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.llm.jsontext import too_deep
from agent.proposers.base import Context
from agent.space import canonical
from agent.together import together
from agent.tools.base import CHARS, CONSULTS, Desk, Tool, call
from agent.tools.submit import Submissions

if TYPE_CHECKING:
    from agent.llm.types import Completion, Message, ModelRequest, ToolCall

Pending = Coroutine[Any, Any, tuple[str, bool]]
"""What a tool will answer, and whether it failed."""

NAME = "main"
"""Of the conversation of a decision; there is one."""
AT_ONCE = 16
"""Tool calls of one reply that are made; a model that loops writes hundreds."""
SAME = 3
"""Equal calls that end a conversation."""

SILENT = "You called no tool. Call submit with your proposal, or another tool if you still need one."
CUT = "Your reply was cut off at the limit of its length. Say less, and call submit or another tool."
LAST = "The allowance is spent. This is the last turn: call submit now."


class Untooled(Exception):
    """The model makes no tool calls."""


@dataclass
class Allowance:
    """What a conversation may use.

    Args:
        turns: Replies of the model.
        calls: Tool calls.
        evaluations: Measurements that tools make.
        consults: Calls of tools that ask a model.
        tokens: Of the model that talks, in and out; the last turn may go beyond it.
    """

    turns: int
    calls: int
    evaluations: int
    consults: int
    tokens: int

    def __str__(self) -> str:
        parts = [(self.turns, "turn"), (self.calls, "tool call")]
        more = [(self.evaluations, "measurement"), (self.consults, "consultation")]
        said = [*parts, *(item for item in more if item[0])]
        return ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in said)


class Conversation:
    """One conversation.

    Args:
        context: Of the decision; it has a model.
        tools: What the model may call besides `submit`.
        submissions: Takes the proposals.
        allowance: What may be used.
        notebook: For the tools that write things down.
        chars: Most characters of a tool's answer.
    """

    def __init__(
        self,
        context: Context,
        tools: Sequence[Tool],
        submissions: Submissions,
        allowance: Allowance,
        notebook: dict[str, Any],
        *,
        chars: int = CHARS,
    ) -> None:
        self._context = context
        self._submit = submissions.tool()
        self._tools = {tool.name: tool for tool in [*tools, self._submit]}
        self._submissions = submissions
        self._left = allowance
        context.looks = min(context.looks, allowance.evaluations)
        self._notebook = notebook
        self._chars = chars
        self._seed = context.rng.getrandbits(64)
        self.turn = 0
        """Replies so far."""
        self._counts: Counter[str] = Counter()
        self._answers: dict[str, tuple[str, bool]] = {}
        self._ids: set[str] = set()
        self._own: dict[int, Context] = {}
        """What each call of this turn may use."""
        self._over = ""

    async def run(self, request: ModelRequest) -> str:
        """Talk.

        Args:
            request: Its system prompt, its first message and its limits.

        Returns:
            Why it ended before everything wanted was submitted; "" when it did not.

        Raises:
            Untooled: The model never called a tool, or cannot.
            BudgetExceeded, ProviderError: As a call of the model does.
        """
        from agent.llm.types import Message

        silent = False
        while True:
            last = bool(self._over) or self._left.turns <= 1 or self._left.calls <= 0
            offered = [self._submit] if last else list(self._tools.values())
            reply = await self._ask(replace(request, tools=tuple(map(_spec, offered))))
            if reply.stop == "refusal":
                return f"the model refused: {reply.text[:200] or 'no reason given'}"
            if not reply.tool_calls:
                if self._submissions.taken:
                    return "the model proposed no more"
                if last or silent:
                    if not self._counts:
                        raise Untooled("the model called no tool")
                    return self._over or "the model stopped without a proposal"
                silent = True
                words = Message("user", CUT if reply.stop == "length" else SILENT)
                request = replace(request, messages=(*request.messages, reply.as_message(), words))
                continue
            silent = False
            said, answers = await self._answered(reply, {tool.name for tool in offered})
            if self._submissions.done or (last and self._submissions.taken):
                return "" if self._submissions.done else (self._over or "the allowance is spent")
            if last:
                return self._over or "the allowance is spent"
            self._look_ahead(reply, answers, request)
            answers[-1] = replace(answers[-1], text=f"{answers[-1].text}\n\n({self._note()})")
            request = replace(request, messages=(*request.messages, said, *answers))

    async def _ask(self, request: ModelRequest) -> Completion:
        from agent.llm.estimate import input_bound

        assert self._context.ask is not None
        reply = await self._context.ask(request)
        self.turn += 1
        self._left.turns -= 1
        known = reply.usage.input + reply.usage.output
        self._left.tokens -= known or input_bound(request) + request.max_output_tokens
        return reply

    def _look_ahead(self, reply: Completion, answers: Sequence[Message], request: ModelRequest) -> None:
        """Make the next turn the last one where it would use up the tokens."""
        from agent.llm.estimate import input_bound, text_bound

        more = sum(text_bound(message.text) for message in answers)
        heard = reply.usage.input + reply.usage.output + more if reply.usage.input else input_bound(request) + more
        if not self._over and heard + request.max_output_tokens > self._left.tokens:
            self._over = "the allowance of tokens is spent"

    def _note(self) -> str:
        if self._over or self._left.turns <= 1 or self._left.calls <= 0:
            return f"{self._over}. {LAST}".removeprefix(". ")
        return f"left: {self._left}"

    async def _answered(self, reply: Completion, offered: set[str]) -> tuple[Message, list[Message]]:
        """The model's turn as it goes back to it, and the answers to its calls."""
        from agent.llm.types import Message

        calls = self._distinct(reply.tool_calls[:AT_ONCE])
        said = replace(reply.as_message(), tool_calls=calls)
        if len(calls) < len(reply.tool_calls):
            said = replace(said, carry=())  # signed reasoning is refused by its provider when its turn has changed
        cut = reply.stop == "length"
        plans = [self._planned(wanted, index, offered, cut=cut) for index, wanted in enumerate(calls)]
        # What writes in the notebook goes first, one after the other, so that it is the same each time.
        first = {index for index, wanted in enumerate(calls) if self._writes(wanted)}
        found = {index: await plans[index]() for index in sorted(first)}
        others = [index for index in range(len(calls)) if index not in first]
        found.update(zip(others, await together([plans[index]() for index in others]), strict=True))
        texts = [found[index] for index in range(len(calls))]
        for index in sorted(self._own):
            rows = self._own[index].reads
            self._context.reads.extend(row for row in rows if row not in self._context.reads)
        # Of this turn alone: a decision that is made again has the looks of later ones too.
        self._left.evaluations -= sum(self._context.looked(f"{NAME}.{self.turn}.{index}") for index in self._own)
        self._own.clear()
        for wanted, answer in zip(calls, texts, strict=True):
            self._answers.setdefault(_same(wanted), answer)
        answers = [
            Message("tool", text, tool_call_id=wanted.id, is_error=error)
            for wanted, (text, error) in zip(calls, texts, strict=True)
        ]
        if len(calls) < len(reply.tool_calls):
            note = f"\n(only the first {AT_ONCE} calls of a turn are made)"
            answers[-1] = replace(answers[-1], text=answers[-1].text + note)
        return said, answers

    def _distinct(self, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
        """The calls with ids that tell them from all others of the conversation; not every server gives such."""
        out = []
        for index, wanted in enumerate(calls):
            if not wanted.id or wanted.id in self._ids:
                wanted = replace(wanted, id=f"call-{self.turn}-{index}")
            self._ids.add(wanted.id)
            out.append(wanted)
        return tuple(out)

    def _writes(self, wanted: ToolCall) -> bool:
        tool = self._tools.get(wanted.name)
        return tool is not None and (tool.pure or tool.writes)

    def _planned(self, wanted: ToolCall, index: int, offered: set[str], *, cut: bool) -> Callable[[], Pending]:
        """What answers a call. What it counts against the allowance is settled now, in the order of the calls."""
        given = self._given(wanted, offered, cut=cut)
        if given is not None:
            return lambda: self._step(wanted, index, lambda _: _ready(given))
        tool = self._tools[wanted.name]

        async def pure() -> tuple[str, bool]:
            known = await call(tool, self._desk(self._context, "", self._notebook), wanted.arguments, chars=self._chars)
            return await self._step(wanted, index, lambda _: _ready(known))

        async def run() -> tuple[str, bool]:
            # Randomness and the account of what was read are the call's own, since tools run side by side.
            own = self._own[index] = copy.copy(self._context)
            own.rng, own.reads = random.Random(f"{self._seed} {self.turn} {index}"), []
            notes = self._notebook if tool.writes else copy.deepcopy(self._notebook)
            return await own.step(
                NAME,
                self.turn,
                index,
                wanted.name,
                wanted.arguments,
                lambda key: call(tool, self._desk(own, key, notes), wanted.arguments, chars=self._chars),
                notes if tool.writes else None,
            )

        return pure if tool.pure else run

    def _given(self, wanted: ToolCall, offered: set[str], *, cut: bool) -> tuple[str, bool] | None:
        """The answer to a call that is not made; None when it is, and then it counts against the allowance."""
        same = _same(wanted)
        self._counts[same] += 1
        if self._counts[same] >= SAME:
            self._over = f"the same call of {wanted.name[:80]} was made {SAME} times"
        if self._counts[same] > 1:
            if same not in self._answers:
                return "this call stands twice in one turn; its answer stands with the first one", False
            text, error = self._answers[same]
            return f"(you made this call before; this was its answer)\n{text}", error
        if wanted.name not in offered:
            return f"there is no tool {wanted.name[:80]!r} here; there is {', '.join(sorted(offered))}", True
        if wanted.arguments is None and cut:
            return "the reply was cut off before the arguments ended; write less in one turn", True
        refusal = "" if self._tools[wanted.name] is self._submit else self._counted(wanted)
        return (refusal, True) if refusal else None

    def _counted(self, wanted: ToolCall) -> str:
        """Count a call against the allowance; why that cannot be, or ""."""
        left = self._left
        if left.calls <= 0:
            return "the allowance of tool calls is spent; call submit"
        if wanted.name in CONSULTS and left.consults <= 0:
            return "the allowance of calls to other models is spent; go on without"
        left.calls -= 1
        left.consults -= wanted.name in CONSULTS
        return ""

    @staticmethod
    def _desk(context: Context, key: str, notebook: dict[str, Any]) -> Desk:
        return Desk(context, key, context.options, notebook)

    async def _step(self, wanted: ToolCall, index: int, work: Callable[[str], Pending]) -> tuple[str, bool]:
        return await self._context.step(NAME, self.turn, index, wanted.name, wanted.arguments, work)


def _spec(tool: Tool) -> Any:
    from agent.llm.types import ToolSpec

    return ToolSpec(tool.name, tool.description, tool.schema)


def _same(wanted: ToolCall) -> str:
    """Two calls that ask for the same have the same text."""
    plain = wanted.arguments is not None and not too_deep(wanted.arguments)
    return canonical([wanted.name, wanted.arguments if plain else wanted.raw])


async def _ready(answer: tuple[str, bool]) -> tuple[str, bool]:
    return answer
