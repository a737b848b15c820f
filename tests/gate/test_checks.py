"""Before anything is paid: typed values, length, placeholders, and no answers of held-out rows."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.gate.checks import (
    LEAKS_ALLOWED,
    Check,
    Context,
    Leak,
    Refusal,
    distance,
    load_check,
    refusal,
    standard,
    user_check,
)
from agent.parameters import Float
from agent.problem import Example
from agent.space import Space
from agent.texts import Code, Demos, Text

POOL = ({"q": "sky?", "a": "blue"}, {"q": "who?", "a": "the quick brown fox jumps over a lazy dog"})
SPACE = Space(
    {
        "temperature": Float(0, 1, default=0.5),
        "prompt": Text(default="Answer {question}.", max_chars=200, placeholders=("question",)),
        "code": Code(default="def f():\n    return 1\n", entry="f"),
        "demos": Demos(pool=POOL, k=2),
    }
)
FOX = "The quick brown fox jumps over a lazy dog"
LONG = "Photosynthesis converts carbon dioxide and water to sugars and oxygen"


def example(answer: Any, split: Any = "val", row: Any = None) -> Example:
    return Example(str(answer), row if row is not None else {"q": "?"}, split=split, answer=answer)


def verdict(changes: dict[str, Any], leak: Leak | None = None) -> Refusal | None:
    return refusal(standard(SPACE), {**SPACE.initial().values_json, **changes}, Context(leak))


@pytest.mark.parametrize(
    ("changes", "check", "reason"),
    [
        ({"temperature": 2}, "values", "temperature"),
        ({"temperature": "hot"}, "values", "temperature"),
        ({"prompt": 7}, "values", "a text is needed"),
        ({"wrong": 1}, "values", "there is no such parameter"),
        ({"code": "def g(:"}, "values", "does not parse"),
        ({"demos": [0, 9]}, "values", "outside"),
        ({"prompt": "{question}" + "x" * 200}, "length", "210 characters, 200 are allowed"),
        ({"prompt": "Answer it."}, "placeholders", "lost {question}"),
        ({"prompt": "x" * 201}, "length", "201"),
    ],
)
def test_each_check_says_what_is_wrong(changes: dict[str, Any], check: str, reason: str) -> None:
    found = verdict(changes)
    assert found is not None and found.check == check and reason in found.reason


def test_a_missing_value_is_refused_by_name() -> None:
    found = refusal(standard(SPACE), {"temperature": 0.5}, Context())
    assert found == Refusal("values", "prompt: the value is missing")


def test_what_is_right_passes() -> None:
    assert verdict({}) is None
    assert verdict({"temperature": 1, "prompt": "Think. {question}", "demos": [1, 0]}, Leak([])) is None


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "{question} If asked: THE QUICK, brown\nfox-jumps!"},
        {"code": f"def f():\n    return '{FOX}'\n"},
        {"demos": [0, 1]},
    ],
)
def test_answers_are_found_in_prompts_code_and_demos(changes: dict[str, Any], split: str) -> None:
    found = verdict(changes, Leak([example(FOX, split)]))
    assert found is not None and found.check == "leak" and next(iter(changes)) in found.reason
    assert verdict(changes, Leak([example("Something else altogether is said here")])) is None


def test_a_reason_tells_neither_the_answer_nor_its_row_nor_the_kind_of_match() -> None:
    leak = Leak([example(FOX), example("chrysanthemum"), example(LONG)])
    texts = [FOX, "chrysanthemum", LONG.replace("i", "1")]
    reasons = {verdict({"prompt": f"{{question}} {text}"}, leak) for text in texts}
    assert len(reasons) == 1
    reason = str(reasons.pop()).casefold()
    assert not any(word in reason for word in (FOX + " " + LONG).casefold().split() if len(word) > 3)


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("quick brown fox jumps over", True),
        ("quick brown fox jumps", False),  # four words
        ("quick brown dog jumps over a fox", False),
        ("they jumps over a lazy dog", True),
    ],
)
def test_five_consecutive_words_are_a_leak(text: str, leaks: bool) -> None:
    assert Leak([example(FOX)]).found(text) is leaks


@pytest.mark.parametrize(
    ("answer", "text", "leaks"),
    [
        ("card_payment_lost", "say card payment LOST then", True),
        ("card_payment_lost", "say card payment then lost", False),
        ("chrysanthemum", "two chrysanthemums", False),  # another word
        ("chrysanthemum", "a (Chrysanthemum)", True),
        ("blue whale", "the blue whale is large", False),  # below 12 characters, so perhaps chance
        (["no", "Rio de Janeiro"], "it is Rio de Janeiro", True),
        ({"city": {"name": "Rio de Janeiro"}}, "it is Rio de Janeiro", True),
        ("最寄りの駅はどこにありますか", "教えて最寄りの駅はどこにありますかね", True),
        (123456789012345, "it is 123456789012345", True),
        (7, "the answer is 7", False),
        (None, "None null", False),
    ],
)
def test_short_answers_leak_as_a_whole(answer: Any, text: str, leaks: bool) -> None:
    assert Leak([example(answer)]).found(text) is leaks


def test_a_long_answer_leaks_by_a_tenth_of_its_runs_of_words() -> None:
    words = [f"word{number}" for number in range(104)]  # 100 runs of five
    leak = Leak([example(" ".join(words))])
    assert not leak.found(" ".join(words[20:33]))  # nine runs
    assert leak.found(" ".join(words[20:34]))


def test_what_train_rows_or_the_initial_candidate_have_is_no_leak() -> None:
    held_out = [example(FOX), example("chrysanthemum"), example(LONG)]
    for text in (FOX, "chrysanthemum", LONG, LONG.replace("e", "3")):
        assert Leak(held_out).found(text)
        assert not Leak(held_out, [example(text, "train")]).found(text)
        assert not Leak(held_out, [example(None, "train", {"text": f"so {text} and so"})]).found(text)
        assert not Leak(held_out, known=[f"{text}, {text}"]).found(text)


def test_the_index_of_a_problem_takes_splits_and_the_initial_candidate_into_account() -> None:
    space = Space({"prompt": Text(default=f"Say: {FOX}")})
    rows = [example(FOX), example("chrysanthemum", "test"), example("rhododendrons", "train")]
    leak = Leak.of(space, rows)
    assert [leak.found(text) for text in (FOX, "chrysanthemum", "rhododendrons")] == [False, True, False]


def test_a_phrase_of_many_answers_is_common() -> None:
    phrase = "the answer to this question is"
    assert Leak([example(f"{phrase} {w}") for w in ("ox", "ant")]).found(phrase)
    assert not Leak([example(f"{phrase} {w}") for w in ("ox", "ant", "emu")]).found(phrase)


def edited(text: str, edits: int, seed: int) -> str:
    """A text with so many characters replaced, deleted or inserted, evenly spread."""
    rng, out = random.Random(seed), list(text)
    for number in reversed(range(edits)):
        at = (2 * number + 1) * len(text) // (2 * edits)
        letter = rng.choice("qxz")
        out[at : at + rng.choice((0, 1))] = rng.choice(([letter], []))
    return "".join(out)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(40, 400))
def test_a_copy_with_a_tenth_of_edits_is_found(seed: int, size: int) -> None:
    rng = random.Random(seed)
    answer = "".join(rng.choice("abcdefghijklmnop") for _ in range(size))  # one word, so only edits can find it
    leak = Leak([example(answer)])
    copy = "".join(rng.choice("abcdefghijklmnop") for _ in range(50)) + edited(answer, size // 10, seed) + "rest"
    assert leak.found(copy)
    over, far = size // 10 + 1, list(answer)
    for number in range(over):
        far[size // 4 + number * (size - size // 4) // over] = "z"  # the first quarter is untouched
    assert not leak.found("".join(far)), "one edit too many"
    assert not leak.found("".join(rng.choice("abcdefghijklmnop") for _ in range(2 * size)))


def plain_distance(pattern: str, text: str) -> int:
    """Sellers' table, written as in the textbook."""
    row = [0] * (len(text) + 1)
    for i, letter in enumerate(pattern, 1):
        new = [i]
        for j, other in enumerate(text, 1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (letter != other)))
        row = new
    return min(row)


