"""Our choice of mixes beyond the paper's question: other budgets, and a catalogue of a thousand types."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from control_lambda.core.mix.mix import best_mix
from control_lambda.core.mix.model import InstanceType, Problem, Sizes
from twin.mixes.jobs import COARSE, FINE, OURS, REPEATS, Measured, Size, laboratory, model_of
from twin.mixes.picks import picks, problem_of
from twin.mixes.samples import load
from twin.mixes.search import Laboratory, Mix, mixes_within

BUDGETS_USD_PER_HOUR: Final = (1.2, 1.6, 2.0, 2.5, 3.0, 4.0)
# What carries less than this share of another mix with one seed is not the best with all of them.
NEAR: Final = 0.95
CATALOGUE_TYPES: Final = 1000
CATALOGUE_BUDGETS_USD_PER_HOUR: Final = (2.5, 10.0)
CATALOGUE_SEEDS: Final = (1, 2, 3)
# Shares of sizes in the drawn catalogues are no smaller, so that every size counts.
LEAST_SHARE: Final = 0.01
# As fast as the fastest that is drawn: it serves every size within the second that is promised.
BASE_SPEED: Final = 2.0


@dataclass(frozen=True, slots=True)
class AtBudget:
    """The best of all mixes within a budget under ours, and what our and the paper's pick carry.

    `planning_ms` is the processor time of our choice.
    """

    model: str
    budget_usd_per_hour: float
    mixes: int
    best: Measured
    ours: Measured
    paper: Measured
    planning_ms: float

    def regret(self, pick: Measured) -> float:
        """By which share the pick carries less than the best mix."""
        return 1.0 - pick.mean / self.best.mean

    def told(self) -> str:
        """The outcome in a few words."""
        return f"regret {self.regret(self.ours):.1%}, the paper's {self.regret(self.paper):.1%}"


@dataclass(frozen=True, slots=True)
class BudgetJob:
    """Find the best of all mixes within a budget, and hold both picks against it."""

    model: str
    budget_usd_per_hour: float
    size: Size

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"{self.model}, picks at {self.budget_usd_per_hour:g} USD/h"

    def run(self) -> AtBudget:
        """One run with one seed tells of most mixes that they are not the best; the others are measured."""
        chosen = picks(self.model, self.budget_usd_per_hour)
        mixes = list(mixes_within(self.budget_usd_per_hour))
        near = _near(laboratory(self.model, self.size, seeds=1), mixes, chosen.ours)
        finalists = sorted(near, key=lambda mix: -near[mix])[: self.size.finalists]
        exact = laboratory(self.model, self.size)
        measured = {
            mix: Measured(mix, tuple(exact.throughputs(mix, OURS, tolerance=FINE, guess=near.get(mix))))
            for mix in {*finalists, chosen.ours, chosen.paper}
        }
        return AtBudget(
            model=self.model,
            budget_usd_per_hour=self.budget_usd_per_hour,
            mixes=len(mixes),
            best=max(measured.values(), key=lambda one: one.mean),
            ours=measured[chosen.ours],
            paper=measured[chosen.paper],
            planning_ms=self._planning_ms(),
        )

    def _planning_ms(self) -> float:
        problem = problem_of(load(model_of(self.model)), self.budget_usd_per_hour)
        return min(_milliseconds(lambda: best_mix(problem, self.budget_usd_per_hour)) for _ in range(REPEATS))


def _near(rough: Laboratory, mixes: list[Mix], first: Mix) -> dict[Mix, float]:
    """The mixes that come near the best one met before them, and what they carry, queries per second."""
    carried = {first: rough.throughput(first, OURS, tolerance=COARSE)}
    for mix in mixes:
        least = NEAR * max(carried.values())
        if mix not in carried and rough.holds(mix, OURS, least):
            carried[mix] = rough.throughput(mix, OURS, tolerance=COARSE, guess=least)
    return carried


@dataclass(frozen=True, slots=True)
class LargeCatalogue:
    """Drawn catalogues of so many types at one budget: processor seconds and stated gap of each search."""

    types: int
    budget_usd_per_hour: float
    seconds: tuple[float, ...]
    gaps: tuple[float, ...]

    def told(self) -> str:
        """The outcome in a few words."""
        return f"{max(self.seconds):.1f} s at most, gap {min(self.gaps):.0%} to {max(self.gaps):.0%}"


@dataclass(frozen=True, slots=True)
class LargeCatalogueJob:
    """Time the search of large catalogues."""

    budget_usd_per_hour: float
    types: int = CATALOGUE_TYPES

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"catalogues of {self.types} types at {self.budget_usd_per_hour:g} USD/h"

    def run(self) -> LargeCatalogue:
        """One search for each seed."""
        seconds, gaps = [], []
        for seed in CATALOGUE_SEEDS:
            problem = drawn_catalogue(seed, self.types)
            began = time.process_time()
            gaps.append(best_mix(problem, self.budget_usd_per_hour).gap)
            seconds.append(time.process_time() - began)
        return LargeCatalogue(self.types, self.budget_usd_per_hour, tuple(seconds), tuple(gaps))


def drawn_catalogue(seed: int, count: int) -> Problem:
    """`count` types, the first of them a base: sixteen-fold speeds, prices roughly with speed, 59 sizes."""
    source = random.Random(seed)
    sizes = Sizes.counted([(10.0 * step, LEAST_SHARE + source.random() ** 2) for step in range(1, 60)])
    speeds = [BASE_SPEED, *(2 ** source.uniform(-3, 1) for _ in range(count - 1))]
    types = [_drawn_type(source, sizes, f"type-{number}", speed) for number, speed in enumerate(speeds)]
    return Problem(sizes, tuple(types), latency_seconds=1.0)


def _drawn_type(source: random.Random, sizes: Sizes, name: str, speed: float) -> InstanceType:
    price = round(0.5 * speed ** source.uniform(0.7, 1.2) * source.uniform(0.8, 1.25), 4)
    fixed, per_size = 0.05 * source.uniform(0.2, 2), 0.0012 / speed
    seconds = tuple(fixed + per_size * size for size in sizes.values)
    return InstanceType(name, price, seconds, source.choice((0.02, 0.05, 0.2)))


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return 1000.0 * (time.process_time() - began)
