"""Recording: what ops see, params under `use`, data flow, failures, generators, and what must not get in."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import json
import pickle
import queue
import random
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from agent import Candidate, Code, Demos, Float, Int, Text
from agent.code.codecall import CallFailed
from agent.errors import ConfigError
from agent.redact import refresh
from agent.trace import note, op, param, record, use
from agent.tracing.previews import HEAD, TAIL
from agent.tracing.scopes import SCOPE
from agent.tracing.spans import PREVIEW, Raised, Span, Trace

prompt = param("prompt", Text("Answer in one word, please."))
limit = param("limit", Float(0, 1, default=0.25))
count = param("count", Int(1, 9, default=3))
demos = param("demos", Demos(pool=("a", "b", "c"), k=2, default=(0,)))


@op
def double(x: Any) -> Any:
    return x * 2


@op
def broken(x: Any) -> Any:
    return 1 / x


@op
def outer(x: Any) -> Any:
    return broken(x)


@op
async def later(x: Any) -> Any:
    await asyncio.sleep(0)
    return double(x)


@op
def numbers(n: int) -> Iterator[float]:
    for i in range(n):
        yield double(i + 0.5)


@op
async def ticks(n: int) -> AsyncIterator[float]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i + 0.5


class Animal:
    sound = "…"

    @op
    def speak(self, times: int) -> str:
        return self.sound * times

    @op
    @staticmethod
    def legs(n: int) -> int:
        return n

    @classmethod
    @op
    def name(cls) -> str:
        return cls.__name__

    @op()
    @classmethod
    def kind(cls) -> str:
        return cls.__name__


class Cow(Animal):
    sound = "moo"


def named(trace: Trace, name: str) -> Span:
    return next(span for span in trace.spans if span.name == name)


def output(trace: Trace, span: Span) -> str:
    return trace.values[span.output].text


def test_a_recording_holds_calls_values_and_nesting() -> None:
    with record() as run:
        note("outside")
        assert later_sync(3.5) == 14.0
    assert [(s.name, s.parent) for s in run.trace.spans] == [("later_sync", None), ("double", 0), ("double", 0)]
    first = run.trace.spans[0]
    assert run.trace.values[first.inputs["x"]].text == "3.5" and output(run.trace, first) == "14.0"
    assert run.trace.notes == ("outside",) and first.notes == ("inside",)
    assert first.start >= 0 and first.seconds > 0
    assert "return double(double(x))" in run.trace.code["later_sync"]


@op(name="later_sync")
def later_sync(x: float) -> Any:
    note("inside")
    return double(double(x))


def test_without_a_recorder_nothing_is_kept_and_everything_works() -> None:
    note("nobody hears it")
    assert double(2) == 4 and list(numbers(2)) == [1.0, 3.0] and asyncio.run(later(1)) == 2
    assert SCOPE.get() is None


def test_methods_static_and_class_methods_and_subclasses() -> None:
    with record() as run:
        assert Cow().speak(2) == "moomoo" and Cow.legs(4) == 4 and Cow().legs(n=3) == 3
        assert Cow.name() == "Cow" and Cow.kind() == "Cow"
    assert [s.name for s in run.trace.spans] == ["Animal.speak", *["Animal.legs"] * 2, "Animal.name", "Animal.kind"]
    assert list(run.trace.spans[0].inputs) == ["times"]


def test_what_is_no_function_is_refused() -> None:
    for wrong in (3, Animal, property(lambda self: 1)):
        with pytest.raises(ConfigError, match="not a function"):
            op(wrong)  # type: ignore[call-overload]


def test_a_decorated_function_stays_what_it_was() -> None:
    assert pickle.loads(pickle.dumps(double)) is double and double.__name__ == "double"
    assert list(inspect.signature(double).parameters) == ["x"]
    assert inspect.iscoroutinefunction(later) and not inspect.iscoroutinefunction(double)
    with record() as run:
        op(functools.partial(max, 3))(5)
        op(name="len")(len)([1])
    assert [list(s.inputs) for s in run.trace.spans] == [["*0"], ["*0"]]


def test_recursion() -> None:
    @op
    def down(n: int) -> int:
        return 0 if n == 0 else down(n - 1) + 1

    with record() as run:
        assert down(100) == 100
    assert [s.parent for s in run.trace.spans] == [None, *range(100)]


def test_params_read_initial_values_or_those_in_use() -> None:
    assert prompt.value == "Answer in one word, please." and limit.value == 0.25
    with use({"limit": 0.5, "unknown": 1}):
        assert limit.value == 0.5 and count.value == 3
        with use(Candidate({"count": 7})):
            assert (limit.value, count.value) == (0.5, 7)
        assert count.value == 3
    assert limit.value == 0.25


def test_a_value_that_is_not_allowed_is_told_where_it_is_read() -> None:
    with use({"limit": 2.0, "count": "x"}):
        for wrong in (limit, count):
            with pytest.raises(ValueError, match=wrong.name):
                _ = wrong.value


def test_the_caller_may_change_what_it_got() -> None:
    demos.value.append(2)
    assert demos.value == [0]
    with use({"demos": [1]}):
        demos.value.append(2)
        assert demos.value == [1]


def test_a_param_reads_its_file_beside_the_module(tmp_path: Any) -> None:
    (tmp_path / "p.txt").write_text("from a file")
    space: dict[str, Any] = {"__file__": str(tmp_path / "m.py")}
    exec("from agent import param, Text\np = param('p', Text(file='p.txt'))", space)
    assert space["p"].value == "from a file" and space["p"].parameter.default == "from a file"
    with pytest.raises(ConfigError, match="not a name"):
        param("a b", Text("x"))
    with pytest.raises(ConfigError, match="not a parameter"):
        param("a", "text")  # type: ignore[arg-type]


def test_reads_belong_to_the_span_that_read_or_was_given_the_value() -> None:
    @op
    def ask(text: str) -> str:
        return text.upper()

    @op
    def main() -> str:
        return ask(prompt.value) + str(limit.value)

    with record() as run:
        main()
        ask(prompt.value)
        ask("other text")
        double(count.value)
    assert [s.reads for s in run.trace.spans] == [("prompt", "limit"), ("prompt",), ("prompt",), (), ("count",)]


def test_data_flow_is_exact_for_objects_and_a_guess_for_shared_values() -> None:
    @op
    def make(n: int) -> Any:
        return ["row", n] if n > 1 else n

    @op
    def take(*args: Any, **kwargs: Any) -> None: ...

    with record() as run:
        a, b = make(5), make(6)
        take(a)  # 2
        take([b, a])  # 3, in a container
        take(x=list(b))  # 4: another list
        one = make(1)  # 5
        take(one)  # 6
        take(1000.25)  # 7
        half = double(0.25)  # 8
        take(k={"x": half})  # 9
        take((n for n in [1]), a[0])  # 10: "row" is a word of the program
    feeds = [s.feeds for s in run.trace.spans]
    assert feeds[2] == ((0, True),) and feeds[3] == ((0, True), (1, True)) and feeds[4] == ()
    assert feeds[6] == ((5, False),) and feeds[7] == () and feeds[9] == ((8, True),) and feeds[10] == ()


def test_a_shared_value_comes_only_from_what_could_be_seen_there() -> None:
    @op
    def hidden() -> int:
        return double(21)

    @op
    def reader(x: int) -> int:
        return x

    with record() as run:
        hidden()
        reader(42)
        reader(7)
    by_name = {s.name.rpartition(".")[2]: s for s in run.trace.spans}
    assert by_name["reader"].feeds == () and run.trace.spans[2].feeds == ((0, False),)


def test_an_object_that_died_feeds_nothing_that_takes_its_place() -> None:
    @op
    def make(i: int) -> object:
        return [i, i]

    @op
    def take(x: object) -> None: ...

    with record() as run:
        for i in range(200):
            make(i)
            take([i, i, "new"])
    assert all(s.feeds == () for s in run.trace.spans)


def test_an_exception_has_its_line_once_and_is_seen_in_the_spans_around_it() -> None:
    with record() as run, pytest.raises(ZeroDivisionError):
        outer(0)
    first, second = run.trace.spans
    assert second.raised is not None and first.raised is not None
    assert second.raised.text == "return 1 / x" and second.raised.file.endswith("test_trace.py") and second.raised.line
    assert (first.raised.type, first.raised.line, first.raised.file) == ("ZeroDivisionError", 0, "")
    assert [s.name for s in run.trace.failing()] == ["broken", "outer"]


def test_an_exception_in_a_library_is_told_at_the_users_own_line() -> None:
    @op
    def parse(text: str) -> Any:
        return json.loads(text)

    @op
    def translate(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise KeyError("no JSON") from error

    with record() as run, pytest.raises(KeyError):
        translate("{")
    failed = run.trace.failing()
    assert [(s.raised.type, s.raised.text) for s in failed if s.raised] == [
        ("KeyError", 'raise KeyError("no JSON") from error'),
        ("JSONDecodeError", "return json.loads(text)"),
    ]


def test_an_exception_that_cannot_be_described() -> None:
    class Bad(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @op
    def fail() -> None:
        raise Bad

    with record() as run, pytest.raises(Bad):
        fail()
    assert run.trace.failing()[0].raised.type == "Bad"  # type: ignore[union-attr]


def test_a_generator_is_a_span_until_it_ends() -> None:
    with record() as run:
        source = numbers(3)
        assert double(10.5) == 21.0
        assert list(source) == [1.0, 3.0, 5.0]
    trace = run.trace
    assert [(s.name, s.parent) for s in trace.spans] == [("numbers", None), ("double", None), *[("double", 0)] * 3]
    assert output(trace, trace.spans[0]) == "[1.0, 3.0, 5.0]"


def test_what_a_generator_yields_feeds_what_takes_it() -> None:
    with record() as run:
        for x in numbers(2):
            double(x)
        sum_up(numbers(1))
    spans = run.trace.spans
    assert [s.feeds for s in spans if s.parent is None and s.name == "double"] == [((0, True),)] * 2
    assert spans[-2].name == "sum_up" and spans[-2].feeds == ((5, True),)


@op
def sum_up(items: Any) -> float:
    return float(sum(items))


def test_a_generator_takes_values_and_exceptions_and_returns() -> None:
    @op
    def talk() -> Any:
        got = yield "hello"
        try:
            yield got
        except KeyError:
            yield "caught"
        return "bye"

    def drive() -> Iterator[Any]:
        yield (yield from talk())

    with record() as run:
        source = talk()
        assert next(source) == "hello" and source.send("you") == "you" and source.throw(KeyError()) == "caught"
        with pytest.raises(StopIteration) as ended:
            next(source)
        assert list(drive())[-1] == "bye"
    assert ended.value.value == "bye"
    assert output(run.trace, run.trace.spans[0]) == "['hello', 'you', 'caught'], returned bye"


def test_a_generator_closed_early_or_never_begun_or_failing() -> None:
    @op
    def fails() -> Iterator[int]:
        yield 1
        raise ValueError("later")

    with record() as run:
        source = numbers(5)
        next(source)
        source.close()
        numbers(1)
        with pytest.raises(ValueError, match="later"):
            list(fails())
    early, never, failed = (s for s in run.trace.spans if s.parent is None)
    assert output(run.trace, early).endswith("closed early") and never.output == "" and never.raised is None
    assert failed.raised is not None and failed.raised.text == 'raise ValueError("later")'


def test_a_generator_closed_in_a_foreign_context_does_not_break_the_trace() -> None:
    @op
    def inside() -> Iterator[float]:
        with use({"limit": 0.75}):
            try:
                yield limit.value
                yield limit.value
            finally:
                double(limit.value)

    def plain() -> Generator[Any, None, None]:
        with record() as run:
            yield run

    with record() as run:
        source, other = inside(), inside()
        assert next(source) == 0.75 and limit.value == 0.25 and next(other) == 0.75
        contextvars.Context().run(source.close)
        thread = threading.Thread(target=other.close)
        thread.start()
        thread.join()
        fixture = plain()
        fixture_run = next(fixture)
        double(1.5)
        elsewhere = contextvars.Context()
        elsewhere.run(fixture.close)
        assert elsewhere.run(SCOPE.get) is None
        double(3.5)
        assert limit.value == 0.25
    assert SCOPE.get() is None and [s.name for s in run.trace.spans][-2:] == ["double", "double"]
    closings = [s for s in run.trace.spans if s.name == "double" and s.parent in (0, 1)]
    assert len(closings) == 2 and all(output(run.trace, s) == "1.5" for s in closings)
    assert [s.name for s in fixture_run.trace.spans] == ["double"]
    foreign = contextvars.Context()
    with record() as again:
        source = inside()
        next(source)
        foreign.run(source.close)
        assert foreign.run(SCOPE.get) is None  # the foreign context is as it was
        double(2.5)
    assert [s.parent for s in again.trace.spans if s.name == "double"] == [0, None]


def test_async_functions_and_generators_and_task_groups() -> None:
    async def main() -> Any:
        with record() as run:
            async with asyncio.TaskGroup() as group:
                for i in range(3):
                    group.create_task(later(i + 0.5))
            assert [x async for x in ticks(2)] == [0.5, 1.5]
            source = ticks(5)
            await anext(source)
            await source.aclose()
            assert await asyncio.to_thread(double, 4.5) == 9.0
        return run

    trace = asyncio.run(main()).trace
    top = [s for s in trace.spans if s.parent is None]
    assert [s.name for s in top] == ["later"] * 3 + ["ticks"] * 2 + ["double"]
    for span in top[:3]:
        children = [s for s in trace.spans if s.parent == span.id]
        assert [s.inputs["x"] for s in children] == [span.inputs["x"]]
    assert output(trace, top[4]) == "[0.5], closed early"


def test_a_cancelled_task_is_a_failed_span() -> None:
    @op
    async def forever() -> None:
        await asyncio.Event().wait()

    async def main() -> Any:
        with record() as run:
            task = asyncio.create_task(forever())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            double(1.5)
        return run

    trace = asyncio.run(main()).trace
    assert trace.spans[0].raised is not None and trace.spans[0].raised.type == "CancelledError"
    assert trace.spans[1].parent is None


def test_a_coroutine_closed_from_outside_leaves_the_scope_alone() -> None:
    @op
    async def waits() -> None:
        await Pause()

    class Pause:
        def __await__(self) -> Generator[None, None, None]:
            yield

    context = contextvars.copy_context()

    def begin() -> Any:
        with record():
            coroutine = waits()
            coroutine.send(None)
        return coroutine

    coroutine = context.run(begin)
    with record() as run:
        coroutine.close()
        double(1.5)
    assert [s.name for s in run.trace.spans] == ["double"]


def work(number: int) -> Trace:
    with use({"limit": number / 100}), record() as run:
        for _ in range(20):
            assert nested(number + 0.5) == (number + 0.5) * 2 + number / 100
            time.sleep(0)
    return run.trace


@op
def nested(x: float) -> float:
    return float(double(x)) + limit.value


def own(trace: Trace, number: int) -> None:
    assert [s.name for s in trace.spans] == ["nested", "double"] * 20
    assert [s.parent for s in trace.spans] == [p for i in range(20) for p in (None, 2 * i)]
    assert {trace.values[s.inputs["x"]].text for s in trace.spans} == {str(number + 0.5)}


def test_40_threads_mix_nothing_up() -> None:
    found: dict[int, Trace] = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: work(i)})) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(40):
        own(found[number], number)


def test_40_tasks_mix_nothing_up() -> None:
    async def one(number: int) -> Trace:
        with use({"limit": number / 100}), record() as run:
            for _ in range(20):
                await asyncio.sleep(0)
                assert nested(number + 0.5) == (number + 0.5) * 2 + number / 100
        return run.trace

    async def main() -> list[Trace]:
        return await asyncio.gather(*map(one, range(40)))

    for number, trace in enumerate(asyncio.run(main())):
        own(trace, number)


def test_40_threads_of_one_recording_have_it_all() -> None:
    with record() as run:
        threads = [threading.Thread(target=lambda i=i: [double(i + 0.5) for _ in range(50)]) for i in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(run.trace.spans) == 2000 and len({s.id for s in run.trace.spans}) == 2000
    assert Trace.from_json(run.trace.to_json()).spans[-1].id == run.trace.spans[-1].id


def test_a_thread_and_a_task_of_a_pool_belong_to_what_started_them() -> None:
    seen: list[float] = []

    @op
    def starts() -> None:
        thread = threading.Thread(target=lambda: (double(1.5), seen.append(limit.value)))
        thread.start()
        thread.join()

    with ThreadPoolExecutor(1) as pool:
        with record() as first, use({"limit": 0.5}):
            starts()
            assert pool.submit(nested, 1.5).result() == 3.5
        with record() as second, use({"limit": 0.75}):
            assert list(pool.map(nested, [1.5])) == [3.75]
        assert pool.submit(lambda: (SCOPE.get(), limit.value)).result() == (None, 0.25)
    assert seen == [0.5]
    assert [(s.name.rpartition(".")[2], s.parent) for s in first.trace.spans] == [
        ("starts", None), ("double", 0), ("nested", None), ("double", 2),
    ]  # fmt: skip
    assert [s.name for s in second.trace.spans] == ["nested", "double"]


def test_a_timer_and_a_subclass_run_inside_too() -> None:
    seen: list[float] = []

    class Mine(threading.Thread):
        def run(self) -> None:
            seen.append(limit.value)

    with use({"limit": 0.5}):
        for thread in (Mine(), threading.Timer(0, lambda: seen.append(limit.value))):
            thread.start()
            thread.join()
    assert seen == [0.5, 0.5]


def test_recordings_nest_and_the_outer_one_sees_all() -> None:
    @op
    def main() -> Trace:
        with record() as run:
            double(broken(2.0))
            note("mine")
        return run.trace

    with record() as run:
        double(0.5)
        inner = main()
    assert [(s.name, s.parent) for s in inner.spans] == [("broken", None), ("double", None)]
    assert [s.id for s in inner.spans] == [0, 1] and inner.notes == ("mine",)
    assert [(s.name.rpartition(".")[2], s.parent) for s in run.trace.spans] == [
        ("double", None), ("main", None), ("broken", 1), ("double", 1),
    ]  # fmt: skip
    assert run.trace.spans[3].feeds == ((2, True),) and run.trace.spans[1].notes == ("mine",)


def test_what_goes_on_after_the_end_is_not_recorded() -> None:
    release = threading.Event()

    @op
    def slow() -> None:
        release.wait(60)
        double(1.5)

    with record() as run:
        thread = threading.Thread(target=slow)
        thread.start()
        while not run.trace.spans:
            time.sleep(0.001)
    before = run.trace
    release.set()
    thread.join()
    assert run.trace == before and before.spans[0].output == "" and before.spans[0].raised is None


def test_100_mb_take_no_time_and_no_room() -> None:
    big = "x" * 100_000_000

    @op
    def through(text: Any) -> Any:
        return text

    @op
    def take(text: Any) -> int:
        return len(text)

    with record() as run:
        began = time.process_time()
        for value in (big, [big, 1], {"k": big}, big.encode(), 1 << 10_000_000):
            through(value)
        assert time.process_time() - began < 1.0
        held = sys.getrefcount(big)
        take(through(big))
        assert sys.getrefcount(big) == held, "nothing keeps it alive"
    text = json.dumps(run.trace.to_json())
    assert len(text) < 20_000
    value = run.trace.values[run.trace.spans[0].output]
    assert value.size == 100_000_000 and len(value.text) <= PREVIEW
    assert run.trace.spans[-1].feeds[-1][1] is False, "known by a look, which is a guess"


def test_long_texts_are_told_apart_by_their_middle() -> None:
    with record() as run:
        double("a" * 3000 + "b" + "a" * 3000)
        double("a" * 3000 + "c" + "a" * 3000)
        double("a" * 3000 + "c" + "a" * 3000)
    keys = [s.inputs["x"] for s in run.trace.spans]
    assert keys[0] != keys[1] == keys[2]


def test_previews_hold_what_a_cut_needs() -> None:
    assert HEAD >= PREVIEW * 2 // 3 + 200 and TAIL >= PREVIEW // 3 + 200


def test_hostile_values_are_looked_at_safely() -> None:
    class Liar:
        __hash__ = None  # type: ignore[assignment]

        def __repr__(self) -> str:
            double(1)  # an op of its own, while it is shown
            raise RuntimeError

        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        def __sizeof__(self) -> int:
            raise RuntimeError

    loop: list[Any] = [1]
    loop.append(loop)

    @op
    def take(*args: Any) -> Any:
        return args

    with record() as run:
        take(Liar(), loop, {"a": loop}, {1: Liar()}, float("nan"), "\ud800", b"\xff", {3, 4}, [[[[[[1]]]]]], 10**6000)
        take(*take(Liar()))
    assert [s.name.rpartition(".")[2] for s in run.trace.spans] == ["take"] * 3
    json.dumps(run.trace.to_json())
    assert run.trace.values[run.trace.spans[0].inputs["*0"]].text == "<Liar>"


def test_secrets_are_masked_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent import redact

    monkeypatch.setenv("SERVICE_API_KEY", "correct-horse-battery")
    redact.refresh()

    @op
    def call(text: str) -> str:
        note(f"called with {text}")
        raise ValueError(f"refused: {text}")

    # At every place: the preview's cuts must not leave half of it.
    texts = ["correct-horse-battery", *("x" * n + "correct-horse-battery" + "y" * 3000 for n in range(360, 410, 3))]
    texts += ["y" * 3000 + "correct-horse-battery" + "x" * n for n in range(160, 210, 3)]
    try:
        with record() as run:
            for text in texts:
                with pytest.raises(ValueError, match="refused"):
                    call(text)
        written = json.dumps(run.trace.to_json())
    finally:
        monkeypatch.undo()
        redact.refresh()
    for part in ("correct-horse", "horse-bat", "battery"):
        assert part not in written
    assert "[redacted]" in written


def test_nothing_is_kept_alive_after_a_recording() -> None:
    class Thing:
        pass

    @op
    def make() -> Thing:
        return Thing()

    with record() as run:
        thing = weakref.ref(make())
        assert thing() is not None, "kept while recording, so that its identity means something"
    gc.collect()
    assert thing() is None and run.trace.spans


def test_a_pool_that_lives_on_keeps_no_recording() -> None:
    with ThreadPoolExecutor(1) as pool:
        with record() as run:
            assert pool.submit(double, 1.5).result() == 3.0
        recorder = weakref.ref(run._recorder)
        del run
        pool.submit(int).result()  # the thread has let go of its last task
        gc.collect()
        assert recorder() is None


def test_more_spans_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.tracing.recorder.LIMIT", 20)
    with record() as run:
        for i in range(100):
            if i == 50:
                with pytest.raises(ZeroDivisionError):
                    broken(0)
            double(i + 0.5)
    trace = run.trace
    texts = [trace.values[s.inputs["x"]].text for s in trace.spans]
    assert trace.dropped == 101 - len(trace.spans) and "0" in texts
    assert texts[0] == "0.5" and texts[-1] == "99.5" and "30.5" not in texts


def test_ops_in_a_loop_stay_cheap() -> None:
    """Generous bounds, since machines differ; `benchmarks/trace.py` measures."""

    def seconds(n: int) -> float:
        began = time.process_time()
        for _ in range(n):
            double(1.5)
        return time.process_time() - began

    assert min(seconds(2000) for _ in range(5)) / 2000 < 5e-6
    with record():
        assert min(seconds(2000) for _ in range(5)) / 2000 < 100e-6


helper = param("helper", Code("def helper(x, k=1):\n    y = 10 / x\n    return [y * k]\n", entry="helper"))


def test_code_is_called_in_the_sandbox_and_fails_at_its_own_line() -> None:
    from agent.code.codecall import CallFailed

    with record() as run:
        assert helper.call(4, k=2) == [5.0]
        with pytest.raises(CallFailed, match="division by zero") as failed:
            helper.call(0)
        with use({"helper": "def helper(x, k=1):\n    import os\n    return os.getpid()\n"}):
            import os

            assert helper.call(1) not in (os.getpid(), None)
    assert failed.value.status == "crash"
    first, second, _ = run.trace.spans
    assert first.name == "helper" and first.reads == ("helper",) and output(run.trace, first) == "[5.0]"
    assert second.raised is not None
    assert (second.raised.type, second.raised.file, second.raised.line, second.raised.text) == (
        "ZeroDivisionError", "helper.py", 2, "y = 10 / x",
    )  # fmt: skip


def test_only_code_with_an_entry_can_be_called() -> None:
    with pytest.raises(ConfigError, match="nothing to call"):
        prompt.call("x")
    with pytest.raises(ConfigError, match="cannot be sent"):
        helper.call(object())


def test_a_thread_with_a_run_of_its_own_runs_it() -> None:
    """Other libraries wrap threads in the same way."""
    ran: list[str] = []
    thread = threading.Thread()
    thread.run = lambda: ran.append("mine")  # type: ignore[method-assign]
    with use({"limit": 1.0}):
        thread.start()
        thread.join()
    assert ran == ["mine"]


def test_a_thread_that_lives_on_has_the_initial_values_again() -> None:
    limit = param("limit", Float(0, 9, default=5.0))
    asked, told = queue.Queue[int](), queue.Queue[float]()

    def worker() -> None:
        while asked.get():
            told.put(limit.value)

    with use({"limit": 1.0}):
        thread = threading.Thread(target=worker, daemon=True)
        thread.start()
        asked.put(1)
        assert told.get(timeout=20) == 1.0
    asked.put(1)
    assert told.get(timeout=20) == 5.0
    asked.put(0)
    thread.join()


def test_what_is_entered_twice_or_wrong_is_told() -> None:
    once = use({"limit": 7.0})
    with once, pytest.raises(ConfigError, match="entered already"):
        once.__enter__()
    with pytest.raises(ConfigError, match="use: found 3"):
        use(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nothing was recorded"):
        _ = record().trace
    with pytest.raises(ConfigError, match="is not a parameter"):
        param("a", Float)  # type: ignore[arg-type]


def test_what_was_there_before_did_not_come_from_here() -> None:
    class Config:
        k = None

    config = Config()
    config.k = [1, 2, 3]  # type: ignore[assignment]

    @op
    def get(c: Any) -> Any:
        return c.k

    @op
    def other(c: Any) -> int:
        return 1

    with record() as run:
        get(config)
        other(config)
    assert [span.feeds for span in run.trace.spans] == [(), ()]


def test_views_of_large_arrays_are_not_kept_alive() -> None:
    @op
    def part() -> Any:
        made = np.ones(2_500_000)
        alive.append(weakref.ref(made))
        return made[1:]

    alive: list[Any] = []
    with record():
        for _ in range(5):
            part()
        gc.collect()
        assert sum(item() is not None for item in alive) <= 1


def test_pieces_of_long_secrets_are_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "".join(random.Random(1).choice("abcdefghij0123456789") for _ in range(600))
    monkeypatch.setenv("SESSION_TOKEN", secret)
    refresh()
    try:

        @op
        def f(text: Any, deep: Any) -> None:
            note("x" * 1700 + secret)

        with record() as run:
            f("y" * 300 + secret + "z" * 100, {"a": ["b" * 50 + secret]})
        told = json.dumps(run.trace.to_json())
        assert not any(secret[start : start + 24] in told for start in range(len(secret) - 24))
    finally:
        monkeypatch.undo()
        refresh()


def test_programs_that_exit_while_they_are_looked_at() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise SystemExit(3)

    @op
    def f(x: Any) -> int:
        return 1

    with record() as run:
        assert f(Rude()) == 1
    assert "<Rude>" in run.trace.show()


def test_sizes_are_those_of_the_value() -> None:
    @op
    def f(a: Any, b: Any) -> None: ...

    with record() as run:
        f(b"y" * 3_000_000, list(range(100_000)))
    told = run.trace.show(0)
    assert "bytes, 3,000,000 bytes" in told and "list, 100,000 items" in told
    assert "[3,000,000 bytes]" in told and "99,960 more" in told


def test_failures_of_code_and_params_travel_between_processes() -> None:
    error = CallFailed("it failed", status="crash", raised=Raised("E", "m", "f.py", 3, "x"))
    again = pickle.loads(pickle.dumps(error))
    assert (again.status, again.raised, str(again)) == (error.status, error.raised, str(error))
    helper = param("helper", Code("def f(x):\n    return x\n", entry="f"))
    _ = helper._called
    assert pickle.loads(pickle.dumps(helper)).name == "helper"
