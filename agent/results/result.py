"""What a run found, folded from its journal; the API, the command line and `--json` read the same thing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.blame import place
from agent.errors import ConfigError, StoreError
from agent.history import Trial
from agent.journal import Entry, read, read_all
from agent.pareto import LIMIT, Front, front
from agent.problem import Problem
from agent.results.resultfiles import document, markdown, put, unified, write_best
from agent.results.rowchanges import RowChanges, compare
from agent.results.standings import standings
from agent.results.tally import Tally
from agent.results.wholeset import FILE as WHOLE
from agent.results.wholeset import load as load_whole
from agent.results.wholeset import sentence as whole_sentence
from agent.space import Candidate
from agent.state import State, folded
from agent.wall import ended

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Result:
    """The outcome of a run, or its standing while it is open.

    Args:
        run: Name of the run.
        folder: Its folder.
        problem: As the journal knows it.
        status: proven, exact, unproven or initial (no gain shown); "open" while the run has not ended.
        best: What `export` writes.
        released: The last candidate that the gate accepted, or the initial one.
        initial: The starting candidate.
        verdict: `agent.gate.exam.Verdict` as JSON, or None when there was nothing to examine.
        reason: Why the run ended or rests.
        detail: More about that.
        exit_code: What the command line ends with.
        trials: Every candidate, in order of admission.
        spent: `Ledger.to_json()`.
    """

    run: str
    folder: Path
    problem: Problem
    status: str
    best: Candidate
    released: Candidate
    initial: Candidate
    verdict: dict[str, Any] | None
    reason: str
    detail: str
    exit_code: int
    trials: tuple[Trial, ...]
    champion: str
    spent: dict[str, Any]
    _state: State = field(repr=False, compare=False)

    @classmethod
    def of(cls, state: State, folder: Path) -> Result:
        """The result of a folded run."""
        history, over = state.history, state.ended
        if over:
            state.ledger.lose_calls()
        best, released = (over.best, over.released) if over else (history.champion, state.released)
        halt = state.halt
        codes = {"provider": 69, "interrupted": 130, "terminated": 143}
        return cls(
            run=state.run,
            folder=folder,
            problem=state.problem,
            status=over.status if over else "open",
            best=history[best].candidate,
            released=history[released].candidate,
            initial=history[history.initial].candidate,
            # While a run is open only the gate's bit is shown.
            verdict=(state.gate.verdict or state.gate.proof) if over else None,
            reason=over.reason if over else halt.reason if halt else "open",
            detail=over.detail if over else halt.detail if halt else "",
            exit_code=over.exit_code if over else codes.get(halt.reason, 1) if halt else 0,
            trials=tuple(history.trials),
            champion=history.champion,
            spent=state.ledger.to_json(),
            _state=state,
        )

    @cached_property
    def gate(self) -> dict[str, Any]:
        """What the gate found, and how far that goes, as plain JSON: see `agent.results.standings.standings`.

        While the run is open it holds the accept/reject bits and nothing else.

        Raises:
            StoreError: The journal cannot be read.
        """
        over = self._state.ended is not None
        entries = read_all(self.folder) if over else read(self.folder)
        return standings(self._state, Tally.of(entry.event for entry in entries))

    @cached_property
    def front(self) -> Front | None:
        """The Pareto front of what the search measured; None unless there are two to five objectives.

        `agent.pareto.front(result.problem, result.trials, reference)` gives it with a reference of your own.
        """
        several = 2 <= len(self.problem.objectives) <= LIMIT
        return front(self.problem, self.trials) if several else None

    @property
    def edges(self) -> list[str]:
        """A sentence for each number of the best candidate that lies at an end of its range."""
        space = self.problem.space
        return [
            f"{name} lies at the {space.end(name, self.best[name])} end of its range: widen it if that is not a"
            " natural limit"
            for name in space.at_bounds(self.best)
        ]

    @property
    def model_share(self) -> dict[str, Any]:
        """How many of the proposed candidates are the model's own: those whose source says ":llm"."""
        proposed = [trial for trial in self.trials if trial.proposal]
        made = sum(":llm" in trial.source for trial in proposed)
        return {"made": made, "of": len(proposed), "share": made / len(proposed) if proposed else 0.0}

    @property
    def starts(self) -> dict[str, Any]:
        """What the search began with besides the defaults; the points that were refused, with the reasons."""
        refused = [{"values": start["values"], "reason": reason} for start, reason in self._state.refused]
        warm = self._state.warm.get("run")
        return {"given": len(self._state.given), "refused": refused, "warm_from": warm}

    @property
    def beginning(self) -> list[str]:
        """The same in sentences; empty when it began with the defaults alone."""
        from agent.warm import sentence

        said = sentence(self._state.given, self._state.warm)
        refused = [
            f"not measured ({start['source']}): {reason}; {json.dumps(start['values'], ensure_ascii=False)}"
            for start, reason in self._state.refused
        ]
        return [*([said] if said else []), *refused]

    @property
    def sentence(self) -> str:
        """What was gained, with its interval, in one or two sentences."""
        if self.verdict is not None:
            gate = self._state.gate
            said = [str(self.verdict["sentence"])]
            if gate.proof is not None and gate.proof is not self.verdict:
                said.insert(0, f"Released before: {gate.proof['sentence']}")
            if gate.report is not None:
                said.append(self._reported(gate.report))
            if self.whole is not None:
                said.append(whole_sentence(self.whole))
            return " ".join(said)
        goal = self.problem.spoken.name
        if self.status == "open":
            return f"{goal}: the run is open; nothing is claimed before it ends."
        if self.reason == "evaluator":
            where = place(self.trials[0].detail, self.problem.folder)
            return f"The initial candidate cannot be scored: {self.detail}{f' ({where})' if where else ''}."
        said = [f"{goal}: no gain was shown; {self._nothing}."]
        return " ".join([*said, *([whole_sentence(self.whole)] if self.whole is not None else [])])

    @property
    def _nothing(self) -> str:
        """Why nothing was gained: no candidate was better, or there was none."""
        history = self._state.history
        count = sum(history.rejected.values())
        if len(self.trials) > 1 or not count:
            return "no candidate was better than the initial one"
        last = " ".join(str(history.rejections[-1].get("reason", "")).split())
        every = "the only proposal was" if count == 1 else f"all {count} proposals were"
        return f"no candidate was made: {every} refused (last: {last if len(last) <= 200 else last[:199] + '…'})"

    @cached_property
    def whole(self) -> dict[str, Any] | None:
        """The number of the whole set of outputs that the gate does not examine, once the run has ended.

        By split "train" and "test": rows, initial, best; and name and note. None where the metric has none.
        """
        return load_whole(self.folder) if self._state.ended is not None else None

    def _reported(self, report: dict[str, Any]) -> str:
        """What the test rows say of the best candidate, beside the initial one."""
        rows, goal = report["candidates"], self.problem.spoken
        first, best = rows.get(self.initial.id), rows.get(self.best.id)
        if not first or not best or best is first or best["gain"] is None:
            return ""
        interval = best["interval"]
        sure = 100 * report["confidence"]
        around = f", {sure:.3g} % interval {interval[0]:.3g} to {interval[1]:.3g}" if interval else ""
        if best.get("net") and best["net"]["interval"]:
            low, high = best["net"]["interval"]
            share = best["net"]["share"]
            around = f"; {share:.0%} more rows got better than worse, {sure:.3g} % interval {low:.0%} to {high:.0%}"
        return (
            f"On {report['rows']} test rows that nobody had seen, {goal.name} went from {first['mean']:.4g} to"
            f" {best['mean']:.4g} (gain {best['gain']:.3g}{around})."
        )

    def changes(self) -> dict[str, RowChanges]:
        """What got better and worse row by row, from the initial candidate to `best`: by split, "train" and "test".

        Only rows that both were measured on. Test rows are there once the run has ended; val rows never are.

        Raises:
            StoreError: The journal cannot be read.
        """
        return compare(self.folder, self.problem, self.initial, self.best, self._state.ended is not None)

    @property
    def diff(self) -> str:
        """What the best candidate changes of the initial one, as a unified diff; "" where nothing differs."""
        return unified(self)

    def to_openai_messages(self, row: Any = None) -> list[dict[str, str]]:
        """The best prompt as OpenAI's list of messages, as the task model got it.

        Args:
            row: Fills the placeholders; without one they stay, as `{question}`.

        Raises:
            ConfigError: The run's evaluator is no prompt.
            ValueError: The row lacks a field, or the prompt gets too long.
        """
        spec = self._prompt
        if not spec:
            raise ConfigError(
                f"{self.problem.name} was not measured with a prompt, so there are no messages",
                hint="result.best has the candidate's values",
            )
        from agent.evaluators.prompt import Prompt, Rendering

        rendering = Rendering(Prompt(**spec["prompt"]), self.problem.space, spec["answer"])
        return [{"role": role, "content": text} for role, text in rendering.turns(self.best, row)]

    @property
    def _prompt(self) -> dict[str, Any]:
        """The spec of the run's prompt, also of one whose outputs are compared; {} where there is none."""
        spec = dict(self.problem.evaluator.spec or {})
        return spec if spec.get("kind") == "prompt" else dict(self._state.origin.get("prompt") or {})

    def to_dspy(self) -> dict[str, Any]:
        """The best DSPy program's state, for its `load_state`; a ConfigError where the evaluator is none."""
        from agent.evaluators.dspy_state import state

        return state(self.problem.evaluator.spec or {}, self.best, self.problem.space)

    @property
    def cost(self) -> dict[str, dict[str, Any]]:
        """What each role's model was asked and cost: calls, tokens (input, cached, output), usd; None if unknown."""
        return {role: dict(account) for role, account in self.spent["by_role"].items()}

    @property
    def line(self) -> str:
        """A line of code that loads what was found."""
        path = json.dumps(str(self.folder.resolve()))
        what = ".to_openai_messages(row)" if self._prompt else ".best"
        return f"from agent import load_result; load_result({path}){what}"

    def to_json(self) -> dict[str, Any]:
        several = {"front": self.front.to_json()} if self.front is not None else {}
        return {
            "run": self.run,
            "folder": str(self.folder),
            "problem": self.problem.name,
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            "sentence": self.sentence,
            "best": self.best.values_json,
            "released": self.released.values_json,
            "initial": self.initial.values_json,
            "changes": [[c.name, c.before, c.after] for c in self.problem.space.diff(self.initial, self.best)],
            "verdict": self.verdict,
            "gate": self.gate,
            "candidates": len(self.trials),
            "at_bounds": list(self.problem.space.at_bounds(self.best)),
            "model_share": self.model_share,
            "starts": self.starts,
            **several,
            **({"whole": self.whole} if self.whole is not None else {}),
            "spent": self.spent,
            "exit_code": self.exit_code,
        }

    def keep_whole(self, found: dict[str, Any]) -> None:
        """Write the number of the whole set beside the journal; see `agent.results.wholeset`.

        Raises:
            StoreError: It cannot be written.
        """
        self.__dict__.pop("whole", None)
        try:
            put(self.folder / WHOLE, document(found))
        except OSError as error:
            raise StoreError(
                f"cannot write {WHOLE} of {self.folder.name}: {error}",
                hint="make room there, or make the folder writable",
            ) from None

    def save(self) -> None:
        """Write `best/`, `summary.json` and `summary.md` into the run folder.

        Raises:
            StoreError: They cannot be written; the journal is not touched.
        """
        try:
            write_best(self.folder / "best", self)
            put(self.folder / "summary.md", self.markdown())
            put(self.folder / SUMMARY, self._summary())  # last: see `saved`
        except OSError as error:
            raise StoreError(
                f"cannot write the summary of {self.folder.name}: {error}",
                hint=f"the journal is safe; free some space, then: truegain export {self.folder.name}",
            ) from None

    @property
    def saved(self) -> bool:
        """Whether the run folder holds what `save` writes of this result."""
        try:
            return (self.folder / SUMMARY).read_text(encoding="utf-8") == self._summary()
        except (OSError, UnicodeDecodeError):
            return False

    def _summary(self) -> str:
        return document(self.to_json())

    def markdown(self) -> str:
        """The summary for people."""
        return markdown(self)


def load_state(folder: Path, entries: Iterable[Entry] | None = None, everything: bool = False) -> State:
    """Fold a run's journal, read-only; the gate's part only after the end.

    Args:
        folder: Of the run.
        entries: Events to fold instead.
        everything: The gate's part as well while the run is open; for whoever goes on with the run.

    Raises:
        StoreError: There is no journal, it has no events yet, or it cannot be read.
    """
    state: State | None = None
    if entries is None:
        entries = read_all(folder) if everything or ended(folder) else read(folder)
    for entry in entries:
        state = folded(state, entry)
    if state is None:
        raise StoreError(f"the run in {folder} has no events yet", hint="wait a moment, or remove the folder")
    return state


def load_result(folder: Path | str) -> Result:
    """The result of a run folder, finished or not."""
    where = Path(folder)
    return Result.of(load_state(where), where)
