"""The least that a scenario can cost: a linear program with perfect foresight, below every policy.

It knows every arrival, price and shortage beforehand. Per minute t and pool p, the variables are the
nodes that serve, n_p(t), as their mean over the minute and in fractions; by how much they rise, r_p(t);
the requests left waiting at the minute's end, w(t); and those given up, g(t). It minimises
Σ n_p(t)·price_p(t) + Σ r_p(t)·(price of the start before t), subject to

- n_p(t) - n_p(t-1) ≤ r_p(t), from the nodes that the world starts with;
- w(t) ≥ w(t-1) + a(t) - g(t) - Σ n_p(t)·60/s_p, with a(t) arrivals and s_p the service time;
- w(t) ≤ what arrived in the last 60 s, a request's patience, and in the service time before that;
- a spot node that serves in t has existed since its launch: n_p(t) ≤ the least limit over its start and
  t, where a limit that falls holds two minutes longer (the notice);
- an on-demand pool keeps what it has, but rises in t only if, where that launch was made, all its nodes
  lay within the limit L: r_p(t) = 0 or n_p(t) ≤ L. The program takes the convex hull of both cases,
  L·n_p(t) + (N - L)·r_p(t) ≤ L·N, where N, the highest limit so far, bounds n_p(t) too;
- Σ g(t) ≤ the requests that may be given up. This row would slow the solver tenfold. Instead each given-up
  request costs λ: whatever λ ≥ 0, the program's value less λ times the requests that may be given up lies
  below the least cost (Lagrange), and closes in on it as λ is chosen where two earlier solutions cross.

Relaxed, hence a bound: nodes are fractions, minutes are means (a mean rises by no more than what it is
the mean of), the latency objective is the client's patience, draining costs nothing, starting nodes
take no room, nodes.min is free, and the unscored beginning costs nothing and has no requests. It holds
for policies that keep to nodes.max, for service times at their mean, and for starts that take longer
than a drain.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from control_lambda.core.fleet import Pool
from twin.steering.replay import UNSCORED_MINUTES
from twin.world.nodes import NOTICE_SECONDS
from twin.world.plant import MINUTE_SECONDS
from twin.world.world import Scenario

# How far a service time may exceed its mean and still be allowed for: 14 standard deviations.
LONGEST_SERVICE: Final = 2.0
# How far below its exact value, relatively, a bound may stay, and how exactly the solver counts requests.
TOLERANCE: Final = 0.0005
REQUEST_TOLERANCE: Final = 1e-3
NOTICE_MINUTES: Final = ceil(NOTICE_SECONDS / MINUTE_SECONDS)

Floats = NDArray[np.float64]


class OracleError(RuntimeError):
    """The solver gave no optimum; its own message says why."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The least cost of answering `served` of `requests`, over the scored minutes, in USD."""

    cost_usd: float
    requests: int
    served: int

    @property
    def cost_per_thousand_usd(self) -> float | None:
        """USD per thousand answered requests; None when there are none."""
        return 1000 * self.cost_usd / self.served if self.served else None


@dataclass(frozen=True, slots=True)
class _Load:
    """Requests by minute; `late` arrived so late in it that they may still be on a node a minute on."""

    arrivals: Floats
    late: Floats


@dataclass(frozen=True, slots=True)
class _PoolMinutes:
    """What bounds and costs a pool's nodes, by minute.

    `usd` is the price of a node, `start_usd` that of the start of a node which serves from that minute
    on; `ceiling` bounds the serving nodes, `limit` those there may be where they rise.
    """

    rate: float
    at_first: float
    usd: Floats
    start_usd: Floats
    ceiling: Floats
    limit: Floats


@dataclass(frozen=True, slots=True)
class _Solved:
    """What the nodes cost and how many requests were given up at one price of giving up, USD each."""

    usd: float
    given_up: float
    price: float

    def bound(self, given_up: float) -> float:
        """USD below which nothing that gives up so many requests can cost."""
        return self.usd + self.price * (self.given_up - given_up)


