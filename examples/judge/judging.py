"""What a judge's rubric is worth: how often the judge names the better answer of a pair, in both orders."""

from __future__ import annotations

from agent.errors import OutputInvalid
from agent.evaluators.judge import PairJudge


def judge_of(rubric: str) -> PairJudge:
    """The judge that a candidate is: its verdict is one token or two."""
    return PairJudge(rubric=rubric, fields=["instruction"], ties=False, rationale=False, max_output_tokens=40)


async def agreement(candidate, row, ask):
    """Two votes, one in each order: `right` is 1 where both go to the labelled answer, which a coin does in a quarter.

    Beside it `agreement` is the share of the two that do, `flipped` is 1 where the verdict follows the order, and
    `unreadable` is the share that cannot be read and so counts as a miss.
    """
    answers = (row["output_1"], row["output_2"])
    better = row["label"] - 1
    judge, said = judge_of(candidate["rubric"]), []
    for first in (0, 1):
        request = judge.request(row, answers[first], answers[1 - first])
        try:
            reply = await ask(
                [{"role": "user", "content": request.messages[0].text}],
                role="task",
                system=request.system,
                schema=request.schema,
                max_output_tokens=request.max_output_tokens,
            )
        except OutputInvalid:
            said.append(None)
        else:
            said.append(first if reply["verdict"] == "1" else 1 - first)
    hits = sum(vote == better for vote in said)
    values = {"right": float(hits == 2), "agreement": hits / 2, "unreadable": said.count(None) / 2}
    values["flipped"] = float(None not in said and said[0] != said[1])
    return {**values, "feedback": _words(row, said, better)}


def _words(row, said, better):
    """What the proposer of the next rubric reads."""
    if said == [better, better]:
        return "right in both orders"
    told = [
        f"with answer {place + 1} shown first the judge "
        + ("could not be read" if vote is None else f"named answer {vote + 1}")
        for place, vote in enumerate(said)
    ]
    return f"{'; '.join(told)}; people prefer answer {better + 1}: {row[f'output_{better + 1}']!r}"
