"""How a world is steered through AWS: both Lambdas, as they are deployed, on an embedded cloud."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from control_lambda import handler, signals
from control_lambda.aws.rule import ListenerRule
from control_lambda.core.record import Answer, Skipped
from control_lambda.errors import FAILED_CALL, code_of
from control_lambda.trigger import iso_time
from twin.cloud import embedded
from twin.errors import InputError
from twin.steering.steering import the_decision
from twin.world.nodes import Event
from twin.world.plant import MINUTE_SECONDS, Served
from twin.world.queues import LOST, NO_TARGET, NO_UNIT, REFUSED, SERVED
from twin.world.strikes import WRITES
from twin.world.world import World

HOUR_SECONDS: Final = 3600


class AwsSteering:
    """A `twin.steering.steering.Steering` that reaches the loop only as AWS does; close it in the end.

    The cloud shows the world's own nodes and reports every minute that ends. Scheduled times and events
    go to the handlers, what signals invokes goes to the tick, and the world follows the rule. The `cloud`,
    its `environ`, the tick's `ports` and `signals` are there for tests to starve and to look at.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.cloud = embedded.start()
        self.environ: Mapping[str, str] = self.cloud.provision(world.fleet, nodes=world.nodes)
        self.cloud.befall(world.strikes)
        self.ports = handler.Ports.connect(self.environ, self._connect)
        self.signals = signals.Signals.connect(self.environ, self.cloud.connect)
        self._rule = ListenerRule(self.cloud.client("elbv2"), self.ports.environment)
        self._rule.write(world.weights, world.fleet)
        self._prices_read_at = -np.inf
        world.observe(self._report_minute)
        world.on_foreign_weights(self._write_foreign_weights)

    def close(self) -> None:
        """Stop the cloud."""
        self.cloud.close()

    def schedule(self) -> Answer:
        """Run what EventBridge Scheduler runs now: hourly prices, and the minute's tick.

        Raises:
            InputError: two pools of one instance type and market have different prices.
        """
        self._read_prices()
        return self._tick({"time": iso_time(self._world.tick_time), "cause": "schedule"})

    def react(self, events: Sequence[Event]) -> Answer | None:
        """Hand the events to signals, and to the tick what signals invokes it with."""
        for event in self.cloud.told(events):
            self._signal(event)
        return the_decision(self._tick(payload) for payload in self.cloud.invocations())

    def _tick(self, event: Mapping[str, Any]) -> Answer:
        answer = self._world.strikes.run(lambda: self._run(event))
        self._world.weights = self._rule.weights(self._world.fleet)
        return answer

    def _run(self, event: Mapping[str, Any]) -> Answer:
        """One invocation of the tick; what it raises ends it, as in Lambda, and nothing else."""
        try:
            return handler.run(event, self.ports)
        except FAILED_CALL as error:
            return Skipped(f"failed: {code_of(error)}")

    def _write_foreign_weights(self) -> None:
        self._rule.write(self._world.weights, self._world.fleet)

    def _signal(self, event: Mapping[str, Any]) -> None:
        """One invocation of signals, which may fail: a feed may quote what is no number."""
        with suppress(*FAILED_CALL, signals.PricesMissingError, ValueError):
            signals.run(event, self.signals)

    def _connect(self, service: str, **options: Any) -> Any:
        """A client of the tick's, whose successful writes the world is told of."""
        client = self.cloud.connect(service, **options)
        client.meta.events.register("after-call", self._after_call)
        return client

    def _after_call(self, http_response: Any, model: Any, **_: Any) -> None:
        if model.name in WRITES and http_response.status_code < HTTPStatus.BAD_REQUEST:
            self._world.strikes.wrote()

    def _read_prices(self) -> None:
        """At the first tick of each hour set the prices that the trace has, and have signals read them."""
        now = self._world.now
        quoted = _quoted_prices(self._world)
        if not quoted or now // HOUR_SECONDS == self._prices_read_at // HOUR_SECONDS:
            return
        for pool, price in quoted.items():
            self.cloud.set_price(pool, price)
        self._signal({"prices": True, "time": iso_time(now)})
        self._prices_read_at = now

    def _report_minute(self, start: int, served: Served) -> None:
        """Have the load balancer report the minute that has just ended."""
        self.cloud.advance(start + MINUTE_SECONDS)
        for index, unit in enumerate(self._world.fleet.units):
            outcome, latency = served.outcome[served.unit == index], served.latency[served.unit == index]
            self.cloud.put_minute(
                unit.name,
                start,
                latency[outcome == SERVED],
                errors=_count(outcome, LOST) + _count(outcome, REFUSED),
                unanswered=len(outcome) - _count(outcome, SERVED),
            )
        self.cloud.put_node_seconds(start, self._world.slow_nodes(start))
        self.cloud.put_untargeted(
            start,
            fixed_responses=_count(served.outcome, NO_UNIT),
            own_503s=_count(served.outcome, NO_UNIT) + _count(served.outcome, NO_TARGET),
        )


def _count(outcomes: NDArray[np.int8], outcome: int) -> int:
    return int(np.count_nonzero(outcomes == outcome))


def _told(price: float | str) -> str:
    return price if isinstance(price, str) else f"{price:g}"


def _quoted_prices(world: World) -> dict[str, float | str]:
    """Every pool's quoted price; none without a price trace.

    Raises:
        InputError: AWS could not quote them, since it has one price for an instance type in a market.
    """
    quoted: dict[str, float | str] = {}
    first: dict[tuple[str, str], str] = {}
    for pool in world.fleet.pools:
        price = world.fed_price(pool.name)
        if price is None:
            continue
        quoted[pool.name] = price
        same = first.setdefault((world.fleet.unit_of[pool.name].instance_type, pool.market), pool.name)
        if price != quoted[same]:
            raise InputError(
                f"prices: {_told(price)} for {pool.name} and {_told(quoted[same])} for {same}; "
                "valid through aws: one price for all pools of an instance type and market"
            )
    return quoted