class Oracle:
    """The bounds of one scenario; what was solved for one of them serves the next."""

    def __init__(self, scenario: Scenario) -> None:
        load = _load(scenario)
        self._requests = int(load.arrivals.sum())
        self._program = _Program(load, [_pool_minutes(scenario, pool) for pool in scenario.fleet.pools])
        self._solved = [_Solved(usd=0.0, given_up=float(self._requests), price=0.0)]

    def least_cost(self, *, served: int | None = None) -> Bound:
        """The least cost of answering `served` requests (None: all), over the scored minutes.

        Where capacity does not allow so many, it is the least cost of as many as it allows, told in the
        bound's `served`. The bound lies at most `TOLERANCE` below the program's exact value.

        Raises:
            OracleError: the solver gave no optimum.
            ValueError: `served` is below 0 or above the scored requests.
        """
        wanted = self._requests if served is None else served
        if not 0 <= wanted <= self._requests:
            raise ValueError(f"served: {wanted}; valid: 0 to {self._requests}, the scored requests")
        if len(self._solved) == 1:
            self._solved.append(self._program.solve(self._program.beyond_any_price))
        fewest = self._solved[1].given_up
        given_up = max(float(self._requests - wanted), fewest)
        answered = self._requests - ceil(given_up - REQUEST_TOLERANCE)
        return Bound(cost_usd=self._usd(given_up), requests=self._requests, served=answered)

    def _usd(self, given_up: float) -> float:
        """The least cost when so many requests may be given up, refined until it is close enough."""
        while True:
            fewer = max((one for one in self._solved if one.given_up <= given_up), key=_given_up)
            more = min((one for one in self._solved if one.given_up >= given_up), key=_given_up)
            bound = max(one.bound(given_up) for one in self._solved)
            if _between(fewer, more, given_up) - bound <= TOLERANCE * bound:
                return bound
            price = (fewer.usd - more.usd) / (more.given_up - fewer.given_up)
            if any(one.price == price for one in self._solved):
                return bound
            self._solved.append(self._program.solve(price))


def least_cost(scenario: Scenario, *, served: int | None = None) -> Bound:
    """`Oracle.least_cost` for a single question."""
    return Oracle(scenario).least_cost(served=served)


def _load(scenario: Scenario) -> _Load:
    """The scored requests; none in the unscored minutes."""
    demand = scenario.demand
    longest = LONGEST_SERVICE * max(unit.profile.service_seconds for unit in scenario.fleet.units)
    arrivals, late = np.zeros(demand.minutes), np.zeros(demand.minutes)
    for index in range(UNSCORED_MINUTES, demand.minutes):
        minute = demand.start + index
        seconds = demand.arrivals(minute)
        end = demand.epoch + (minute + 1) * MINUTE_SECONDS
        arrivals[index] = len(seconds)
        late[index] = len(seconds) - np.searchsorted(seconds, end - longest)
    return _Load(arrivals, late)


