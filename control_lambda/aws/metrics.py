"""What CloudWatch holds: the load balancer's minutes, what slow nodes say, launches refused, and prices.

A GetMetricData call has one time window, so there are two of them: one over the last minutes, one over
the hours in which a price still counts as known. Each asks for everything in one batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from control_lambda.aws.validity import is_count, is_price
from control_lambda.core import names
from control_lambda.core.fleet import Fleet
from control_lambda.core.metrics import Metric
from control_lambda.core.model import Evidence, EvidenceKind, Minute
from control_lambda.core.supply.refusal_kinds import LAUNCH_REFUSALS
from control_lambda.environment import Environment, target_group_dimension
from control_lambda.errors import IncompleteAnswerError, code_of, is_invalid

MINUTE_SECONDS: Final = 60
# A quarter of an hour to bridge gaps, and the two minutes by which ALB metrics are late.
WINDOW_SECONDS: Final = 17 * MINUTE_SECONDS
# Prices are put every hour. For a day the last good one beats the dated price of the fleet's file.
PRICE_WINDOW_SECONDS: Final = 24 * 60 * MINUTE_SECONDS
PRICE_READ_SECONDS: Final = 10 * MINUTE_SECONDS
# What is no count or no price is told while it is new: this long covers the tick that first saw it, counts
# being up to three minutes late.
NEW_COUNT_SECONDS: Final = 4 * MINUTE_SECONDS
NEW_PRICE_SECONDS: Final = PRICE_READ_SECONDS + MINUTE_SECONDS

# Nodes report every minute, and CloudWatch shows it within three: what is older is over.
NODE_REPORT_SECONDS: Final = 5 * MINUTE_SECONDS

Points = dict[int, float]  # start of the period (epoch seconds) to value


@dataclass(frozen=True, slots=True)
class Counts:
    """The last minutes: per unit, without a target, and the launches refused in them.

    `node_seconds` maps the address of a node that says that it is slow to the seconds that a request takes.
    `invalid` tells what came that can be no count; it counts as not having come.
    """

    minutes: Mapping[str, tuple[Minute, ...]]
    untargeted: Mapping[int, float]
    refused: tuple[Evidence, ...]
    node_seconds: Mapping[str, float] = field(default_factory=dict)
    invalid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prices:
    """The latest good price (USD per node and hour) by pool; `invalid` tells what came since and is none."""

    known: Mapping[str, float] = field(default_factory=dict)
    invalid: tuple[str, ...] = ()


class MetricsReader:
    """Reads the metrics of one fleet."""

    def __init__(self, client: Any, environment: Environment) -> None:
        self._client = client
        self._environment = environment

    def traffic(self, fleet: Fleet, at: float) -> Counts:
        """The whole minutes of the window before `at`.

        Raises:
            IncompleteAnswerError: some queries were not answered.
        """
        deployed = [unit.name for unit in fleet.units if unit.name in self._environment.units]
        queries = [query for name in deployed for query in self._unit_queries(name, fleet)]
        queries += self._untargeted_queries(fleet)
        queries += [self._refusal_query(pool.name, kind) for pool in fleet.pools for kind in LAUNCH_REFUSALS]
        read, refused = self._read_with_nodes(queries, at)
        points, invalid = valid_counts(read, at)
        return Counts(
            {name: _minutes(name, points) for name in deployed},
            _untargeted(points),
            tuple(
                Evidence(pool.name, kind, float(minute))
                for pool in fleet.pools
                for kind in LAUNCH_REFUSALS
                for minute, count in sorted(points.get(_id("refused", pool.name, kind), {}).items())
                if count > 0
            ),
            latest_reports(
                {key.removeprefix(_OF_NODE): series for key, series in points.items() if _is_of_node(key)}, at
            ),
            refused + invalid,
        )

    def _read_with_nodes(
        self, queries: list[dict[str, Any]], at: float
    ) -> tuple[dict[str, Points], tuple[str, ...]]:
        """The window's minutes and what slow nodes say; if AWS refuses to search, a line instead of that.

        A refused expression refuses its whole batch, and demand is not given up for a comfort.
        """
        try:
            return self._read([*queries, self._nodes_query()], at, WINDOW_SECONDS), ()
        except ClientError as error:
            if not is_invalid(error):
                raise
            told = f"metrics: slow nodes are not searched for: {code_of(error)}"
        return self._read(queries, at, WINDOW_SECONDS), (told,)

    def prices(self, fleet: Fleet, at: float) -> Prices:
        """The latest price of each pool of which one is known.

        Raises:
            IncompleteAnswerError: some queries were not answered.
        """
        queries = [self._price_query(pool.name) for pool in fleet.pools]
        # One minute more than the whole ones: a price put in this minute is known.
        points = self._read(queries, at + MINUTE_SECONDS, PRICE_WINDOW_SECONDS)
        return valid_prices({pool.name: points.get(_id("price", pool.name), {}) for pool in fleet.pools}, at)

    def _unit_queries(self, unit: str, fleet: Fleet) -> list[dict[str, Any]]:
        percentile = f"p{fleet.objective.percentile:g}"
        queries = []
        for key, (metric, statistic) in _UNIT_METRICS.items():
            namespace, dimensions = self._source(unit, metric, fleet)
            identity = _id("unit", unit, key)
            queries.append(_query(identity, namespace, metric, dimensions, statistic or percentile))
        return queries

    def _source(self, unit: str, metric: Metric, fleet: Fleet) -> tuple[str, dict[str, str]]:
        """The namespace and dimensions of a unit's metric: the load balancer's, or those of the router.

        The health of the unit's targets is the load balancer's to tell in either case.
        """
        if fleet.routing == "router" and metric is not Metric.HEALTHY_HOST_COUNT:
            dimensions = {names.FLEET: self._environment.cluster_name, names.UNIT: unit}
            return self._environment.metric_namespace, dimensions
        group = target_group_dimension(self._environment.units[unit].target_group_arn)
        return names.LOAD_BALANCER_NAMESPACE, {
            names.LOAD_BALANCER: self._environment.load_balancer_dimension,
            names.TARGET_GROUP: group,
        }

    def _untargeted_queries(self, fleet: Fleet) -> list[dict[str, Any]]:
        dimensions = {names.LOAD_BALANCER: self._environment.load_balancer_dimension}
        queries = [
            _query(
                _id("untargeted", metric.metric_name),
                names.LOAD_BALANCER_NAMESPACE,
                metric,
                dimensions,
                "Sum",
            )
            for metric in _UNTARGETED
        ]
        if fleet.routing == "router":
            queries.append(
                _query(
                    _id("untargeted", Metric.REFUSED_REQUEST_COUNT.metric_name),
                    self._environment.metric_namespace,
                    Metric.REFUSED_REQUEST_COUNT,
                    {names.FLEET: self._environment.cluster_name},
                    "Sum",
                )
            )
        return queries

    def _refusal_query(self, pool: str, kind: EvidenceKind) -> dict[str, Any]:
        dimensions = {names.FLEET: self._environment.cluster_name, names.POOL: pool, names.KIND: kind.value}
        return _query(
            _id("refused", pool, kind),
            self._environment.metric_namespace,
            Metric.CAPACITY_ERRORS,
            dimensions,
            "Sum",
        )

    def _nodes_query(self) -> dict[str, Any]:
        """Whatever the fleet's nodes put: one expression, however many they are."""
        metric = Metric.NODE_SERVICE_SECONDS
        schema = ",".join((self._environment.metric_namespace, *metric.dimensions))
        wanted = f'MetricName="{metric.metric_name}" {names.FLEET}="{self._environment.cluster_name}"'
        return {
            "Id": _NODES,
            "Expression": f"SEARCH('{{{schema}}} {wanted}', 'Average', {MINUTE_SECONDS})",
            "Label": f"${{PROP('Dim.{names.NODE}')}}",
        }

    def _price_query(self, pool: str) -> dict[str, Any]:
        dimensions = {names.FLEET: self._environment.cluster_name, names.POOL: pool}
        return _query(
            _id("price", pool),
            self._environment.metric_namespace,
            Metric.PRICE_USD_PER_HOUR,
            dimensions,
            "Average",
        )

    def _read(self, queries: list[dict[str, Any]], before: float, seconds: int) -> dict[str, Points]:
        """The whole minutes of the last `seconds` before `before`, by query id; of each node by itself."""
        end = int(before) // MINUTE_SECONDS * MINUTE_SECONDS
        points: dict[str, Points] = {}
        more: dict[str, str] = {}
        while True:
            answer = self._client.get_metric_data(
                MetricDataQueries=queries,
                StartTime=datetime.fromtimestamp(end - seconds, UTC),
                EndTime=datetime.fromtimestamp(end, UTC),
                **more,
            )
            for result in answer["MetricDataResults"]:
                if result.get("StatusCode") not in _ANSWERED:
                    if result["Id"] == _NODES:
                        continue
                    raise IncompleteAnswerError(f"{result['Id']}: {result.get('StatusCode')}")
                series = points.setdefault(_key(result), {})
                moments = (int(moment.timestamp()) for moment in result["Timestamps"])
                series.update(zip(moments, result["Values"], strict=True))
            if not answer.get("NextToken"):
                return points
            more = {"NextToken": answer["NextToken"]}


