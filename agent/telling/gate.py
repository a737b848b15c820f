"""What the gate found, in lines for people; `truegain show RUN --gate` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from agent.gate.means import CONFIDENCE
from agent.ledger import counted, plural
from agent.telling.text import amount, plain, table

JUDGED = {
    "rows": "held-out rows of data",
    "paired": "repeated measurements in pairs, since there are no rows to hold out",
    "exact": "exact comparisons, since measuring is deterministic and the rows are the goal: they never err",
}


def show(run: str, found: Mapping[str, Any], unit: str) -> None:
    """Print a run's standings.

    Args:
        run: Its name.
        found: From `agent.results.standings.standings`.
        unit: Of the objective.
    """
    if found["open"]:
        click.echo(f"{run}: {found['sentence']}.")
        bits = found["bits"]
        click.echo(f"So far: {_counted(bits['decided'], 'exam')} decided, {bits['accepted']} accepted.")
        return
    click.echo(f"{run}: judged by {JUDGED[found['kind']]}.\n")
    _exams(found, unit)
    _candidates(found["candidates"], unit)
    for line in lines(found, unit):
        click.echo(plain(line))


def _exams(found: Mapping[str, Any], unit: str) -> None:
    exams = found["exams"]
    if not exams:
        click.echo("Exams: none; no candidate was ahead of the released one when the search ended.\n")
        return
    rows = [
        (
            exam["number"],
            "last" if exam["last"] else "interim",
            f"#{exam['candidate']}",
            "accepted" if exam["accepted"] else "not accepted",
            number(exam["level"]) if exam["kind"] in ("rows", "paired") else "–",
            f"{exam['planned']} / {exam['pairs']}",
            amount(exam["effect"], unit),
            span(exam["interval"]),
            number(exam["p"]),
        )
        for exam in exams
    ]
    table(rows, ("EXAM", "WHEN", "CANDIDATE", "BIT", "LEVEL", "PLANNED / READ", "EFFECT", "95 % INTERVAL", "P"))
    click.echo("")
    for exam in exams:
        click.echo(plain(f"Exam {exam['number']}: {exam['sentence']}"))
    click.echo("")


def _candidates(candidates: Sequence[Mapping[str, Any]], unit: str) -> None:
    rows = [
        (
            item["role"],
            f"#{item['number']}",
            item["status"],
            amount(item["mean"], unit),
            span(item["interval"]),
            amount(item["gain"], unit),
            span(item["gain_interval"]),
            "–" if item["n"] is None else item["n"],
            item["source"] or "not measured away from the search",
        )
        for item in candidates
    ]
    table(rows, ("", "CANDIDATE", "STATUS", "MEAN", "95 % INTERVAL", "GAIN", "INTERVAL", "N", "FROM"))
    click.echo("")


def lines(found: Mapping[str, Any], unit: str) -> Iterator[str]:
    """Level, noise, power, optimism, pace and proposer of a run that has ended, in sentences."""
    yield from _level(found)
    if found["noise"]:
        yield f"Noise: {found['noise']['sentence']}."
    if found["power"]:
        rows = found["kind"] == "rows"
        told = ", ".join(
            f"{item['power']:.0%} for {item['gain']:g} of the range"
            if rows
            else f"{item['power']:.0%} for {amount(item['gain'], unit)}"
            for item in found["power"]
        )
        first = found["power"][0]
        what = "gate examples" if rows else "pairs"
        yield (
            f"What could have been proven with {first['units']} {what} at level {number(first['level'])}"
            f" (chance by gain): {told}."
        )
    if found["optimism"]:
        yield f"Optimism: {found['optimism']['sentence']}."
    yield from _search(found, unit)
    if found["regret"]:
        told = ", ".join(f"{role} {amount(value, unit)}" for role, value in found["regret"].items())
        yield f"Simple regret on the report's rows, against the best of those reported: {told}."


def _level(found: Mapping[str, Any]) -> Iterator[str]:
    alpha = found["alpha"]
    if alpha is None:
        return
    yield (
        f"Level: {_counted(found['tests'], 'exam')} taken, {found['accepts']} accepted; {number(alpha['spent'])} of"
        f" {alpha['level']:g} spent by this run; the next run's exam has {number(alpha['next'])}"
        + (" on these rows." if found["kind"] == "rows" else ", since it measures anew.")
    )
    if alpha["sentence"]:
        yield f"Exhausted: {alpha['sentence']}."
    if found["barred"]:
        yield f"Barred: {found['barred']}; nothing can be proven on these rows any more."
    if found.get("opened"):
        yield "Opened: somebody looked at the gate's rows of this run; later exams on them are unproven."


def _search(found: Mapping[str, Any], unit: str) -> Iterator[str]:
    anytime, made = found["anytime"], found["proposer"]
    first = anytime["first_release"]
    each = anytime["evaluations_per_kept"]
    yield (
        f"Pace: {plural(anytime['evaluations'], 'evaluation')}; "
        + (f"the first release came after {counted(first)}; " if first is not None else "nothing was released; ")
        + (f"{each:.0f} for each of {anytime['kept']} that were kept." if each else "none was kept.")
    )
    shares = ", ".join(f"{made[name]} {name} ({share:.0%})" for name, share in made["shares"].items())
    more = f", {made['unfinished']} unfinished" if made["unfinished"] else ""
    yield (
        f"Proposer: {_counted(made['proposals'], 'proposal')}: {shares}{more}; {made['repeats']} had been seen before;"
        f" {made['reverted']} kept and later reverted."
    )
    claims = made["calibration"]
    if claims:
        over = claims["overclaimed"]
        yield (
            f"Claims: {claims['claims']} candidates came with one; on average it promised {amount(abs(over), unit)}"
            f" {'more' if over > 0 else 'less'} than was measured, and {claims['kept']:.0%} were kept."
        )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def number(value: float | None) -> str:
    """A probability."""
    return "–" if value is None else f"{value:.2g}"


def span(ends: Sequence[float] | None) -> str:
    """An interval."""
    return "–" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g}"


def forest(found: Mapping[str, Any], title: str, unit: str) -> str:
    """A forest plot as SVG: the effect and interval of each exam, and the gains of the report.

    Args:
        found: The standings of a run that has ended.
        title: One line.
        unit: Of the objective.
    """
    from html import escape

    bars: list[tuple[str, float, Sequence[float] | None, bool]] = [
        (f"exam {exam['number']}, candidate {exam['candidate']}", exam["effect"], exam["interval"], exam["accepted"])
        for exam in found["exams"]
        if exam["effect"] is not None
    ]
    bars += [
        (f"report, {item['role']}", item["gain"], item["gain_interval"], item["status"] in ("proven", "exact"))
        for item in found["candidates"]
        if item["source"] == "report" and item["gain"] is not None
    ]
    ends = [0.0, *(x for _, effect, around, _ in bars for x in (effect, *(around or ())))]
    low, high = min(ends), max(ends)
    pad = 0.08 * ((high - low) or 1.0)
    low, high = low - pad, high + pad
    left, width, step = 190, 430, 34

    def x(value: float) -> float:
        return left + width * (value - low) / (high - low)

    bottom = 48 + step * max(1, len(bars))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="700" height="{bottom + 56}" font-family="sans-serif"'
        ' font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="16" y="26" font-weight="bold">{escape(title)}</text>',
        f'<line x1="{x(0):.1f}" y1="40" x2="{x(0):.1f}" y2="{bottom}" stroke="#999" stroke-dasharray="3 3"/>',
        f'<line x1="{left}" y1="{bottom}" x2="{left + width}" y2="{bottom}" stroke="#333"/>',
    ]
    if not bars:
        parts.append(f'<text x="16" y="{bottom - 14}">no effect was measured</text>')
    for place, (label, effect, around, good) in enumerate(bars):
        y = 48 + step * place + step / 2
        color = "#1b7f3b" if good else "#777"
        parts.append(f'<text x="16" y="{y + 4:.1f}">{escape(label)}</text>')
        if around is not None:
            parts.append(
                f'<line x1="{x(around[0]):.1f}" y1="{y:.1f}" x2="{x(around[1]):.1f}" y2="{y:.1f}" stroke="{color}"'
                ' stroke-width="2"/>'
            )
        parts.append(f'<circle cx="{x(effect):.1f}" cy="{y:.1f}" r="5" fill="{color}"/>')
    for value in (0.0, *(end for end in (low + pad, high - pad) if abs(x(end) - x(0)) > 40)):
        parts.append(f'<text x="{x(value):.1f}" y="{bottom + 18}" text-anchor="middle">{value:.3g}</text>')
    name = f"gain{f' in {unit}' if unit else ''}, with {CONFIDENCE:.0%} intervals; green: shown"
    parts.append(f'<text x="{left + width / 2:.0f}" y="{bottom + 40}" text-anchor="middle">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