def _pool_minutes(scenario: Scenario, pool: Pool) -> _PoolMinutes:
    profile = scenario.fleet.unit_of[pool.name].profile
    whole_start = int(profile.start_seconds // MINUTE_SECONDS)
    capacity = _capacity(scenario, pool)
    at_first = 1.0 if capacity[0] > 0 else 0.0
    usd = _usd_per_minute(scenario, pool)
    if pool.market == "spot":
        ceiling = _lasting(capacity, whole_start, at_first)
        limit = np.full_like(capacity, pool.nodes.max)
    else:
        ceiling = _highest_so_far(capacity, whole_start, at_first)
        limit = _limit_at_launch(capacity, profile.start_seconds)
    return _PoolMinutes(
        rate=MINUTE_SECONDS / profile.service_seconds,
        at_first=at_first,
        usd=usd,
        start_usd=_sum_of_previous(usd, whole_start),
        ceiling=ceiling,
        limit=limit,
    )


def _capacity(scenario: Scenario, pool: Pool) -> Floats:
    """How many nodes of the pool there may be, by minute."""
    start, most = scenario.demand.start, pool.nodes.max
    limits = (scenario.capacity.limit(pool.name, start + index) for index in range(scenario.demand.minutes))
    return np.array([most if limit is None else min(limit, most) for limit in limits], dtype=np.float64)


def _usd_per_minute(scenario: Scenario, pool: Pool) -> Floats:
    """What a node costs in each minute, USD; nothing in the unscored ones."""
    start = scenario.demand.start
    live = (scenario.prices.price(pool.name, start + index) for index in range(scenario.demand.minutes))
    hourly = [pool.price_usd_per_hour if price is None else price for price in live]
    usd = np.array(hourly, dtype=np.float64) / 60
    usd[:UNSCORED_MINUTES] = 0.0
    return usd


def _sum_of_previous(values: Floats, count: int) -> Floats:
    """The sum of the `count` values before each one, as far as there are any."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    index = np.arange(len(values))
    earlier: Floats = sums[index] - sums[np.maximum(index - count, 0)]
    return earlier


def _lasting(capacity: Floats, start_minutes: int, at_first: float) -> Floats:
    """How many spot nodes can serve in each minute, having existed since their launch.

    Before the first minute there are the `at_first` ones. A node that its limit no longer admits stays for
    the notice.
    """
    before = np.full(start_minutes + NOTICE_MINUTES, at_first)
    with_notice = sliding_window_view(np.concatenate((before, capacity)), NOTICE_MINUTES + 1).max(axis=1)
    lasting: Floats = sliding_window_view(with_notice, start_minutes + 1).min(axis=1)
    return lasting


def _highest_so_far(capacity: Floats, start_minutes: int, at_first: float) -> Floats:
    """The highest limit at which any on-demand node can have been launched that serves in a minute."""
    launched = np.concatenate((np.full(start_minutes, at_first), capacity))[: len(capacity)]
    highest: Floats = np.maximum(np.maximum.accumulate(launched), at_first)
    return highest


def _limit_at_launch(capacity: Floats, start_seconds: float) -> Floats:
    """The highest limit at which nodes can have been launched that let a minute's mean rise.

    They became ready in that minute or in the one before; nothing was launched before the first minute.
    """
    first = ceil(start_seconds / MINUTE_SECONDS) + 1
    last = int(start_seconds // MINUTE_SECONDS)
    padded = np.concatenate((np.zeros(first), capacity))
    windows = sliding_window_view(padded, first - last + 1)[: len(capacity)]
    limit: Floats = windows.max(axis=1)
    return limit


def _given_up(solved: _Solved) -> float:
    return solved.given_up


def _between(fewer: _Solved, more: _Solved, given_up: float) -> float:
    """USD on the line between two solutions, which a mixture of both attains."""
    if more.given_up == fewer.given_up:
        return min(fewer.usd, more.usd)
    share = (given_up - fewer.given_up) / (more.given_up - fewer.given_up)
    return fewer.usd + share * (more.usd - fewer.usd)


class _Program:
    """The linear program. Its columns are n and r, pool by pool and minute by minute, then w and g."""

    def __init__(self, load: _Load, pools: list[_PoolMinutes]) -> None:
        self._minutes = len(load.arrivals)
        self._usd = np.concatenate([pool.usd for pool in pools] + [pool.start_usd for pool in pools])
        self._bounds = _column_bounds(load, pools)
        self._matrix, self._right = _rows(load, pools)
        # Ten times the cost of capacity for one request a minute, in the dearest pool and all the time.
        self.beyond_any_price = 1.0 + 10.0 * max(float(pool.usd.sum()) / pool.rate for pool in pools)

    def solve(self, price: float) -> _Solved:
        """The optimum when each given-up request costs `price` USD."""
        costs = np.concatenate((self._usd, np.zeros(self._minutes), np.full(self._minutes, price)))
        solution = linprog(costs, A_ub=self._matrix, b_ub=self._right, bounds=self._bounds, method="highs-ds")
        if not solution.success:
            raise OracleError(f"least cost: {solution.message}")
        nodes, given_up = solution.x[: len(self._usd)], solution.x[-self._minutes :]
        return _Solved(usd=float(self._usd @ nodes), given_up=float(given_up.sum()), price=price)


def _column_bounds(load: _Load, pools: list[_PoolMinutes]) -> Floats:
    late_before = np.concatenate(([0.0], load.late[:-1]))
    highest = np.concatenate(
        [pool.ceiling for pool in pools]
        + [pool.limit for pool in pools]
        + [load.arrivals + late_before, load.arrivals]
    )
    return np.stack((np.zeros_like(highest), highest), axis=1)


def _rows(load: _Load, pools: list[_PoolMinutes]) -> tuple[sparse.csr_array, Floats]:
    """The inequalities: matrix @ columns ≤ right."""
    minutes, count = len(load.arrivals), len(pools)
    change = sparse.eye_array(minutes) - sparse.eye_array(minutes, k=-1)
    rates = np.array([[pool.rate for pool in pools]])
    at_first = np.zeros((count, minutes))
    at_first[:, 0] = [pool.at_first for pool in pools]
    serving, rising, launched = _launches_within_limit(pools)
    matrix = sparse.block_array(
        [
            [sparse.kron(sparse.eye_array(count), change), -sparse.eye_array(count * minutes), None, None],
            [-sparse.kron(rates, sparse.eye_array(minutes)), None, -change, -sparse.eye_array(minutes)],
            [serving, rising, None, None],
        ],
        format="csr",
    )
    return matrix, np.concatenate((at_first.ravel(), -load.arrivals, launched))


def _launches_within_limit(pools: list[_PoolMinutes]) -> tuple[sparse.csr_array, sparse.csr_array, Floats]:
    """L·n + (N - L)·r ≤ L·N, where it says more than the columns' bounds: 0 < L < N."""
    limit = np.concatenate([pool.limit for pool in pools])
    most = np.concatenate([pool.ceiling for pool in pools])
    tight = np.flatnonzero((limit > 0) & (limit < most))
    serving = sparse.diags_array(limit, format="csr")[tight]
    rising = sparse.diags_array(most - limit, format="csr")[tight]
    return serving, rising, (limit * most)[tight]
