"""Loss of the small network after training with a schedule of three numbers."""

import json
import math
import sys
import tomllib
from pathlib import Path

from net import Network

STEPS = 1500
SEEDS = (1, 2, 3)
"""Networks that are trained for one evaluation; their mean is the score."""


def rate(candidate, step, steps=STEPS):
    """The learning rate of a step: up to the peak in a straight line, then along a power of a line to zero."""
    warm = candidate["warmup"] * steps
    if step < warm:
        return candidate["peak"] * (step + 1) / (warm + 1)
    return candidate["peak"] * ((steps - step) / (steps - warm)) ** candidate["power"]


def trained(candidate, seed):
    network = Network(seed)
    for step in range(STEPS):
        network.step(rate(candidate, step))
    return network


def measure(candidate):
    """Return `loss`, the mean cross-entropy on the validation images; a schedule that diverges is a failure."""
    networks = [trained(candidate, seed) for seed in SEEDS]
    losses = [network.loss("val") for network in networks]
    if not all(map(math.isfinite, losses)):
        raise ArithmeticError(f"training diverged: the peak of {candidate['peak']:.3g} is too large")
    fitted = sum(network.loss("train") for network in networks) / len(networks)
    return {"loss": sum(losses) / len(losses), "feedback": f"loss on the images fitted: {fitted:.4f}"}


def heldout(candidate):
    """Loss and accuracy on the test images, with other weights and batches than the search saw."""
    networks = [trained(candidate, seed + 100) for seed in SEEDS]
    return {
        "test_loss": sum(network.loss("test") for network in networks) / len(networks),
        "test_accuracy": sum(network.accuracy("test") for network in networks) / len(networks),
    }


def main():
    """Print what the defaults and a run's best schedule reach.

    Usage: python evaluate.py RUN_FOLDER/best/candidate.json
    """
    best = json.loads(Path(sys.argv[1]).read_text())["candidate"]
    defaults = tomllib.loads(Path(__file__).with_name("problem.toml").read_text())["space"]
    initial = {name: parameter["default"] for name, parameter in defaults.items()}
    for label, candidate in (("initial", initial), ("best", best)):
        scores = measure(candidate) | heldout(candidate)
        print(
            f"{label}: loss {scores['loss']:.4f}, test_loss {scores['test_loss']:.4f}, "
            f"test_accuracy {scores['test_accuracy']:.4f}"
        )


if __name__ == "__main__":
    main()
