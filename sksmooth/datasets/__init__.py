# SPDX-License-Identifier: BSD-3-Clause
"""Data sets from OpenML or a local folder, and toy data that need no download."""

from __future__ import annotations

from ._cifar10 import fetch_cifar10
from ._mnist import fetch_mnist
from ._spambase import fetch_spambase
from ._toy import make_toy_digits, make_toy_emails

__all__ = [
    "fetch_cifar10",
    "fetch_mnist",
    "fetch_spambase",
    "make_toy_digits",
    "make_toy_emails",
]
