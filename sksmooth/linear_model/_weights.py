# SPDX-License-Identifier: BSD-3-Clause
"""Ridge regression as weights of training rows: what a score owes to each label.

The score of a class is the sum of the weights of its rows, ``a = M h(x)`` (Rosenfeld et al.,
section 4.1), and the weights never see a label. They are written as ``a = columns.T @ z`` with a
vector z of ``min(n_rows, n_features)`` numbers (and one for the intercept) per test input.

Certificates are about z and `columns` as computed here, taken as exact numbers: an error in solving
the linear system moves the classifier, for all labels alike, and not the certificate.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import linalg, sparse

from ._kernels import EPS, weigh_rows, weigh_sparse_rows


class RowWeights:
    """Weights of the training rows in ridge regression, for any test input.

    The linear system has a row per feature, or per training row where these are fewer.

    Parameters
    ----------
    X : ndarray or csr_array of shape (n_rows, n_features)
        Training inputs; not changed.
    sample_weight : ndarray of shape (n_rows,)
        Non-negative, not all zero.
    alpha : float or "scale"
        Penalty; "scale" is the sum of squares of what is penalised, per feature.
    fit_intercept : bool
        With an unpenalised intercept the weights of all rows add up to 1.
    """

    def __init__(self, X, sample_weight, alpha, fit_intercept: bool) -> None:
        n_rows, n_features = X.shape
        total = float(sample_weight.sum())
        self._sparse, self._wide = sparse.issparse(X), n_features > n_rows
        self._intercept = 1.0 / total if fit_intercept else 0.0
        self._mean = np.zeros(n_features)
        if fit_intercept:
            self._mean = np.asarray(X.T @ sample_weight).reshape(-1) / total
        with np.errstate(over="ignore", invalid="ignore"):
            build = self._build_sparse if self._sparse else self._build_dense
            build(X, sample_weight, alpha)
        self.column_sums = self._column_sums()

    def _build_dense(self, X, sample_weight, alpha) -> None:
        centred = X - self._mean
        if self._wide:
            centred *= np.sqrt(sample_weight)[:, None]
            inverse = self._inverse(centred @ centred.T, centred.shape[1], alpha)
            self._projection = np.ascontiguousarray(centred.T)
            self._columns = inverse * np.sqrt(sample_weight)
        else:
            self._columns = np.ascontiguousarray((centred * sample_weight[:, None]).T)
            self._projection = self._inverse(self._columns @ centred, centred.shape[1], alpha)
        if self._intercept:
            self._columns = np.vstack([self._columns, self._intercept * sample_weight])

    def _build_sparse(self, X, sample_weight, alpha) -> None:
        if self._wide:
            # A copy: data that are changed in place later must not change the certificates.
            self._rows, self._roots = X.copy(), np.sqrt(sample_weight)
            self._means = np.asarray(X @ self._mean).reshape(-1)
            gram = self._roots[:, None] * self._dots(X)
            inverse = self._inverse(gram, X.shape[1], alpha)
            self._columns = inverse * self._roots
            if self._intercept:
                self._columns = np.vstack([self._columns, self._intercept * sample_weight])
        else:
            self._rows = sparse.csr_array(X.multiply(sample_weight[:, None]))
            self._constants = sample_weight
            gram = (self._rows.T @ X).toarray()
            if self._intercept:
                gram -= np.outer(self._mean, self._mean) / self._intercept
            self._projection = self._inverse(gram, X.shape[1], alpha)

    def _dots(self, X) -> np.ndarray:
        """Products of centred sparse inputs with the centred training rows, times their roots."""
        dots = (X @ self._rows.T).toarray() - self._means
        dots += (self._mean @ self._mean - np.asarray(X @ self._mean).reshape(-1))[:, None]
        return dots * self._roots

    def _inverse(self, gram, n_features: int, alpha) -> np.ndarray:
        if not np.all(np.isfinite(gram)):
            raise ValueError("X must hold numbers whose squares can be added up. They overflow.")
        self.alpha = float(np.trace(gram)) / n_features if alpha == "scale" else float(alpha)
        norm = linalg.norm(gram, 1) + self.alpha
        gram.flat[:: gram.shape[0] + 1] += self.alpha
        try:
            factor = linalg.cholesky(gram, lower=True, check_finite=False)
            rcond = linalg.lapack.dpocon(factor, norm, uplo="L")[0]
        except linalg.LinAlgError:
            rcond = 0.0
        singular = rcond < EPS * gram.shape[0] or (self._wide and self.alpha == 0.0)
        if alpha == "scale" and self.alpha == 0.0:
            raise ValueError(
                "alpha='scale' is 0 here, as every column of X is constant where rows have a "
                "weight (without an intercept: 0), or too small to be squared. Give alpha as a "
                f"number above 0. Got X with {n_features} features."
            )
        if rcond == 0.0 or (singular and self.alpha == 0.0):
            raise ValueError(
                f"alpha={alpha!r} leaves a singular linear system: features are linearly "
                f"dependent, or there are more of them than rows. Take a larger alpha"
                f"{'' if alpha == 'scale' else ', such as ' + repr('scale')}. Got X with "
                f"{n_features} features."
            )
        if singular:
            warnings.warn(
                f"alpha={self.alpha:.3g} leaves an ill-conditioned linear system "
                f"(rcond={rcond:.1e}): predictions may be poor. Certificates hold for the "
                "predictions as they are.",
                linalg.LinAlgWarning,
                stacklevel=4,
            )
        lower = linalg.lapack.dpotri(factor, lower=1)[0]
        return np.tril(lower) + np.tril(lower, -1).T

    def _column_sums(self) -> np.ndarray:
        """Upper bounds on the sums of absolute values of `columns`, row by row."""
        if self._sparse and not self._wide:
            sums = np.append(np.asarray(abs(self._rows).sum(axis=0)), self._constants.sum())
            n_rows = self._rows.shape[0]
        else:
            sums, n_rows = np.abs(self._columns).sum(axis=1), self._columns.shape[1]
        return sums * (1.0 + n_rows * EPS)

    def combine(self, Y) -> np.ndarray:
        """Return ``columns @ Y``, of shape (rank, n_outputs), for targets Y of the rows."""
        if self._sparse and not self._wide:
            return np.vstack([np.asarray(self._rows.T @ Y), self._constants @ Y])
        return self._columns @ Y

    def project(self, X) -> np.ndarray:
        """Return z of test inputs, of shape (n_inputs, rank); each row depends on its own input."""
        if self._sparse and self._wide:
            z = self._dots(sparse.csr_array(X))
        else:
            centred = (X.toarray() if sparse.issparse(X) else X) - self._mean
            z = np.empty((X.shape[0], self._projection.shape[1]))
            weigh_rows(self._projection, np.ascontiguousarray(centred), z)
        if self._sparse and not self._wide:
            return np.column_stack([z, self._intercept - (z * self._mean).sum(axis=1)])
        return np.column_stack([z, np.ones(len(z))]) if self._intercept else z

    def weights(self, z) -> np.ndarray:
        """Return the row weights ``columns.T @ z``, of shape (n_inputs, n_rows)."""
        if self._sparse and not self._wide:
            out = np.empty((z.shape[0], self._rows.shape[0]))
            rows = self._rows
            weigh_sparse_rows(rows.data, rows.indices, rows.indptr, self._constants, z, out)
        else:
            out = np.empty((z.shape[0], self._columns.shape[1]))
            weigh_rows(self._columns, z, out)
        return out


def rosenfeld_alpha(X, codes, n_classes: int, q: float, fit_intercept: bool) -> float:
    r"""Return ``(1 + q) s^2 k / (2 n) kappa(X^T X)`` of section 4.1 of Rosenfeld et al.

    s^2 is the variance of the residuals of least squares, averaged over the classes: it depends on
    the labels.
    """
    n_rows, n_features = X.shape
    Y = (codes[:, None] == np.arange(n_classes)).astype(np.float64)
    if fit_intercept:
        X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    freedom = n_rows - n_features - fit_intercept
    singular = np.zeros(1)
    if freedom > 0:
        coefficients, _, _, singular = linalg.lstsq(X, Y, check_finite=False)
    if not singular[-1] > EPS * n_rows * singular[0]:
        raise ValueError(
            "alpha='rosenfeld' needs more rows than features, and features that are not linearly "
            f"dependent. Got X of shape ({n_rows}, {n_features})."
        )
    variance = float(np.mean(np.square(Y - X @ coefficients).sum(axis=0))) / freedom
    condition = (singular[0] / singular[-1]) ** 2
    return float((1.0 + q) * variance * n_features / (2.0 * n_rows) * condition)
