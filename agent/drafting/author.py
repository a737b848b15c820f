"""The model that drafts: asked once, told what is wrong with its draft, and asked again a few times."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned, untrusted
from agent.drafting.proposal import FILE_CHARS, MOST_FILES, Draft, admit
from agent.errors import AgentError, ConfigError, OutputInvalid
from agent.llm.connect import facts
from agent.llm.types import Message, ModelRequest
from agent.prompts.render import render

if TYPE_CHECKING:
    from agent.drafting.reading import Files, Shown
    from agent.llm.gateway import Llm
    from agent.setup import Setup

REPAIRS = 3
SCHEMA = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string", "description": "two or three sentences for the person"},
        "files": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
                "required": ["path", "text"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["explanation", "files"],
    "additionalProperties": False,
}
OUTPUT, OUTPUT_LOCAL = 16_000, 1000
"""Tokens of a reply. A model on this machine is slow, and its context small."""
SHOWN_BACK = 24_000
"""Characters of its own draft that a model is shown again."""


class Undrafted(Exception):
    """No draft could be used.

    Args:
        reasons: What was wrong with each, in order.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(reasons[-1] if reasons else "")
        self.reasons = reasons


class Author:
    """A conversation with the model about one problem. Only the first request, the latest draft and what was said of it
    are sent, so that it does not grow.

    Args:
        llm: The door to the models; the role is propose.
        model: Its name, `provider:model`.
        goal: What shall be better, in the person's words.
        files: What the person let it read.
        folder: Where the problem is going to be.
        told: Given a sentence when a draft has to be mended.
    """

    def __init__(
        self, llm: Llm, model: str, goal: str, files: Files, folder: Path, told: Callable[[str], None]
    ) -> None:
        self._llm, self._folder, self._told = llm, folder, told
        self._named: Collection[str] = [item.name for item in files.shown]
        self._model, profile = model, facts(model)
        self._most = profile.output_limit(OUTPUT_LOCAL if profile.wire == "local" else OUTPUT)
        rng = random.Random(goal)
        shown = [
            untrusted(item.text, rng, max(len(item.text), 100), f"is {_what(item)}, which the person named")
            for item in files.shown
        ]
        self._rng = rng
        self._first = Message("user", render("draft.txt", goal=goal, files=shown, named=self._named))
        self._system = render("draft_system.txt", most=MOST_FILES, chars=FILE_CHARS)
        self._last: Draft | None = None

    async def draft(self) -> tuple[Draft, Setup]:
        """The first draft that can be used.

        Raises:
            Undrafted: None of them could.
            BudgetExceeded, ProviderError, PrerequisiteError, ConfigError: The model cannot be asked.
        """
        return await self._try([self._first])

    async def again(self, wish: str) -> tuple[Draft, Setup]:
        """Another draft, in which the person wants something to be different; raises as `draft`."""
        return await self._try(self._turns(render("draft_wish.txt", wish=wish)))

    async def mend(self, failure: str) -> tuple[Draft, Setup]:
        """Another draft, after the evaluator was run; raises as `draft`.

        Args:
            failure: What came of that, such as the end of a traceback.
        """
        said = untrusted(failure, self._rng, origin="came of running the evaluator")
        return await self._try(self._turns(render("draft_failed.txt", failure=said)))

    def _turns(self, text: str) -> list[Message]:
        assert self._last is not None, "there is a draft to speak of"
        return [self._first, Message("assistant", _as_reply(self._last)), Message("user", text)]

    async def _try(self, messages: list[Message]) -> tuple[Draft, Setup]:
        reasons: list[str] = []
        for attempt in range(1 + REPAIRS):
            request = ModelRequest(tuple(messages), system=self._system, max_output_tokens=self._most)
            reply = ""
            try:
                done = await self._llm.structured(request, role="propose", scope="draft", schema=SCHEMA)
                reply = done.text
                found = _draft(done.parsed)
                draft, setup = admit(found, self._folder, self._named, self._model)
                self._last = draft
                return draft, setup
            except OutputInvalid as error:
                reply = error.raw
                wrong: AgentError = error
            except ConfigError as error:
                if not reply:  # of the gateway: no draft was made
                    raise
                wrong = error
            reason = cleaned(wrong.message, 1000) + (f" ({cleaned(wrong.hint, 1000)})" if wrong.hint else "")
            reasons.append(reason)
            if getattr(getattr(wrong, "usage", None), "output", 0) >= self._most:
                break  # it was cut off, and the next one would be too
            if attempt < REPAIRS:
                self._told(f"Draft {len(reasons)} cannot be used: {reason}. The model is told, and tries again.")
                turn = Message("user", render("draft_repair.txt", reason=reason))
                messages = [self._first, Message("assistant", cleaned(reply, SHOWN_BACK) or "(nothing)"), turn]
        raise Undrafted(reasons)


def _what(item: Shown) -> str:
    if item.rows is None:
        return f"the file {item.name}"
    return f"what is known of the {item.rows} rows in {item.name} (the rows themselves are not shown)"


def _draft(parsed: Any) -> Draft:
    if not isinstance(parsed, dict):
        raise ConfigError("the reply holds no draft", hint="answer with the JSON object that was asked for")
    files: dict[str, str] = {}
    for item in parsed["files"][: MOST_FILES + 1]:
        if item["path"] in files:
            raise ConfigError(f"{cleaned(item['path'], 200)} is there twice")
        files[item["path"]] = item["text"] if item["text"].endswith("\n") else item["text"] + "\n"
    return Draft(files, cleaned(parsed["explanation"], 1500))


def _as_reply(draft: Draft) -> str:
    import json

    files = [{"path": name, "text": text} for name, text in draft.files.items()]
    return json.dumps({"explanation": draft.explanation, "files": files}, ensure_ascii=False)
