"""Trying a problem that was just written, with a yes before anything is run, and saying what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned
from agent.drafting import checking
from agent.drafting.findings import Findings, left, sentences
from agent.drafting.tomlkey import changed
from agent.errors import AgentError, ConfigError
from agent.ledger import Budget, Ledger, plural

if TYPE_CHECKING:
    from agent.dialogue.talk import Talk
    from agent.session import Session
    from agent.setup import Setup

PROBLEM = "problem.toml"
WALLS = ("PermissionError", "Errno 13", "Errno 1]", "Permission denied", "Operation not permitted")
"""What the message of a failure has that the walls around the evaluator may have caused."""
STILL = "The evaluator gave the same number for every candidate: {text} It must measure what the candidate says."


@dataclass
class Trial:
    """A problem's folder and who is asked about it.

    Args:
        folder: With the problem file.
        talk: Asks and says.
        budget: Limits on models; the problem file's own hold for the evaluator besides.
        ledgers: What was spent of the budget; what trying it takes of models that the evaluator asks is added.
        adapter: As in `agent.drafting.draft`.
        base_url: As there.
        progress: As there.
        mend: Has the model write another version and puts it there, given what was wrong; gives whether it did. None
            without a model.
    """

    folder: Path
    talk: Talk
    budget: Budget
    ledgers: list[Ledger]
    adapter: Any = None
    base_url: str | None = None
    progress: Callable[[int, int, str], None] | None = None
    mend: Callable[[str], Awaitable[bool]] | None = None
    walls: bool = True
    changed: bool = False
    """Whether files changed while it was tried; then nothing there may be loaded."""

    async def run(self, attempts: int) -> Findings | None:
        """Try it until it works, the person has enough, or it was tried often enough.

        Returns:
            What was found; None where the person did not want it to be run.
        """
        found: Findings | None = None
        for attempt in range(attempts):
            try:
                session = self._session()
            except ConfigError as error:
                self.talk.say(f"The problem cannot be read: {told(error)}")
                if not self.talk.confirm("Try again, when you have mended it?"):
                    return found
                continue
            if not self.talk.confirm(self._question(session)):
                self.talk.say("It was not run." if found is None else "It was not run again.")
                return found
            before = checking.seen(self.folder)
            try:
                found = await checking.check(session, walls=self.walls)
                self.ledgers += found.ledgers
            except AgentError as error:
                self.talk.say(f"It could not be tried: {told(error)}")
                return None if self._changed(before) else found
            if self._changed(before):
                return None
            last = attempt == attempts - 1
            if found.failure is not None:
                if not await self._failed(found, last):
                    return found
                continue
            for sentence in sentences(session, found):
                self.talk.say(sentence)
            if not (found.constant and not last and self.mend is not None):
                break
            if not self.talk.confirm("May the model read this and change the draft?"):
                break
            if not await self.mend(STILL.format(text=" ".join(sentences(session, found)))):
                break
        if found is not None and found.failure is None:
            self._keep(session, found)
        return found

    def _changed(self, before: dict[str, str]) -> bool:
        """Whether the files are not those that the person has seen any more; says so."""
        after = checking.seen(self.folder)
        names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        self.changed = bool(names)
        if names:
            which = ", ".join(cleaned(name, 100) for name in names[:10]) + (", …" if len(names) > 10 else "")
            self.talk.say(
                f"While it was tried, files in {self.folder} changed: {which}. The problem is not what you have seen "
                "any more, so nothing of it is loaded. Read these files, or delete the folder, and begin again."
            )
        return self.changed

    def _session(self) -> Session:
        from agent.config import load
        from agent.session import Session

        setup = load(self.folder)
        return _divided(Session, setup, self)

    def _question(self, session: Session) -> str:
        most = checking.count(session)
        limit = session.problem.limits.seconds
        each = f", each at most {limit:g} s" if limit else ""
        if checking.walled(session) and self.walls:
            how = "It runs as you; here it can write into a temporary folder only, and reaches no network."
        elif getattr(session.problem.evaluator, "uses", ()):
            how = "It asks models, and that is charged."
        else:
            how = "It runs as you: it can read, write and send what you can."
        return f"Measure the defaults and a few other values now, at most {plural(most, 'time')}{each}? {how}"

    async def _failed(self, found: Findings, last: bool) -> bool:
        """Say what went wrong; whether to try again."""
        failure = found.failure
        assert failure is not None
        said = f"{failure.kind}: {failure.message}"
        more = "\n".join(part for part in (failure.detail, found.printed) if part)
        self.talk.say(f"It does not work yet: {cleaned(said, 500)}" + (f"\n{cleaned(more, 2000)}" if more else ""))
        if last:
            return False
        if self.walls and any(mark in f"{said}\n{more}" for mark in WALLS):
            self.talk.say("It may be that it wanted to write outside of its temporary folder, or to use the network.")
            if self.talk.confirm("Allow it both, and try again?"):
                self.walls = False
                return True
        if self.mend is not None and self.talk.confirm("May the model read this and change the draft?"):
            return await self.mend(f"{said}\n{more}")
        return self.talk.confirm("Try again, when you have mended it yourself?")

    def _keep(self, session: Session, found: Findings) -> None:
        """Write into the problem file what was found about its noise."""
        path = self.folder / PROBLEM
        exact = found.kind == "deterministic"
        servers = [session.settings.models.get(role, "") for role in getattr(session.problem.evaluator, "uses", ())]
        if exact and not all(name.startswith("local:") for name in servers):
            self.talk.say("deterministic stays unset: a model on a server may answer differently another time.")
            return
        unit = f" {session.problem.objective.unit}" if session.problem.objective.unit else ""
        comment = (
            f"measured: {len(found.values)} times the same"
            if exact
            else f"measured: standard deviation {found.noise.sd:.3g}{unit} of {len(found.values)} measurements"
        )
        try:
            text = changed(path.read_text(encoding="utf-8"), "evaluator", "deterministic", exact, comment=comment)
            path.write_text(text, encoding="utf-8", newline="\n")
        except (ConfigError, OSError) as error:
            self.talk.say(
                f"problem.toml could not be changed ({error}); set deterministic = {str(exact).lower()} there."
            )
            return
        self.talk.say(f"problem.toml says so now: deterministic = {str(exact).lower()}.")


def _divided(make: type[Session], setup: Setup, trial: Trial) -> Session:
    settings = setup.settings
    if trial.base_url is not None:
        settings = replace(settings, base_url=trial.base_url)
    session = make.of(setup, settings=settings, model=trial.adapter, progress=trial.progress)
    session.divide()
    session.check()
    rest = left(trial.budget, trial.ledgers)
    given = {kind: getattr(rest, kind) for kind in ("calls", "tokens", "usd") if getattr(rest, kind) is not None}
    session.budget = replace(session.budget, **given)
    return session


def told(error: AgentError) -> str:
    """An error and what to do about it, on its way to the person."""
    return cleaned(error.message + (f" ({error.hint})" if error.hint else ""), 1500)