def latest_reports(reported: Mapping[str, Points], at: float) -> dict[str, float]:
    """What each node said last, of those that have said anything in the last whole minutes before `at`."""
    found: dict[str, float] = {}
    for node, series in reported.items():
        recent = [start for start in series if at - NODE_REPORT_SECONDS <= start <= at - MINUTE_SECONDS]
        if recent:
            found[node] = series[max(recent)]
    return found


def valid_counts(points: Mapping[str, Points], at: float) -> tuple[dict[str, Points], tuple[str, ...]]:
    """The points that can be counts, and a line about those new at `at` that cannot."""
    valid = {
        name: {minute: value for minute, value in series.items() if is_count(value)}
        for name, series in points.items()
    }
    refused = [
        f"{value:g} of {name}"
        for name, series in points.items()
        for minute, value in series.items()
        if minute not in valid[name] and minute > at - NEW_COUNT_SECONDS - MINUTE_SECONDS
    ]
    if not refused:
        return valid, ()
    return valid, (f"metrics: {len(refused)} refused, such as {refused[0]}; valid: finite, 0 or more",)


def valid_prices(points: Mapping[str, Points], at: float) -> Prices:
    """The latest of each pool's points that can be a price, and a line where a later, new one cannot."""
    known: dict[str, float] = {}
    invalid: list[str] = []
    for pool, series in points.items():
        good = [minute for minute, value in series.items() if is_price(value)]
        if good:
            known[pool] = series[max(good)]
        latest = max(series, default=None)
        if latest is not None and latest not in good and latest > at - NEW_PRICE_SECONDS:
            invalid.append(f"prices: {pool}: {series[latest]:g} refused; valid: finite, above 0")
    return Prices(known, tuple(invalid))


