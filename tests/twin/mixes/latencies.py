"""Synthetic latencies and queries for the laboratory's tests; KAIROS' own are not part of the project."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twin.mixes.samples import SIZES, Latencies
from twin.mixes.workload import Workload

Floats = NDArray[np.float64]


def synthetic(
    lines: Sequence[tuple[float, float]], target: float, *, spread: float = 0.0, samples: int = 50
) -> Latencies:
    """Latencies (intercept, slope) per type with a normal spread, seeded."""
    random = np.random.default_rng(11)
    means = np.array([intercept + slope * SIZES for intercept, slope in lines])
    factors = 1.0 + spread * random.standard_normal((*means.shape, samples))
    return Latencies(target, means[:, :, np.newaxis] * np.maximum(factors, 0.1))


def equal_queries(count: int, size: float, seed: int = 1) -> Workload:
    """Queries that are all of one size."""
    random = np.random.default_rng(seed)
    return Workload(
        sizes=np.full(count, size),
        uniforms=random.random(count),
        luck=random.random(count),
        error=random.standard_normal(count),
        choice=random.random(count),
    )
