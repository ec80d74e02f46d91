# SPDX-License-Identifier: BSD-3-Clause
"""Import time of the package with its estimators, against the scikit-learn modules it builds on.

Run with ``make bench ARGS=benchmarks/bench_import.py``. Every figure is the median over fresh
interpreters, less the median of an empty one; the candidates take turns, so that a slow moment of
the machine falls on all of them. The goal is a ratio below 1.5.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

GOAL = 1.5
CANDIDATES = {
    "empty interpreter": "pass",
    "import sksmooth": "import sksmooth",
    "sksmooth and its estimators": (
        "import sksmooth\n"
        "for name in sksmooth.__all__:\n"
        "    if name.endswith('Classifier'): getattr(sksmooth, name)"
    ),
    "sklearn.neighbors, .linear_model": "import sklearn.neighbors, sklearn.linear_model",
}


def seconds(code: str) -> float:
    """Wall time of a fresh interpreter that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11, help="interpreters per candidate")
    rounds = parser.parse_args().rounds

    for code in CANDIDATES.values():  # once unmeasured: byte code and the file cache
        seconds(code)
    times: dict[str, list[float]] = {title: [] for title in CANDIDATES}
    for _ in range(rounds):
        for title, code in CANDIDATES.items():
            times[title].append(seconds(code))

    median = {title: statistics.median(values) for title, values in times.items()}
    empty = median["empty interpreter"]
    print(f"median of {rounds} fresh interpreters each, less the empty one ({empty * 1e3:.0f} ms)")
    for title in list(CANDIDATES)[1:]:
        print(f"  {title:<34} {(median[title] - empty) * 1e3:7.1f} ms")
    # The ratio is taken round by round, which removes what a whole round had in common.
    ratio = statistics.median(
        (ours - floor) / (theirs - floor)
        for ours, theirs, floor in zip(
            times["sksmooth and its estimators"],
            times["sklearn.neighbors, .linear_model"],
            times["empty interpreter"],
            strict=True,
        )
    )
    print(f"  ratio of the last two              {ratio:7.2f}    (goal: below {GOAL})")


if __name__ == "__main__":
    main()
