"""Minute buckets: what was measured in each minute, kept so that any statistic is cheap to read.

Times are epoch seconds; a minute is named by the second at which it starts.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin.world.metrics import AVERAGE_DIGITS

MINUTE: Final = 60
PERCENTILE: Final = re.compile(r"p(\d{1,2}(\.\d{1,10})?|100)")
# Nothing steers by yesterday's metrics; older minutes would only fill memory in a long replay.
KEPT_SECONDS: Final = 26 * 3600


@dataclass(frozen=True, slots=True)
class Series:
    """One metric: its name, its namespace and all of its dimensions."""

    namespace: str
    metric: str
    dimensions: frozenset[tuple[str, str]]


def series(namespace: str, metric: str, dimensions: Mapping[str, str]) -> Series:
    """The series of a metric with these dimensions, in whatever order they come."""
    return Series(namespace, metric, frozenset(dimensions.items()))


def minute_of(at: float) -> int:
    """The minute in which `at` lies."""
    return floor(at / MINUTE) * MINUTE


@dataclass(frozen=True, slots=True)
class Bucket:
    """The values measured in one minute, ascending; there is at least one."""

    values: NDArray[np.float64]
    percentiles: dict[float, float] = field(default_factory=dict, compare=False)

    def statistic(self, name: str) -> float | None:
        """Sum, SampleCount, Average, Minimum, Maximum or a percentile such as p95; None: none of them."""
        if name == "Sum":
            return float(self.values.sum())
        if name == "SampleCount":
            return float(len(self.values))
        if name == "Average":
            return round(float(self.values.mean()), AVERAGE_DIGITS)
        if name == "Minimum":
            return float(self.values[0])
        if name == "Maximum":
            return float(self.values[-1])
        return self._percentile(name)

    def _percentile(self, name: str) -> float | None:
        if not PERCENTILE.fullmatch(name):
            return None
        percent = float(name[1:])
        if percent not in self.percentiles:
            self.percentiles[percent] = percentile(self.values, percent)
        return self.percentiles[percent]


def percentile(ascending: NDArray[np.float64], percent: float) -> float:
    """The percentile by nearest rank, as the plant computes it; AWS does not say how it interpolates."""
    rank = ceil(percent / 100 * len(ascending))
    return float(ascending[max(rank, 1) - 1])


class Minutes:
    """The buckets of every series."""

    def __init__(self) -> None:
        self._buckets: dict[Series, dict[int, Bucket]] = {}

    def put(self, key: Series, minute: int, values: ArrayLike) -> None:
        """Make `values` the minute's; no value leaves the minute without a bucket."""
        ascending = np.sort(np.asarray(values, dtype=np.float64))
        buckets = self._buckets.setdefault(key, {})
        if len(ascending):
            buckets[minute] = Bucket(ascending)
        else:
            buckets.pop(minute, None)
        self._forget(buckets, minute - KEPT_SECONDS)

    def add(self, key: Series, minute: int, values: ArrayLike) -> None:
        """Add `values` to the minute's."""
        present = self.get(key, minute)
        before = present.values if present else ()
        self.put(key, minute, np.concatenate((before, np.asarray(values, dtype=np.float64))))

    def get(self, key: Series, minute: int) -> Bucket | None:
        """The minute's bucket; None when nothing was measured."""
        return self._buckets.get(key, {}).get(minute)

    @property
    def known(self) -> Iterable[Series]:
        """Every series that has ever had a value."""
        return tuple(self._buckets)

    def between(self, key: Series, minutes: Iterable[int]) -> Mapping[int, Bucket]:
        """The buckets of those `minutes` that have one, in their order."""
        buckets = self._buckets.get(key, {})
        return {minute: buckets[minute] for minute in minutes if minute in buckets}

    @staticmethod
    def _forget(buckets: dict[int, Bucket], before: int) -> None:
        while buckets and (oldest := next(iter(buckets))) < before:
            del buckets[oldest]
