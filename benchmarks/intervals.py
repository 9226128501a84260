"""How long the intervals of an evaluation take; one JSON line."""

import argparse
import json
import time

import numpy as np

from fusion.classified import Classified
from fusion.intervals import RESAMPLES, intervals


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=20_000)
    parser.add_argument("--patients", type=int, default=200)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, arguments.patches)
    scores = random.dirichlet(np.ones(3), arguments.patches) + 0.3 * np.eye(3)[labels]
    owners = np.arange(arguments.patches) % arguments.patients
    rows = Classified(labels, scores / scores.sum(axis=1, keepdims=True), owners.astype(str).astype(object))
    started = time.perf_counter()
    intervals(rows, seed=0)
    print(json.dumps({**vars(arguments), "resamples": RESAMPLES, "seconds": round(time.perf_counter() - started, 2)}))


if __name__ == "__main__":
    main()