# Minute's fields and what fills them; no statistic: the objective's percentile.
_UNIT_METRICS: Final[Mapping[str, tuple[Metric, str]]] = {
    "requests": (Metric.REQUEST_COUNT, "Sum"),
    "errors": (Metric.TARGET_5XX_COUNT, "Sum"),
    "latency_seconds": (Metric.TARGET_RESPONSE_TIME, ""),
    "samples": (Metric.TARGET_RESPONSE_TIME, "SampleCount"),
    "mean_seconds": (Metric.TARGET_RESPONSE_TIME, "Average"),
    "healthy_hosts": (Metric.HEALTHY_HOST_COUNT, "Maximum"),
}
_UNTARGETED: Final = (Metric.FIXED_RESPONSE_COUNT, Metric.ELB_503_COUNT)
_NODES: Final = "nodes"  # the one expression that answers with a series for each node
_OF_NODE: Final = f"{_NODES} "
_ANSWERED: Final = ("Complete", "PartialData")  # PartialData: the next page goes on


def _query(
    identity: str,
    namespace: str,
    metric: Metric,
    dimensions: Mapping[str, str],
    statistic: str,
) -> dict[str, Any]:
    return {
        "Id": identity,
        "MetricStat": {
            "Metric": {
                "Namespace": namespace,
                "MetricName": metric.metric_name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
            },
            "Period": MINUTE_SECONDS,
            "Stat": statistic,
        },
    }


def _key(result: Mapping[str, Any]) -> str:
    """By what a result is known: its query, and of the expression's many its label, the node."""
    return _OF_NODE + str(result["Label"]) if result["Id"] == _NODES else str(result["Id"])


def _is_of_node(key: str) -> bool:
    return key.startswith(_OF_NODE)


def _id(*parts: str) -> str:
    """A query's id: CloudWatch wants a small letter first, then letters, digits and underscores."""
    return "_".join(parts).replace("-", "_")


def _minutes(unit: str, points: Mapping[str, Points]) -> tuple[Minute, ...]:
    """The minutes of which CloudWatch holds any datum, oldest first."""
    counted: dict[int, dict[str, float]] = {}
    for key in _UNIT_METRICS:
        for at, value in points.get(_id("unit", unit, key), {}).items():
            counted.setdefault(at, {})[key] = value
    return tuple(Minute(at=at, **values) for at, values in sorted(counted.items()))


def _untargeted(points: Mapping[str, Points]) -> Points:
    """What found no target in each minute of which anything was counted, each request once."""
    fixed, own, refused = (
        points.get(_id("untargeted", metric.metric_name), {})
        for metric in (*_UNTARGETED, Metric.REFUSED_REQUEST_COUNT)
    )
    return {
        at: untargeted(fixed.get(at), own.get(at)) + refused.get(at, 0.0)
        for at in sorted({*fixed, *own, *refused})
    }


def untargeted(fixed_responses: float | None, own_503s: float | None) -> float:
    """The requests of a minute that the load balancer answered itself.

    AWS does not say whether a fixed response with status 503 is one of HTTPCode_ELB_503_Count too. The sum
    would count it twice if it is; the greater of the two is right then, and where a minute saw only one kind,
    as in a fleet that sleeps. Otherwise it misses the fewer, at most half.
    """
    return max(fixed_responses or 0.0, own_503s or 0.0)
