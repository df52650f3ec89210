"""Queries before they meet a mix: when they come, how large they are, how lucky on an instance.

A workload is drawn once, at one query per second, and scaled to any rate: so the same queries meet every
mix, distributor and rate, and differences between those are no luck.
"""

from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

from twin.mixes.samples import MILLISECONDS, SIZE_STEP, SIZES

Floats = NDArray[np.float64]
Gaps = Literal["exponential", "artifact"]

# The size distribution of DeepRecSys (ISCA'20) as KAIROS' artifact draws it: r, uniform in 1..99, decides.
TINY_SHARE, LARGE_SHARE, HUGE_SHARE = 8, 30, 35
USUAL_MEAN, USUAL_SIGMA = 5.1, 0.2
USUAL_RANGE: Final = (100, 200)


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Queries in order of arrival; every array has one entry a query.

    `uniforms` make the gaps, `luck` picks the latency sample, `error` is standard normal and becomes the
    error of a prediction, `choice` decides a random distributor's pick.
    """

    sizes: Floats
    uniforms: Floats
    luck: Floats
    error: Floats
    choice: Floats
    gaps: Gaps = "exponential"
    speed: Floats = field(default_factory=lambda: np.ones(1))

    def arrivals(self, rate: float) -> Floats:
        """Arrival seconds at so many queries per second, times each query's `speed`.

        The artifact draws gaps that are Poisson distributed in whole milliseconds, which come more evenly
        than a Poisson process where the mean gap is long, and in bursts where it is short.
        """
        if self.gaps == "artifact":
            gaps = poisson.ppf(self.uniforms, MILLISECONDS / (rate * self.speed)) / MILLISECONDS
        else:
            gaps = -np.log1p(-self.uniforms) / (rate * self.speed)
        return np.cumsum(gaps)


def draw(queries: int, seed: int, *, gaps: Gaps = "exponential") -> Workload:
    """A workload of so many queries.

    Raises:
        ValueError: there are no queries, or no such gaps.
    """
    if queries < 1:
        raise ValueError(f"queries: {queries}; valid: a whole number of 1 or more")
    if gaps not in get_args(Gaps):
        raise ValueError(f"gaps: {gaps!r}; valid: {', '.join(get_args(Gaps))}")
    random = np.random.default_rng(seed)
    return Workload(
        sizes=_sizes(random, queries),
        uniforms=random.random(queries),
        luck=random.random(queries),
        error=random.standard_normal(queries),
        choice=random.random(queries),
        gaps=gaps,
    )


def growing(workload: Workload, factor: float) -> Workload:
    """The workload whose rate is `factor` times as high in its second half, from one query to the next."""
    speed = np.ones(len(workload.sizes))
    speed[len(speed) // 2 :] = factor
    return replace(workload, speed=speed)


def drifting(workload: Workload, factor: float) -> Workload:
    """The workload whose sizes grow steadily up to `factor` times, cut off at the largest size."""
    factors = np.linspace(1.0, factor, len(workload.sizes))
    return replace(workload, sizes=_to_step(np.minimum(workload.sizes * factors, SIZES[-1])))


def _sizes(random: np.random.Generator, queries: int) -> Floats:
    """KAIROS' sizes, rounded up to the measured ones as its artifact does."""
    kind = random.integers(1, 100, queries)
    usual = random.lognormal(USUAL_MEAN, USUAL_SIGMA, queries)
    outside = (usual < USUAL_RANGE[0]) | (usual > USUAL_RANGE[1])
    usual = np.where(outside, random.integers(190, 200, queries), usual)
    sizes = np.select(
        [kind <= TINY_SHARE, kind <= LARGE_SHARE, kind <= HUGE_SHARE],
        [
            random.integers(1, 100, queries),
            random.integers(200, 600, queries),
            random.integers(600, 1000, queries),
        ],
        usual,
    )
    return _to_step(np.asarray(sizes, dtype=np.float64))


def _to_step(sizes: Floats) -> Floats:
    rounded: Floats = np.ceil(sizes / SIZE_STEP) * SIZE_STEP
    return rounded
