"""How sure a figure is: intervals and tests over tasks, for any metric that is a mean over steps.

Steps of one task share a query and tools, so they are no independent draws; tasks are. Everything here therefore
resamples whole tasks (a cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, §3.8).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from umi.errors import BadInput
from umi.trajectory import Frozen

Values = Mapping[str, Sequence[float]]
"""Task id → a metric's values for those of the task's steps that it counts; none for a task without such a step."""

_Floats = NDArray[np.float64]
_ROUNDING = 1e-12


class Interval(Frozen):
    """A mean over steps, or a difference of two, with the bounds that hold it at the given confidence level.

    `value`, `low` and `high` have the metric's own unit (0 to 1 for a share). `tasks` is the number of clusters.
    """

    value: float
    low: float
    high: float
    level: float
    tasks: int


class Comparison(Frozen):
    """`second` minus `first` on the same tasks, and how probable such a gap is if the two systems are alike."""

    difference: Interval
    p_value: float


def by_task(tasks: Iterable[str], values: Iterable[float | None]) -> dict[str, list[float]]:
    """Sort a metric's values into their tasks: one task id and one value (None: not counted) for every step.

    Raises ValueError when one is longer than the other.
    """
    sorted_values = dict[str, list[float]]()
    for task, value in zip(tasks, values, strict=True):
        sorted_values.setdefault(task, []).extend(() if value is None else (value,))
    return sorted_values


def bootstrap(values: Values, seed: int, level: float = 0.95, resamples: int = 10_000) -> Interval:
    """A confidence interval of the mean over steps by the percentile method (Efron 1979; 1981).

    Tasks are drawn with replacement, as many as there are; the bounds are the quantiles of the resampled means. A
    resample without any counted step has no mean and is left out. With fewer than some twenty tasks the interval is
    too narrow. Raises BadInput when no step counts at all.
    """
    totals, counts = _sums(values, list(values))
    draws = _draws(len(values), seed, resamples)
    return _interval(_ratio(totals.sum(), counts.sum()), _ratio(draws @ totals, draws @ counts), level, len(values))


def compare(first: Values, second: Values, seed: int, level: float = 0.95, resamples: int = 10_000) -> Comparison:
    """The paired difference of two systems' means over steps, from the metric's values on the same tasks.

    The interval is a percentile bootstrap that draws the same tasks for both. The two-sided p-value is that of a paired
    permutation test: the systems change places in each task with probability 1/2, and p is the share of gaps no smaller
    than the observed one, which itself counts as one of them (Phipson and Smyth 2010), so p is never 0.

    Raises BadInput when the tasks differ or a system has no counted step.
    """
    if first.keys() != second.keys():
        raise BadInput("the two systems were not scored on the same tasks", "second")
    tasks = list(first)
    one, two = _sums(first, tasks), _sums(second, tasks)
    observed = _difference(one.sum(axis=1), two.sum(axis=1))
    draws = _draws(len(tasks), seed, resamples)
    interval = _interval(observed, _difference(one @ draws.T, two @ draws.T), level, len(tasks))
    swapped = np.random.default_rng((seed, 1)).integers(0, 2, (resamples, len(tasks))).astype(float)
    moved = (two - one) @ swapped.T
    gaps = _difference(one.sum(axis=1, keepdims=True) + moved, two.sum(axis=1, keepdims=True) - moved)
    gaps = gaps[~np.isnan(gaps)]
    # A regrouped sum differs in its last bits; a gap that is equal on paper must count as equal.
    as_large = np.count_nonzero(np.abs(gaps) >= abs(float(observed)) - _ROUNDING)
    return Comparison(difference=interval, p_value=(1 + as_large) / (1 + len(gaps)))


def _sums(values: Values, tasks: Sequence[str]) -> _Floats:
    """Shape (2, tasks): the sum of each task's values, and how many they are."""
    sums = np.array([[sum(values[task]) for task in tasks], [len(values[task]) for task in tasks]], dtype=float)
    if not sums[1].sum():
        raise BadInput("no step counts for this metric", "values")
    return sums


def _draws(tasks: int, seed: int, resamples: int) -> _Floats:
    """Shape (resamples, tasks): how often each task is in each resample."""
    return np.random.default_rng(seed).multinomial(tasks, np.full(tasks, 1 / tasks), resamples).astype(float)


def _ratio(totals: _Floats, counts: _Floats) -> _Floats:
    return np.divide(totals, counts, out=np.full(np.shape(totals), np.nan), where=counts > 0)


def _difference(first: _Floats, second: _Floats) -> _Floats:
    return _ratio(second[0], second[1]) - _ratio(first[0], first[1])


def _interval(value: _Floats, resampled: _Floats, level: float, tasks: int) -> Interval:
    low, high = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(value), low=float(low), high=float(high), level=level, tasks=tasks)
