"""What of a result is written and told: the files in a run's folder, and its spend in words."""

from __future__ import annotations

import json
import re
import shlex
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.code.changes import counted_lines, line_diffs
from agent.ledger import at_provider, lasting, plural
from agent.texts import Code, Text

if TYPE_CHECKING:
    from agent.problem import Problem
    from agent.results.result import Result
    from agent.space import Change
    from agent.state import State


CELL = 80
"""Most characters of a value in the table of `summary.md`,"""
LINES = 400
"""and most lines of its diff."""


def markdown(result: Result) -> str:
    """The summary for people."""
    changes = result.problem.space.diff(result.initial, result.best)
    lines = [f"# {result.problem.name}: {result.status}", "", result.sentence, ""]
    if changes:
        lines += ["| parameter | initial | best |", "|---|---|---|"]
        lines += [f"| {c.name} | {' | '.join(_cells(result, c))} |" for c in changes]
        lines.append("")
        lines += _block(result.diff, result.run)
    lines += [f"Spent: {spent_line(result.spent)}.", ""]
    lines += [f"- {words}" for words in role_lines(result.spent)]
    lines += ["", "Load:", "", f"    {result.line}", "", f"Run: `{result.run}`", ""]
    return "\n".join(lines)


def _cells(result: Result, change: Change) -> tuple[str, str]:
    """A parameter before and after; of a program how many lines of which files differ."""
    if isinstance(result.problem.space[change.name], Code):
        return "", _short(_cell(counted_lines(change.name, change.before, change.after)))
    old, new = differing(_cell(change.before), _cell(change.after), CELL)
    return _short(old), _short(new)


def _block(diff: str, run: str) -> list[str]:
    """A diff between fences that nothing in it can close."""
    lines = diff.splitlines()
    more = [f"{len(lines) - LINES} more lines: `truegain diff {run}`", ""] if len(lines) > LINES else []
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", diff)), default=0))
    return [fence + "diff", *lines[:LINES], fence, "", *more] if lines else []


def unified(result: Result) -> str:
    """What the best candidate changes of the initial one, as a unified diff; a value that is no text as JSON."""
    space, lines = result.problem.space, []
    for change in space.diff(result.initial, result.best):
        old, new = change.before, change.after
        if not isinstance(space[change.name], (Text, Code)):
            old, new = json.dumps(old, ensure_ascii=False), json.dumps(new, ensure_ascii=False)
        for _, found in line_diffs(change.name, old, new):
            lines += found
    return "\n".join(lines)


def differing(before: str, after: str, width: int) -> tuple[str, str]:
    """Two texts; in one that is longer than the width, what both begin and end with becomes "…"."""
    old, new = (re.findall(r"\s*\S+", text) for text in (before, after))
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])

    def cut(text: str, words: list[str]) -> str:
        own = "".join(words[head : len(words) - tail]).strip()
        if len(text) <= width or not own:  # nothing of its own: its beginning says more than "…"
            return text
        return " ".join(part for part in ("…" * bool(head), own, "…" * bool(tail)) if part)

    return cut(before, old), cut(after, new)


def _alike(one: list[str], two: list[str]) -> int:
    """How many words two lists begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))


def put(path: Path, text: str) -> None:
    """Write a file at once, so that nobody reads half of it."""
    young = path.with_name(f".{path.name}.new")
    young.write_text(text, encoding="utf-8", errors="replace")
    young.replace(path)


def document(value: Any) -> str:
    """JSON for a file. Half of a surrogate pair, as a model may write it, can only be stored escaped."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=1)
    return text + "\n"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ⏎ ")


def _short(text: str) -> str:
    return text if len(text) <= CELL else text[: CELL - 3] + "…"


def spent_line(spent: dict[str, Any]) -> str:
    """A ledger in words."""
    tokens = spent["tokens"]
    parts = [plural(spent["evaluations"], "evaluation")]
    if spent["calls"]:
        before = spent.get("by_role", {}).get("draft", {}).get("calls", 0)
        parts.append(
            f"{plural(spent['calls'], 'model call')} ({tokens['input']:,} tokens in, {tokens['output']:,} out"
            + (f"; {before} for the draft)" if before else ")")
        )
    parts.append("price unknown" if spent["usd"] is None else f"${spent['usd']:.4f}" if spent["usd"] else "$0")
    parts.append(lasting(spent["seconds"]))
    possibly = spent["possibly_spent"]
    waiting = at_provider(spent)
    if waiting:
        parts.append(f"{plural(waiting, 'call')} waiting in a batch at the provider")
    if possibly["calls"] > waiting:
        parts.append(f"possibly {plural(possibly['calls'] - waiting, 'more call')} (cut off without an answer)")
    return ", ".join(parts)


def exhausted(state: State) -> str:
    """Why the gate can show nothing in this run, as it is known from its rows' account; "" where it still can."""
    from agent.gate import levels, standing

    units, level = state.gate.units, levels.alone(state.settings.level, state.gate.standing)
    if not standing.exhausted(units, level):
        return ""
    return _opening(standing.exhausted_sentence(units, level), state.problem)


def used_up(result: Result) -> str:
    """Why the gate can show nothing in later runs on the same rows, once a run has ended; "" where it still can, or the
    sentence says it."""
    said = (result.gate.get("alpha") or {}).get("sentence")
    return _opening(said, result.problem) if said and said not in result.sentence else ""


def _opening(said: str, problem: Problem) -> str:
    """With the folder of the problem behind the command that makes a new gate."""
    where = f" {shlex.quote(str(problem.folder))}" if (problem.folder / "problem.toml").is_file() else ""
    return f"{said}{where}; until then runs on these rows are unproven"


def role_lines(spent: dict[str, Any]) -> list[str]:
    """What each role's model took, in words; empty where one role or none asked in the run, and none before it."""
    out = []
    told = len(spent["by_role"]) > 1 or "draft" in spent["by_role"]
    for role, account in spent["by_role"].items() if told else ():
        usd = account["usd"]
        price = "price unknown" if usd is None else f"${usd:.4f}" if usd else "$0"
        calls = plural(account["calls"], "call")
        out.append(f"{role}: {calls}, {account['input']:,} tokens in, {account['output']:,} out, {price}")
    return out


def write_best(folder: Path, result: Result) -> list[Path]:
    """Write a candidate as files: `candidate.json`, and each text or program in a file of its own, byte for byte."""
    folder.mkdir(parents=True, exist_ok=True)
    status = {"status": result.status, "candidate": result.best.values_json, "run": result.run}
    written = [folder / "candidate.json"]
    written[0].write_text(document(status), encoding="utf-8")
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
