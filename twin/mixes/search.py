"""The laboratory's questions: how much a mix carries under a distributor, and which mix carries most."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import floor, inf, isfinite, sqrt
from statistics import fmean
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from containers.router.matching import DEVIATIONS, heterogeneity, price_of_time
from twin.mixes.central import Rules, Score, Stream
from twin.mixes.samples import BUDGET_USD_PER_HOUR, SIZES, TYPES, Latencies
from twin.mixes.simulator import Distributor, Loss, serve
from twin.mixes.workload import Workload

Floats = NDArray[np.float64]
Mix = tuple[int, ...]
Predictions = Literal["line", "means"]
Weights = tuple[float, ...]

# The share of queries at a run's beginning that is not scored: the instances begin idle.
WARM_UP: Final = 0.1
MISSED_SHARE: Final = 0.01
NO_LOSS: Final = Loss(0, inf)
# A bisection begins by multiplying or dividing by this until the throughput is bracketed.
BRACKET: Final = 1.25
LEAST_RATE: Final = 1e-3
# Budgets are met to a hundredth of a cent: sums of prices are not exact.
PRICE_TOLERANCE: Final = 1e-4
THRESHOLD_STEPS: Final = (160.0, 80.0, 40.0, 20.0, 10.0)
# Of all traffic of a class, moved to or from a type.
WEIGHT_STEPS: Final = (0.2, 0.1, 0.05, 0.02, 0.01)


def mixes_within(budget: float = BUDGET_USD_PER_HOUR, *, base: bool = True) -> Iterator[Mix]:
    """Every mix of `TYPES` that costs at most the budget, USD per hour; with a base instance at least."""
    most = [floor((budget + PRICE_TOLERANCE) / kind.usd_per_hour) for kind in TYPES]
    for mix in product(*(range(count + 1) for count in most)):
        if price_of(mix) <= budget + PRICE_TOLERANCE and any(mix) and (mix[0] or not base):
            yield mix


def price_of(mix: Mix) -> float:
    """USD per hour."""
    return sum(count * kind.usd_per_hour for count, kind in zip(mix, TYPES, strict=True))


def homogeneous_within(budget: float = BUDGET_USD_PER_HOUR) -> list[Mix]:
    """For each type as many instances as the budget pays."""
    counts = (floor((budget + PRICE_TOLERANCE) / kind.usd_per_hour) for kind in TYPES)
    return [
        tuple(count if place == index else 0 for place in range(len(TYPES)))
        for index, count in enumerate(counts)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a throughput is measured of, beside the mix.

    `predictions` are those of the line, or of each size's mean as in KAIROS' artifact; `noise` is the
    standard deviation of their error, as a share; `loss` is which instance is lost, and after which share
    of the queries. `threshold` is the largest size that is not large, for THRESHOLD and WEIGHTS; `weights`
    are one row, or one for small queries and one for large ones, for WEIGHTS alone; without any, what each
    type can do counts.
    """

    distributor: Distributor
    predictions: Predictions = "line"
    noise: float = 0.0
    loss: tuple[int, float] | None = None
    threshold: float = float(SIZES[-1])
    weights: tuple[Weights, ...] = ()

    def __post_init__(self) -> None:
        if self.predictions not in get_args(Predictions):
            valid = ", ".join(get_args(Predictions))
            raise ValueError(f"predictions: {self.predictions!r}; valid: {valid}")
        if not 0 <= self.noise < 1:
            raise ValueError(f"noise: {self.noise}; valid: a share from 0 to below 1")


