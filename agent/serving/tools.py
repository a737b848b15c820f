"""What an agent may do over the Model Context Protocol. Each is a plain function of JSON; `mcp` puts them on a server.

Nothing here returns a held-out row, or says which ones there are, and nothing raises a limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.serving.address import ask
from agent.serving.guest import NAME as GUEST
from agent.serving.launching import ESTIMATE, Starting, command, name_for
from agent.serving.places import Places, lowered, outline
from agent.serving.views import candidate_view, events_view, result_view

ROWS = 5
"""Rows of train that a text is measured on, when none are named."""
WAIT = 45.0
"""Seconds that an answer is waited for at most: clients give up soon after."""


class Tools:
    """The tools over some folders.

    Args:
        places: Which problems and runs there are.
        starts: How many runs agents may start, by this server and by others over the same runs.
        runs: As `--runs` of the commands.
    """

    def __init__(self, places: Places, starts: int, runs: str | None = None) -> None:
        self._places, self._starting, self._runs = places, Starting(starts, places.started), runs

    def list_problems(self) -> dict[str, Any]:
        """The problems that can be optimized, with their parameters and the budget of one run."""
        return {"problems": [{"problem": name, **outline(path)} for name, path in self._places.problems().items()]}

    def list_runs(self) -> dict[str, Any]:
        """The runs of these problems, oldest first, with their states."""
        from agent.folders import listing

        found = [(listing(folder), problem) for folder, problem in self._places.runs().values()]
        found.sort(key=lambda item: item[0].started)
        return {
            "runs": [
                {"run": item.name, "problem": problem, "state": item.state, "status": item.status or "open"}
                for item, problem in found
            ]
        }

    def estimate(
        self,
        problem: str,
        search: bool = True,
        evaluations: int | None = None,
        calls: int | None = None,
        tokens: int | None = None,
        usd: float | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """What a run would cost, and what gain it could prove. Spends nothing.

        With search=false nobody proposes but you, as in start. Limits can only be lowered.
        """
        folder = self._places.problem(problem)
        asked = {"evaluations": evaluations, "calls": calls, "tokens": tokens, "usd": usd, "seconds": seconds}
        options = lowered(outline(folder).get("budget"), asked)
        if not search:
            options += ["--proposer", GUEST]
        return command(["estimate", str(folder), *options, *self._where(folder)], ESTIMATE)

    def start(
        self,
        problem: str,
        search: bool = True,
        evaluations: int | None = None,
        calls: int | None = None,
        tokens: int | None = None,
        usd: float | None = None,
        seconds: float | None = None,
        seed: int | None = None,
    ) -> dict[str, Any]:
        """Start a run; returns at once with its name, and the run goes on by itself, also without you.

        With search=false nobody proposes but you (evaluate_text with compete=true), until you call finish.
        Limits can only be lowered; one run of a problem at a time.
        """
        folder = self._places.problem(problem)
        asked = {"evaluations": evaluations, "calls": calls, "tokens": tokens, "usd": usd, "seconds": seconds}
        options = lowered(outline(folder).get("budget"), asked)
        if search:
            options.append("--beside")
        if seed is not None:
            options += ["--seed", str(seed)]
        place = self._places.place(folder)
        name = name_for(place, folder)
        words = ["serve-eval", str(folder), "--detach", *options, *self._where(folder)]
        begun = self._starting.start(name, words, place)
        return {
            "run": name,
            "state": "running" if begun else "starting",
            "next": "observe(run, cursor=0), which tells too if the evaluator is broken; go on from the cursor that it"
            " returns",
        }

    def observe(self, run: str, cursor: int = 0) -> dict[str, Any]:
        """Where a run is, and what it did since the cursor: candidates, races, spend. Begin with cursor 0."""
        from agent.telling.status import standing

        if self._starting.look(run):
            return {"run": run, "state": "starting", "events": [], "cursor": 0, "more": False}
        folder = self._places.run(run)
        found = standing(folder)  # asked first: what is written before the run ends is read below
        if found["state"] == "finished" and found.get("status") == "open":
            found["state"] = "running"  # it says that it has ended, and its last event is on the way to the disk
        seen = events_view(folder, cursor)
        if not 0 <= cursor <= seen["end"]:
            raise ConfigError(
                f"there is no cursor {cursor} in {run}", hint="begin with 0, and take the cursor returned"
            )
        kept = ("state", "detail", "status", "champion", "candidates", "exams", "spent", "limits", "in_flight")
        return {
            "run": run,
            **{name: found[name] for name in kept if name in found},
            "events": seen["events"],
            "cursor": seen["cursor"],
            "more": seen["more"],
        }

    def show_candidate(self, run: str, candidate: str | int) -> dict[str, Any]:
        """A candidate with its values and what the search measured: a number, an id, "initial" or "champion"."""
        from agent.journal import read
        from agent.results.result import load_state

        folder = self._places.run(run)
        state = load_state(folder, read(folder))
        history = state.history
        known = {"initial": history.initial, "champion": history.champion}
        candidate = str(candidate)
        if candidate.isdecimal() and len(candidate) < 9 and int(candidate) < len(history):
            return candidate_view(state, history.trials[int(candidate)])
        wanted = known.get(candidate, candidate)
        hits = [trial for trial in history.trials if len(wanted) >= 4 and trial.id.startswith(wanted)]
        if len(hits) != 1:
            raise ConfigError(
                f"there is no one candidate {candidate[:60]!r} in {run}",
                hint=f"give a number from 0 to {len(history) - 1}, an id, initial or champion",
            )
        return candidate_view(state, hits[0])

    def evaluate_text(
        self,
        run: str,
        text: str | None = None,
        values: dict[str, Any] | None = None,
        rows: list[str] | None = None,
        compete: bool = False,
        rationale: str = "",
        key: str = "",
    ) -> dict[str, Any]:
        """Measure a text or values of your own on training rows, charged to the run's budget.

        `text` is the problem's one text parameter; what `values` leaves out is as in the champion. Without compete it
        is compared with nothing; rows names training rows (else a few). With compete=true it becomes a candidate of
        the run, and only candidates can be released. Asked again with the same arguments, it costs nothing; another
        `key` measures anew.
        """
        folder = self._places.run(run, ours=True)
        problem = ask(folder, "/problem")
        whole = self._values(folder, problem["space"], text, values)
        body: dict[str, Any] = {"values": whole, "by": "mcp", "wait": WAIT}
        if compete:
            if rows or key:
                raise ConfigError("the race chooses the rows of a candidate", hint="leave rows and key out, or compete")
            body["rationale"] = rationale
        elif problem["by_rows"]:
            body |= {"examples": rows or problem["examples"]["ids"][:ROWS], "key": key}
        elif rows:
            raise ConfigError("this problem has no rows", hint="leave rows out")
        else:
            body |= {"apart": True, "key": key}
        return ask(folder, "/evaluate", body, WAIT + 20)

    def read_rows(self, run: str, rows: list[str] | None = None) -> dict[str, Any]:
        """The content of training rows (else a few). What you propose later is raced on other rows, as far as any."""
        folder = self._places.run(run, ours=True)
        ids = ask(folder, "/problem")["examples"]["ids"]
        if not ids:
            raise ConfigError("this problem has no rows", hint="evaluate_text measures values as they are")
        return ask(folder, "/rows", {"examples": rows or ids[:ROWS], "by": "mcp", "wait": WAIT}, WAIT + 20)

    def finish(self, run: str) -> dict[str, Any]:
        """End the search of a run now; its exam follows, and then result has the verdict."""
        folder = self._places.run(run, ours=True)
        found = ask(folder, "/finish", {"wait": 0}, WAIT)
        return {
            "run": run,
            "state": "finished" if found.get("sentence") else "finishing",
            "next": "observe, then result",
        }

    def stop(self, run: str) -> dict[str, Any]:
        """End the process of a run without an exam. A person can resume it; what was measured is kept."""
        from agent.control.client import stop

        folder = self._places.run(run, ours=True)
        found = stop(folder, timeout=WAIT)
        return {"run": run, "state": found.state}

    def result(self, run: str) -> dict[str, Any]:
        """The verdict of a run that has ended, what it changes as a diff, and where its files are.

        The figures of its exam are for the person: `truegain show FOLDER`, with the run's folder.
        """
        from agent.folders import listing
        from agent.results.result import load_result

        folder = self._places.run(run)
        state = listing(folder).state
        if state != "finished":
            rests = state in ("stopped", "lost", "damaged")
            raise ConfigError(
                f"{run} is {state}: nothing is claimed before its end",
                hint="only a person can resume it; start begins another one"
                if rests
                else "observe it; finish ends the search now",
            )
        return result_view(load_result(folder))

    def _where(self, folder: Path) -> list[str]:
        return ["--runs", str(self._places.place(folder))]

    def _values(
        self, folder: Path, space: dict[str, Any], text: str | None, values: dict[str, Any] | None
    ) -> dict[str, Any]:
        """A value for every parameter."""
        given = dict(values or {})
        if text is not None:
            texts = [name for name, item in space.items() if item.get("type") in ("text", "code")]
            if len(texts) != 1:
                which = f" ({', '.join(texts)})" if texts else ""
                raise ConfigError(
                    f"text is for the one text parameter, and there are {len(texts)}{which}",
                    hint="name the parameters in values instead",
                )
            if texts[0] in given:
                raise ConfigError(f"{texts[0]} is in text and in values", hint="give it once")
            given[texts[0]] = text
        if not given:
            raise ConfigError("nothing is given to measure", hint="give text or values")
        return {**ask(folder, "/best")["champion"]["values"], **given} if set(given) != set(space) else given


NAMES = (
    "list_problems",
    "list_runs",
    "estimate",
    "start",
    "observe",
    "evaluate_text",
    "read_rows",
    "show_candidate",
    "finish",
    "stop",
    "result",
)
READING = frozenset({"list_problems", "list_runs", "estimate", "observe", "show_candidate", "result"})
"""Tools that spend nothing and change nothing."""
