"""What a night came to, for people and for programs: summary.json, summary.md, and `--status`."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.batch.place import Limits, deadline, folder_of, located, month_of, read
from agent.batch.spend import Spend
from agent.batch.treasury import NightRow, Treasury
from agent.errors import StoreError
from agent.folders import spoken
from agent.ledger import KINDS
from agent.lock import holder, is_locked
from agent.redact import redact

if TYPE_CHECKING:
    from agent.batch.plan import Plan

WARN = 0.5
"""Share of a cap from which on it is pointed out."""
STATUS = {0: "finished", 69: "provider", 75: "unfinished", 130: "interrupted", 143: "terminated"}
"""What a night's exit code is called; any other is "failed"."""
LIVE = re.compile(r"://|www\.|[@#$&~]|^[-+=>]|^\s*\d+[.)]", re.IGNORECASE)
"""What becomes a link, a formula, an entity or a list on the pages of GitHub whatever is put before it: it is quoted
as code. Elsewhere a backslash does."""
MEANING = {
    0: "every problem that was due was worked on and finished",
    1: "an internal error",
    2: "a problem's configuration is wrong",
    3: "an evaluator cannot score its initial candidate",
    69: "a provider, a key or a package is not available",
    75: "something that was due could not be done or finished; try again later",
    130: "interrupted; everything is saved, and the same command goes on",
    143: "terminated; everything is saved, and the same command goes on",
}


def document(
    plan: Plan,
    treasury: Treasury,
    row: NightRow,
    now: float,
    code: int,
    reports: Mapping[str, Mapping[str, Any]],
    searched: bool,
) -> dict[str, Any]:
    """The summary of a night as plain JSON.

    Args:
        plan: The batch.
        treasury: Its ledger.
        row: The night.
        now: When it ended, in seconds since 1970.
        code: Exit code.
        reports: What became of each problem, by name.
        searched: Whether searching was asked for.
    """
    month = month_of(now)
    known = [place for place in row.body["order"] if place["problem"] in reports]
    names = [place["problem"] for place in known] + [e.name for e in plan.entries]
    problems = []
    for name in dict.fromkeys(names):
        spent = treasury.shown(night=row.id, problem=name)
        problems.append({"problem": name, **reports.get(name, {}), "spent": spent.to_json()})
    night, whole = treasury.shown(night=row.id), treasury.shown(month=month)
    out = {
        "name": plan.name,
        "file": str(plan.file),
        "night": row.name,
        "began": row.began,
        "ended": now,
        "until": deadline(plan.until, row.began),
        "month": month,
        "searched": searched,
        **verdict(code),
        "order": known,
        "problems": problems,
        "spent": {"night": night.to_json(), "month": whole.to_json()},
        "caps": {"night": dict(plan.caps), "month": dict(plan.month)},
        "warnings": warnings(plan.caps, night, "caps") + warnings(plan.month, whole, "caps.month"),
    }
    out["sentence"] = _sentence(problems)
    out["next"] = _next(plan, problems)
    found: dict[str, Any] = redact(out)
    return found


def verdict(code: int) -> dict[str, Any]:
    """An exit code with its name and its meaning."""
    return {"status": STATUS.get(code, "failed"), "exit_code": code, "meaning": MEANING.get(code, "")}


def _sentence(problems: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem["status"]] = counts.get(problem["status"], 0) + 1
    drifts = sum(len(found) for found in map(_drifts, problems))
    parts = [f"{count} {status}" for status, count in counts.items()]
    unseen = sum(not _looked(problem) for problem in problems)
    if drifts:
        parts.append(f"{drifts} change{'s' * (drifts != 1)} by drift")
    elif unseen < len(problems):
        parts.append("no drift")
    if unseen:
        parts.append(f"drift not measured for {unseen}")
    return f"{len(problems)} problem{'s' * (len(problems) != 1)}: {', '.join(parts)}"