class Laboratory:
    """One model's latencies and the workloads, one for each seed, that every mix is measured with."""

    def __init__(
        self, latencies: Latencies, workloads: Sequence[Workload], *, typical_size: float | None = None
    ) -> None:
        """`typical_size` is what distributors take for the mean query size; None: what it is."""
        self._latencies = latencies
        self._workloads = tuple(workloads)
        self._lines = latencies.lines()
        self._services = [service_seconds(latencies, workload) for workload in workloads]
        self.typical_size = typical_size or fmean(float(workload.sizes.mean()) for workload in workloads)

    def throughputs(
        self, mix: Mix, trial: Trial, *, tolerance: float = 0.01, guess: float | None = None
    ) -> list[float]:
        """The allowable throughput on each workload, queries per second, 0 where no rate is allowed.

        It is the highest rate at which 99 % of the scored queries are answered within the target, to the
        given relative tolerance, by bisection.
        """
        rates: list[float] = []
        for index in range(len(self._workloads)):
            start = rates[-1] if rates and rates[-1] else guess
            rates.append(self._throughput(index, mix, trial, tolerance, start or sum(self._capacity(mix))))
        return rates

    def throughput(
        self, mix: Mix, trial: Trial, *, tolerance: float = 0.01, guess: float | None = None
    ) -> float:
        """The mean of `throughputs`."""
        return fmean(self.throughputs(mix, trial, tolerance=tolerance, guess=guess))

    def holds(self, mix: Mix, trial: Trial, rate: float) -> bool:
        """Whether 99 % of every workload are in time at so many queries per second; one run each."""
        return all(self._holds(index, mix, trial, rate) for index in range(len(self._workloads)))

    def attainments(self, mix: Mix, trial: Trial, rate: float) -> list[float]:
        """The share of scored queries answered in time on each workload at so many queries per second."""
        shares = []
        for index, workload in enumerate(self._workloads):
            scored = len(workload.sizes) - first_scored(workload)
            shares.append(1.0 - self._missed(index, mix, trial, rate, allowed=scored) / scored)
        return shares

    def with_threshold(self, mix: Mix, *, tolerance: float = 0.01) -> Trial:
        """DeepRecSys' distributor with the threshold that hill climbing finds for the mix."""
        auxiliary = [kind for kind, count in enumerate(mix) if count and kind]
        largest = max((self._largest_size(kind) for kind in auxiliary), default=float(SIZES[-1]))
        best = Trial(distributor=Distributor.THRESHOLD, threshold=largest)
        return self._climbed(mix, best, _other_thresholds, THRESHOLD_STEPS, tolerance)

    def with_weights(self, mix: Mix, *, by_size: bool, tolerance: float = 0.01) -> Trial:
        """Weights alone, as hill climbing finds them: one row for every query, or another for large ones.

        Large is what is too large for one of the mix's types; each of their limits is tried, from what each
        type can do in time, and from the one row.
        """
        limits = {self._largest_size(kind) for kind, count in enumerate(mix) if count}
        top = min(max(limits), max(float(workload.sizes.max()) for workload in self._workloads))
        one_row = self._climbed(mix, self._by_capacity(mix, (top,)), _other_weights, WEIGHT_STEPS, tolerance)
        trials = [one_row]
        for limit in sorted(limits) if by_size else ():
            if limit < top:
                again = replace(one_row, threshold=limit, weights=one_row.weights * 2)
                trials += [
                    self._climbed(mix, start, _other_weights, WEIGHT_STEPS, tolerance)
                    for start in (self._by_capacity(mix, (limit, top)), again)
                ]
        return max(trials, key=lambda trial: self.throughput(mix, trial, tolerance=tolerance))

    def _by_capacity(self, mix: Mix, limits: Sequence[float]) -> Trial:
        """For each class, up to its limit, the types that serve all of it in time, by what each can do."""
        capacity = self._capacity(mix)
        largest = [self._largest_size(kind) for kind in range(len(mix))]
        rows = tuple(
            tuple(value if size >= limit else 0.0 for value, size in zip(capacity, largest, strict=True))
            for limit in limits
        )
        return Trial(distributor=Distributor.WEIGHTS, threshold=limits[0], weights=rows)

    def _climbed(
        self,
        mix: Mix,
        best: Trial,
        others: Callable[[Trial, float], Iterator[Trial]],
        steps: Sequence[float],
        tolerance: float,
    ) -> Trial:
        """Hill climbing from a trial over the others a step away, the steps one after the other."""
        carried = self.throughput(mix, best, tolerance=tolerance)
        for step in steps:
            improved = True
            while improved:
                improved = False
                for other in others(best, step):
                    throughput = self.throughput(mix, other, tolerance=tolerance, guess=carried or None)
                    if throughput > carried:
                        best, carried, improved = other, throughput, True
        return best

    def _throughput(self, index: int, mix: Mix, trial: Trial, tolerance: float, guess: float) -> float:
        return highest(lambda rate: self._holds(index, mix, trial, rate), guess, tolerance)

    def _holds(self, index: int, mix: Mix, trial: Trial, rate: float) -> bool:
        workload = self._workloads[index]
        allowed = len(workload.sizes) - first_scored(workload) - answers_needed(workload)
        return self._missed(index, mix, trial, rate, allowed=allowed) <= allowed

    def _missed(self, index: int, mix: Mix, trial: Trial, rate: float, *, allowed: int) -> int:
        workload = self._workloads[index]
        arrivals = workload.arrivals(rate)
        stream = Stream(
            arrivals, workload.sizes, workload.choice, self._predicted(index, trial), self._services[index]
        )
        loss = NO_LOSS
        if trial.loss is not None:
            instance, share = trial.loss
            loss = Loss(instance, float(arrivals[int(share * len(arrivals))]))
        kinds = np.repeat(np.arange(len(mix)), mix)
        score = Score(first_scored(workload), allowed)
        latency = np.zeros(len(arrivals))
        return serve(int(trial.distributor), kinds, stream, self._rules(trial, mix), score, loss, latency)

    def _predicted(self, index: int, trial: Trial) -> Floats:
        """What distributors believe: seconds, queries × types."""
        workload = self._workloads[index]
        if trial.predictions == "means":
            places = np.searchsorted(SIZES, workload.sizes)
            predicted = self._latencies.seconds.mean(axis=2)[:, places].T
        else:
            predicted = np.array([line.intercept + line.slope * workload.sizes for line in self._lines]).T
        errors = np.maximum(1.0 + trial.noise * workload.error, 0.1)
        believed: Floats = np.ascontiguousarray(predicted * errors[:, np.newaxis])
        return believed

    def _rules(self, trial: Trial, mix: Mix) -> Rules:
        # What a prediction may err widens the tail as the spread does: independent errors add in squares.
        spreads = [sqrt(line.spread**2 + trial.noise**2) for line in self._lines]
        rows = trial.weights or (self._capacity(mix),)
        return Rules(
            target=self._latencies.target_seconds,
            price=np.array([self._price(trial, kind, max(count, 1)) for kind, count in enumerate(mix)]),
            allowance=np.array([DEVIATIONS * spread for spread in spreads]),
            threshold=trial.threshold,
            weights=np.array((rows[0], rows[-1])),
        )

    def _price(self, trial: Trial, kind: int, count: int) -> float:
        """What the distributor multiplies a type's seconds with."""
        line = self._lines[kind]
        if trial.distributor is Distributor.LEAST_LAXITY:
            return price_of_time(line, self.typical_size, count)
        return heterogeneity(line, self._lines[0], float(SIZES[-1]))

    def _capacity(self, mix: Mix) -> Weights:
        """Typical queries per second that each type of the mix serves when it is never idle."""
        return tuple(
            count / line.seconds(self.typical_size) for count, line in zip(mix, self._lines, strict=True)
        )

    def _largest_size(self, kind: int) -> float:
        """The largest size that the type serves in time on average; the smallest one if none."""
        within = self._latencies.seconds[kind].mean(axis=1) <= self._latencies.target_seconds
        return float(SIZES[within].max(initial=SIZES[0]))


