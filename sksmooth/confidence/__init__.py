# SPDX-License-Identifier: BSD-3-Clause
"""From votes of noisy draws to bounds on class probabilities that hold at a stated level.

The single bounds share one signature, ``(data, *, error, side)``, and one form of `data`:

- an array of the draws themselves, values in [0, 1], with the draws on the last axis, or
- a pair ``(successes, n_drawn)`` as a tuple of two numbers or arrays that broadcast.

Each makes a one-sided statement about one mean that was named before the draws were seen:

=====================  ====================  =====================================================
Bound                  Data                  Holds
=====================  ====================  =====================================================
`clopper_pearson`      0/1 draws, or counts  at a number of draws fixed beforehand; exact
`hoeffding`            scores, or sums       at a number of draws fixed beforehand
`empirical_bernstein`  scores, or counts     at a number of draws fixed beforehand
`betting`              scores                at a number of draws, in an order, fixed beforehand
`anytime`              scores, or sums       at every number of draws at once
=====================  ====================  =====================================================

`probability_bounds` turns the votes for several classes into the `p_a` and `p_b` that a radius
needs, and pays for having picked the class on the same votes.

Rounding: a lower bound is never above, an upper bound never below the value that the formula has
in real arithmetic (for `betting`, with the bets that were computed).
"""

from sksmooth.confidence._anytime import anytime
from sksmooth.confidence._betting import betting
from sksmooth.confidence._binomial import clopper_pearson
from sksmooth.confidence._bounded import empirical_bernstein, hoeffding
from sksmooth.confidence._probability_bounds import ProbabilityBounds, probability_bounds

__all__ = [
    "ProbabilityBounds",
    "anytime",
    "betting",
    "clopper_pearson",
    "empirical_bernstein",
    "hoeffding",
    "probability_bounds",
]
