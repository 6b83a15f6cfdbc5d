"""Effects in a table of starts × languages, both of which are samples.

A table has a number for each start and language, such as the logarithm of an error rate, averaged over seeds. Starts
differ from one another for reasons that no study can list, languages do too, and each start suits some languages better
than others. A question is a regression over the starts, over the languages, or over the cells of the table, and its
error has to count starts as starts and languages as languages: eighteen languages do not make eighteen of one start.

`start_effect` and `language_effect` are the estimates of a mixed model with crossed random effects and random slopes,
in the closed form that a complete table allows: the variance of the effect is that over starts plus that over languages
less that of single cells, which is in both, with Satterthwaite's degrees of freedom. `cell_effect` is for a quantity
that differs within starts and within languages: both are taken out, and errors are clustered both ways (Cameron,
Gelbach & Miller 2011, doi:10.1198/jbes.2010.07136).

Each effect has two p values. One is from the t distribution. The other is from permutations of what is a sample:
residuals of the model without the effect are given to other starts, other languages, or both (Freedman & Lane 1983).
The larger one counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

PERMUTATIONS = 1999  # drawn, where there are more than that
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """An effect on the table's numbers.

    Attributes:
        value: the estimate.
        error: its standard error; NaN where it cannot be estimated.
        df: degrees of freedom of the error.
        p_permutation: two-sided, from permutations.
        finest: the smallest p value that permutations of so few starts or languages can give.
    """

    value: float
    error: float
    df: float
    p_permutation: float
    finest: float

    @property
    def p_t(self) -> float:
        """Two-sided p value of the t distribution."""
        if not self.error > 0:
            return 1.0
        return float(2 * stdtr(self.df, -abs(self.value) / self.error))

    @property
    def p(self) -> float:
        """The larger of the two p values."""
        return max(self.p_t, self.p_permutation)

    def interval(self, confidence: float) -> tuple[float, float]:
        """The interval that contains the true effect with probability `confidence`, by the t distribution."""
        half = float(stdtrit(self.df, (1 + confidence) / 2)) * self.error
        return self.value - half, self.value + half


def start_effect(table: Array, predictor: Array, others: Array, rng: np.random.Generator) -> Effect:
    """The effect of something that differs between starts, on the average language.

    Args:
        table: `[starts, languages]`.
        predictor: `[starts]`, whose effect it is.
        others: `[starts, k]`, what is held constant; must contain the intercept.
        rng: draws the permutations.

    Raises:
        ValueError: there are not more starts than coefficients, or the predictor is a combination of the others.
    """
    return _side_effect(table, predictor, others, rng)


def language_effect(table: Array, predictor: Array, others: Array, rng: np.random.Generator) -> Effect:
    """The effect of something that differs between languages, on the average start; as `start_effect`.

    Args:
        table: `[starts, languages]`.
        predictor: `[languages]`.
        others: `[languages, k]`.
        rng: draws the permutations.
    """
    return _side_effect(table.T, predictor, others, rng)


def _side_effect(table: Array, predictor: Array, others: Array, rng: np.random.Generator) -> Effect:
    """The effect of a predictor of the rows, averaged over the columns."""
    rows, columns = table.shape
    reduced = _projection_away(others)
    within = reduced @ predictor  # what the others do not explain of the predictor
    size = float(within @ within)
    row_df, column_df = rows - others.shape[1] - 1, columns - 1
    if row_df < 1 or column_df < 1:
        raise ValueError("too few rows or columns for an error")
    if size < 1e-9 * max(float(predictor @ predictor), 1e-300):
        raise ValueError("the predictor is a combination of the others")
    weights = within / size
    full = _projection_away(np.column_stack([others, predictor]))
    means = table.mean(1)
    value = float(weights @ means)
    slopes = weights @ table  # [columns], the effect in each
    centred = slopes - slopes.mean()
    rest = full @ (table - means[:, None])
    spread = float(weights @ weights)
    over_rows = float((full @ means) @ (full @ means)) / row_df * spread
    over_columns = float(centred @ centred) / column_df / columns
    over_cells = float((rest**2).sum()) / (row_df * column_df) * spread / columns
    both = combined(*map(np.asarray, (over_rows, row_df, over_columns, column_df, over_cells, row_df * column_df)))
    error, df = map(float, both)
    series = reduced @ means
    orders, finest = _orders(rows, rng)
    shuffled = reduced @ series[orders].T  # [rows, permutations]
    p = _share_as_large(_t_values(shuffled, within, full), _t_values(series[:, None], within, full)[0], finest)
    return Effect(value, error, df, p, _finest(series, within, orders, finest))


def combined(
    over_rows: Array, row_df: float, over_columns: Array, column_df: float, over_cells: Array, cell_df: float
) -> tuple[Array, Array]:
    """Standard error and degrees of freedom of an effect whose rows and columns are both samples.

    The variance over rows contains that of single cells, as the variance over columns does, so that it is counted once:
    V = V_rows + V_columns - V_cells, and at least the larger of the first two. Degrees of freedom are Satterthwaite's.
    """
    total = over_rows + over_columns - over_cells
    below = over_rows**2 / row_df + over_columns**2 / column_df + over_cells**2 / cell_df
    largest = np.maximum(over_rows, over_columns)
    summed = (total >= largest) & (below > 0)
    df = np.where(
        summed, total**2 / np.where(below > 0, below, 1.0), np.where(over_rows >= over_columns, row_df, column_df)
    )
    return np.sqrt(np.where(summed, total, largest)), df


def cell_effect(table: Array, predictor: Array, others: Array, rng: np.random.Generator) -> Effect:
    """The effect of something that differs within starts and within languages, such as how alike two languages are.

    Starts and languages have a level of their own each.

    Args:
        table: `[starts, languages]`.
        predictor: `[starts, languages]`, whose effect it is.
        others: `[k, starts, languages]`, what is held constant besides; may be empty.
        rng: draws the permutations.

    Raises:
        ValueError: there are fewer than three starts or languages, or the predictor is a combination of the others.
    """
    starts, languages = table.shape
    if min(starts, languages) < 3:
        raise ValueError("too few rows or columns for an error")
    value, within, rest, reduced = _cell_slope(table, predictor, others)
    size = float((within**2).sum())
    if size < 1e-9 * max(float((predictor**2).sum()), 1e-300):
        raise ValueError("the predictor is a combination of the others")
    error, df = _jackknife_error(table, predictor, others)
    rows = rng.permuted(np.tile(np.arange(starts), (PERMUTATIONS, 1)), axis=1)
    columns = rng.permuted(np.tile(np.arange(languages), (PERMUTATIONS, 1)), axis=1)
    shuffled = rest[rows[:, :, None], columns[:, None, :]]  # [permutations, starts, languages]
    if len(others):
        shuffled = (shuffled.reshape(PERMUTATIONS, -1) @ reduced).reshape(shuffled.shape)
    values = (shuffled * within).sum((1, 2)) / size
    errors, _ = _two_way_error(within, shuffled - values[:, None, None] * within, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.nan_to_num(np.abs(values) / errors, nan=0.0, posinf=np.inf)
    finest = 1 / (min(PERMUTATIONS, factorial(min(starts, 12)) * factorial(min(languages, 12)) - 1) + 1)
    plain = float(_two_way_error(within, rest - value * within, size)[0])
    p = _share_as_large(ratios, abs(value) / plain if plain > 0 else np.inf, 1 / (PERMUTATIONS + 1))
    return Effect(value, error, df, p, finest)


def _cell_slope(table: Array, predictor: Array, others: Array) -> tuple[float, Array, Array, Array]:
    """The slope, what the others leave of the predictor and of the table, and the matrix that leaves it."""
    y, x = _centred(table), _centred(predictor)
    known = [centred for other in others if np.abs(centred := _centred(other)).max() > 1e-9]
    reduced = _projection_away(np.array(known).reshape(len(known), -1).T) if known else np.eye(y.size)
    within, rest = ((reduced @ matrix.ravel()).reshape(y.shape) for matrix in (x, y))
    size = float((within**2).sum())
    return float((within * rest).sum()) / size if size > 0 else 0.0, within, rest, reduced


def _jackknife_error(table: Array, predictor: Array, others: Array) -> tuple[float, float]:
    """Standard error of a slope, clustered by row and by column, with degrees of freedom.

    Variances are those of the slopes that are left when a row, a column or a row and a column are left out. They are
    larger than sums of squared residuals where few rows or columns decide, as they should be.
    """
    rows, columns = table.shape

    def without(row: int | None, column: int | None) -> float:
        kept = np.ix_(*(np.delete(np.arange(n), [] if k is None else k) for n, k in ((rows, row), (columns, column))))
        return _cell_slope(table[kept], predictor[kept], np.array([other[kept] for other in others]))[0]

    def variance(slopes: list[float]) -> float:
        return float(np.var(slopes)) * (len(slopes) - 1)

    value, within, rest, _ = _cell_slope(table, predictor, others)
    size = float((within**2).sum())
    over_rows = variance([without(row, None) for row in range(rows)])
    over_columns = variance([without(None, column) for column in range(columns)])
    scores = within * (rest - value * within)
    cells = float((scores**2).sum()) * rows * columns / ((rows - 1) * (columns - 1)) / size**2
    both = combined(
        *map(np.asarray, (over_rows, rows - 1, over_columns, columns - 1, cells, (rows - 1) * (columns - 1)))
    )
    return float(both[0]), float(both[1])


def _two_way_error(within: Array, residual: Array, size: float) -> tuple[Array, Array]:
    """Standard errors `[...]` of slopes, clustered by row and by column, with degrees of freedom.

    `residual` is `[..., rows, columns]`.
    """
    scores = within * residual
    rows, columns = within.shape
    # A cluster less than there are is free to vary, on either side.
    over_rows = (scores.sum(-1) ** 2).sum(-1) * rows / (rows - 1) / size**2
    over_columns = (scores.sum(-2) ** 2).sum(-1) * columns / (columns - 1) / size**2
    cells = (scores**2).sum((-2, -1)) * rows * columns / ((rows - 1) * (columns - 1)) / size**2
    return combined(over_rows, rows - 1, over_columns, columns - 1, cells, (rows - 1) * (columns - 1))


def inflation(predictor: Array, others: Array) -> float:
    """By which factor the others widen the variance of the predictor's effect (variance inflation factor)."""
    centred = predictor - predictor.mean()
    within = _projection_away(others) @ predictor
    left = float(within @ within)
    return float("inf") if left < 1e-9 * float(centred @ centred) else float(centred @ centred) / left


