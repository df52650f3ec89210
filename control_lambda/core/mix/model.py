"""What a search for mixes works with: query sizes, instance types, the latency promise, the budget's mixes.

A query has a size (rows to rank, or images x steps); an instance serves one query at a time, and how long
that takes grows with the size. Symbols follow KAIROS (Li et al., HPDC'23, arXiv 2210.05889), section 5.
Rates are requests per minute (rpm), times seconds, money USD per hour.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise, takewhile
from operator import mul
from statistics import NormalDist
from typing import Final

Mix = tuple[int, ...]  # instances of each type, in the order of Problem.types

SHARE_TOLERANCE: Final = 1e-6
USD_TOLERANCE: Final = 1e-9


class MixError(ValueError):
    """The search cannot use what it was given; the message names the key and what would be valid."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large queries are: `values` ascending, and the share of all queries that has each of them."""

    values: tuple[float, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or len(self.values) != len(self.shares):
            raise MixError("sizes: valid: at least one size, and one share for each")
        if self.values[0] <= 0 or any(low >= high for low, high in pairwise(self.values)):
            raise MixError("sizes: valid: sizes above 0, each once, ascending")
        if min(self.shares) <= 0 or abs(math.fsum(self.shares) - 1.0) > SHARE_TOLERANCE:
            raise MixError("sizes: valid: shares above 0 that sum to 1")

    @classmethod
    def counted(cls, counts: Sequence[tuple[float, float]]) -> "Sizes":
        """From (size, count) in any order; sizes that stand more than once are added up.

        Raises:
            MixError: no size has a count above 0, or a size is not above 0.
        """
        total: dict[float, float] = {}
        for size, count in counts:
            total[size] = total.get(size, 0.0) + count
        known = sorted((size, count) for size, count in total.items() if count > 0)
        whole = math.fsum(count for _, count in known)
        return cls(tuple(size for size, _ in known), tuple(count / whole for _, count in known))


@dataclass(frozen=True, slots=True)
class InstanceType:
    """What one instance costs and does.

    `seconds` is the mean service time of a query of each of the sizes; `spread` the coefficient of
    variation of one size's service times; `most` how many there may be.
    """

    name: str
    price_usd_per_hour: float
    seconds: tuple[float, ...]
    spread: float = 0.0
    most: int = 450

    def __post_init__(self) -> None:
        if not 0 < self.price_usd_per_hour < math.inf:
            raise MixError(f"{self.name}: price_usd_per_hour: valid: a number above 0")
        if not self.seconds or not all(0 < seconds < math.inf for seconds in self.seconds):
            raise MixError(f"{self.name}: seconds: valid: service times above 0 at every query size")
        if not 0 <= self.spread < math.inf:
            raise MixError(f"{self.name}: spread: valid: 0 or more")
        if self.most < 0:
            raise MixError(f"{self.name}: most: valid: 0 or more")


@dataclass(frozen=True)
class Problem:
    """Queries, the types that may serve them, and the promise: `percentile` of them in `latency_seconds`.

    `base` names the type that must stand in every mix; without it, any type that serves all sizes in time
    may be the base, and the paper's bound takes the one that serves the average query at least cost.
    """

    sizes: Sizes
    types: tuple[InstanceType, ...]
    latency_seconds: float
    percentile: float = 99.0
    base: str = ""

    def __post_init__(self) -> None:
        _check_promise(self)
        _check_types(self)
        _check_bases(self)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The types' names."""
        return tuple(kind.name for kind in self.types)

    @cached_property
    def prices(self) -> tuple[float, ...]:
        """The types' prices, USD per hour."""
        return tuple(kind.price_usd_per_hour for kind in self.types)

    @cached_property
    def miss_share(self) -> float:
        """The share of queries that may be late."""
        return 1.0 - self.percentile / 100.0

    @cached_property
    def tail(self) -> float:
        """How many standard deviations above its mean the promised percentile of a service time lies."""
        return max(0.0, NormalDist().inv_cdf(self.percentile / 100.0))

    @cached_property
    def bases(self) -> tuple[int, ...]:
        """The types of which every mix needs at least one."""
        if self.base:
            return (self.names.index(self.base),)
        return tuple(index for index in range(len(self.types)) if self.serves_all(index))

    @cached_property
    def paper_base(self) -> int:
        """The one base of the paper's bound: the base that serves the average query at least cost."""
        return min(self.bases, key=lambda index: (self.prices[index] * self.mean_seconds(index), index))

    def served_in_time(self, index: int) -> int:
        """How many of the sizes, smallest first, the type serves in time on average: its s_j."""
        in_time = takewhile(lambda seconds: seconds <= self.latency_seconds, self.types[index].seconds)
        return sum(1 for _ in in_time)

    def serves_all(self, index: int) -> bool:
        """Whether the type serves every size in time on average."""
        return self.served_in_time(index) == len(self.sizes.values)

    def mean_seconds(self, index: int) -> float:
        """The mean service time of all queries on the type."""
        return math.fsum(map(mul, self.sizes.shares, self.types[index].seconds))

    def cost(self, mix: Mix) -> float:
        """What the mix costs, USD per hour."""
        return math.fsum(count * price for count, price in zip(mix, self.prices, strict=True))

    def has_base(self, mix: Mix) -> bool:
        """Whether the mix can serve every size."""
        return any(mix[index] for index in self.bases)

    def least_base_usd(self) -> float:
        """What the cheapest base instance costs, USD per hour."""
        return min(self.prices[index] for index in self.bases)


def mixes_within(problem: Problem, budget_usd_per_hour: float) -> Iterator[Mix]:
    """Every mix within the budget that has a base instance, later types counted up first."""

    def extend(chosen: Mix, money: float) -> Iterator[Mix]:
        if len(chosen) == len(problem.types):
            if problem.has_base(chosen):
                yield chosen
            return
        kind = problem.types[len(chosen)]
        for count in range(affordable(money, kind) + 1):
            yield from extend((*chosen, count), money - count * kind.price_usd_per_hour)

    return extend((), budget_usd_per_hour)


def affordable(money: float, kind: InstanceType) -> int:
    """How many instances of the type the money pays for, at most as many as there may be."""
    return max(0, min(kind.most, math.floor((money + USD_TOLERANCE) / kind.price_usd_per_hour)))


def check_budget(problem: Problem, budget_usd_per_hour: float) -> None:
    """Refuse a budget that does not pay for one base instance.

    Raises:
        MixError: naming what would be valid.
    """
    least = problem.least_base_usd()
    if not budget_usd_per_hour >= least - USD_TOLERANCE:
        raise MixError(
            f"budget: {budget_usd_per_hour:g} USD per hour does not pay for one base instance; "
            f"valid: at least {least:g}"
        )


def cumulated(values: Sequence[float]) -> tuple[float, ...]:
    """The sums of the first 0, 1, … values."""
    return tuple(accumulate(values, initial=0.0))


def _check_promise(problem: Problem) -> None:
    if not 0 < problem.latency_seconds < math.inf:
        raise MixError(f"latency_seconds: {problem.latency_seconds:g}; valid: a number above 0")
    if not 0 < problem.percentile < 100:  # noqa: PLR2004 - percent
        raise MixError(f"percentile: {problem.percentile:g}; valid: above 0 and below 100")


def _check_bases(problem: Problem) -> None:
    """Some type has to serve every size in time; the named base, if there is one."""
    largest = f"size {problem.sizes.values[-1]:g}"
    in_time = f"within {problem.latency_seconds:g} s"
    if not any(problem.serves_all(index) for index in range(len(problem.types))):
        fastest = min(max(kind.seconds) for kind in problem.types)
        raise MixError(
            f"types: none serves a query of {largest} {in_time}; valid: a base, a type that serves every "
            f"size in time, or latency_seconds of at least {fastest:.4g}"
        )
    if problem.base and not problem.serves_all(problem.names.index(problem.base)):
        slowest = max(problem.types[problem.names.index(problem.base)].seconds)
        raise MixError(
            f"base: {problem.base} takes {slowest:.4g} s for {largest}; "
            f"valid: a type that serves every size {in_time}"
        )


def _check_types(problem: Problem) -> None:
    if not problem.types:
        raise MixError("types: none given; valid: at least one, a base that serves every size in time")
    for kind in problem.types:
        if len(kind.seconds) != len(problem.sizes.values):
            raise MixError(f"{kind.name}: seconds: valid: {len(problem.sizes.values)}, one for each size")
        if problem.names.count(kind.name) > 1:
            raise MixError(f"types: {kind.name} stands twice; valid: every type once")
    if problem.base and problem.base not in problem.names:
        raise MixError(f"base: {problem.base}: no such type; valid: {', '.join(problem.names)}")
