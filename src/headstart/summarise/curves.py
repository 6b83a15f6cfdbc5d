"""What is read off one learning curve: when it reaches a level, its area, and the law by which its error decays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from headstart.summarise.tables import Row, finite

Curve = dict[str, NDArray[np.float64]]
QUANTITIES = {"updates": "step", "audio_hours": "audio_hours_seen", "seconds": "wall_s", "flops": "flops"}
PLATEAU = 0.98  # share of the highest error that counts as not yet fallen
STEEPEST = 10.0  # bound of a decay's rate: twice the training would leave less than a thousandth of the error


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
    values of its first evaluation; they are upper bounds, and `bound` is True. Returns None if the level is never
    reached; a quantity that the curve lacks is None.
    """
    error = curve[column]
    rows = np.flatnonzero(error <= level)
    if not rows.size:
        return None
    row = int(rows[0])
    if row == 0:
        return {**at_row(curve, 0), "bound": True}
    weight = float((error[row - 1] - level) / (error[row - 1] - error[row]))
    before, after = at_row(curve, row - 1), at_row(curve, row)
    return {
        name: None if None in (before[name], after[name]) else before[name] + weight * (after[name] - before[name])
        for name in QUANTITIES
    } | {"bound": False}


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

    The law is fitted by least squares on log errors, with an asymptote between 0 and the lowest error and a rate of at
    most 10. Asymptote, rate and scale are None unless the points determine them: at least five of them, errors that
    fall, and a lower corrected Akaike criterion (Hurvich & Tsai 1989) than the same law without an asymptote.
    """
    amount, error = np.asarray(amount, np.float64), np.asarray(error, np.float64)
    usable = np.isfinite(amount) & np.isfinite(error) & (amount > 0) & (error > 0)
    amount, error = amount[usable], error[usable]
    if len(error):
        begin = int(np.flatnonzero(error >= PLATEAU * error.max())[-1])
        amount, error = amount[begin:], error[begin:]
    x, y = np.log(amount), np.log(error)
    points = len(error)
    if points < 2 or np.ptp(x) == 0:
        return Decay(None, None, None, None, points)
    middle = float(x.mean())
    x = x - middle
    slope, level = _line(x, y)
    if points < 5 or slope >= 0:
        return Decay(slope, None, None, None, points)
    asymptote, height, rate, squares = _power_law(x, y)
    plain = float(np.sum((level + slope * x - y) ** 2))
    if _aicc(squares, points, 3) >= _aicc(plain, points, 2):
        return Decay(slope, None, None, None, points)
    return Decay(slope, asymptote, rate, float(np.exp(height + rate * middle)), points)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and mean of the least-squares line through (x, y), where x has a mean of 0."""
    return float(x @ y / (x @ x)), float(y.mean())


def _power_law(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """The least-squares fit of y by log(asymptote + exp(height - rate * x)): the three numbers and the squared errors.

    x is log amount with a mean of 0, y log error. The search begins with half of the lowest error as asymptote.
    """
    lowest = float(np.exp(y.min()))

    def law(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share, height, rate = parameters
        decaying = np.exp(height - rate * x)
        return decaying, share * lowest + decaying

    def residuals(parameters: np.ndarray) -> np.ndarray:
        return np.log(law(parameters)[1]) - y

    def jacobian(parameters: np.ndarray) -> np.ndarray:
        decaying, fitted = law(parameters)
        return np.stack([np.full(len(x), lowest), decaying, -x * decaying], axis=1) / fitted[:, None]

    slope, height = _line(x, np.log(np.exp(y) - 0.5 * lowest))
    begin = [0.5, height, np.clip(-slope, 0.01, 0.99 * STEEPEST)]
    bounds = ([0.0, -np.inf, 0.0], [1.0, np.inf, STEEPEST])
    fit = least_squares(residuals, begin, jacobian, bounds, xtol=1e-12, ftol=1e-12, gtol=1e-12)
    share, height, rate = map(float, fit.x)
    return share * lowest, height, rate, 2.0 * float(fit.cost)


def _aicc(squares: float, points: int, parameters: int) -> float:
    """Akaike's criterion with the correction for few points; one parameter more is the variance."""
    k = parameters + 1
    if points - k - 1 <= 0:
        return float("inf")
    return points * np.log(max(squares, 1e-12) / points) + 2 * k + 2 * k * (k + 1) / (points - k - 1)
