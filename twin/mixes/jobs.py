"""What `make bench-kairos` measures, job by job; a job is small enough to go to another process."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Final

import numpy as np

from containers.router.matching import Distributor as DistributorProtocol
from containers.router.matching import Instance, KairosMatching, LatencyModel, LeastLaxity, Query
from twin.errors import InputError
from twin.mixes import clairvoyant
from twin.mixes.samples import MODELS, SIZES, TYPES, ServedModel, load
from twin.mixes.search import Laboratory, Mix, Trial, homogeneous_within, mixes_within
from twin.mixes.simulator import Distributor
from twin.mixes.workload import Workload, draw

OURS: Final = Trial(distributor=Distributor.LEAST_LAXITY)
KAIROS: Final = Trial(distributor=Distributor.KAIROS)
FIRST_COME: Final = Trial(distributor=Distributor.FIRST_COME)
CLOCKWORK: Final = Trial(distributor=Distributor.CLOCKWORK)
# Measured on all mixes; the threshold has to be tuned for each, and is on those that others do best on.
SWEPT: Final = (FIRST_COME, CLOCKWORK, KAIROS, OURS)

COARSE, FINE = 0.03, 0.005
DECISION_INSTANCES, DECISION_QUERIES, REPEATS = 100, 200, 3
LABELS: Final = MappingProxyType(
    {
        Distributor.FIRST_COME: "first come, first served",
        Distributor.THRESHOLD: "size threshold",
        Distributor.KAIROS: "KAIROS' matching",
        Distributor.LEAST_LAXITY: "ours",
        Distributor.CLOCKWORK: "Clockwork",
        Distributor.LEAST_OUTSTANDING: "least outstanding",
        Distributor.WEIGHTS: "weights",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured: queries a run, seeds, and on how many mixes with all of them."""

    queries: int = 6000
    seeds: int = 5
    finalists: int = 8

    def workloads(self, seeds: int | None = None) -> list[Workload]:
        """One for each seed."""
        return [draw(self.queries, seed) for seed in range(1, 1 + (seeds or self.seeds))]


@dataclass(frozen=True, slots=True)
class Measured:
    """The allowable throughput of a mix, queries per second, one for each seed."""

    mix: Mix
    throughputs: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Queries per second."""
        return fmean(self.throughputs)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds, queries per second."""
        return stdev(self.throughputs) if len(self.throughputs) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """A distributor on all mixes, best first: the finalists with all seeds, the others with one."""

    model: str
    distributor: str
    measured: tuple[Measured, ...]

    @property
    def best(self) -> Measured:
        """The mix that carries most, measured with all seeds."""
        return self.measured[0]

    def of(self, mix: Mix) -> Measured:
        """The measurement of one mix."""
        return next(one for one in self.measured if one.mix == mix)

    def rank(self, mix: Mix) -> int:
        """The place of the mix, 1 for the best."""
        return 1 + next(place for place, one in enumerate(self.measured) if one.mix == mix)

    def told(self) -> str:
        """The outcome in a few words."""
        return f"{self.best.mean:.4g} queries/s on {named(self.best.mix)}"


@dataclass(frozen=True, slots=True)
class SweepJob:
    """Measure one distributor on every mix within the budget."""

    model: str
    trial: Trial
    size: Size

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"{self.model}, all mixes, {label(self.trial)}"

    def run(self) -> Sweep:
        """All mixes with one seed, then the finalists with all."""
        rough, exact = laboratory(self.model, self.size, seeds=1), laboratory(self.model, self.size)
        all_measured = [
            Measured(mix, tuple(rough.throughputs(mix, self.trial, tolerance=COARSE)))
            for mix in mixes_within()
        ]
        all_measured.sort(key=lambda one: -one.mean)
        finalists = [
            Measured(one.mix, tuple(exact.throughputs(one.mix, self.trial, tolerance=FINE, guess=one.mean)))
            for one in all_measured[: self.size.finalists]
            if one.mean
        ]
        finalists.sort(key=lambda one: -one.mean)
        return Sweep(self.model, label(self.trial), (*finalists, *all_measured[len(finalists) :]))


@dataclass(frozen=True, slots=True)
class ThresholdJob:
    """Measure the size threshold on some mixes, tuned for each by hill climbing on the first seed."""

    model: str
    mixes: tuple[Mix, ...]
    size: Size

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"{self.model}, {len(self.mixes)} mixes, {LABELS[Distributor.THRESHOLD]}"

    def run(self) -> Sweep:
        """All mixes with one seed, then the best with all."""
        rough, exact = laboratory(self.model, self.size, seeds=1), laboratory(self.model, self.size)
        trials = {mix: rough.with_threshold(mix, tolerance=COARSE) for mix in self.mixes}
        all_measured = [
            Measured(mix, tuple(rough.throughputs(mix, trial, tolerance=COARSE)))
            for mix, trial in trials.items()
        ]
        all_measured.sort(key=lambda one: -one.mean)
        best = all_measured[0].mix
        measured = Measured(best, tuple(exact.throughputs(best, trials[best], tolerance=FINE)))
        return Sweep(self.model, LABELS[Distributor.THRESHOLD], (measured, *all_measured[1:]))


@dataclass(frozen=True, slots=True)
class OnMix:
    """Distributors on one mix, by label, and the clairvoyant bound, queries per second."""

    model: str
    mix: Mix
    measured: Mapping[str, Measured]
    bound: float

    def told(self) -> str:
        """The outcome in a few words."""
        ours, kairos = self.measured[label(OURS)].mean, self.measured[label(KAIROS)].mean
        return f"ours {ours:.4g}, KAIROS {kairos:.4g}, clairvoyant bound {self.bound:.4g} queries/s"


