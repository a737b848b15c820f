"""The way from an empty folder to a problem that was tried."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned
from agent.drafting import reading, template, writing
from agent.drafting.author import OUTPUT, Author, Undrafted
from agent.drafting.findings import spent, spent_line
from agent.drafting.proposal import PROBLEM, Draft, admit
from agent.drafting.questions import GivenUp, direction
from agent.drafting.tomlkey import changed
from agent.drafting.trying import Trial, told
from agent.errors import AgentError, BudgetExceeded, ConfigError, PrerequisiteError, ProviderError

if TYPE_CHECKING:
    from agent.dialogue.talk import Talk
    from agent.drafting.findings import Findings
    from agent.ledger import Budget, Ledger
    from agent.llm.gateway import Llm
    from agent.paying import Till
    from agent.setup import Setup

REVISIONS = 5
"""Times that the person may want a draft to be different."""
ATTEMPTS = 4
"""Times that a new evaluator is tried."""
EXAMPLES = "truegain init --list shows complete examples to start from; truegain init --example NAME writes one."


@dataclass(frozen=True, slots=True)
class Drafted:
    """A problem that was written.

    Args:
        folder: Where.
        setup: As the problem file reads now.
        written: Names of the files.
        findings: What trying it showed; None where it was not run. `findings.failure` says that it does not work.
        spent: By models, for drafting and trying it: calls, tokens (input, output), usd (None: a price is unknown).
        paid: The same for the ledger of a run that carries it on, as `agent.ledger.Ledger.paid` gives it.
    """

    folder: Path
    setup: Setup
    written: tuple[str, ...]
    findings: Findings | None
    spent: dict[str, Any]
    paid: tuple[dict[str, Any], ...]

    @property
    def ready(self) -> bool:
        """Whether it was tried and works."""
        return self.findings is not None and self.findings.failure is None


@dataclass
class Flow:
    """See `agent.drafting.draft`."""

    folder: Path
    talk: Talk
    model: str | None
    goal: str
    adapter: Any
    budget: Budget
    till: Till
    here: Path
    base_url: str | None
    progress: Callable[[int, int, str], None] | None
    _named: tuple[str, ...] = ()
    _author: Author | None = None
    _written: list[str] = field(default_factory=list)
    _better: dict[str, str] = field(default_factory=dict)
    _ledgers: list[Ledger] = field(default_factory=list)

    async def run(self) -> Drafted | None:
        """The whole way; None where nothing was written."""
        self.folder = self.folder.resolve()
        self._ledgers.append(self.till.ledger)
        goal = self.goal or self.talk.ask("What shall be better? (in a sentence, such as: the accuracy of train.py)")
        if not goal:
            self.talk.say(f"Nothing is written. {EXAMPLES}")
            return None
        llm = self._llm() if self.model not in (None, "none") else None
        try:
            first = await self._first(goal, llm)
            draft = await self._reviewed(first) if first is not None else None
            if draft is None or not self._put(draft):
                self.talk.say(f"Nothing is written. {EXAMPLES}")
                return None
            trial = Trial(
                self.folder, self.talk, self.budget, self._ledgers, self.adapter, self.base_url, self.progress,
                mend=self._mended if self._author is not None else None,
            )  # fmt: skip
            found = await trial.run(ATTEMPTS)
        finally:
            if llm is not None:
                await llm.close()
        return self._end(found, trial.changed)

    def _end(self, found: Findings | None, changed: bool) -> Drafted | None:
        from agent.config import load

        total = spent(self._ledgers)
        if total["calls"]:
            self.talk.say(f"Spent on models so far: {spent_line(total)}.")
        if changed:
            return None
        try:
            setup = load(self.folder)
        except ConfigError as error:
            self.talk.say(f"The problem cannot be read: {told(error)}")
            return None
        paid = tuple(ledger.paid() for ledger in self._ledgers if ledger.committed("calls"))
        return Drafted(self.folder, setup, tuple(self._written), found, total, paid)

    def _llm(self) -> Llm:
        from agent.llm.connect import connect
        from agent.llm.gateway import Llm

        def make(name: str) -> Any:
            if self.adapter is not None:
                return self.adapter.get(name) if isinstance(self.adapter, dict) else self.adapter
            if name.startswith("local:"):
                return connect(name, options={"progress": self.progress})
            return connect(name, options={"base_url": self.base_url} if name.startswith("openai") else {})

        assert self.model is not None
        return Llm(self.till, {"propose": self.model}, make)

    async def _first(self, goal: str, llm: Llm | None) -> Draft | None:
        if llm is not None:
            draft = await self._of_model(goal, llm)
            if draft is not None:
                return draft
            if not self.talk.confirm("Fill in a template together instead, by a few questions?"):
                return None
        elif self.model is None:
            self.talk.say("A few questions write the problem; --model provider:model has a model draft it instead.")
        return self._of_questions(goal)

    async def _of_model(self, goal: str, llm: Llm) -> Draft | None:
        """A draft of the model's; None where there is none, and that was said."""
        assert self.model is not None
        answer = self.talk.ask("Which files or folders may the model read? (names with blanks between; Enter: none)")
        while True:
            files = reading.read(answer, self.folder, self.here)
            for item in files.shown:
                self.talk.say(f"  {item.line}")
            for line in files.left_out:
                self.talk.say(f"  not read: {cleaned(line, 300)}")
            more = self.talk.ask("What else instead? (names; Enter: go on without it)") if files.left_out else ""
            if not more:
                break
            answer = f"{shlex.join(item.name for item in files.shown)} {more}"
        self._named = tuple(item.name for item in files.shown)
        if not self.talk.confirm(self._question(len(files.shown))):
            self.talk.say("The model was not asked.")
            return None
        self._author = Author(llm, self.model, goal, files, self.folder, self.talk.say)
        return await self._asked(self._author.draft)

    def _question(self, count: int) -> str:
        assert self.model is not None
        what = "your sentence and these files" if count else "your sentence"
        if self.model.startswith("local:"):
            return f"Ask {self.model} for a draft? It gets {what}, and stays on this machine."
        from agent.llm.prices import Prices

        usd = Prices({}).worst(self.model, reading.TOTAL // 3, OUTPUT, base_url=self.base_url)
        price = f"; at most ${usd:.2f} a try" if usd else ""
        return f"Ask {self.model} for a draft? It is sent {what}{price}."

    async def _asked(self, ask: Callable[[], Any]) -> Draft | None:
        """What the model drafts, complete; None where it cannot, and that was said."""
        if str(self.model).startswith("local:"):
            self.talk.say(f"{self.model} writes; on this machine that can take minutes.")
        try:
            draft, _ = await ask()
            return self._complete(draft)
        except Undrafted as error:
            lines = [f"  draft {number}: {reason}" for number, reason in enumerate(error.reasons, 1)]
            small = " That is to be expected of a small model." if str(self.model).startswith("local:") else ""
            self.talk.say("\n".join([f"No draft of {self.model} could be used.{small}", *lines, EXAMPLES]))
        except (BudgetExceeded, ProviderError, PrerequisiteError, ConfigError) as error:
            self.talk.say(f"{self.model} could not draft it: {told(error)}")
        return None

    def _of_questions(self, goal: str) -> Draft | None:
        try:
            draft = template.fill_in(self.folder, self.talk, goal)
            for table in _objectives(draft.files[PROBLEM]):
                self._better[str(table.get("name"))] = str(table.get("direction"))
            return self._complete(draft)
        except GivenUp as error:
            self.talk.say(f"Without an answer to that there is no problem: {error}")
        except AgentError as error:
            self.talk.say(f"That makes no problem yet: {told(error)}")
        return None

    def _complete(self, draft: Draft) -> Draft:
        """Checked, with the directions as the person said before that they are.

        Raises:
            ConfigError: What came out cannot be read.
        """
        return self._directed(draft, lambda name, drafted: self._better.get(name, drafted))

    def _asked_which_way(self, draft: Draft) -> Draft:
        """With the directions as the person wants them, after a look at the draft.

        Raises:
            ConfigError: What came out cannot be read.
            GivenUp: There was no usable answer.
        """

        def wanted(name: str, drafted: str) -> str:
            if name not in self._better:
                self._better[name] = direction(self.talk, name, drafted)
            if self._better[name] != drafted:
                self.talk.say(f'problem.toml says direction = "{self._better[name]}" for {name} now.')
            return self._better[name]

        return self._directed(draft, wanted)

    def _directed(self, draft: Draft, wanted: Callable[[str, str], str]) -> Draft:
        text = draft.files[PROBLEM]
        for number, table in enumerate(_objectives(text)):
            name, drafted = str(table.get("name")), str(table.get("direction", "minimize"))
            if (better := wanted(name, drafted)) != drafted:
                text = changed(text, "objectives", "direction", better, place=number)
        draft = Draft({**draft.files, PROBLEM: text}, draft.explanation, trusted=True)
        return admit(draft, self.folder, self._named, self.model)[0]

    async def _reviewed(self, draft: Draft | None) -> Draft | None:
        """The draft that the person wants to have written; None for none."""
        for _ in range(1 + REVISIONS):
            if draft is None:
                return None
            if draft.explanation:
                self.talk.say(draft.explanation)
            self.talk.say(writing.preview(draft, self.folder))
            try:
                draft = self._asked_which_way(draft)
            except (GivenUp, ConfigError) as error:
                self.talk.say(f"Without an answer to that there is no problem: {error}")
                return None
            if self.talk.confirm(f"Write this into {self.folder}?"):
                return draft
            author = self._author
            if author is None:
                return None
            wish = self.talk.ask("What should be different? (Enter: nothing is written)")
            if not wish:
                return None
            draft = await self._asked(lambda author=author, wish=wish: author.again(wish))  # type: ignore[misc]
        return None

    def _put(self, draft: Draft) -> bool:
        names = writing.put(draft, self.folder, self.talk, frozenset(self._written))
        if names is None:
            return False
        self._written += [name for name in names if name not in self._written]
        self.talk.say(f"Wrote {', '.join(names)} into {self.folder}." if names else "All of it was there already.")
        return True

    async def _mended(self, failure: str) -> bool:
        author = self._author
        assert author is not None
        draft = await self._reviewed(await self._asked(lambda: author.mend(failure)))
        return draft is not None and self._put(draft)


def _objectives(text: str) -> list[dict[str, Any]]:
    found = tomllib.loads(text).get("objectives", [])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