def highest(holds: Callable[[float], bool], guess: float, tolerance: float) -> float:
    """The highest rate that holds, to a relative tolerance; 0 when none down to `LEAST_RATE` · guess does.

    Raises:
        ValueError: the guess or the tolerance is not above 0 and finite.
    """
    for name, value in (("guess", guess), ("tolerance", tolerance)):
        if not (isfinite(value) and value > 0):
            raise ValueError(f"{name}: {value}; valid: a finite number above 0")
    low, high = guess, guess
    if holds(guess):
        while holds(high := low * BRACKET):
            low = high
    else:
        while not holds(low := high / BRACKET):
            high = low
            if low < LEAST_RATE * guess:
                return 0.0
    while high > low * (1.0 + tolerance):
        middle = sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _other_thresholds(trial: Trial, step: float) -> Iterator[Trial]:
    """The threshold a step lower and higher, where there are sizes."""
    for threshold in (trial.threshold - step, trial.threshold + step):
        if SIZES[0] <= threshold <= SIZES[-1]:
            yield replace(trial, threshold=threshold)


def _other_weights(trial: Trial, step: float) -> Iterator[Trial]:
    """A step of a class's traffic taken from a type or given to it; the others keep their proportions."""
    for row, weights in enumerate(trial.weights):
        for kind, change in product(range(len(weights)), (-step, step)):
            shares = [weight / sum(weights) for weight in weights]
            shares[kind] = max(0.0, shares[kind] + change)
            if sum(shares) > 0:
                yield replace(trial, weights=(*trial.weights[:row], tuple(shares), *trial.weights[row + 1 :]))


def first_scored(workload: Workload) -> int:
    """The first query that is scored."""
    return int(WARM_UP * len(workload.sizes))


def answers_needed(workload: Workload) -> int:
    """How many of the scored queries have to be answered in time."""
    scored = len(workload.sizes) - first_scored(workload)
    return scored - int(MISSED_SHARE * scored)


def service_seconds(latencies: Latencies, workload: Workload) -> Floats:
    """The seconds that each query would take on each type: queries × types."""
    samples = latencies.seconds.shape[2]
    places = np.searchsorted(SIZES, workload.sizes)
    picked = latencies.seconds[:, places, (workload.luck * samples).astype(np.int64)]
    return np.ascontiguousarray(picked.T)