@dataclass(frozen=True, slots=True)
class OnMixJob:
    """Measure every distributor on one mix.

    The threshold is tuned by hill climbing on the first seed, and the bound is that of the first seed.
    """

    model: str
    mix: Mix
    size: Size

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"{self.model}, every distributor on {named(self.mix)}"

    def run(self) -> OnMix:
        """Every distributor, with all seeds."""
        exact = laboratory(self.model, self.size)
        tuned = laboratory(self.model, self.size, seeds=1).with_threshold(self.mix)
        trials = [Trial(distributor=one) for one in Distributor if one is not Distributor.THRESHOLD]
        measured = {
            label(trial): Measured(self.mix, tuple(exact.throughputs(self.mix, trial, tolerance=FINE)))
            for trial in (*trials, tuned)
        }
        bound = clairvoyant.bound(load(model_of(self.model)), self.size.workloads(1)[0], self.mix)
        return OnMix(self.model, self.mix, measured, bound)


@dataclass(frozen=True, slots=True)
class Homogeneous:
    """The largest pool of each single type under first come, first served, and under ours."""

    model: str
    first_come: tuple[Measured, ...]
    ours: tuple[Measured, ...]

    @property
    def best(self) -> Measured:
        """The best pool under first come, first served: what a mix is held against."""
        return max(self.first_come, key=lambda one: one.mean)

    def told(self) -> str:
        """The outcome in a few words."""
        return f"{self.best.mean:.4g} queries/s on {named(self.best.mix)}"


@dataclass(frozen=True, slots=True)
class HomogeneousJob:
    """Measure the homogeneous pools that the budget pays."""

    model: str
    size: Size

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"{self.model}, homogeneous pools"

    def run(self) -> Homogeneous:
        """Every type, with all seeds."""
        exact, pools = laboratory(self.model, self.size), homogeneous_within()
        first_come, ours = (
            tuple(Measured(mix, tuple(exact.throughputs(mix, trial, tolerance=FINE))) for mix in pools)
            for trial in (FIRST_COME, OURS)
        )
        return Homogeneous(self.model, first_come, ours)


@dataclass(frozen=True, slots=True)
class DecisionTime:
    """Processor milliseconds of a decision of the router's own code, by distributor: median and p99."""

    decisions: int
    milliseconds: Mapping[str, tuple[float, float]]

    def told(self) -> str:
        """The outcome in a few words."""
        told = (f"{name} p99 {p99:.2f} ms" for name, (_, p99) in self.milliseconds.items())
        return ", ".join(told)


@dataclass(frozen=True, slots=True)
class DecisionTimeJob:
    """Time `decide` with a hundred instances, of which one to all are idle, and 200 queries waiting."""

    decisions: int = 2000
    name: str = f"decision time, {DECISION_INSTANCES} instances, {DECISION_QUERIES} waiting"

    def run(self) -> DecisionTime:
        """Both distributors on the same questions."""
        lines = load(MODELS[0]).lines()
        models = {kind.name: line for kind, line in zip(TYPES, lines, strict=True)}
        typical = float(draw(1000, 1).sizes.mean())
        candidates: dict[str, DistributorProtocol] = {
            label(OURS): LeastLaxity(typical),
            label(KAIROS): KairosMatching(TYPES[0].name, float(SIZES[-1])),
        }
        times = {
            name: _decision_times(candidate, models, self.decisions) for name, candidate in candidates.items()
        }
        milliseconds = {
            name: (float(np.median(spent)), float(np.percentile(spent, 99))) for name, spent in times.items()
        }
        return DecisionTime(self.decisions, milliseconds)


def _decision_times(
    candidate: DistributorProtocol, models: Mapping[str, LatencyModel], decisions: int
) -> list[float]:
    """Processor milliseconds of each decision, the least of `REPEATS`, as timeit's documentation advises.

    More than the least is the machine's other work, which evicts caches and halves shared cores.
    """
    random = np.random.default_rng(1)
    target = MODELS[0].target_seconds
    spent = []
    for seed in range(decisions):
        sizes = draw(DECISION_QUERIES, seed).sizes.tolist()
        arrivals = np.sort(random.uniform(-0.8 * target, 0.0, DECISION_QUERIES)).tolist()
        waiting = [Query(size, at, at + target) for size, at in zip(sizes, arrivals, strict=True)]
        idle = (random.random(DECISION_INSTANCES) < random.choice((0.01, 0.1, 1.0))).tolist()
        free_at = random.uniform(0.0, 0.6 * target, DECISION_INSTANCES).tolist()
        kinds = random.choice(list(models), DECISION_INSTANCES).tolist()
        instances = [Instance(kind, now, at) for kind, now, at in zip(kinds, idle, free_at, strict=True)]
        times = []
        for _ in range(REPEATS):
            began = time.thread_time()
            candidate.decide(0.0, waiting, instances, models)
            times.append(time.thread_time() - began)
        spent.append(1000.0 * min(times))
    return spent


def laboratory(model: str, size: Size, *, seeds: int | None = None) -> Laboratory:
    """The model's laboratory with so many workloads.

    Raises:
        InputError: there is no such model, or the recorded data is absent.
    """
    return Laboratory(load(model_of(model)), size.workloads(seeds))


def model_of(name: str) -> ServedModel:
    """The model of that name.

    Raises:
        InputError: there is none.
    """
    for model in MODELS:
        if model.name == name:
            return model
    raise InputError(f"models: {name!r}; valid: {', '.join(model.name for model in MODELS)}")


def label(trial: Trial) -> str:
    """The distributor as tables and charts name it."""
    return LABELS[trial.distributor]


def named(mix: Mix) -> str:
    """The mix in words."""
    return " + ".join(f"{count} {kind.name}" for count, kind in zip(mix, TYPES, strict=True) if count)