def largest_share(predictor: Array, others: Array) -> float:
    """The largest share that a single row has in what the predictor's effect is estimated from, from 0 to 1."""
    within = (_projection_away(others) @ predictor) ** 2
    return float(within.max() / within.sum()) if within.sum() > 0 else 1.0


def _centred(matrix: Array) -> Array:
    return matrix - matrix.mean(0) - matrix.mean(1, keepdims=True) + matrix.mean()


def _projection_away(columns: Array) -> Array:
    """The matrix that leaves of a vector what is no combination of the columns."""
    basis, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis = basis[:, sizes > 1e-10 * sizes.max()]
    return np.eye(len(columns)) - basis @ basis.T


def _orders(length: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], float]:
    """Permutations `[n, length]` without the unchanged order, all of them if there are few; and the share of one."""
    if factorial(length) <= PERMUTATIONS:
        orders = np.array(list(permutations(range(length))))[1:]
    else:
        orders = rng.permuted(np.tile(np.arange(length), (PERMUTATIONS, 1)), axis=1)
    return orders, 1 / (len(orders) + 1)


def _finest(series: Array, within: Array, orders: NDArray[np.intp], finest: float) -> float:
    """The smallest two-sided p value: permutations that leave the predictor as it is, or mirror it, always count.

    With three starts of one kind and three of another, say, 72 of the 720 permutations give the same split.
    """
    shuffled = within[orders]
    same = np.isclose(shuffled, within).all(1) | np.isclose(shuffled, -within).all(1)
    return finest * (1 + int(same.sum()))


def _t_values(series: Array, within: Array, full: Array) -> Array:
    """Absolute t values of the slopes of columns of `series`, up to a constant factor."""
    left = full @ series
    error = np.sqrt((left**2).sum(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.abs(within @ series) / error
    return np.nan_to_num(values, nan=0.0, posinf=np.inf)


def _share_as_large(values: Array, measured: float, finest: float) -> float:
    """The share of permutations, the unchanged one included, with a value at least as large as the measured one."""
    return min(1.0, (1 + int((values >= measured * (1 - 1e-9)).sum())) * finest)
