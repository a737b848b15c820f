"""The scorer's side: whether a trip visits every city once, and how much longer it is than a good one."""

from pathlib import Path

from cities import length, library, made

STARTS = 3


class Task:
    """Percent above the reference; of TSPLIB's instances that is the optimum."""

    entry = "harness:tour"
    schema = {"type": "array", "items": {"type": "integer"}}  # noqa: RUF012
    bounds = {"gap": (-5.0, None)}  # noqa: RUF012  # the reference is no proven optimum

    def files(self, candidate):
        """What calls the program."""
        return {"harness.py": (Path(__file__).parent / "harness.py").read_text(encoding="utf-8")}

    def inputs(self, seed, stage, row):
        """A row's cities, from several starts."""
        if stage == "smoke":
            return [{"cities": made("smoke", 6, "any"), "start": 0, "best": 1}]
        if "library" in row:
            cities, best = library()[row["library"]]["coords"], library()[row["library"]]["optimum"]
        else:
            cities, best = made(row["made"], row["count"], row["kind"]), row["best"]
        starts = [len(cities) * number // STARTS for number in range(STARTS)]
        return [{"cities": cities, "start": start, "best": best} for start in starts]

    def question(self, given):
        """The cities and where the trip begins."""
        return {"cities": given["cities"], "start": given["start"]}

    def score(self, given, output):
        """How much longer the trip is."""
        if sorted(output) != list(range(len(given["cities"]))):
            raise ValueError("a trip visits every city once")
        return {"gap": 100.0 * (length(given["cities"], output) / given["best"] - 1.0)}
