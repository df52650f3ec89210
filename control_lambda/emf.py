"""A decision record as CloudWatch metrics in the embedded metric format, on standard output."""

from collections.abc import Mapping
from typing import Final

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from control_lambda.core import names
from control_lambda.core.model import Mode
from control_lambda.environment import Environment
from control_lambda.loop import Record

_FLEET_METRICS: Final = (
    (names.DEMAND_RPM, "demand_rpm", MetricUnit.Count),
    (names.FORECAST_RPM, "forecast_rpm", MetricUnit.Count),
    (names.COST_USD_PER_HOUR, "cost_usd_per_hour", MetricUnit.NoUnit),
    (names.SAVINGS_USD_PER_HOUR, "savings_usd_per_hour", MetricUnit.NoUnit),
    (names.SIGNAL_AGE_SECONDS, "signal_age_seconds", MetricUnit.Seconds),
)
_MODES: Final = {Mode.COST: 0, Mode.CAPACITY: 1}


def put_metrics(record: Record, environment: Environment) -> None:
    """Put what the record says of the fleet, each unit and each pool; what it leaves open is not put."""
    fleet = {names.FLEET: environment.cluster_name}
    _put(environment.metric_namespace, fleet, _of_fleet(record))
    for name, unit in record["units"].items():
        of_unit = {
            names.WEIGHT: (MetricUnit.Count, unit["weight"]),
            names.READY_NODES: (MetricUnit.Count, unit["ready"]),
        }
        _put(environment.metric_namespace, {**fleet, names.UNIT: name}, of_unit)
    for name, pool in record["pools"].items():
        of_pool = {
            names.DESIRED_NODES: (MetricUnit.Count, pool["desired"]),
            names.AVAILABLE: (MetricUnit.Count, int(pool["available"])),
        }
        _put(environment.metric_namespace, {**fleet, names.POOL: name}, of_pool)


def _of_fleet(record: Record) -> dict[str, tuple[MetricUnit, float]]:
    metrics: dict[str, tuple[MetricUnit, float]] = {
        names.MODE: (MetricUnit.NoUnit, _MODES[Mode(record["mode"])]),
        names.TICK_FAILURES: (MetricUnit.Count, len(record["failures"])),
    }
    for metric, key, unit in _FLEET_METRICS:
        if record[key] is not None:
            metrics[metric] = (unit, record[key])
    return metrics


def _put(
    namespace: str, dimensions: Mapping[str, str], metrics: Mapping[str, tuple[MetricUnit, float]]
) -> None:
    blob = EphemeralMetrics(namespace=namespace)
    for name, value in dimensions.items():
        blob.add_dimension(name, value)
    for metric, (unit, measured) in metrics.items():
        blob.add_metric(metric, unit, measured)
    blob.flush_metrics()
