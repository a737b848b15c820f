"""Learning rates chosen while training: AutoLRS beside a constant rate and a cosine, at equal steps.

    python examples/autolrs/schedule.py [--seeds 5] [--steps 6400] [--json] [--plot out.svg]

After Jin et al. 2021, "AutoLRS: Automatic Learning-Rate Schedule by Bayesian Optimization on the Fly" (arXiv
2105.10762). Training goes in stages of STAGE steps. Before each, PROBES rates are tried for PROBE steps from one and
the same checkpoint; curves through their losses say where the stage would end, and the stage is trained with the
rate that promises most. Which rate is probed next is asked of our Gaussian process, by ask and tell.
Probes are steps that were paid for: every method here gets the same number of steps, probes included.
"""

import argparse
import json
import math
import statistics
import tempfile
from functools import partial

import numpy as np
from net import Network

from agent import Float, Study

STAGE, PROBE, PROBES = 800, 80, 6
"""Steps of a stage and of a probe, and probes per stage: 480 steps are spent for 800 that count."""
LOW, HIGH = 1e-3, 0.3
"""Rates that are allowed; the other methods' lie in the same range."""
POINTS = 10
"""Losses that are measured in a probe, on the validation images."""
GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Constant rates and cosine peaks that hindsight may choose from."""
GUESS = 0.01
"""A first guess without any tuning."""


def forecast(points, end):
    """The loss expected at a step, from (step, loss) so far; NaN when one of them is none.

    level + change · (exp(−c · step) − exp(−c · end)), so that the level is the answer, fitted by least squares for
    each c of a grid; the fits are averaged, weighed by how well they explain the losses. The paper fits one such curve.
    Ten noisy losses do not pin down what is still to come, so that is drawn towards zero: as if beside ten losses
    stood another one which says that nothing more will come.
    """
    steps, losses = np.array(points, dtype=float).T
    if not np.isfinite(losses).all():
        return math.nan
    ends, errors = [], []
    for c in np.geomspace(0.5, 100.0, 16) / end:
        shape = np.exp(-c * steps) - np.exp(-c * end)
        basis = np.column_stack([np.ones_like(steps), shape / shape[-1]])  # the second number is what is still to come
        pull = np.diag([0.0, 0.1 * len(steps)])
        level, coming = np.linalg.solve(basis.T @ basis + pull, basis.T @ losses)
        ends.append(level)
        errors.append(((basis @ [level, coming] - losses) ** 2).sum() + 0.1 * len(steps) * coming**2)
    weights = np.array([max(error, 1e-300) / max(min(errors), 1e-300) for error in errors]) ** (-len(steps) / 2)
    return max(0.0, float(weights @ ends / weights.sum()))


def probe(checkpoint, rate, stage):
    """The loss that a stage with this rate is expected to end at; NaN when it diverges."""
    network, points = checkpoint.copy(), []
    for step in range(1, PROBE + 1):
        network.step(rate)
        if step % (PROBE // POINTS) == 0:
            points.append((step, network.loss("val")))
    return forecast(points, stage)


def choose(checkpoint, last, stage, seed, folder):
    """The best of PROBES rates, the last stage's first, then what the Gaussian process asks for."""
    space = {"rate": Float(LOW, HIGH, log=True, default=last)}
    options = {"proposer": "gp", "options": {"start": 3}}
    with Study(
        space=space, budget=PROBES, deterministic=True, model=None, seed=seed, options=options, runs=folder
    ) as study:
        while (request := study.ask()) is not None:
            study.tell(request, probe(checkpoint, request.candidate["rate"], stage))
    return study.result.best["rate"]


def autolrs(steps, seed):
    """A network after so many steps, probes included, its rates and its losses by steps paid."""
    network, rate, paid, curve, rates = Network(seed), GUESS, 0, [], []
    with tempfile.TemporaryDirectory() as folder:
        while paid + PROBES * PROBE < steps:
            stage = min(STAGE, steps - paid - PROBES * PROBE)
            rate = choose(network, rate, stage, 100 * seed + len(rates), folder)
            rates.append(rate)
            paid += PROBES * PROBE
            for _ in range(stage):
                network.step(rate)
                paid += 1
                if paid % 40 == 0:
                    curve.append((paid, network.loss("val")))
    for _ in range(steps - paid):  # too few for another stage
        network.step(rate)
    return network, rates, curve


def constant(rate, step, steps):
    return rate


def cosine(peak, step, steps):
    return peak * (1 + math.cos(math.pi * step / steps)) / 2


