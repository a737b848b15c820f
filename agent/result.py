"""What a run found, folded from its journal; the API, the command line and `--json` read the same thing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.changes import counted_lines
from agent.errors import ConfigError, StoreError
from agent.events import RunStarted
from agent.history import Trial
from agent.journal import Entry, read, read_all
from agent.ledger import at_provider, plural
from agent.pareto import LIMIT, Front, front
from agent.problem import Problem
from agent.rowchanges import RowChanges, compare
from agent.space import Candidate, Change
from agent.standings import Tally, standings
from agent.state import State
from agent.texts import Code, Text
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
        """What the gate found, and how far that goes, as plain JSON: see `agent.standings.standings`.

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
            return " ".join(said)
        goal = self.problem.spoken.name
        if self.status == "open":
            return f"{goal}: the run is open; nothing is claimed before it ends."
        if self.reason == "evaluator":
            return f"The initial candidate cannot be scored: {self.detail}."
        return f"{goal}: no gain was shown; no candidate was better than the initial one."

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

    def to_openai_messages(self, row: Any = None) -> list[dict[str, str]]:
        """The best prompt as OpenAI's list of messages, as the task model got it.

        Args:
            row: Fills the placeholders; without one they stay, as `{question}`.

        Raises:
            ConfigError: The run's evaluator is no prompt.
            ValueError: The row lacks a field, or the prompt gets too long.
        """
        spec = self.problem.evaluator.spec or {}
        if spec.get("kind") != "prompt":
            raise ConfigError(
                f"{self.problem.name} was not measured with a prompt, so there are no messages",
                hint="result.best has the candidate's values",
            )
        from agent.evaluators.prompt import Prompt, Rendering

        rendering = Rendering(Prompt(**spec["prompt"]), self.problem.space, spec["answer"])
        return [{"role": role, "content": text} for role, text in rendering.turns(self.best, row)]

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
        prompt = (self.problem.evaluator.spec or {}).get("kind") == "prompt"
        return f"from agent import load_result; load_result({path})" + (
            ".to_openai_messages(row)" if prompt else ".best"
        )

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
            "spent": self.spent,
            "exit_code": self.exit_code,
        }

    def save(self) -> None:
        """Write `best/`, `summary.json` and `summary.md` into the run folder.

        Raises:
            StoreError: They cannot be written; the journal is not touched.
        """
        try:
            write_best(self.folder / "best", self)
            _put(self.folder / "summary.md", self.markdown())
            _put(self.folder / SUMMARY, self._summary())  # last: see `saved`
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
        return _document(self.to_json())

    def _cells(self, change: Change) -> tuple[str, str]:
        """A parameter before and after; of a program how many lines of which files differ."""
        if isinstance(self.problem.space[change.name], Code):
            return "", _cell(counted_lines(change.name, change.before, change.after))
        return _cell(change.before), _cell(change.after)

    def markdown(self) -> str:
        """The summary for people."""
        changes = self.problem.space.diff(self.initial, self.best)
        lines = [f"# {self.problem.name}: {self.status}", "", self.sentence, ""]
        if changes:
            lines += ["| parameter | initial | best |", "|---|---|---|"]
            lines += [f"| {c.name} | {' | '.join(self._cells(c))} |" for c in changes]
            lines.append("")
        lines += [f"Spent: {spent_line(self.spent)}.", ""]
        lines += [f"- {words}" for words in role_lines(self.spent)]
        lines += ["", "Load:", "", f"    {self.line}", "", f"Run: `{self.run}`", ""]
        return "\n".join(lines)


def _put(path: Path, text: str) -> None:
    """Write a file at once, so that nobody reads half of it."""
    young = path.with_name(f".{path.name}.new")
    young.write_text(text, encoding="utf-8", errors="replace")
    young.replace(path)


def _document(value: Any) -> str:
    """JSON for a file. Half of a surrogate pair, as a model may write it, can only be stored escaped."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=1)
    return text + "\n"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.replace("|", "\\|").replace("\n", " ⏎ ")
    return text if len(text) <= 80 else text[:77] + "…"


def spent_line(spent: dict[str, Any]) -> str:
    """A ledger in words."""
    tokens = spent["tokens"]
    parts = [plural(spent["evaluations"], "evaluation")]
    if spent["calls"]:
        parts.append(
            f"{plural(spent['calls'], 'model call')} ({tokens['input']:,} tokens in, {tokens['output']:,} out)"
        )
    parts.append("price unknown" if spent["usd"] is None else f"${spent['usd']:.4f}" if spent["usd"] else "$0")
    parts.append(f"{spent['seconds']:.0f} s")
    possibly = spent["possibly_spent"]
    waiting = at_provider(spent)
    if waiting:
        parts.append(f"{waiting} calls wait in a batch at the provider")
    if possibly["calls"] > waiting:
        parts.append(f"possibly {possibly['calls'] - waiting} more calls (cut off without an answer)")
    return ", ".join(parts)


def role_lines(spent: dict[str, Any]) -> list[str]:
    """What each role's model took, in words; empty where one role or none asked."""
    out = []
    for role, account in spent["by_role"].items() if len(spent["by_role"]) > 1 else ():
        usd = account["usd"]
        price = "price unknown" if usd is None else f"${usd:.4f}" if usd else "$0"
        out.append(
            f"{role}: {account['calls']} calls, {account['input']:,} tokens in, {account['output']:,} out, {price}"
        )
    return out


def write_best(folder: Path, result: Result) -> list[Path]:
    """Write a candidate as files: `candidate.json`, and each text or program in a file of its own, byte for byte."""
    folder.mkdir(parents=True, exist_ok=True)
    status = {"status": result.status, "candidate": result.best.values_json, "run": result.run}
    written = [folder / "candidate.json"]
    written[0].write_text(_document(status), encoding="utf-8")
    for name, parameter in result.problem.space.items():
        if isinstance(parameter, Code) and parameter.tree:
            for place, text in parameter.texts(result.best[name]).items():
                path = folder / name / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode("utf-8", "surrogatepass"))
                written.append(path)
        elif isinstance(parameter, (Text, Code)):
            suffix = ".py" if isinstance(parameter, Code) and parameter.language == "python" else ".txt"
            path = folder / (name + suffix)
            path.write_bytes(str(result.best[name]).encode("utf-8", "surrogatepass"))
            written.append(path)
    return written


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
        if state is not None:
            state.apply(entry.event, entry.time)
        elif isinstance(entry.event, RunStarted):
            state = State(entry.event, entry.time)
    if state is None:
        raise StoreError(f"the run in {folder} has no events yet", hint="wait a moment, or remove the folder")
    return state


def load_result(folder: Path | str) -> Result:
    """The result of a run folder, finished or not."""
    where = Path(folder)
    return Result.of(load_state(where), where)
