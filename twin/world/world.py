"""The simulated world that a controller steers: demand, capacity, prices, nodes and queues, by the minute.

Nothing in here decides anything. A controller is called at its time, sees what AWS would show, and
changes weights and sizes through `World`; what follows from that is measured.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from control_lambda.aws.metrics import WINDOW_SECONDS
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Minute
from twin.world.metrics import LATE_SECONDS
from twin.world.nodes import Event, Nodes
from twin.world.plant import MINUTE_SECONDS, Plant, Served, count_minute
from twin.world.trace import CapacityTrace, Demand, PriceTrace

# Signals reads prices every hour.
PRICE_MINUTES: Final = 60
# EC2 quotes spot prices with six decimals.
PRICE_DECIMALS: Final = 6
# Midnight UTC, so that the minutes of a trace are the minutes of a day: 2026-01-01.
EPOCH: Final = 1767225600


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens to a fleet, whoever steers it."""

    fleet: Fleet
    demand: Demand
    capacity: CapacityTrace
    prices: PriceTrace
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Past:
    """One simulated minute.

    `latency` has a value per request, in seconds, inf where it failed; `failed` of them got no answer.
    `nodes` are billed and `ready` serve at the minute's end, by pool; `weights` stand then.
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
        self.weights: Mapping[str, int] = {}
        self._minutes: dict[str, deque[Minute]] = {
            unit.name: deque(maxlen=WINDOW_SECONDS // MINUTE_SECONDS) for unit in self.fleet.units
        }
        self._untargeted: deque[tuple[int, float]] = deque(maxlen=WINDOW_SECONDS // MINUTE_SECONDS)
        self._observers: list[Observer] = []
        self._arrivals = np.empty(0)
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
        """USD per node and hour as last read from AWS, at the full hour; None without a price trace."""
        prices = self.scenario.prices
        read = max(self.minute - self.minute % PRICE_MINUTES, self.scenario.demand.start)
        if all(prices.price(name, read) is None for name in self.fleet.pool_named):
            return None
        live = prices.price(pool, read)
        price = self.fleet.pool_named[pool].price_usd_per_hour if live is None else live
        return round(price, PRICE_DECIMALS)

    def observe(self, observer: Observer) -> None:
        """Call `observer` at the end of every minute from now on."""
        self._observers.append(observer)

    def minutes_visible(self, unit: str) -> tuple[Minute, ...]:
        """The unit's counts that CloudWatch shows now, oldest first."""
        earliest, latest = self._visible()
        return tuple(minute for minute in self._minutes[unit] if earliest <= minute.at <= latest)

    def untargeted_visible(self) -> dict[int, float]:
        """Requests without a target by minute, as CloudWatch shows them now."""
        earliest, latest = self._visible()
        return {at: count for at, count in self._untargeted if earliest <= at <= latest and count}

    def begin_minute(self) -> None:
        """Let capacity change as the trace says, and draw the minute's requests."""
        self.nodes.advance(self.now)
        self._apply_capacity(self.scenario.capacity.changes(self.minute))
        self._arrivals = self.scenario.demand.arrivals(self.minute)
        self._parts = []

    def events(self) -> list[Event]:
        """What AWS announced since the last call."""
        return self.nodes.drain_events()

    def advance(self, to: float) -> None:
        """Serve what arrives until `to`, within the minute, under the weights as they stand."""
        self.nodes.advance(to)
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
        for observer in self._observers:
            observer(start, served)
        self._untargeted.append((start, counts.untargeted))
        return Past(
            minute=minute,
            latency=served.latency,
            failed=int(np.count_nonzero(served.failed)),
            cost_usd=self._bill(minute),
            nodes={pool.name: len(self.nodes.existing(pool.name)) for pool in self.fleet.pools},
            ready={pool.name: len(self.nodes.ready(pool.name)) for pool in self.fleet.pools},
            weights=self.weights,
        )

    def _visible(self) -> tuple[float, float]:
        """The earliest and the latest start of a minute that the sensors see now."""
        begun = self.now // MINUTE_SECONDS * MINUTE_SECONDS
        return begun - WINDOW_SECONDS, self.now - LATE_SECONDS - MINUTE_SECONDS

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


def minutes_of(scenario: Scenario) -> Iterator[int]:
    """The trace's minutes that are replayed."""
    return iter(range(scenario.demand.start, scenario.demand.start + scenario.demand.minutes))
