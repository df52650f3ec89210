"""A decision record as CloudWatch metrics in the embedded metric format, on standard output."""

from collections.abc import Iterator, Mapping
from typing import Final

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from control_lambda.core import names
from control_lambda.core.metrics import Metric
from control_lambda.core.model import EvidenceKind, Mode
from control_lambda.core.reasons import Code, Failure, Skip
from control_lambda.core.record import Answer, DecisionRecord, Skipped
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS
from control_lambda.environment import Environment

Dimensions = Mapping[str, str]
Values = Mapping[Metric, float]

_OF_RECORD: Final = {
    Metric.DEMAND_RPM: "demand_rpm",
    Metric.FORECAST_RPM: "forecast_rpm",
    Metric.COST_USD_PER_HOUR: "cost_usd_per_hour",
    Metric.SAVINGS_USD_PER_HOUR: "savings_usd_per_hour",
    Metric.SIGNAL_AGE_SECONDS: "signal_age_seconds",
}
_MODES: Final = {Mode.COST: 0, Mode.CAPACITY: 1}
_FLIPPING: Final = frozenset(kind for kind, row in REFUSAL_KINDS.items() if row.flips_mode)
_QUOTA: Final = frozenset({EvidenceKind.QUOTA})
_FLAGS: Final = {
    Metric.PAUSED: Code.PAUSED,
    Metric.BUDGET_REACHED: Code.BUDGET,
    Metric.SHORTFALL: Code.SHORTFALL,
    Metric.ALL_UNHEALTHY: Code.ALL_UNHEALTHY,
    Metric.BREAKER: Code.BREAKER,
}
# Too little is known to decide; and whose nodes serve is known from elsewhere or not at all.
_SURVIVAL: Final = (Code.NO_MEMORY, Code.NO_FLEET, Code.PAUSE_UNREADABLE)
_STALE: Final = (Code.HEALTH_INFERRED, Code.HEALTH_UNKNOWN)


def put_metrics(answer: Answer, environment: Environment) -> None:
    """Put what the record says of the fleet, each unit and each pool."""
    for dimensions, values in metrics_of(answer, environment.cluster_name):
        _put(environment.metric_namespace, dimensions, values)


def metrics_of(answer: Answer, cluster_name: str) -> Iterator[tuple[Dimensions, Values]]:
    """Every set of dimensions with the values of its metrics, as far as the answer knows them.

    Every tick that decides puts every metric of the loop, and each unit and each pool every one of its own,
    zeros included: alarms take a metric's absence for a tick that did not run. Of the ticks that were
    skipped, only those that found the lease held are counted: the others came too late to say anything.
    """
    fleet = {names.FLEET: cluster_name}
    if isinstance(answer, Skipped):
        if answer.skipped.startswith(Skip.LEASE_HELD):
            yield fleet, {Metric.LEASE_HELD: 1}
        return
    yield fleet, _of_fleet(answer)
    for name, unit in answer.units.items():
        of_unit = {Metric.WEIGHT: unit.weight, Metric.READY_NODES: unit.ready}
        yield {**fleet, names.UNIT: name}, of_unit
    for name, pool in answer.pools.items():
        of_pool = {
            Metric.DESIRED_NODES: pool.desired,
            Metric.AVAILABLE: int(pool.available),
            Metric.NODE_GROUP_HELD: int(_tells(answer, Code.HELD, name)),
        }
        yield {**fleet, names.POOL: name}, of_pool


def _of_fleet(record: DecisionRecord) -> Values:
    values: dict[Metric, float] = {
        Metric.TICK_FAILURES: len(record.failures),
        Metric.LEASE_HELD: 0,
        Metric.POOLS_SHORT: _pools_with(_FLIPPING, record),
        Metric.QUOTA_REACHED: int(_pools_with(_QUOTA, record) > 0),
        Metric.FOREIGN_WEIGHTS: int(_is_overwritten(record)),
        Metric.UNITS_NOT_BUILT: _reasons_with(Code.NOT_BUILT, record),
        Metric.SURVIVAL: int(any(_tells(record, code) for code in _SURVIVAL)),
        Metric.BELIEFS_STALE: sum(_reasons_with(code, record) for code in _STALE),
    }
    if record.tick:  # without memory the mode is not known
        values[Metric.MODE] = _MODES[record.mode]
    values |= {metric: int(_tells(record, code)) for metric, code in _FLAGS.items()}
    known: dict[Metric, float | None] = {metric: getattr(record, key) for metric, key in _OF_RECORD.items()}
    return values | {metric: value for metric, value in known.items() if value is not None}


def _tells(record: DecisionRecord, code: Code, subject: str = "") -> bool:
    return any(reason.code == code and reason.subject == subject for reason in record.reasons)


def _reasons_with(code: Code, record: DecisionRecord) -> int:
    return sum(reason.code == code for reason in record.reasons)


def _is_overwritten(record: DecisionRecord) -> bool:
    """Whether somebody else changed the weights: before this tick, or between its write and its read."""
    return _tells(record, Code.FOREIGN_WEIGHTS) or any(
        Failure.of(failure) is Failure.FOREIGN_WEIGHTS for failure in record.failures
    )


def _pools_with(kinds: frozenset[EvidenceKind], record: DecisionRecord) -> int:
    return sum(pool.evidence in kinds for pool in record.pools.values())


def _put(namespace: str, dimensions: Dimensions, values: Values) -> None:
    blob = EphemeralMetrics(namespace=namespace)
    for name, value in dimensions.items():
        blob.add_dimension(name, value)
    for metric, measured in values.items():
        blob.add_metric(metric.metric_name, MetricUnit(metric.unit), measured)
    blob.flush_metrics()
