"""What CloudWatch holds after a replay of the twin: the loop's metrics, and the load balancer's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from control_lambda.core import names
from control_lambda.core.fleet import Fleet, Pool
from control_lambda.core.metrics import Metric
from control_lambda.core.record import Answer, DecisionRecord
from control_lambda.emf import metrics_of
from tests.infra.observability.alarm_evaluator import Metrics
from twin.cloud.moto_gaps.minutes import MINUTE, minute_of
from twin.steering.replay import replay
from twin.steering.steering import CoreSteering, Steering
from twin.world.nodes import Event, Refused
from twin.world.plant import Served
from twin.world.queues import LOST, NO_TARGET, NO_UNIT, SERVED
from twin.world.trace import CapacityTrace, Demand, DemandOptions, PriceTrace
from twin.world.world import EPOCH, Scenario, World

CLUSTER: Final = "fulcrum-test"
LOAD_BALANCER: Final = "app/fulcrum/0123456789abcdef"
TICK: Final = "tick"
HOUR_MINUTES: Final = 60
# A replay begins with one node per pool, whatever demand is; what it does then is no normal hour.
WARM_UP_MINUTES: Final = 30


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay from minute 0 (epoch seconds `EPOCH`) on: its requests, and its decision records."""

    fleet: Fleet
    minutes: int
    traffic: Mapping[int, Served]
    records: Sequence[DecisionRecord]
    refused: Sequence[Refused]

    def metrics(self, records: Sequence[DecisionRecord] | None = None) -> Metrics:
        """What CloudWatch holds, the loop's metrics from other `records` where they are given."""
        metrics = Metrics()
        for start, served in self.traffic.items():
            _put_traffic(metrics, start, served)
            metrics.put("AWS/Lambda", "Errors", {"FunctionName": TICK}, start, [0])
        for record in self.records if records is None else records:
            put_record(metrics, record, minute_of(record.at))
        for refused in self.refused:
            dimensions = {names.FLEET: CLUSTER, names.POOL: refused.pool, names.KIND: refused.kind.value}
            metrics.put(
                names.NAMESPACE, Metric.CAPACITY_ERRORS.metric_name, dimensions, minute_of(refused.at), [1]
            )
        for minute in range(0, self.minutes, HOUR_MINUTES):
            put_prices(metrics, self.fleet.pools, EPOCH + minute * MINUTE)
        return metrics

    def watched(self, first: int = WARM_UP_MINUTES) -> range:
        """The minutes (epoch seconds) from minute `first` on."""
        return range(EPOCH + first * MINUTE, EPOCH + self.minutes * MINUTE, MINUTE)


class _Watched(CoreSteering):
    """The loop, with the refused launches kept that were announced to it."""

    def __init__(self, world: World, refused: list[Refused]) -> None:
        super().__init__(world)
        self._refused = refused

    def react(self, events: Sequence[Event]) -> Answer | None:
        """Act on what AWS has announced."""
        self._refused.extend(event for event in events if isinstance(event, Refused))
        return super().react(events)


def run(fleet: Fleet, requests: Sequence[int], limits: Mapping[str, Sequence[int]] | None = None) -> Replayed:
    """Replay that many requests in each minute, with at most so many nodes by pool and minute."""
    demand = Demand(np.array(requests, dtype=np.int64), DemandOptions(), seed=3, epoch=EPOCH)
    capacity = CapacityTrace({pool: list(limit) for pool, limit in (limits or {}).items()})
    traffic: dict[int, Served] = {}
    refused: list[Refused] = []

    def steer(world: World) -> Steering:
        world.observe(lambda start, served: traffic.update({start: served}))
        return _Watched(world, refused)

    scenario = Scenario(fleet, demand, capacity, PriceTrace({}), seed=3)
    records = replay(scenario, "merit-order", steer).records
    return Replayed(fleet, len(requests), traffic, records, refused)


def put_record(metrics: Metrics, answer: Answer, minute: int) -> None:
    """Put what the tick's Lambda would put."""
    for dimensions, told in metrics_of(answer, CLUSTER):
        for metric, value in told.items():
            metrics.put(names.NAMESPACE, metric.metric_name, dimensions, minute, [value])


def put_prices(metrics: Metrics, pools: Sequence[Pool], minute: int) -> None:
    """Put what the signals Lambda would put every hour."""
    for pool in pools:
        dimensions = {names.FLEET: CLUSTER, names.POOL: pool.name}
        name = Metric.PRICE_USD_PER_HOUR.metric_name
        metrics.put(names.NAMESPACE, name, dimensions, minute, [pool.price_usd_per_hour])


def _put_traffic(metrics: Metrics, minute: int, served: Served) -> None:
    """Zero counts are absent, as the load balancer reports."""
    counts = {
        Metric.REQUEST_COUNT: int(np.count_nonzero(served.unit >= 0)),
        Metric.TARGET_5XX_COUNT: int(np.count_nonzero(served.outcome == LOST)),
        Metric.FIXED_RESPONSE_COUNT: int(np.count_nonzero(served.outcome == NO_UNIT)),
        Metric.ELB_503_COUNT: int(np.count_nonzero(np.isin(served.outcome, (NO_UNIT, NO_TARGET)))),
    }
    values = {metric: np.ones(count) for metric, count in counts.items() if count}
    latencies = served.latency[served.outcome == SERVED]
    if len(latencies):
        values[Metric.TARGET_RESPONSE_TIME] = latencies.astype(np.float64)
    for metric, counted in values.items():
        dimensions = {names.LOAD_BALANCER: LOAD_BALANCER}
        metrics.put(names.LOAD_BALANCER_NAMESPACE, metric.metric_name, dimensions, minute, counted)