def _looked(problem: Mapping[str, Any]) -> bool:
    """Whether any score of tonight could be compared, or kept to compare with."""
    drift = problem.get("drift") or {}
    return bool(drift.get("scored"))


def _drifts(problem: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*(problem.get("drift") or {}).get("drifts", ()), *problem.get("models", ())]


def warnings(caps: Limits, spend: Spend, label: str) -> list[str]:
    """Caps that are half used or more, one sentence each."""
    out = []
    for kind, cap in caps.items():
        share = spend.counts(kind) / cap if cap else 1.0
        if share >= WARN:
            out.append(f"{label}.{kind}: {spend.counts(kind):.6g} of {cap:g} is used ({share:.0%})")
    return out


def _next(plan: Plan, problems: Sequence[Mapping[str, Any]]) -> list[str]:
    out = []
    for problem in problems:
        run = problem.get("run")
        if run and problem["status"] in ("proven", "exact"):
            name = spoken(plan.runs / run)
            out += [f"truegain show {name}", f"truegain apply {name}"]
        elif run and problem["status"] == "unproven":
            out.append(f"truegain show {spoken(plan.runs / run)} --gate")
    return [*out, f"truegain batch {plan.file} --status"]


def write(folder: Path, night: str, document: Mapping[str, Any]) -> Path:
    """Write summary.json and summary.md of a night, also as `latest`, and append to $GITHUB_STEP_SUMMARY.

    Returns:
        The night's folder.

    Raises:
        StoreError: They cannot be written; the ledger is not touched.
    """
    place, latest = folder / "nights" / night, folder / "latest"
    text = markdown(document)
    try:
        for where in (place, latest):
            where.mkdir(mode=0o700, parents=True, exist_ok=True)
        (place / "summary.md").write_text(text, encoding="utf-8", errors="backslashreplace")
        (place / "summary.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        for name in ("summary.md", "summary.json"):
            shutil.copyfile(place / name, latest / f".{name}")
            os.replace(latest / f".{name}", latest / name)
    except OSError as error:
        raise StoreError(
            f"cannot write the summary of {night} in {place}: {error}",
            hint="free some space; what was found and spent is safe: truegain batch FILE --status",
        ) from None
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if step:
        try:
            with open(step, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
        except OSError:  # a convenience of somebody else's
            pass
    return place


def markdown(document: Mapping[str, Any]) -> str:
    """The summary for people."""
    began, ended = (time.strftime("%Y-%m-%d %H:%M", time.localtime(document[key])) for key in ("began", "ended"))
    lines = [
        f"# {document['name']}, night {document['night']}",
        "",
        f"{document['sentence']}. From {began} to {ended}. Exit code {document['exit_code']}: {document['meaning']}.",
        "",
        "| problem | status | spent | what was found |",
        "|---|---|---|---|",
    ]
    for problem in document["problems"]:
        found = problem.get("sentence") or problem.get("detail") or "–"
        run = f" (`{problem['run']}`)" if problem.get("run") else ""
        lines.append(
            f"| {_cell(problem['problem'])}{run} | {problem['status']} | {_spent(problem['spent'])} | {_cell(found)} |"
        )
    notes = [(p["problem"], note) for p in document["problems"] for note in p.get("notes", ())]
    if notes:
        lines += ["", "## Notes", "", *(f"- {_cell(name)}: {_cell(note)}" for name, note in notes)]
    lines += ["", "## Drift", ""]
    for problem in document["problems"]:
        drift = problem.get("drift")
        said = "not measured" if drift is None else drift.get("error") or drift["sentence"]
        for model in problem.get("models", ()):
            said += f"; {model['sentence']}"
        mark = "**changed** " if _drifts(problem) else ""
        lines.append(f"- {_cell(problem['problem'])}: {mark}{_cell(said)}")
    lines += ["", "## Spent", "", "| | night | cap | month | cap |", "|---|---|---|---|---|"]
    spent, caps = document["spent"], document["caps"]
    for kind in KINDS:
        cells = [
            amount(spent["night"], kind),
            _cap(caps["night"], kind),
            amount(spent["month"], kind),
            _cap(caps["month"], kind),
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += ["", *(f"- {warning}" for warning in document["warnings"])]
    lines += ["", "## Order", ""]
    lines += [
        f"{number}. {_cell(place['problem'])}: {place['why']}" for number, place in enumerate(document["order"], 1)
    ]
    lines += ["", "## Next", "", *(f"    {command}" for command in document["next"]), ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text in a table: what a model or an evaluator wrote must not become markup."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    shown = shown if len(shown) <= 400 else shown[:399] + "…"
    if LIVE.search(shown):
        fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
        return f"{fence} {shown.replace('|', '¦')} {fence}"
    for char in "\\`*_[]<>|":
        shown = shown.replace(char, f"\\{char}")
    return shown


def amount(spent: Mapping[str, Any], kind: str) -> str:
    """What was spent of a kind, and possibly spent beyond that, in words."""
    possibly = spent["possibly_spent"].get(kind, 0)
    mark = "at least " if kind == "usd" and not spent["usd_known"] else ""
    return f"{mark}{spent[kind]:.6g}" + (f" (possibly {possibly:.6g} more)" if possibly else "")


def _cap(caps: Mapping[str, float], kind: str) -> str:
    return f"{caps[kind]:g}" if kind in caps else "–"


def _spent(spent: Mapping[str, Any]) -> str:
    parts = [f"{amount(spent, 'evaluations')} evaluations"]
    if spent["calls"] or spent["possibly_spent"].get("calls"):
        parts.append(f"{amount(spent, 'calls')} calls")
    if spent["usd"]:
        parts.append(f"${amount(spent, 'usd')}")
    return ", ".join(parts)


def status(file: Path, runs: str | None, now: float) -> dict[str, Any]:
    """What a batch has done, and what comes next; read without its lock and without the problems' files.

    Raises:
        ConfigError: The file cannot be read.
        StoreError: The ledger cannot be read.
    """
    raw = read(file)
    name, place = located(file, raw, runs)
    folder = folder_of(place, name)
    treasury = Treasury(folder, write=False)
    try:
        treasury.check_owner(file.resolve())
        nights, month = treasury.nights(), month_of(now)
        pid = holder(folder) if is_locked(folder) else None
        outcomes = treasury.outcomes("search")
        problems: dict[str, dict[str, Any]] = {}
        for _, problem, body in outcomes:
            problems[problem] = {k: body[k] for k in ("status", "run", "sentence", "detail", "final") if k in body}
        rows = [
            {
                "night": row.name,
                "began": row.began,
                "ended": row.ended,
                "exit_code": row.code,
                "spent": treasury.shown(night=row.id).to_json(),
                "problems": {p: body["status"] for at, p, body in outcomes if at == row.id},
            }
            for row in nights
        ]
        caps = raw.get("caps") if isinstance(raw.get("caps"), dict) else {}
        whole = treasury.shown(month=month)
    finally:
        treasury.close()
    return {
        "name": name,
        "folder": str(folder),
        "working": pid,
        "month": month,
        "spent": {"month": whole.to_json()},
        "caps": caps,
        "nights": rows,
        "problems": problems,
        "next": _comes(file, rows, problems, pid),
    }


def _comes(file: Path, nights: list[dict[str, Any]], problems: dict[str, dict[str, Any]], pid: int | None) -> str:
    if pid:
        return f"process {pid} is at work on {nights[-1]['night'] if nights else 'its first night'}"
    if not nights:
        return f"nothing was done yet; truegain batch {file} --dry-run shows what would be"
    unfinished = [name for name, body in problems.items() if not body.get("final") and body.get("run")]
    if nights[-1]["exit_code"] in (None, 130, 143):
        return f"night {nights[-1]['night']} was interrupted; truegain batch {file} goes on with it"
    also = f", beginning with {', '.join(unfinished)}, unfinished" if unfinished else ""
    return f"truegain batch {file} begins the next night{also}"
