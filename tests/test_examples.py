# SPDX-License-Identifier: BSD-3-Clause
"""The demo, run as a user runs it."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments):
    """Run an example and return what it printed, with its errors and progress."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_demo_on_the_embedded_data(tmp_path):
    done = run("spam_filter.py", "--output", str(tmp_path))
    assert "certify: 100%" in done.stderr  # progress
    text = done.stdout
    rows = re.findall(
        r"^(clean|backdoored) +([\d.]+) +([\d. /]+?) {3,}([\d. /]+)$", text, re.MULTILINE
    )
    assert [row[0] for row in rows] == ["clean", "backdoored"]
    for _, accuracy, certified, rate in rows:
        certified = [float(v) for v in certified.split(" / ")]
        rate = [float(v) for v in rate.split(" / ")]
        assert len(certified) == len(rate) == 5  # R = 0.05, 0.1, 0.2, 0.5, 1
        assert float(accuracy) > 0.9 and sorted(certified, reverse=True) == certified
        assert all(a <= r <= 1 for a, r in zip(certified, rate, strict=True))
        assert certified[0] > 0.9 and certified[-1] > 0.5
    sure, changed = re.search(
        r"Of the (\d+) certified at its size, [\d.]+, it changed (\d+)\.", text
    ).groups()
    assert int(sure) > 50 and changed == "0"
    assert (tmp_path / "certified_accuracy.png").read_bytes()[:4] == b"\x89PNG"
    with open(tmp_path / "certificates.csv", newline="") as file:
        report = list(csv.DictReader(file))
    assert len(report) == 114
    radii = [float(row["radius"]) for row in report]
    assert sorted(radii) == radii
    weakest = text.split("The five weakest predictions")[1].splitlines()[2:]
    assert [line.split()[0] for line in weakest] == [row["test_row"] for row in report[:5]]


@pytest.mark.slow
def test_a_backdoor_that_changes_labels_too(tmp_path):
    text = run("plot_backdoor_with_labels.py", "--output", str(tmp_path), "--members=240").stdout
    held = [float(v) for v in re.findall(r"n_flips=\d: ([\d.]+)", text)]
    assert len(held) == 6 and sorted(held, reverse=True) == held and held[1] > 0.5
    attacks = re.findall(r"Of (\d+) predictions.*?it, (\d+) changed; of the other \d+, (\d+)", text)
    (inside, changed, _), (_, changed_too, outside) = (map(int, a) for a in attacks)
    assert inside > 20 and changed == changed_too == 0 and outside > 10
    assert (tmp_path / "backdoor_with_labels.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_a_cluster_gives_the_same_certificates():
    pytest.importorskip("dask.distributed", reason="needs the extra dask")
    text = run("dask_cluster.py", "--members=40").stdout
    assert "40 files kept" in text and "the same certificates: True" in text
