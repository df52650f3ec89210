"""The simulated world that a controller steers: demand, capacity, prices, nodes and queues, by the minute.

Nothing in here decides anything. A controller is called at its time, sees what AWS would show, and
changes weights and sizes through `World`; what follows from that is measured.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from control_lambda.aws.metrics import WINDOW_SECONDS, untargeted
from control_lambda.core.fleet import Fleet
from control_lambda.core.metrics import Metric
from control_lambda.core.model import Minute
from twin.world.clients import RETRY_SECONDS, Clients
from twin.world.metrics import LATE_SECONDS, partial
from twin.world.nodes import Event, Node, Nodes
from twin.world.plant import MINUTE_SECONDS, MinuteCounts, Plant, Served, count_minute
from twin.world.slowness import slow_nodes
from twin.world.strikes import Strikes
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.trouble import NO_TROUBLE, Trouble

# Signals reads prices every hour.
PRICE_MINUTES: Final = 60
# EC2 quotes spot prices with six decimals.
PRICE_DECIMALS: Final = 6
# The last good price counts for a day.
KEPT_PRICE_MINUTES: Final = 1440
# Midnight UTC, so that the minutes of a trace are the minutes of a day: 2026-01-01.
EPOCH: Final = 1767225600
# A node whose refusals exceed the others' by this share answers errors that stand out.
OUTSTANDING_REFUSALS: Final = 0.2
FEWEST_ASKED: Final = 10

ServersRule = Literal["refuse", "queue"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens to a fleet, whoever steers it.

    `servers` refuse what they cannot answer within the objective, or queue whatever comes; a client sends a
    failed request up to `retries` times again.
    """

    fleet: Fleet
    demand: Demand
    capacity: CapacityTrace
    prices: PriceTrace
    seed: int = 0
    trouble: Trouble = NO_TROUBLE
    servers: ServersRule = "refuse"
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Past:
    """One simulated minute.

    `latency` has a value per request, in seconds, inf where it failed; `failed` of them got no answer. With
    retries a request counts in the minute of its last attempt. `nodes` are billed, draining and terminating
    ones included, and `ready` would answer at the minute's end, by pool; `weights` stand then.
    """

    minute: int
    latency: NDArray[np.float32]
    failed: int
    cost_usd: float
    nodes: Mapping[str, int]
    ready: Mapping[str, int]
    weights: Mapping[str, int]


# Called with each minute's start (epoch seconds) and what became of its requests, when it has ended.
Observer = Callable[[int, Served], None]


