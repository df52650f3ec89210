"""How long a query takes on an instance type: a line in its size, learned online, with its spread.

Latency is near linear in query size (KAIROS, HPDC'23, section 5.1): seconds = a + k·size. A profile gives
the first line; every completed query refines it.
"""

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Final

# A residual beyond so many spreads loses influence in proportion (Huber 1964 uses 1.345).
HUBER: Final = 1.345
# The spread is never taken for less: a profile without one must not make every residual an outlier.
LEAST_SPREAD: Final = 0.01
# Residuals are cut off here, in spreads, before they enter the spread: one stall is no trend.
LARGEST_RESIDUAL: Final = 6.0
# How many completions the profile weighs as much as, and how many the memory reaches back.
PROFILE_WEIGHT: Final = 20.0
MEMORY: Final = 500.0
# An estimate below this share of the profile's is a fault of the fit, not of the instance.
LEAST_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """Service seconds of a query: `intercept` + `slope`·size on average.

    `spread` is the standard deviation as a share of that mean.

    Raises:
        ValueError: a number is negative or not finite, or the latency of every size is zero.
    """

    intercept: float
    slope: float
    spread: float

    def __post_init__(self) -> None:
        for name in ("intercept", "slope", "spread"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"{name}: {value}; valid: a finite number of 0 or more")
        if self.intercept + self.slope == 0:
            raise ValueError("slope: 0 with intercept 0; valid: one of them above 0")

    def seconds(self, size: float) -> float:
        """The mean service seconds of a query of that size."""
        return self.intercept + self.slope * size

    def tail_seconds(self, size: float, deviations: float) -> float:
        """The service seconds so many standard deviations above the mean."""
        return self.seconds(size) * (1.0 + deviations * self.spread)


class LatencyPredictor:
    """Learns one instance type's `LatencyModel` from completed queries.

    Recursive least squares on (1, size / scale), weighted by 1 / mean² because spread grows with the
    mean, by Huber's weight against stalls, and by an exponential memory. The profile enters as
    pseudo-observations at sizes 0 and 2·scale.
    """

    def __init__(self, profile: LatencyModel, *, typical_size: float) -> None:
        """Start from a profile; `typical_size` scales the fit and is any common query size above 0."""
        if not (isfinite(typical_size) and typical_size > 0):
            raise ValueError(f"typical_size: {typical_size}; valid: a finite number above 0")
        self._profile = profile
        self._scale = typical_size
        self._sums = [0.0] * 5  # Σw, Σwx, Σwxx, Σwy, Σwxy
        self._variance = max(profile.spread, LEAST_SPREAD) ** 2
        for x in (0.0, 2.0):
            self._add(x, profile.seconds(x * typical_size), PROFILE_WEIGHT / 2, profile.seconds(typical_size))
        self._model = profile

    @property
    def model(self) -> LatencyModel:
        """The present estimate."""
        return self._model

    def observe(self, size: float, seconds: float) -> None:
        """Learn from one completed query.

        Raises:
            ValueError: the size is negative, or the seconds are not above 0, or not finite.
        """
        if not (isfinite(size) and size >= 0):
            raise ValueError(f"size: {size}; valid: a finite number of 0 or more")
        if not (isfinite(seconds) and seconds > 0):
            raise ValueError(f"seconds: {seconds}; valid: a finite number above 0")
        mean = self._model.seconds(size)
        spread = sqrt(self._variance)
        residual = (seconds - mean) / mean
        weight = min(1.0, HUBER * spread / abs(residual)) if residual else 1.0
        cut = min(abs(residual), LARGEST_RESIDUAL * spread)
        self._variance += (cut * cut - self._variance) / MEMORY
        self._variance = max(self._variance, LEAST_SPREAD**2)
        self._sums = [value * (1.0 - 1.0 / MEMORY) for value in self._sums]
        self._add(size / self._scale, seconds, weight, mean)
        self._model = self._fitted()

    def _add(self, x: float, seconds: float, weight: float, mean: float) -> None:
        share = weight / (mean * mean)
        for index, term in enumerate((1.0, x, x * x, seconds, x * seconds)):
            self._sums[index] += share * term

    def _fitted(self) -> LatencyModel:
        """The weighted line, kept from falling below a share of the profile's."""
        total, x, xx, y, xy = self._sums
        determinant = total * xx - x * x
        spread = sqrt(self._variance)
        if determinant <= 1e-9 * total * xx:
            level = (y / total) / self._profile.seconds(x / total * self._scale)
            return self._scaled(level, spread)
        slope = (total * xy - x * y) / determinant / self._scale
        intercept = (y - slope * self._scale * x) / total
        return LatencyModel(
            intercept=max(intercept, LEAST_SHARE * self._profile.intercept),
            slope=max(slope, LEAST_SHARE * self._profile.slope),
            spread=spread,
        )

    def _scaled(self, level: float, spread: float) -> LatencyModel:
        """The profile's line times a level: all that queries of one size can tell."""
        return LatencyModel(self._profile.intercept * level, self._profile.slope * level, spread)