@settings(deadline=None, max_examples=300)
@given(st.text("abc", max_size=20), st.text("abcd", max_size=30))
def test_the_distance_is_that_of_the_textbook(pattern: str, text: str) -> None:
    assert distance(pattern, text) == plain_distance(pattern, text)


def test_a_long_prompt_is_checked_against_a_thousand_answers_quickly() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choice("etaoinshrdlu") for _ in range(rng.randint(2, 8))) for _ in range(2000)]

    def text(count: int) -> str:
        return " ".join(rng.choice(words) for _ in range(count))

    leak = Leak([example(text(40)) for _ in range(1000)], [example(text(40), "train") for _ in range(100)])
    prompts = [text(900)[:5000] for _ in range(5)]
    best = min(_seconds(leak, prompt) for prompt in prompts)
    assert best < 0.1, "about 6 ms on one core of 2026"


def _seconds(leak: Leak, text: str) -> float:
    start = time.perf_counter()
    assert not leak.found(text)
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("too polite", "too polite"),
        ("", ""),
        (None, ""),
        (True, ""),
        (False, "mine does not hold"),
        (3, "mine returned int; a check returns a reason, None, True or False"),
    ],
)
def test_users_check_by_returning(returned: Any, reason: str) -> None:
    check = user_check(lambda candidate: returned, "mine")
    assert (check.name, check.run(SPACE.initial(), Context())) == ("mine", reason)


@pytest.mark.parametrize("error", [ValueError("no such word"), SystemExit("no such word")])
def test_an_exception_refuses_with_its_words_and_the_functions_name(error: BaseException) -> None:
    def vocabulary(candidate: Any) -> None:
        raise error

    found = refusal([*standard(SPACE), user_check(vocabulary)], SPACE.initial(), Context())
    assert found == Refusal("vocabulary", f"vocabulary failed: {type(error).__name__}: no such word")


def test_the_first_check_that_refuses_is_named() -> None:
    checks = [Check("a", lambda c, _: ""), Check("b", lambda c, _: "second"), Check("c", lambda c, _: "third")]
    assert refusal(checks, {}, Context()) == Refusal("b", "second")
    assert refusal(checks[:1], {}, Context()) is None


def test_an_asynchronous_check_is_refused_when_it_is_declared() -> None:
    async def later(candidate: Any) -> None: ...

    with pytest.raises(ConfigError, match="check later: is asynchronous"):
        user_check(later)


def test_checks_are_loaded_by_name(tmp_path: Path) -> None:
    (tmp_path / "my_leak_rules.py").write_text(
        "def calm(candidate):\n    return 'too hot' if candidate['t'] > 1 else None\n"
    )
    check = load_check("my_leak_rules:calm", tmp_path)
    assert (check.name, check.run({"t": 2}, Context()), check.run({"t": 1}, Context())) == ("calm", "too hot", "")
    with pytest.raises(ConfigError, match="no 'wild'"):
        load_check("my_leak_rules:wild", tmp_path)
    with pytest.raises(ConfigError, match=r"^check: found"):
        load_check("not a name", tmp_path)


def test_some_refusals_are_allowed() -> None:
    assert LEAKS_ALLOWED == 8
