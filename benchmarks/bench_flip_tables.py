# SPDX-License-Identifier: BSD-3-Clause
"""Time the tables of the log tails that categorical noise requires for each radius.

Run with ``python benchmarks/bench_flip_tables.py``. The goal is one second for each table.
"""

from __future__ import annotations

import statistics
import time

from sksmooth.smoothing._flip_lattice import required_log_tails

CASES = [
    # q, number of values, largest radius
    (0.05, 2, 10_000),
    (0.3, 2, 10_000),
    (0.45, 2, 10_000),
    (0.05, 10, 2_000),
    (0.3, 10, 2_000),
    (0.8, 10, 2_000),
]
N_REPEATS = 3


def main() -> None:
    """Print the median time of each table and its last entry."""
    print(f"{'q':>5} {'K':>3} {'r':>7} {'seconds':>8} {'log(1 - p_a) at r':>19}")
    for q, n_categories, max_radius in CASES:
        seconds = []
        for _ in range(N_REPEATS):
            required_log_tails.cache_clear()
            start = time.perf_counter()
            table = required_log_tails(q, n_categories, max_radius)
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds)
        print(f"{q:5} {n_categories:3} {max_radius:7} {median:8.3f} {table[-1]:19.4f}")


if __name__ == "__main__":
    main()
