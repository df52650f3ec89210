"""Upper bounds on a mix's throughput: KAIROS's own, by which it ranks, and linear ones, by which we search.

The paper's bound (arXiv 2210.05889, section 5.1) lets queries above s' = max s_j go to the base alone and
all others to the auxiliary instances. It counts no query as late: where bases are the bottleneck and most
large queries may be, more than the bound can be carried.

The linear bounds are dual solutions of the fluid program

    max X  s.t.  sum_j x_sj = X p_s,  sum_s x_sj L_j(s) <= n_j,  x_sj >= 0 only where type j serves s

(p_s share and L_j(s) seconds of size s). For any y_s >= 0 with sum p_s y_s = 1, X <= sum_j n_j u_j with
u_j = max_s y_s / L_j(s): linear in the mix, so that branches of a search can be cut by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul, truediv
from typing import Final

from control_lambda.core.mix.model import Mix, Problem, check_budget, cumulated, mixes_within

SECONDS_PER_MINUTE: Final = 60.0
MOST_LIMITS: Final = 4  # more bounds would cost a large catalogue's search more than they cut
LEAST_WORTH: Final = 1e-6  # of all queries' worth: fewer large ones than may be late bound nothing


@dataclass(frozen=True, slots=True)
class Ranked:
    """A mix and its bound (rpm)."""

    mix: Mix
    bound_rpm: float


@dataclass(frozen=True, slots=True)
class Auxiliary:
    """The paper's constants of one auxiliary type.

    `limit` counts the sizes up to s_j; `share` is f_j, `time_share` tau_j; `rates` holds Q_j(s), queries
    per second on sizes up to s, by the number of sizes.
    """

    limit: int
    share: float
    time_share: float
    rates: tuple[float, ...]


class PaperBound:
    """KAIROS's bound for one problem; its constants are computed once."""

    def __init__(self, problem: Problem) -> None:
        self._base = problem.paper_base
        self._sizes = len(problem.sizes.values)
        base_seconds = problem.types[self._base].seconds
        shares = cumulated(problem.sizes.shares)
        base_time = cumulated(_products(problem.sizes.shares, base_seconds))
        self._base_rate = 1.0 / base_time[-1]
        self._auxiliaries = {
            index: _auxiliary(problem, index, shares, base_time)
            for index in range(len(problem.types))
            if index != self._base
        }

    def rpm(self, mix: Mix) -> float:
        """The bound of a mix: zero without a base instance.

        UB = n_b Q_b without auxiliaries; else with A = sum n_j Q_j(s'), Q_L = Q_b (1 - f) / (1 - tau) and
        G = A / f - A: n_b Q_L / (1 - f) if G >= n_b Q_L, else A / f + n_b Q_b (1 - G / (n_b Q_L)).
        """
        bases = mix[self._base]
        present = [(mix[index], known) for index, known in self._auxiliaries.items() if mix[index]]
        present = [(count, known) for count, known in present if known.limit]
        if not bases or not present:
            return SECONDS_PER_MINUTE * bases * self._base_rate
        limit = max(known.limit for _, known in present)
        share = max(known.share for _, known in present)
        time_share = max(known.time_share for _, known in present)
        small = sum(count * known.rates[limit] for count, known in present)
        if limit == self._sizes:
            return SECONDS_PER_MINUTE * (small + bases * self._base_rate)
        large_rate = bases * self._base_rate * (1.0 - share) / (1.0 - time_share)
        large = small / share - small
        if large >= large_rate:
            return SECONDS_PER_MINUTE * large_rate / (1.0 - share)
        spare = bases * self._base_rate * (1.0 - large / large_rate)
        return SECONDS_PER_MINUTE * (small / share + spare)


def rank(problem: Problem, budget_usd_per_hour: float) -> list[Ranked]:
    """Every mix within the budget by the paper's bound, highest first; equal bounds: the cheaper first.

    The first is the paper's choice: its artifact ranks and stops there.

    Raises:
        MixError: the budget does not pay for one base instance.
    """
    check_budget(problem, budget_usd_per_hour)
    bound = PaperBound(problem)
    ranked = [Ranked(mix, bound.rpm(mix)) for mix in mixes_within(problem, budget_usd_per_hour)]
    return sorted(ranked, key=lambda item: (-item.bound_rpm, problem.cost(item.mix), item.mix))


def linear_bounds(problem: Problem) -> tuple[tuple[float, ...], ...]:
    """Bounds that are linear in the mix: for each, the rpm that one instance of each type adds at most.

    One prices every size at the least cost of serving it; the others price only the sizes above some
    type's limit, which bind where few types serve large queries. The promise lets a share of queries be
    late; it counts as never served.
    """
    cheapest = _least_costs(problem)
    limits = {problem.served_in_time(index) for index in range(len(problem.types))}
    bounds = [_values(problem, cheapest)]
    for limit in _spread_out(sorted(limits - {0, len(cheapest)})):
        above = [0.0] * limit + cheapest[limit:]
        if _served_worth(problem, above) > LEAST_WORTH * _served_worth(problem, cheapest):
            bounds.append(_values(problem, above))
    return tuple(dict.fromkeys(bounds))


def bound_rpm(bounds: Sequence[Sequence[float]], mix: Mix) -> float:
    """The least of the linear bounds of a mix."""
    return min(math.fsum(map(mul, values, mix)) for values in bounds)


def _spread_out(limits: Sequence[int]) -> list[int]:
    """At most `MOST_LIMITS` of the limits, the highest and others evenly below it."""
    count = min(MOST_LIMITS, len(limits))
    return [limits[len(limits) * (number + 1) // count - 1] for number in range(count)]


def _auxiliary(
    problem: Problem, index: int, shares: Sequence[float], base_time: Sequence[float]
) -> Auxiliary:
    limit = problem.served_in_time(index)
    time = cumulated(_products(problem.sizes.shares, problem.types[index].seconds))
    rates = (0.0, *(share / seconds for share, seconds in zip(shares[1:], time[1:], strict=True)))
    return Auxiliary(limit, shares[limit], base_time[limit] / base_time[-1], rates)


def _least_costs(problem: Problem) -> list[float]:
    """For each size the least price x seconds of a type that serves it in time."""
    served = [problem.served_in_time(index) for index in range(len(problem.types))]
    return [
        min(
            kind.price_usd_per_hour * kind.seconds[position]
            for kind, limit in zip(problem.types, served, strict=True)
            if position < limit
        )
        for position in range(len(problem.sizes.values))
    ]


def _values(problem: Problem, worth: Sequence[float]) -> tuple[float, ...]:
    """u_j in rpm for the prices y_s = `worth` of the sizes, scaled to sum p_s y_s = 1."""
    scale = _served_worth(problem, worth) / SECONDS_PER_MINUTE
    served = [problem.served_in_time(index) for index in range(len(problem.types))]
    return tuple(
        max(map(truediv, worth[:limit], kind.seconds), default=0.0) / scale
        for kind, limit in zip(problem.types, served, strict=True)
    )


def _served_worth(problem: Problem, worth: Sequence[float]) -> float:
    """What all queries are worth without the dearest, as many as may be late."""
    left, served = problem.miss_share, 0.0
    for value, share in sorted(zip(worth, problem.sizes.shares, strict=True), reverse=True):
        late = min(left, share)
        served += (share - late) * value
        left -= late
    return served


def _products(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return list(map(mul, first, second))
