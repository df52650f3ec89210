"""A decision record as CloudWatch metrics in the embedded metric format, on standard output."""

from collections.abc import Iterator, Mapping
from typing import Final

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from control_lambda.core import names
from control_lambda.core.model import EvidenceKind, Mode
from control_lambda.core.reasons import Code, Failure, Skip
from control_lambda.core.record import Answer, DecisionRecord, Skipped
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS
from control_lambda.environment import Environment

Dimensions = Mapping[str, str]
Metrics = Mapping[str, tuple[MetricUnit, float]]

_FLEET_METRICS: Final = (
    (names.DEMAND_RPM, "demand_rpm", MetricUnit.Count),
    (names.FORECAST_RPM, "forecast_rpm", MetricUnit.Count),
    (names.COST_USD_PER_HOUR, "cost_usd_per_hour", MetricUnit.NoUnit),
    (names.SAVINGS_USD_PER_HOUR, "savings_usd_per_hour", MetricUnit.NoUnit),
    (names.SIGNAL_AGE_SECONDS, "signal_age_seconds", MetricUnit.Seconds),
)
_MODES: Final = {Mode.COST: 0, Mode.CAPACITY: 1}
_FLIPPING: Final = frozenset(kind for kind, row in REFUSAL_KINDS.items() if row.flips_mode)
_QUOTA: Final = frozenset({EvidenceKind.QUOTA})
_FLAGS: Final = (
    (names.PAUSED, Code.PAUSED),
    (names.BUDGET_REACHED, Code.BUDGET),
    (names.SHORTFALL, Code.SHORTFALL),
)


def put_metrics(answer: Answer, environment: Environment) -> None:
    """Put what the record says of the fleet, each unit and each pool."""
    for dimensions, metrics in metrics_of(answer, environment.cluster_name):
        _put(environment.metric_namespace, dimensions, metrics)


def metrics_of(answer: Answer, cluster_name: str) -> Iterator[tuple[Dimensions, Metrics]]:
    """Every set of dimensions with its metrics (name to unit and value), as far as the answer knows them.

    Of the ticks that were skipped, only those that found the lease held are counted: the others came too
    late to say anything.
    """
    fleet = {names.FLEET: cluster_name}
    if isinstance(answer, Skipped):
        if answer.skipped.startswith(Skip.LEASE_HELD):
            yield fleet, {names.LEASE_HELD: (MetricUnit.Count, 1)}
        return
    yield fleet, _of_fleet(answer)
    for name, unit in answer.units.items():
        of_unit = {
            names.WEIGHT: (MetricUnit.Count, unit.weight),
            names.READY_NODES: (MetricUnit.Count, unit.ready),
        }
        yield {**fleet, names.UNIT: name}, of_unit
    for name, pool in answer.pools.items():
        of_pool = {
            names.DESIRED_NODES: (MetricUnit.Count, pool.desired),
            names.AVAILABLE: (MetricUnit.Count, int(pool.available)),
            names.NODE_GROUP_HELD: (MetricUnit.Count, int(_tells(answer, Code.HELD, name))),
        }
        yield {**fleet, names.POOL: name}, of_pool


def _of_fleet(record: DecisionRecord) -> Metrics:
    metrics: dict[str, tuple[MetricUnit, float]] = {
        names.MODE: (MetricUnit.NoUnit, _MODES[record.mode]),
        names.TICK_FAILURES: (MetricUnit.Count, len(record.failures)),
        names.LEASE_HELD: (MetricUnit.Count, 0),
        names.POOLS_SHORT: (MetricUnit.Count, _pools_with(_FLIPPING, record)),
        names.QUOTA_REACHED: (MetricUnit.Count, int(_pools_with(_QUOTA, record) > 0)),
        names.FOREIGN_WEIGHTS: (MetricUnit.Count, int(_is_overwritten(record))),
        names.UNITS_NOT_BUILT: (MetricUnit.Count, _reasons_with(Code.NOT_BUILT, record)),
    }
    for metric, code in _FLAGS:
        metrics[metric] = (MetricUnit.Count, int(_tells(record, code)))
    for metric, key, unit in _FLEET_METRICS:
        if (figure := getattr(record, key)) is not None:
            metrics[metric] = (unit, figure)
    return metrics


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


def _put(namespace: str, dimensions: Dimensions, metrics: Metrics) -> None:
    blob = EphemeralMetrics(namespace=namespace)
    for name, value in dimensions.items():
        blob.add_dimension(name, value)
    for metric, (unit, measured) in metrics.items():
        blob.add_metric(metric, unit, measured)
    blob.flush_metrics()
