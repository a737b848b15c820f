"""What a person may say to a run: words without a slash are guidance, the rest are the commands below."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agent.code.untrusted import cleaned
from agent.control.server import Steering
from agent.dialogue import judging, values
from agent.dialogue.why import why
from agent.errors import AgentError, ConfigError
from agent.events import Event, HintGiven
from agent.ledger import KINDS, counted, plural
from agent.loop import Run
from agent.proposers.table import TABLE
from agent.redact import redact
from agent.telling.text import amount, brief
from agent.telling.words import one_line
from agent.wishes import HINT, said

Say = Callable[[str], None]
Line = Callable[[], Awaitable[str]]
LEFT = "saved; truegain session --resume goes on"
"""Detail of a stop by `/quit`."""
FINISHED = "you ended it"
"""Detail of a stop by `/finish`."""
ALONE = ("pause", "resume", "status", "best", "help", "finish", "quit")
"""Commands with nothing behind them."""


class Command(NamedTuple):
    """One command.

    Args:
        usage: How it is called.
        what: What it does.
        run: Does it, given what stands behind its name.
    """

    usage: str
    what: str
    run: Callable[[str], Awaitable[None]]


class Commands:
    """The commands of a run. Only a person's terminal has them: no tool, model or socket reaches this.

    Args:
        run: The run.
        steering: Its pause, stop and the like, as other processes have them too.
        say: Shows text.
        line: The next line that the person types, for commands that ask.
    """

    def __init__(self, run: Run, steering: Steering, say: Say, line: Line) -> None:
        self._run, self._steering, self._say, self._line = run, steering, say, line
        self.table: dict[str, Command] = {
            "pause": Command("/pause", "let nothing new start; what is in flight is finished", self._pause),
            "resume": Command("/resume", "go on after a pause", self._resume),
            "budget": Command("/budget evaluations=200", "show the limits, or change them up or down", self._budget),
            "why": Command("/why ID", "why a candidate was kept or dropped", self._why),
            "pin": Command("/pin NAME=VALUE", "keep a value in all later proposals (NAME: the champion's)", self._pin),
            "ban": Command("/ban NAME=VALUE", "keep a value, LOW..HIGH, or words of a text out of them", self._ban),
            "free": Command("/free NAME", "let go of what is pinned or banned", self._free),
            "judge": Command("/judge [A B]", "compare what two candidates made of a row", self._judge),
            "status": Command("/status", "where the run is, and what you asked for", self._status),
            "best": Command("/best", "the champion, and what the gate has accepted", self._best),
            "help": Command("/help", "this list", self._help),
            "finish": Command("/finish", "end the search now; the exam follows, and the result", self._finish),
            "quit": Command("/quit", "finish what is in flight, save and leave; --resume goes on", self._quit),
        }

    async def do(self, line: str) -> None:
        """Do what a line says; what is wrong with it is said, and changes nothing."""
        line = line.strip()
        if not line:
            return
        try:
            if not line.startswith("/"):
                if line.casefold() in self.table:
                    raise ConfigError(
                        f"did you mean /{line.casefold()}? Nothing was noted",
                        hint=f"type /{line.casefold()}, or guidance of more than this word",
                    )
                await self._hint(line)
                return
            name, _, rest = line[1:].partition(" ")
            name = name.casefold()
            if name in ALONE and rest.strip():
                raise ConfigError(f"/{name} takes nothing behind it, so nothing was done", hint=f"type /{name} alone")
            if name not in self.table:
                raise ConfigError(f"there is no command /{brief(cleaned(name), 40)}", hint="/help lists them")
            await self.table[name].run(rest.strip())
        except AgentError as error:
            self._say(f"  ! {error.message}" + (f"\n    fix: {error.hint}" if error.hint else ""))

    async def _record(self, *events: Event) -> None:
        """Record the person's words; they are on the disk when this returns."""
        if self._run.state.ended is not None or self._run.state.halt is not None:
            raise ConfigError("the run is stopping, so nothing is noted any more", hint="say it after a resume")
        for event in events:
            self._run.record(event)
        await self._run.flush()

    async def _hint(self, text: str) -> None:
        text = cleaned(text, 10 * HINT).strip()
        if len(text) > HINT:
            raise ConfigError(
                f"guidance of {len(text)} characters is too long for a prompt",
                hint=f"say it in {HINT}, or put it into the description of problem.toml",
            )
        if redact(text) != text:
            self._say("  ! what looks like a key or a credential is masked, here and in the prompts")
        if self._run.state.stop is not None:
            raise ConfigError(
                "the search is over: no proposal will see it", hint="say it when more budget continues it"
            )
        await self._record(HintGiven(text))

    async def _pause(self, rest: str) -> None:
        self._steering.pause()
        await self._run.flush()

    async def _resume(self, rest: str) -> None:
        if not self._run.state.paused:
            raise ConfigError("the run is not paused")
        self._steering.go()
        await self._run.flush()

    async def _budget(self, rest: str) -> None:
        if rest:
            await self._record(values.budget(self._run.state, rest))
        self._say(_limits(self._run))

    async def _why(self, rest: str) -> None:
        if not rest:
            raise ConfigError("which candidate?", hint="such as /why 7")
        await self._run.flush()
        lines = await asyncio.to_thread(why, self._run.journal.folder, rest)
        self._say("\n".join(f"  {line}" for line in lines))

    async def _pin(self, rest: str) -> None:
        if not rest:
            known = ", ".join(self._run.state.problem.space)
            raise ConfigError("which parameter?", hint=f"such as /pin NAME=VALUE; there are {brief(known, 300)}")
        await self._record(values.pin(self._run.state, rest, self._words))

    @property
    def _words(self) -> bool:
        """Whether the run's proposer changes texts too."""
        own = self._run.state.settings.proposer not in TABLE
        return own or bool(getattr(self._run.proposer, "texts", False))

    async def _ban(self, rest: str) -> None:
        await self._record(values.ban(self._run.state, rest, self._words))

    async def _free(self, rest: str) -> None:
        await self._record(*values.free(self._run.state, rest))

    async def _judge(self, rest: str) -> None:
        try:
            found = await judging.judge(self._run, rest.split(), self._line, self._say)
        except EOFError:
            raise ConfigError("nobody compared them") from None
        await self._record(found)

    async def _status(self, rest: str) -> None:
        found, state = self._steering.standing(), self._run.state
        held = state.paused and found["in_flight"]["proposals"]
        if held:  # it goes on with the run
            found["in_flight"]["proposals"] = 0
        flying = ", ".join(plural(count, what.removesuffix("s")) for what, count in found["in_flight"].items() if count)
        within = " in the middle of a proposal" if held else ""
        self._say(f"  {state.run} is {found['state']}{within}; in flight: {flying or 'nothing'}\n{_limits(self._run)}")
        wishes = state.wishes
        out = [f"  hint: {brief(hint, 200)}" for hint in wishes.hints]
        out += [f"  pinned: {name} = {brief(value)}" for name, value in wishes.pins.items()]
        out += [f"  banned: {name} {said(ban)}" for name, bans in wishes.bans.items() for ban in bans]
        if out:
            self._say("\n".join(out))

    async def _best(self, rest: str) -> None:
        state = self._run.state
        history, goal, space = state.history, state.problem.objective, state.problem.space
        champion, released = history[history.champion], history[state.released]
        score = amount((champion.values or {}).get(goal.name), goal.unit)
        where = "on train (search)" if state.problem.by_rows else "(search)"
        out = [f"  champion #{champion.number} {champion.id[:8]}: {goal.name} {score} {where}"]
        changes = space.diff(history[history.initial].candidate, champion.candidate)
        out += [f"    {one_line(space, change, 60)}" for change in changes]
        accepted = f"#{released.number}" if released.number else "nothing yet"
        out.append(f"  the gate has accepted {accepted}")
        self._say("\n".join(out))

    async def _help(self, rest: str) -> None:
        width = max(len(command.usage) for command in self.table.values())
        out = ["  Words without a slash are guidance: the prompts of all later proposals show them."]
        out += [f"  {command.usage:{width}}  {command.what}" for command in self.table.values()]
        self._say("\n".join(out))

    async def _quit(self, rest: str) -> None:
        self._say("  finishing what is in flight, then saved; Ctrl-C leaves at once")
        self._steering.stop("interrupted", LEFT)

    async def _finish(self, rest: str) -> None:
        if self._run.state.stop is not None:
            raise ConfigError("the search is over already")
        if self._run.state.paused:
            self._steering.go()
        self._steering.stop("finished", FINISHED)
        await self._run.flush()


def _limits(run: Run) -> str:
    state = run.state
    parts = []
    for kind in KINDS:
        limit = getattr(state.ledger.budget, kind)
        if limit is not None:
            parts.append(f"{counted(round(state.left()[kind], 4))} of {limit:g} {kind}")
    return f"  left: {', '.join(parts)}"
