"""Branch and bound over mixes: the most for a budget, the least cost for a demand.

A branch fixes how many instances of the first few types there are. It is cut when a linear bound shows
that nothing in it beats the best mix known. Types come in the order of what one USD of them adds to the
first bound, so that good mixes come early.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from control_lambda.core.mix.estimate import Estimator
from control_lambda.core.mix.model import USD_TOLERANCE, Mix, Problem, affordable

BRANCHES_PER_ESTIMATE: Final = 25  # a branch costs some microseconds, an estimate some hundred
CLIMB_SHARE: Final = 0.5  # of the estimates, for the local search before the branches
MOST_GIVEN: Final = 2  # instances of one type that the local search gives for others at once

Reached = tuple[float, ...]  # what each bound grants a branch's mix so far (rpm)


@dataclass(frozen=True, slots=True)
class MixChoice:
    """A mix, what it costs and is estimated to carry.

    `gap` is the share by which a mix that was not looked at may carry more (or cost less); 0: none can.
    """

    mix: Mix
    cost_usd_per_hour: float
    throughput_rpm: float
    gap: float = 0.0


@dataclass(frozen=True, slots=True)
class Field:
    """A problem reduced to the types that a search needs, ordered; `origin` has their places in the whole."""

    problem: Problem
    origin: tuple[int, ...]
    width: int
    estimator: Estimator
    densities: tuple[tuple[float, ...], ...]

    def whole(self, choice: MixChoice) -> MixChoice:
        """The choice with its mix in the order of the whole problem's types."""
        counts = [0] * self.width
        for place, count in zip(self.origin, choice.mix, strict=True):
            counts[place] = count
        return replace(choice, mix=tuple(counts))

    def added(self, reached: Reached, index: int, count: int) -> Reached:
        """What the bounds grant once `count` instances of the type have joined (rpm)."""
        bounds = self.estimator.bounds
        return tuple(rpm + count * values[index] for rpm, values in zip(reached, bounds, strict=True))


def field_for(problem: Problem, budget_usd_per_hour: float) -> Field:
    """The undominated types that one USD of which adds most to the first bound, first."""
    kept = undominated(problem, budget_usd_per_hour)
    first = Estimator(problem).bounds[0]
    origin = sorted(kept, key=lambda index: -first[index] / problem.prices[index])
    reduced = replace(problem, types=tuple(problem.types[index] for index in origin))
    estimator = Estimator(reduced)
    densities = tuple(_best_densities(values, reduced.prices) for values in estimator.bounds)
    return Field(reduced, tuple(origin), len(problem.types), estimator, densities)


def undominated(problem: Problem, budget_usd_per_hour: float) -> tuple[int, ...]:
    """The types that no other one replaces: no dearer, no slower, as often to be had."""
    kept: list[int] = []
    order = sorted(
        range(len(problem.types)), key=lambda index: (problem.prices[index], problem.types[index].seconds)
    )
    for index in order:
        if problem.types[index].most and not any(
            _replaces(problem, other, index, budget_usd_per_hour) for other in kept
        ):
            kept.append(index)
    return tuple(sorted(kept))