def scheduled(schedule, rate, steps, seed):
    """The same for a fixed schedule."""
    network, curve = Network(seed), []
    for step in range(steps):
        network.step(schedule(rate, step, steps))
        if step % 40 == 39:
            curve.append((step + 1, network.loss("val")))
    return network, [rate], curve


def row(trained, paid):
    network, rates, curve = trained
    return {
        "rates": rates,
        "paid": paid,
        "val_loss": network.loss("val"),
        "test_loss": network.loss("test"),
        "test_accuracy": network.accuracy("test"),
        "curve": curve,
    }


def run(steps, seed):
    """One network by each method, with what was paid for it in steps."""
    out = {"AutoLRS": row(autolrs(steps, seed), steps)}
    for name, schedule in (("constant", constant), ("cosine", cosine)):
        tried = {rate: row(scheduled(schedule, rate, steps, seed), steps) for rate in GRID}
        best = min(GRID, key=lambda rate: _or_infinity(tried[rate]["val_loss"]))
        out[f"{name}, {GUESS} untuned"] = tried[GUESS]
        out[f"{name}, best of {len(GRID)} runs"] = {**tried[best], "paid": steps * len(GRID)}
    return out


def _or_infinity(loss):
    return loss if math.isfinite(loss) else math.inf


def plot(by_method, path):
    """Validation loss by steps paid, as an SVG with a logarithmic scale."""
    left, top, width, height = 60, 20, 560, 320
    colors = ("#c0392b", "#888888", "#1f77b4", "#e08e0b", "#2e8b57")
    values = [loss for item in by_method.values() for _, loss in item["curve"] if 0 < loss < math.inf]
    low, high = math.log(min(values)), math.log(min(max(values), 2.5))
    last = max(step for item in by_method.values() for step, _ in item["curve"])
    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>']

    def at(loss):
        return top + height * (high - min(max(math.log(loss), low), high)) / (high - low)

    for tick in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        if low <= math.log(tick) <= high:
            parts.append(f'<text x="{left - 6}" y="{at(tick) + 4:.0f}" text-anchor="end">{tick}</text>')
    for number, (name, item) in enumerate(by_method.items()):
        curve = [(step, loss) for step, loss in item["curve"] if 0 < loss < math.inf]
        places = " ".join(f"{left + width * step / last:.1f},{at(loss):.1f}" for step, loss in curve)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colors[number]}" stroke-width="1.5"/>')
        y = top + height + 45 + 16 * number
        parts.append(f'<text x="{left + 12}" y="{y}" fill="{colors[number]}">{name}: {item["val_loss"]:.4f}</text>')
    middle = left + width / 2
    parts.append(f'<text x="{middle}" y="{top + height + 20}" text-anchor="middle">steps, probes included</text>')
    body = "\n".join(parts)
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 480" font-family="sans-serif" font-size="12">'
            '<title>Validation loss by steps</title><rect width="640" height="480" fill="white"/>\n'
            f"{body}\n</svg>\n"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stage = STAGE + PROBES * PROBE
    parser.add_argument("--steps", type=int, default=5 * stage, help=f"of each method; {stage} are one stage")
    parser.add_argument("--seeds", type=int, default=5, help="networks by each method; the table has the medians")
    parser.add_argument("--json", action="store_true", help="every network as JSON")
    parser.add_argument("--plot", metavar="FILE", help="validation loss of the first seed, as an SVG")
    given = parser.parse_args()
    if given.steps < stage or given.seeds < 1:
        parser.error(f"at least one seed and {stage} steps are needed")
    runs = [run(given.steps, seed) for seed in range(given.seeds)]
    if given.plot:
        plot(runs[0], given.plot)
    if given.json:
        print(json.dumps({"steps": given.steps, "seeds": runs}))
        return
    probes = PROBES * PROBE
    print(f"{given.steps} steps each, {given.seeds} seeds, medians; AutoLRS spends {probes} of {stage} steps on probes")
    print(f"{'':26}{'steps paid':>11}{'val loss':>10}{'test loss':>11}{'accuracy':>10}  rates (first seed)")
    for name, first in runs[0].items():
        middle = partial(_median, runs, name)
        rates = " ".join(f"{rate:.2g}" for rate in first["rates"])
        numbers = (
            f"{first['paid']:11,}{middle('val_loss'):10.4f}{middle('test_loss'):11.4f}{middle('test_accuracy'):10.4f}"
        )
        print(f"{name:26}{numbers}  {rates}")


def _median(runs, name, key):
    return statistics.median(_or_infinity(item[name][key]) for item in runs)


if __name__ == "__main__":
    main()
