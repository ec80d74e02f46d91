# SPDX-License-Identifier: BSD-3-Clause
"""The counter-based generator: known answers, two implementations, and its distributions."""

import numpy as np
import pytest
import torch
from scipy import stats

from sksmooth.neural_network._philox import (
    _fill,
    _fill_by_torch,
    scratch,
    standard_normal,
    standard_uniform,
)

# Random123's known answers for philox4x32-10: counter, key, output.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


def philox(counter, key):
    """Write the cipher down once more, in Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (p1 >> 32) ^ c[1] ^ k[0],
            p1 & 0xFFFFFFFF,
            (p0 >> 32) ^ c[3] ^ k[1],
            p0 & 0xFFFFFFFF,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


@pytest.mark.parametrize("counter, key, answer", KNOWN)
def test_the_oracle_gives_the_published_answers(counter, key, answer):
    assert philox(counter, key) == answer


def drawn(draw, key, rows, n_columns):
    halves = draw(key, rows, n_columns, scratch(len(rows), n_columns, rows.device))
    return torch.cat(list(halves), dim=1)


@pytest.mark.parametrize("by_torch", [False, True])
def test_pairs_are_the_words_of_the_oracle(by_torch):
    rng = np.random.default_rng(0)
    key = rng.integers(2**32, size=4, dtype=np.uint32)
    rows = torch.tensor([0, 1, 12345, 2**32 - 1])
    pairs = torch.empty(2, 4, 5, dtype=torch.float64)
    if by_torch:
        _fill_by_torch(key, rows, pairs)
    else:
        _fill(key.astype(np.uint64), rows.numpy(), pairs.numpy())
    for i, row in enumerate(rows.tolist()):
        for j in range(5):
            words = philox([j, row, int(key[2]), int(key[3])], [int(key[0]), int(key[1])])
            whole = [words[0] * 2**32 + words[1], words[2] * 2**32 + words[3]]
            expected = [(float(w) + 0.5) * 2.0**-64 for w in whole]
            assert pairs[:, i, j].tolist() == expected


@pytest.mark.parametrize("draw", [standard_normal, standard_uniform])
@pytest.mark.parametrize("n_columns", [1, 6, 7])
def test_rows_do_not_depend_on_which_others_are_drawn(draw, n_columns):
    key = np.arange(4, dtype=np.uint32)
    whole = drawn(draw, key, torch.arange(50), n_columns)
    rows = torch.tensor([7, 3, 3, 49])
    assert whole.shape == (50, n_columns)
    assert torch.equal(drawn(draw, key, rows, n_columns), whole[rows])


def test_normal_numbers_are_normal_and_independent():
    key = np.array([1, 2, 3, 4], dtype=np.uint32)
    z = drawn(standard_normal, key, torch.arange(400), 501).numpy()
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.001
    u = drawn(standard_uniform, key, torch.arange(400), 501).numpy()
    assert stats.kstest(u.ravel(), "uniform").pvalue > 0.001
    assert (np.abs(z) > 4.0).mean() == pytest.approx(2 * stats.norm.sf(4.0), abs=4e-5)
    # Neighbours in a row, in a column, of a pair, and of other keys.
    other = drawn(standard_normal, key + np.uint32(1), torch.arange(400), 501).numpy()
    pairs = [(z[:, :-1], z[:, 1:]), (z[:-1], z[1:]), (z[:, :250], z[:, 251:]), (z, other)]
    for a, b in pairs:
        for f, g in [(a, b), (np.abs(a), np.abs(b)), (a**2, b)]:
            r = np.corrcoef(f.ravel(), g.ravel())[0, 1]
            assert abs(r) < 4.5 / np.sqrt(a.size)
