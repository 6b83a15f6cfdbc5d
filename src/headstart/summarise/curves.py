"""What is read off one learning curve: when it reaches a level, its area, and the law by which its error decays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from headstart.summarise.tables import Row, finite

Curve = dict[str, NDArray[np.float64]]
QUANTITIES = {"updates": "step", "audio_hours": "audio_hours_seen", "seconds": "wall_s", "flops": "flops"}
PLATEAU = 0.98  # share of the highest error that counts as not yet fallen


def evaluated_rows(curve: Curve | None, column: str) -> Curve | None:
    """The rows of a curve that have a value in `column`; None when there are none."""
    if curve is None or column not in curve:
        return None
    rows = np.isfinite(curve[column])
    return {name: values[rows] for name, values in curve.items()} if rows.any() else None


def mean_of_column(curve: Curve | None, column: str) -> float | None:
    """The mean of a column over its evaluations; None without any."""
    rows = evaluated_rows(curve, column)
    return None if rows is None else float(rows[column].mean())


def first_reached(curve: Curve, column: str, level: float) -> Row | None:
    """Updates, hours of audio, seconds and FLOPs at which the error is at or below `level` for the first time.

    Between the last evaluation above the level and the first one at or below it, the error is taken to fall in a
    straight line, and all four quantities are interpolated alike. A curve that begins at or below the level has the
    values of its first evaluation, which are upper bounds. Returns None if the level is never reached; a quantity that
    the curve lacks is None.
    """
    error = curve[column]
    rows = np.flatnonzero(error <= level)
    if not rows.size:
        return None
    row = int(rows[0])
    if row == 0:
        return at_row(curve, 0)
    weight = float((error[row - 1] - level) / (error[row - 1] - error[row]))
    before, after = at_row(curve, row - 1), at_row(curve, row)
    return {
        name: None if None in (before[name], after[name]) else before[name] + weight * (after[name] - before[name])
        for name in QUANTITIES
    }


def at_row(curve: Curve, row: int) -> Row:
    """Updates, hours of audio, seconds and FLOPs at one row; None for what the curve lacks."""
    return {name: finite(curve[key][row]) if key in curve else None for name, key in QUANTITIES.items()}


def area_under_curve(curve: Curve, column: str) -> float:
    """The mean error over the updates from the first to the last evaluation, by the trapezoidal rule."""
    steps, error = curve["step"], curve[column]
    if len(steps) < 2:
        return float(error[0])
    return float(np.trapezoid(error, steps) / (steps[-1] - steps[0]))


@dataclass(frozen=True)
class Decay:
    """How an error decays with an amount of training, such as updates or hours.

    Attributes:
        slope: of the straight line through log error against log amount, by least squares; negative if errors fall.
        asymptote: the error that remains in the end, by the law error = asymptote + scale * amount ** -rate.
        rate, scale: of the same law.
        points: the number of points after the initial plateau.
    """

    slope: float | None
    asymptote: float | None
    rate: float | None
    scale: float | None
    points: int


def fit_decay(amount: ArrayLike, error: ArrayLike) -> Decay:
    """Fit a power law to points that come after the initial plateau.

    Curves of CTC fine-tuning stay near their highest error for a while, in which the model writes nothing. The points
    before the last one above 98 % of the highest error are therefore left out.

    The asymptote is fitted by least squares on log errors, between 0 and the lowest error. It is None unless the points
    determine it: at least five of them, errors that fall, and a lower corrected Akaike criterion (Hurvich & Tsai 1989)
    than the same law without an asymptote.
    """
    amount, error = np.asarray(amount, np.float64), np.asarray(error, np.float64)
    usable = np.isfinite(amount) & np.isfinite(error) & (amount > 0) & (error > 0)
    amount, error = amount[usable], error[usable]
    if len(error):
        begin = int(np.flatnonzero(error >= PLATEAU * error.max())[-1])
        amount, error = amount[begin:], error[begin:]
    points = len(error)
    if points < 2 or np.ptp(amount) == 0:
        return Decay(None, None, None, None, points)
    x, y = np.log(amount), np.log(error)
    slope, _, plain = _line(x, y, np.zeros(points))
    if points < 5 or slope >= 0:
        return Decay(slope, None, None, None, points)
    lowest = float(error.min())
    best = minimize_scalar(
        lambda share: _line(x, np.log(error - share * lowest), np.full(points, share * lowest), y)[2],
        bounds=(0.0, 0.999),
        method="bounded",
        options={"xatol": 1e-6},
    )
    asymptote = float(best.x) * lowest
    steepness, intercept, squares = _line(x, np.log(error - asymptote), np.full(points, asymptote), y)
    if steepness >= 0 or _aicc(squares, points, 3) >= _aicc(plain, points, 2):
        return Decay(slope, None, None, None, points)
    return Decay(slope, asymptote, -steepness, float(np.exp(intercept)), points)


def _line(x: np.ndarray, y: np.ndarray, asymptote: np.ndarray, target: np.ndarray | None = None) -> tuple:
    """Slope and intercept of a line through (x, y), and its squared errors in log error including the asymptote."""
    slope, intercept = np.polyfit(x, y, 1)
    fitted = np.log(asymptote + np.exp(intercept + slope * x))
    return float(slope), float(intercept), float(np.sum((fitted - (y if target is None else target)) ** 2))


def _aicc(squares: float, points: int, parameters: int) -> float:
    """Akaike's criterion with the correction for few points; one parameter more is the variance."""
    k = parameters + 1
    if points - k - 1 <= 0:
        return float("inf")
    return points * np.log(max(squares, 1e-12) / points) + 2 * k + 2 * k * (k + 1) / (points - k - 1)