class BestSearch:
    """The best mix for one budget: what is known of it so far, and how much has been tried."""

    def __init__(self, field: Field, budget_usd_per_hour: float, limit: int) -> None:
        self._field = field
        self._problem = field.problem
        self._budget = budget_usd_per_hour
        self._limit = limit
        self._known: dict[Mix, float] = {}
        self._best_rpm = 0.0
        self._unseen_rpm = 0.0

    def run(self, count: int) -> list[MixChoice]:
        """The best `count` mixes found, best first, equal ones by cost."""
        for mix in sorted(self._starts(), key=lambda mix: (-self._estimate(mix), mix)):
            self._climb(mix)
        self._branch()
        costs = {mix: self._problem.cost(mix) for mix in self._known}
        ordered = sorted(self._known, key=lambda mix: (-self._known[mix], costs[mix], mix))
        return [
            self._field.whole(MixChoice(mix, costs[mix], self._known[mix], self._gap(self._known[mix])))
            for mix in ordered[:count]
        ]

    def _starts(self) -> Iterator[Mix]:
        """For every base one instance or as many as can be; the rest of the money on the first types."""
        for index in self._problem.bases:
            most = affordable(self._budget, self._problem.types[index])
            for count in sorted({min(1, most), most} - {0}):
                yield self._filled(
                    tuple(count if other == index else 0 for other in range(len(self._problem.types)))
                )

    def _climb(self, mix: Mix) -> None:
        """Move to better mixes, instances of one type given for another's, while that helps."""
        rpm = self._estimate(mix)
        while len(self._known) < CLIMB_SHARE * self._limit:
            better = max(self._neighbours(mix), key=self._estimate, default=mix)
            if self._estimate(better) <= rpm:
                return
            mix, rpm = better, self._estimate(better)

    def _branch(self) -> None:
        """Look at every mix within the budget that the bounds leave open, until the limit is reached.

        Only mixes to which nothing can be added: one more instance is taken never to hurt.
        """
        branches: list[tuple[Mix, float, Reached]] = [((), self._budget, (0.0,) * len(self._field.densities))]
        left = self._limit * BRANCHES_PER_ESTIMATE
        while branches:
            mix, money, reached = branches.pop()
            bound = self._bound(len(mix), money, reached)
            if bound <= self._best_rpm:
                continue
            left -= 1
            if left < 0:
                self._unseen_rpm = max(self._unseen_rpm, bound)
            elif len(mix) == len(self._problem.types):
                self._try(mix, money, bound)
            else:
                branches += self._split(mix, money, reached)

    def _split(self, mix: Mix, money: float, reached: Reached) -> Iterator[tuple[Mix, float, Reached]]:
        """A branch for each count of the next type, the highest last: it is taken first."""
        index = len(mix)
        kind = self._problem.types[index]
        for count in range(affordable(money, kind) + 1):
            spent = count * kind.price_usd_per_hour
            yield (*mix, count), money - spent, self._field.added(reached, index, count)

    def _bound(self, depth: int, money: float, reached: Reached) -> float:
        """What a branch may carry once its money has been spent on the types from `depth` on."""
        return min(
            rpm + densities[depth] * money
            for rpm, densities in zip(reached, self._field.densities, strict=True)
        )

    def _try(self, mix: Mix, money: float, bound: float) -> None:
        if mix in self._known or not self._problem.has_base(mix) or self._room(mix, money):
            return
        if len(self._known) < self._limit:
            self._estimate(mix)
        else:
            self._unseen_rpm = max(self._unseen_rpm, bound)

    def _estimate(self, mix: Mix) -> float:
        if mix not in self._known:
            self._known[mix] = self._field.estimator.rpm(mix)
            self._best_rpm = max(self._best_rpm, self._known[mix])
        return self._known[mix]

    def _gap(self, rpm: float) -> float:
        if self._unseen_rpm <= rpm:
            return 0.0
        return self._unseen_rpm / rpm - 1.0 if rpm else math.inf

    def _room(self, mix: Mix, money: float) -> bool:
        """Whether the money left pays for one more instance that may be had."""
        return any(
            kind.price_usd_per_hour <= money + USD_TOLERANCE and count < kind.most
            for count, kind in zip(mix, self._problem.types, strict=True)
        )

    def _filled(self, mix: Mix) -> Mix:
        """The mix with the money that is left spent, the first types first."""
        money = self._budget - self._problem.cost(mix)
        counts = []
        for count, kind in zip(mix, self._problem.types, strict=True):
            more = min(affordable(money, kind), kind.most - count)
            counts.append(count + more)
            money -= more * kind.price_usd_per_hour
        return tuple(counts)

    def _neighbours(self, mix: Mix) -> Iterator[Mix]:
        """One or two instances of a type given up, and what they cost spent on another first."""
        for given in range(len(mix)):
            for count in range(1, min(MOST_GIVEN, mix[given]) + 1):
                fewer = (*mix[:given], mix[given] - count, *mix[given + 1 :])
                money = self._budget - self._problem.cost(fewer)
                for taken, kind in enumerate(self._problem.types):
                    more = min(affordable(money, kind), kind.most - fewer[taken])
                    if taken != given and more:
                        other = self._filled((*fewer[:taken], fewer[taken] + more, *fewer[taken + 1 :]))
                        if self._problem.has_base(other):
                            yield other


