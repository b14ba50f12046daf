"""Student's t distribution in NumPy: probabilities and quantiles, whole arrays at once.

Reads / writes: nothing. Never: SciPy, which the app does not need otherwise; the tests compare with it.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_TINY = 1e-300
_CLOSE = 1e-14
_MOST_STEPS = 400


def two_sided_p(t: ArrayLike, df: ArrayLike) -> Floats:
    """Return the probability of a t at least as far from 0, on either side, by luck alone.

    ``t``, ``df`` (degrees of freedom, > 0, need not be whole): arrays that broadcast. Range 0 to 1; NaN where either is NaN.
    """
    ts, dfs = np.broadcast_arrays(np.asarray(t, dtype=float), np.asarray(df, dtype=float))
    squared = np.square(ts)
    with np.errstate(invalid="ignore"):
        x = np.where(np.isinf(squared), 0.0, dfs / (dfs + squared))
    return _regularised_beta(x, dfs / 2, 0.5)


def quantile(df: ArrayLike, level: float = 0.95) -> Floats:
    """Return the half width, in standard errors, of an interval that holds ``level`` (0 to 1) of the distribution.

    ``df``: degrees of freedom, at least 1; NaN stays NaN. Newton's method from below: the probability is convex there, so it
    cannot overshoot.
    """
    dfs = np.asarray(df, dtype=float)
    known, back = np.unique(dfs, return_inverse=True)
    t = np.full(known.shape, NormalDist().inv_cdf((1 + level) / 2))
    for _ in range(60):
        step = (two_sided_p(t, known) - (1 - level)) / (2 * _density(t, known))
        t = t + step
        if not np.any(np.abs(step) > 1e-12 * t):
            break
    return t[back].reshape(dfs.shape)


def _density(t: Floats, df: Floats) -> Floats:
    scale = _log_gamma((df + 1) / 2) - _log_gamma(df / 2) - 0.5 * np.log(df * math.pi)
    density: Floats = np.exp(scale - (df + 1) / 2 * np.log1p(t * t / df))
    return density


def _regularised_beta(x: Floats, a: Floats, b: float) -> Floats:
    """I_x(a, b) by its continued fraction, on the side where that converges quickly."""
    swap = x > (a + 1) / (a + b + 2)
    aa, bb, xx = np.where(swap, b, a), np.where(swap, a, b), np.where(swap, 1 - x, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        front = np.exp(_log_gamma(a + b) - _log_gamma(a) - math.lgamma(b) + aa * np.log(xx) + bb * np.log1p(-xx)) / aa
    value = np.where(xx <= 0, 0.0, front * _fraction(xx, aa, bb))
    result: Floats = np.where(np.isnan(x) | np.isnan(a), np.nan, np.where(swap, 1 - value, value))
    return result


def _fraction(x: Floats, a: Floats, b: Floats) -> Floats:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    c = np.ones_like(x)
    d = 1 / _kept(1 - (a + b) * x / (a + 1))
    h = d.copy()
    for m in range(1, _MOST_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _kept(1 + term * d)
            c = _kept(1 + term / c)
            h = h * d * c
        if not np.any(np.abs(d * c - 1) > _CLOSE):
            break
    return h


def _kept(value: Floats) -> Floats:
    kept: Floats = np.where(np.abs(value) < _TINY, _TINY, value)
    return kept


def _log_gamma(values: Floats) -> Floats:
    known, back = np.unique(values, return_inverse=True)
    return np.array([math.lgamma(v) if v == v else math.nan for v in known])[back].reshape(np.shape(values))
