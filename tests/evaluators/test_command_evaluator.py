"""Evaluators that are a command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_helpers import kind, produce

from agent.errors import ConfigError
from agent.evaluation import Limits, Request
from agent.evaluators.command import CommandEvaluator
from agent.space import Candidate
from agent.testing import EvaluatorContract

Command = Callable[..., CommandEvaluator]


class TestCommand(EvaluatorContract):
    SCRIPT = "import json, sys; c = json.load(open(sys.argv[1]))['candidate']; print(c['x'] ** 2)"

    def make(self) -> CommandEvaluator:
        return CommandEvaluator([sys.executable, "-c", self.SCRIPT], cwd=Path.cwd(), names=["value"])

    def request(self) -> Request:
        return Request(Candidate({"x": 2.0}))

    def bad_request(self) -> Request:
        return Request(Candidate({"y": 2.0}))


# ---------------------------------------------------------------- the request


ECHO = """
    import json, os, sys

    given = sys.argv[1:]
    path = os.environ["TRUEGAIN_REQUEST"]
    with open(path) as file:
        request = json.load(file)
    print(json.dumps([1, json.dumps([given, path, request, os.getcwd(), os.path.dirname(path)])]))
"""


def test_the_request_is_a_file_named_by_the_last_argument_and_the_environment(command: Command, tmp_path: Path) -> None:
    output = produce(command(ECHO, "--fast"), example="a", row={"n": 1}, seed=3, purpose="gate")
    given, path, request, cwd, folder = json.loads(output.value["feedback"])
    assert given == ["--fast", path]
    assert cwd == str(tmp_path)
    assert request["candidate"] == {"x": 2.0} and request["row"] == {"n": 1} and request["seed"] == 3
    assert "purpose" not in request
    assert not os.path.exists(folder)


def test_or_it_stands_where_it_is_asked_for(command: Command) -> None:
    output = produce(command(ECHO, "--request={request}", "last"))
    given, path, *_ = json.loads(output.value["feedback"])
    assert given == [f"--request={path}", "last"]


def test_keys_of_providers_reach_it_only_by_name(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        import json, os
        names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OTHER", "MODE")
        print(json.dumps([1, " ".join(os.environ.get(name, "-") for name in names)]))
    """
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OTHER"):
        monkeypatch.setenv(name, f"my {name}")
    assert produce(command(source)).value["feedback"] == "- - my OTHER -"
    for value in ("$OPENAI_API_KEY", "my OPENAI_API_KEY"):
        evaluator = command(source, env={"OPENAI_API_KEY": value, "MODE": "fast"})
        assert produce(evaluator).value["feedback"] == "my OPENAI_API_KEY - my OTHER fast"
        assert evaluator.spec is not None and "my OPENAI" not in json.dumps(dict(evaluator.spec))


def test_the_fingerprint_follows_arguments_files_and_what_they_import(command: Command, tmp_path: Path) -> None:
    found = set()
    for source, helper, argument in (("import helper", "", ""), ("import  helper", "", ""), ("import helper", "1", "")):
        (tmp_path / "helper.py").write_text(helper)
        found.add(command(source, argument).fingerprint)
    found.add(command("import helper", "more").fingerprint)
    found.add(command("import helper", env={"MODE": "fast"}).fingerprint)
    assert len(found) == 5


@pytest.mark.parametrize("argv", [[], "echo 1", ["echo", 1]])
def test_what_is_no_command_is_refused(argv: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="list of strings"):
        CommandEvaluator(argv, cwd=tmp_path, names=["value"])


# ---------------------------------------------------------------- the result


def test_the_last_result_counts_and_the_others_are_partial(command: Command) -> None:
    source = """
        import sys
        print("Epoch 1")
        print('{"value": 0.5}')
        print('{"level": "info", "text": "a line of a log"}')
        print("[0.4, \\"better\\"]", flush=True)
        print("careful", file=sys.stderr, flush=True)
        print('  {"value": 0.3, "feedback": "done"}  ')
        print("true\\nnull\\n\\"text\\"\\n3 files\\n{not json\\nbye", end="")
    """
    partials: list[Any] = []
    output = produce(command(source), partials)
    assert output.value == {"values": {"value": 0.3}, "feedback": "done"}
    assert [item["values"]["value"] for item in partials] == [0.5, 0.4]
    assert partials[1]["feedback"] == "better"
    for line in ("Epoch 1", "a line of a log", "careful", "true", "null", "3 files", "{not json", "bye"):
        assert line in output.log
    assert "done" not in output.log
    assert output.seconds > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "printed no result"),
        ("", "printed no result"),
        ("NaN", "value must be finite, not nan"),
        ("-Infinity", "value must be finite, not -inf"),
        ('{"value": NaN}', "value must be finite"),
        ("1e999", "value must be finite"),
        ('0.5\\n{"value": NaN}', "value must be finite"),
        ('{"other": 1}', "value is missing; found other"),
        ('{"value": "1"}', "value must be a number"),
        ("[1, 2]", "value must be a number"),
        ("[" * 100_000, "printed no result"),
        ("9" * 5000, "printed no result"),
    ],
    ids=lambda text: text[:20],
)
def test_output_without_a_result_is_invalid(command: Command, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "text").write_text(text.replace("\\n", "\n"))
    output = produce(CommandEvaluator(["/bin/sh", "-c", "cat text"], cwd=tmp_path, names=["value"]))
    assert kind(output) == "invalid"
    assert output.failure is not None and message in output.failure.message


def test_a_failing_command_tells_its_last_words(command: Command) -> None:
    output = produce(command("print(1)\nraise ValueError('no luck')"))
    assert kind(output) == "exit"
    assert output.failure is not None
    assert output.failure.message == "the command exited with code 1: ValueError: no luck"
    assert "Traceback" in output.failure.detail


def test_a_command_that_crashes_or_is_not_there(command: Command, tmp_path: Path) -> None:
    output = produce(command("import os; print(1, flush=True); os.kill(os.getpid(), 11)"))
    assert kind(output) == "lost"
    assert output.failure is not None and "SIGSEGV" in output.failure.message
    output = produce(CommandEvaluator(["no-such-command"], cwd=tmp_path, names=["value"]))
    assert kind(output) == "exit"
    assert output.failure is not None and "cannot run no-such-command: " in output.failure.message
    output = produce(CommandEvaluator(["/bin/echo"], cwd=tmp_path / "nowhere", names=["value"]))
    assert kind(output) == "error"


def test_a_flood_of_output_is_capped(command: Command) -> None:
    source = """
        import sys
        print("first")
        for _ in range(100):
            sys.stdout.write(("x" * 99 + "\\n") * 10_000)
        sys.stdout.write("y" * 30_000_000 + "\\n")
        print(1)
        print("last")
    """
    output = produce(command(source), limits=Limits(log_chars=1000))
    assert output.value["values"] == {"value": 1.0}
    assert output.log.startswith("first\n") and output.log.endswith("last\n") and len(output.log) < 1100