class CheapestSearch:
    """The cheapest mix for one demand, from a first one that carries it."""

    def __init__(self, field: Field, demand_rpm: float, first_usd: float, limit: int) -> None:
        self._field = field
        self._problem = field.problem
        self._demand = demand_rpm
        self._best_usd = first_usd
        self._best: Mix | None = None
        self._limit = limit
        self._unseen_usd = math.inf

    def run(self) -> MixChoice | None:
        """The cheapest mix found, None if none is cheaper than the first."""
        self._branch()
        if self._best is None:
            return None
        rpm = self._field.estimator.rpm(self._best)
        return self._field.whole(MixChoice(self._best, self._best_usd, rpm))

    @property
    def gap(self) -> float:
        """By which share a mix that was not looked at may cost less than the best known."""
        return max(0.0, 1.0 - self._unseen_usd / self._best_usd)

    def _branch(self) -> None:
        branches: list[tuple[Mix, float, Reached]] = [((), 0.0, (0.0,) * len(self._field.densities))]
        left, estimates = self._limit * BRANCHES_PER_ESTIMATE, self._limit
        while branches:
            mix, usd, reached = branches.pop()
            least = usd + self._missing_usd(len(mix), reached)
            if least >= self._best_usd - USD_TOLERANCE:
                continue
            left -= 1
            if left < 0 or not estimates:
                self._unseen_usd = min(self._unseen_usd, least)
            elif len(mix) < len(self._problem.types):
                branches += self._split(mix, usd, reached)
            elif self._problem.has_base(mix):
                estimates -= 1
                if self._field.estimator.late_share(mix, self._demand) <= self._problem.miss_share:
                    self._best, self._best_usd = mix, usd

    def _split(self, mix: Mix, usd: float, reached: Reached) -> Iterator[tuple[Mix, float, Reached]]:
        """A branch for each count of the next type, the highest last: it is taken first."""
        index = len(mix)
        kind = self._problem.types[index]
        for count in range(affordable(self._best_usd - usd, kind) + 1):
            spent = count * kind.price_usd_per_hour
            yield (*mix, count), usd + spent, self._field.added(reached, index, count)

    def _missing_usd(self, depth: int, reached: Reached) -> float:
        """The least money that lifts every bound to the demand with the types from `depth` on."""
        least = 0.0
        for rpm, densities in zip(reached, self._field.densities, strict=True):
            if rpm < self._demand:
                density = densities[depth]
                least = max(least, (self._demand - rpm) / density if density else math.inf)
        return least


def _replaces(problem: Problem, better: int, worse: int, budget: float) -> bool:
    good, bad = problem.types[better], problem.types[worse]
    enough = math.floor((budget + USD_TOLERANCE) / good.price_usd_per_hour)
    return (
        good.price_usd_per_hour <= bad.price_usd_per_hour
        and good.spread <= bad.spread
        and good.most >= enough
        and (better in problem.bases or worse not in problem.bases)
        and all(fast <= slow for fast, slow in zip(good.seconds, bad.seconds, strict=True))
    )


def _best_densities(values: Sequence[float], prices: Sequence[float]) -> tuple[float, ...]:
    """The most that one USD adds to a bound with the types from each depth on; nothing after the last."""
    densities = [0.0]
    for value, price in zip(reversed(values), reversed(prices), strict=True):
        densities.append(max(densities[-1], value / price))
    return tuple(reversed(densities))