class World:
    """One scenario under way. `now` is the simulated time in epoch seconds."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.fleet = scenario.fleet
        self.now = float(EPOCH + scenario.demand.start * MINUTE_SECONDS)
        self.nodes = Nodes(self.fleet, self.now)
        self.plant = Plant(self.fleet, self.nodes, scenario.seed, self.now)
        if scenario.servers == "refuse":
            self.plant.refuse(beyond_seconds=self.fleet.objective.latency_seconds)
        self.strikes = Strikes(scenario.trouble, self.fleet, scenario.seed, self.now, self.nodes, self.plant)
        self.weights: Mapping[str, int] = {}
        self._minutes: dict[str, deque[Minute]] = {
            unit.name: deque(maxlen=WINDOW_SECONDS // MINUTE_SECONDS) for unit in self.fleet.units
        }
        self._untargeted: deque[tuple[int, MinuteCounts]] = deque(maxlen=WINDOW_SECONDS // MINUTE_SECONDS)
        self._slow: deque[tuple[int, Mapping[str, float]]] = deque(maxlen=WINDOW_SECONDS // MINUTE_SECONDS)
        self._observers: list[Observer] = []
        self._rewritten: list[Callable[[], None]] = []
        self._arrivals = np.empty(0)
        self._clients = Clients(scenario.retries)
        self._parts: list[Served] = []
        self._billed = {pool.name: 0.0 for pool in self.fleet.pools}
        self._apply_capacity(scenario.capacity.limits(scenario.demand.start))
        self._start_one_node_per_pool()

    @property
    def minute(self) -> int:
        """The trace's minute that `now` is in."""
        return int((self.now - EPOCH) // MINUTE_SECONDS)

    def price(self, pool: str) -> float:
        """USD per node and hour now."""
        live = self.scenario.prices.price(pool, self.minute)
        return self.fleet.pool_named[pool].price_usd_per_hour if live is None else live

    def quoted_price(self, pool: str) -> float | None:
        """USD per node and hour as last read from AWS, at the full hour; None without a price feed.

        What the feed says stops at signals where it is no price: the last good one stays, for a day.
        """
        latest = self._price_read_at()
        for read in range(latest, max(latest - KEPT_PRICE_MINUTES, self.scenario.demand.start - 1), -1):
            if read in (latest, self.scenario.demand.start) or read % PRICE_MINUTES == 0:
                quoted = self._fed_price(pool, read)
                if quoted is None or (isinstance(quoted, float) and isfinite(quoted) and quoted > 0):
                    return quoted
        return None

    def fed_price(self, pool: str) -> float | str | None:
        """What the price feed said when AWS was last asked, valid or not; None without a feed."""
        return self._fed_price(pool, self._price_read_at())

    def _price_read_at(self) -> int:
        return max(self.minute - self.minute % PRICE_MINUTES, self.scenario.demand.start)

    def _fed_price(self, pool: str, read: int) -> float | str | None:
        prices = self.scenario.prices
        wrong = self.strikes.quoted_price(pool, read - self.scenario.demand.start)
        if wrong is not None:
            return wrong
        if not self.strikes.quotes_prices and all(
            prices.price(name, read) is None for name in self.fleet.pool_named
        ):
            return None
        live = prices.price(pool, read)
        price = self.fleet.pool_named[pool].price_usd_per_hour if live is None else live
        return round(price, PRICE_DECIMALS)

    def observe(self, observer: Observer) -> None:
        """Call `observer` at the end of every minute from now on."""
        self._observers.append(observer)

    def on_foreign_weights(self, observer: Callable[[], None]) -> None:
        """Call `observer` whenever somebody else has written the rule: `weights` is what stands in it."""
        self._rewritten.append(observer)

    def failing(self, action: str, subject: str = "") -> str | None:
        """The error code with which this call of the AWS action fails; None: it does not. See `Strikes`."""
        return self.strikes.failing(action, subject)

    def table_down(self) -> bool:
        """Whether every DynamoDB call fails now."""
        return self.strikes.table_down()

    @property
    def tick_time(self) -> float:
        """The time that a tick is told now: the world's own, unless the clock is wrong."""
        return self.now + self.strikes.clock_seconds()

    def minutes_visible(self, unit: str) -> tuple[Minute, ...]:
        """The unit's counts that CloudWatch shows now, oldest first."""
        earliest, latest = self._visible()
        minutes = tuple(minute for minute in self._minutes[unit] if earliest <= minute.at <= latest)
        if not self.strikes.visibility.disturbances:
            return minutes
        shown = (self._shown(unit, minute) for minute in minutes)
        return tuple(minute for minute in shown if minute != Minute(minute.at))

    def untargeted_visible(self) -> dict[int, float]:
        """Requests without a target by minute, as CloudWatch shows them now."""
        earliest, latest = self._visible()
        shown = {
            at: untargeted(
                self._seen(Metric.FIXED_RESPONSE_COUNT.metric_name, None, at, counts.fixed_responses),
                self._seen(Metric.ELB_503_COUNT.metric_name, None, at, counts.untargeted),
            )
            for at, counts in self._untargeted
            if earliest <= at <= latest
        }
        return {at: count for at, count in shown.items() if count}

    def slow_nodes(self, start: int) -> Mapping[str, float]:
        """The seconds that a request took on each slow node in the minute that starts then."""
        return next((seconds for at, seconds in self._slow if at == start), {})

    def slow_nodes_visible(self) -> dict[str, dict[int, float]]:
        """What slow nodes have put and CloudWatch shows now: by node, the seconds by minute.

        The twin assumes that it comes as late as the load balancer's metrics, a node's first datum, too.
        """
        _, latest = self._visible()
        shown: dict[str, dict[int, float]] = {}
        for at, seconds in self._slow:
            if at <= latest:
                for node, value in seconds.items():
                    shown.setdefault(node, {})[at] = value
        return shown

    def begin_minute(self) -> None:
        """Let trouble strike and capacity change as the trace says, and draw the minute's requests."""
        self.nodes.advance(self.now)
        self.strikes.begin_minute(self.minute - self.scenario.demand.start)
        if self.strikes.foreign_weights is not None:
            self.weights = self.strikes.foreign_weights
            for observer in self._rewritten:
                observer()
        self._apply_capacity(self.scenario.capacity.changes(self.minute))
        self._arrivals = self.scenario.demand.arrivals(self.minute)
        if self.scenario.retries:
            self._clients.send(self._arrivals)
        self._parts = []

    def events(self) -> list[Event]:
        """What AWS announced since the last call."""
        return self.nodes.drain_events()

    def advance(self, to: float) -> None:
        """Serve what arrives until `to`, within the minute, under the weights as they stand."""
        self.nodes.advance(to)
        if self.scenario.retries:
            self._advance_clients(to)
            return
        first, last = np.searchsorted(self._arrivals, (self.now, to))
        self._parts.append(self.plant.serve(self._arrivals[first:last], to, self.weights))
        self.now = to

    def end_minute(self) -> Past:
        """Serve the rest of the minute and count it."""
        minute = self.minute
        start = EPOCH + minute * MINUTE_SECONDS
        self.advance(float(start + MINUTE_SECONDS))
        served = Served.joined(self._parts)
        counts = count_minute(self.fleet, self.nodes, start, [served])
        for unit, counted in counts.units.items():
            if counted != Minute(start):
                self._minutes[unit].append(counted)
        self._slow.append((start, slow_nodes(self.fleet, self.nodes, self.plant, self.weights)))
        for observer in self._observers:
            observer(start, served)
        self._untargeted.append((start, counts))
        if self.scenario.servers == "refuse":
            self._note_outstanding(start)
        latency = self._latency(served)
        return Past(
            minute=minute,
            latency=latency,
            failed=int(np.count_nonzero(np.isinf(latency))),
            cost_usd=self._bill(minute),
            nodes={pool.name: len(self.nodes.existing(pool.name)) for pool in self.fleet.pools},
            ready={pool.name: len(self.nodes.ready(pool.name)) for pool in self.fleet.pools},
            weights=self.weights,
        )

    def _visible(self) -> tuple[float, float]:
        """The earliest and the latest start of a minute that the sensors see now."""
        begun = self.now // MINUTE_SECONDS * MINUTE_SECONDS
        return begun - WINDOW_SECONDS, self.now - LATE_SECONDS - MINUTE_SECONDS

    def _shown(self, unit: str, minute: Minute) -> Minute:
        """What CloudWatch shows now of the minute."""
        return Minute(
            at=minute.at,
            requests=self._seen(Metric.REQUEST_COUNT.metric_name, unit, minute.at, minute.requests),
            errors=self._seen(Metric.TARGET_5XX_COUNT.metric_name, unit, minute.at, minute.errors),
            latency_seconds=self._seen(
                Metric.TARGET_RESPONSE_TIME.metric_name, unit, minute.at, minute.latency_seconds, whole=True
            ),
            samples=self._seen(Metric.TARGET_RESPONSE_TIME.metric_name, unit, minute.at, minute.samples),
            mean_seconds=self._seen(
                Metric.TARGET_RESPONSE_TIME.metric_name, unit, minute.at, minute.mean_seconds, whole=True
            ),
            healthy_hosts=self._seen(
                Metric.HEALTHY_HOST_COUNT.metric_name, unit, minute.at, minute.healthy_hosts, whole=True
            ),
        )

    def _seen(
        self, metric: str, unit: str | None, at: int, value: float | None, *, whole: bool = False
    ) -> float | None:
        """The datum as it is seen now; a statistic that is no sum is seen `whole` or not at all."""
        share = self.strikes.visibility.share(metric, unit, at, self.now)
        if value is None or share == 0:
            return None
        return value if whole else partial(value, share)

    def _advance_clients(self, to: float) -> None:
        """Serve until `to` in steps within which no failed request comes again."""
        while self.now < to:
            until = min(to, self.now + RETRY_SECONDS)
            served = self.plant.serve(self._clients.arriving(until), until, self.weights)
            self._clients.answer(served)
            self._parts.append(served)
            self.now = until

    def _latency(self, served: Served) -> NDArray[np.float32]:
        """The latencies of the users' requests that ended in this minute."""
        if not self.scenario.retries:
            return served.latency
        demand = self.scenario.demand
        if self.minute >= demand.start + demand.minutes:
            self._clients.give_up()
        return self._clients.told()

    def _note_outstanding(self, start: int) -> None:
        """Have nodes that refuse far more than their unit's others stand out by errors since `start`."""
        counted = self.plant.drain_refusals()
        for unit in self.fleet.units:
            nodes = [node for pool in unit.pools for node in self.nodes.ready(pool.name)]
            shares = {node.id: _refused_share(counted.get(node.id, (0, 0))) for node in nodes}
            for node in nodes:
                if node.error_share == 0:
                    _note_errors(node, shares, start)

    def _apply_capacity(self, limits: Mapping[str, int]) -> None:
        for pool, limit in limits.items():
            self.nodes.set_capacity(pool, limit, self.now)

    def _start_one_node_per_pool(self) -> None:
        units = set()
        for pool in self.fleet.pools:
            limit = self.scenario.capacity.limit(pool.name, self.scenario.demand.start)
            if pool.nodes.max and limit != 0:
                self.nodes.start(pool.name, 1, self.now)
                units.add(self.fleet.unit_of[pool.name].name)
        self.weights = {unit.name: int(unit.name in units) for unit in self.fleet.units}

    def _bill(self, minute: int) -> float:
        cost = 0.0
        for pool in self._billed:
            billed = self.nodes.billed_seconds(pool)
            live = self.scenario.prices.price(pool, minute)
            price = self.fleet.pool_named[pool].price_usd_per_hour if live is None else live
            cost += (billed - self._billed[pool]) / 3600 * price
            self._billed[pool] = billed
        return cost


def _refused_share(counted: tuple[int, int]) -> float:
    asked, refused = counted
    return refused / asked if asked >= FEWEST_ASKED else 0.0


def _note_errors(node: Node, shares: Mapping[str, float], start: int) -> None:
    others = [share for name, share in shares.items() if name != node.id]
    usual = sum(others) / len(others) if others else shares[node.id]
    stands_out = shares[node.id] > usual + OUTSTANDING_REFUSALS
    node.errors_since = min(node.errors_since, start) if stands_out else inf


def minutes_of(scenario: Scenario) -> Iterator[int]:
    """The trace's minutes that are replayed."""
    return iter(range(scenario.demand.start, scenario.demand.start + scenario.demand.minutes))
