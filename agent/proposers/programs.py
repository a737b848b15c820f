"""Asking a model for a program: the prompt, one bounded repair turn, and what comes of the reply."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.code.changes import line_diffs
from agent.code.untrusted import GIVEN, SAID, cleaned, inline, untrusted
from agent.errors import BudgetExceeded, ConfigError, OutputInvalid, ProviderError
from agent.evolution import operators
from agent.history import Trial
from agent.problem import Problem
from agent.proposers import cards
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_temperature, check_whole, wrong
from agent.space import Candidate

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest

FEEDBACK = 3000
"""Characters of what was said of a program, in a prompt."""
WHY = 200
"""Characters of a rationale."""
REASON = 1500
"""Characters of why a reply was of no use, in a repair turn."""
FACTS = 900
"""Tokens of a prompt that are neither the card nor programs nor feedback, in a forecast."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        temperature: Of the model.
        repair: Whether a reply that is of no use is asked for once more, with the reason.
        chars: Most characters of other programs in a prompt; those that do not fit are left out. The program that is
            changed is always shown whole.
        max_output_tokens: Of a reply; 0 for as many as twice the program has, and 1,000 more.
    """

    temperature: float = 0.8
    repair: bool = True
    chars: int = 12_000
    max_output_tokens: int = 0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not isinstance(self.repair, bool):
            raise wrong("repair", self.repair, "true or false")
        check_whole(self, {"chars": 0, "max_output_tokens": 0})


def evolvable(problem: Problem, proposer: str) -> None:
    """Refuse a space without a program.

    Raises:
        ConfigError: Says what to do.
    """
    if not operators.codes(problem):
        raise ConfigError(
            f"the proposer {proposer} changes programs, and the space has none",
            hint='declare a parameter with type = "code", or choose another proposer',
        )


def shown(value: Any, language: str = "python") -> str:
    """A program as a prompt shows it: in a fence, each file with its path behind the language."""
    files = value if isinstance(value, Mapping) else {"": value}
    return "\n".join(_fenced(text, f"{language} {path}".strip()) for path, text in files.items())


def _fenced(text: str, info: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{info}\n{text}{'' if text.endswith(chr(10)) else chr(10)}{fence}"


def outcome(context: Context, trial: Trial) -> str:
    """What a candidate came to, in words."""
    if trial.values is None:
        return f"failed ({trial.failure.partition(':')[0]})" if trial.failure else "not known yet"
    result = f"{context.problem.compared(trial.values):.6g}"
    return result if trial.feasible else f"{result}, but it {cards.broken(context.problem, trial)}"


def request(
    context: Context,
    options: Options,
    name: str,
    operator: str,
    base: Trial,
    others: Sequence[Trial] = (),
    tried: Sequence[Trial] = (),
) -> ModelRequest:
    """What a model is asked.

    Args:
        context: Of the decision.
        options: Of the proposer.
        name: Of the code parameter that is changed.
        operator: edit, rewrite, cross or fix.
        base: What is changed.
        others: Programs to learn from, the most useful first; of cross the first is the other parent.
        tried: Children that it had before.
    """
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    problem, rng = context.problem, context.rng
    code = operators.codes(problem)[name]
    whole = operator in operators.WHOLE
    words = context.failure(base) if base.values is None else context.feedback(base)
    words = "\n".join(part for part in (words, context.detail(base)) if part)
    left = context.left.get("evaluations", math.inf)
    inherited = [other for other in problem.space if other != name]
    example = next(iter(base.candidate[name])) if code.tree else ""
    user = render(
        "evolve.txt",
        operator=operator,
        parent=shown(base.candidate[name], code.language),
        result=outcome(context, base) if base.values is not None else "",
        feedback=untrusted(words, rng, FEEDBACK, SAID) if words else "",
        tried="\n".join(_attempt(context, trial, base, name) for trial in tried),
        others=_others(context, options, name, operator, others),
        left=f"{left:.0f}" if math.isfinite(left) else "",
    )
    system = render(
        "evolve_system.txt",
        card=cards.card(problem, [name]),
        inherited=", ".join(inherited),
        whole=whole,
        tree=code.tree,
        example=example,
        holes=code.language == "python" and "tune" in getattr(options, "operators", ()),
    )
    return ModelRequest(
        messages=(Message("user", user),),
        system=system,
        max_output_tokens=options.max_output_tokens or reply_tokens(shown(base.candidate[name])),
        temperature=options.temperature,
    )


def reply_tokens(program: str) -> int:
    """Tokens that a reply may have whose program is up to twice as long."""
    from agent.llm.estimate import text_bound

    return 1000 + 2 * text_bound(program)


def _attempt(context: Context, trial: Trial, base: Trial, name: str) -> str:
    """What became of a child and why it was made; without a reason, the lines in which it differs."""
    if trial.rationale:
        return f"- {outcome(context, trial)}: {inline(trial.rationale, WHY, GIVEN)}"
    diffs = line_diffs(name, base.candidate[name], trial.candidate[name])
    lines = [line for _, diff in diffs for line in diff[2:] if line.startswith(("+", "-"))]
    told = f"changed {inline('; '.join(lines), WHY)}" if lines else "another parameter was changed"
    return f"- {outcome(context, trial)}: {told}"


def _others(
    context: Context, options: Options, name: str, operator: str, others: Sequence[Trial]
) -> list[tuple[str, str]]:
    out, room = [], options.chars
    for number, trial in enumerate(others):
        text = shown(trial.candidate[name], operators.codes(context.problem)[name].language)
        if len(text) > room and not (operator == "cross" and number == 0):
            continue
        room -= len(text)
        title = "The other version to combine" if operator == "cross" and number == 0 else "Another version"
        out.append((f"{title} (result: {outcome(context, trial)})", text))
    return out


async def asked(
    context: Context,
    options: Options,
    request: ModelRequest,
    role: str,
    key: str,
    source: str,
    name: str,
    base: Trial,
    parents: tuple[str, ...],
    check: Callable[[Candidate], str],
) -> Proposal | None:
    """Ask, and once more where the reply is of no use; None where that one is of none either. Both are on record.

    Args:
        context: Of the decision.
        options: Of the proposer.
        request: What to ask.
        role: Of the model; "" for the proposer's own.
        key: Names the asker in this decision.
        source: Of the proposal.
        name: Of the code parameter.
        base: What is changed.
        parents: Ids.
        check: Says what else is wrong with a candidate, or "".

    Raises:
        BudgetExceeded: A limit keeps it from calling the model.
        ProviderError: The model cannot be reached.
    """
    reply = await _ask(context, request, role, key)
    made, why = _made(context, name, base, reply.text, check)
    if made is None:
        _reject(context, why, source, reply.text, base)
        if not options.repair:
            return None
        again = await _repaired(context, request, role, key, source, name, reply, why)
        if again is None:
            return None
        reply = again
        made, why = _made(context, name, base, reply.text, check)
        if made is None:
            _reject(context, f"after a repair turn: {why}", source, reply.text, base)
            return None
    return Proposal(made, source, cleaned(cards.clip(operators.rationale(reply.text), WHY), WHY), parents)


async def _ask(context: Context, request: ModelRequest, role: str, key: str) -> Completion:
    if role:
        return await context.consult(request, role=role, key=key)
    assert context.ask is not None
    return await context.ask(request)


async def _repaired(
    context: Context, request: ModelRequest, role: str, key: str, source: str, name: str, reply: Completion, why: str
) -> Completion | None:
    from agent.llm.types import Message
    from agent.prompts.render import render

    said = render("evolve_repair.txt", reason=cleaned(cards.anonymous(why), REASON))
    if operators.endless(context.problem, name, reply.text):  # what nobody read is not paid for once more
        turn = (Message("assistant", f"{reply.text[:REASON]}…"), Message("user", said))
    else:
        turn = (Message("assistant", reply.text or "(nothing)", carry=reply.carry), Message("user", said))
    try:
        return await _ask(context, replace(request, messages=(*request.messages, *turn)), role, key)
    except (BudgetExceeded, OutputInvalid) as error:
        context.reject(f"no repair was made: {error.message}", source)
    except ProviderError as error:
        if error.fatal:
            raise
        context.reject(f"no repair was made: {error.message}", source)
    return None


def _made(
    context: Context, name: str, base: Trial, text: str, check: Callable[[Candidate], str]
) -> tuple[Candidate | None, str]:
    try:
        candidate = operators.child(context.problem, base.candidate, name, text)
    except ValueError as error:
        return None, str(error)
    if candidate.id in context.history:
        trial = context.history[candidate.id]
        return None, f"it is candidate {trial.number} again, whose result is: {outcome(context, trial)}"
    why = check(candidate)
    return (None, why) if why else (candidate, "")


def _reject(context: Context, why: str, source: str, text: str, base: Trial) -> None:
    context.reject(why, source, text)
    context.rejections[-1]["parent"] = base.id


def forecast(
    problem: Problem, proposer: str, candidates: int, options: Options, others: int = 0
) -> tuple[int, int, int]:
    """Model calls for so many candidates, and their tokens in and out, at most.

    Raises:
        ConfigError: The space has no program.
    """
    from agent.llm.estimate import text_bound

    evolvable(problem, proposer)
    initial = problem.initial()
    names = list(operators.codes(problem))
    program = max(text_bound(shown(initial[name])) for name in names)
    reply = options.max_output_tokens or max(reply_tokens(shown(initial[name])) for name in names)
    # Programs grow: one may be as long as a reply allows.
    card = max(text_bound(cards.card(problem, [name])) for name in names)
    prompt = FACTS + card + max(program, reply) + FEEDBACK + (options.chars if others else 0) + 3 * WHY
    turns = 1 + options.repair
    total = prompt + (prompt + reply + REASON if options.repair else 0)
    return turns * candidates, total * candidates, turns * reply * candidates
