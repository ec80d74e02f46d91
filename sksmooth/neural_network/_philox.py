# SPDX-License-Identifier: BSD-3-Clause
"""A counter-based generator: any number of a stream, at any time, in any order.

Philox4x32-10 of J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As
Easy as 1, 2, 3" (SC 2011): ten rounds of a block cipher, whose key names the stream and whose
counter names the place in it. Here the place is a row and a pair of columns, so the noise of a few
rows can be drawn without that of the others, again and again, and is never stored.

A block of four words of 32 bits gives two uniform numbers of 64 bits, and these give two normal
numbers by the transform of Box and Muller, whose tails reach 9 standard deviations. (The ziggurat
of NumPy is no faster, and cannot be computed on a GPU.)

The integers are the same on every device; logarithms and cosines may differ in their last bits.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch

# Multipliers and increments of the key, as in the paper's Table 2 and its authors' code.
_M0, _M1, _W0, _W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_MASK = 0xFFFFFFFF

# Words of 32 bits in a key: two are Philox's own key, two are half of the counter.
KEY_WORDS = 4


def scratch(n_rows: int, n_columns: int, device: torch.device) -> torch.Tensor:
    """Return memory that the functions below work in: to ask for it each time is half of the cost.

    Their answers lie in it, until the next call.
    """
    return torch.empty(3, n_rows, -(-n_columns // 2), dtype=torch.float64, device=device)


def uniform_pairs(key: np.ndarray, rows: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """Return the uniform numbers of some rows of a stream, of as many pairs as `memory` has.

    Parameters
    ----------
    key : ndarray of uint32 of shape (4,)
        The stream.
    rows : tensor of int64 of shape (m,)
        Numbers of rows, below 2**32. The answer is on their device.
    memory : tensor of float64 of shape (3, m, n_pairs)
        From `scratch`.

    Returns
    -------
    tensor of float64 of shape (2, m, n_pairs)
        Multiples of 2**-64, rounded to floats, in (0, 1].
    """
    pairs = memory[:2]
    if rows.device.type == "cpu":
        _fill(key.astype(np.uint64), rows.numpy(), pairs.numpy())
    else:
        _fill_by_torch(key, rows, pairs)
    return pairs


def _fill_by_torch(key: np.ndarray, rows: torch.Tensor, pairs: torch.Tensor) -> None:
    """Do what `_fill` does, by torch's operations on int64, whose products wrap as uint64's do."""
    x, y, k2, k3 = (int(word) for word in key)
    a = torch.arange(pairs.shape[2], device=rows.device).expand(pairs.shape[1:])
    b = rows.unsqueeze(1).expand_as(a)
    c, d = torch.full_like(a, k2), torch.full_like(a, k3)
    for _ in range(_ROUNDS):
        low, high = _M0 * a, _M1 * c
        a, b, c, d = (
            (high >> 32 & _MASK) ^ b ^ x,
            high & _MASK,
            (low >> 32 & _MASK) ^ d ^ y,
            low & _MASK,
        )
        x, y = x + _W0 & _MASK, y + _W1 & _MASK

    def uniform(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        # Exact but for the last addition, which rounds once as a conversion of the whole does.
        whole = high.double() * 2.0**32 + low.double()
        return (whole + 0.5) * 2.0**-64

    pairs[0], pairs[1] = uniform(a, b), uniform(c, d)


@numba.njit(cache=True)
def _fill(key: np.ndarray, rows: np.ndarray, pairs: np.ndarray) -> None:
    m0, m1, mask = np.uint64(_M0), np.uint64(_M1), np.uint64(_MASK)
    w0, w1, half_word = np.uint64(_W0), np.uint64(_W1), np.uint64(32)
    for i in range(rows.shape[0]):
        first, second = pairs[0, i], pairs[1, i]
        for j in range(first.shape[0]):
            a, b, c, d = np.uint64(j), np.uint64(rows[i]), key[2], key[3]
            x, y = key[0], key[1]
            for _ in range(_ROUNDS):
                low, high = m0 * a, m1 * c
                a, b, c, d = (
                    (high >> half_word) ^ b ^ x,
                    high & mask,
                    (low >> half_word) ^ d ^ y,
                    low & mask,
                )
                x, y = (x + w0) & mask, (y + w1) & mask
            first[j] = (np.float64((a << half_word) | b) + 0.5) * 2.0**-64
            second[j] = (np.float64((c << half_word) | d) + 0.5) * 2.0**-64


def standard_uniform(
    key: np.ndarray, rows: torch.Tensor, n_columns: int, memory: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uniform numbers in (0, 1]: those of the first columns, and those of the others."""
    first, second = uniform_pairs(key, rows, memory)
    return first, second[:, : n_columns - first.shape[1]]


def standard_normal(
    key: np.ndarray, rows: torch.Tensor, n_columns: int, memory: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return standard normal numbers: those of the first columns, and those of the others."""
    radius, angle = uniform_pairs(key, rows, memory)
    radius.log_().mul_(-2.0).sqrt_()
    angle.mul_(2.0 * math.pi)
    first = torch.cos(angle, out=memory[2]).mul_(radius)
    second = angle.sin_().mul_(radius)
    return first, second[:, : n_columns - first.shape[1]]
