"""Gap: metrics.

Moto keeps one datum per sample and rescans all of them, has no percentiles, and answers metric math with
nothing. Restored: statistics and percentiles from minute buckets, metric math and SEARCH, the load balancer's
metrics in a minute's datum that is late by two minutes, or as trouble has it, and absent when there is
nothing to report.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any, Final

import numpy as np

from control_lambda.core.names import LOAD_BALANCER_NAMESPACE, TARGET_GROUP
from twin.cloud.moto_gaps.deployment import Deployment
from twin.cloud.moto_gaps.metric_math import Values, evaluate
from twin.cloud.moto_gaps.metric_search import MOST_FOUND, Search, label, parse
from twin.cloud.moto_gaps.minutes import MINUTE, Bucket, Minutes, Series, minute_of, series
from twin.cloud.moto_gaps.protocol import (
    AwsError,
    Operation,
    Parameters,
    Result,
    not_implemented,
    refuse_unknown,
)
from twin.world.metrics import LATE_SECONDS, Visibility, partial

MAX_QUERIES: Final = 500
SUMS: Final = frozenset({"Sum", "SampleCount"})
MAX_POINTS: Final = 100_800


class CloudWatch:
    """GetMetricData and PutMetricData over minute buckets, at the deployment's time."""

    service = "cloudwatch"

    def __init__(self, deployment: Deployment, minutes: Minutes) -> None:
        self.visibility = Visibility()
        self._deployment = deployment
        self._minutes = minutes

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here; nothing of this service is left to moto."""
        return {
            "DescribeAlarms": self.describe_alarms,
            "GetMetricData": self.get_metric_data,
            "PutMetricData": self.put_metric_data,
        }

    def describe_alarms(self, parameters: Parameters) -> Result:
        """The alarms of these names; nothing evaluates them, one rings when told to."""
        refuse_unknown(parameters, "DescribeAlarms", "AlarmNames")
        ringing = self._deployment.ringing
        return {
            "MetricAlarms": [
                {"AlarmName": name, "StateValue": "ALARM" if name in ringing else "OK"}
                for name in parameters["AlarmNames"]
            ]
        }

    def put_metric_data(self, parameters: Parameters) -> Result:
        """Add custom data to its minute (now, unless it names a Timestamp); visible at once.

        Raises:
            AwsError: NotImplemented for statistic sets, InvalidParameterValue for AWS's own namespaces.
        """
        refuse_unknown(parameters, "PutMetricData", "Namespace", "MetricData")
        namespace = parameters["Namespace"]
        if namespace.startswith("AWS/"):
            raise AwsError("InvalidParameterValue", "The value AWS/ for parameter Namespace is invalid.")
        for datum in parameters["MetricData"]:
            if "StatisticValues" in datum:
                raise not_implemented("PutMetricData with StatisticValues")
            key = series(namespace, datum["MetricName"], _dimensions(datum))
            self._minutes.add(key, minute_of(datum.get("Timestamp", self._deployment.time)), _values(datum))
        return {}

    def get_metric_data(self, parameters: Parameters) -> Result:
        """Every query's values in the minutes from StartTime until EndTime, latest first unless asked.

        Raises:
            AwsError: ValidationError for queries that AWS refuses or that the cloud cannot answer.
        """
        known = ("MetricDataQueries", "StartTime", "EndTime", "ScanBy")
        refuse_unknown(parameters, "GetMetricData", *known)
        queries: Sequence[Parameters] = parameters["MetricDataQueries"]
        minutes = _window(parameters)
        _check_queries(queries, len(minutes))
        shown = minutes if parameters.get("ScanBy") == "TimestampAscending" else minutes[::-1]
        searches = {query["Id"]: parse(query.get("Expression", "")) for query in queries}
        found = self._values([query for query in queries if searches[query["Id"]] is None], minutes)
        results: list[Result] = []
        for query in queries:
            search = searches[query["Id"]]
            if search is not None:
                results.extend(self._search(query, search, minutes, shown))
            elif query.get("ReturnData", True):
                results.append(_result(query, found[query["Id"]], shown))
        return {"Messages": [], "MetricDataResults": results}

    def _search(
        self, query: Parameters, search: Search, minutes: Sequence[int], shown: Sequence[int]
    ) -> Iterator[Result]:
        """A result for each series found; what servers put is assumed as late as the load balancer's."""
        keys = sorted((key for key in self._minutes.known if search.finds(key)), key=_name_of)
        for key in keys[:MOST_FOUND]:
            values = {
                minute: self._statistic(bucket, search.statistic)
                for minute, bucket in self._minutes.between(key, self._past(minutes)).items()
            }
            if values:
                yield _result({**query, "Label": label(query.get("Label", ""), key)}, values, shown)

    def _values(self, queries: Sequence[Parameters], minutes: Sequence[int]) -> Mapping[str, Values]:
        """Every query's values by its id: metrics first, then expressions as soon as they can be computed."""
        metrics = {
            query["Id"]: self._metric(query["MetricStat"], minutes)
            for query in queries
            if "MetricStat" in query
        }
        found: dict[str, Values] = dict(metrics)
        for query in queries:
            if "Expression" in query:
                found[query["Id"]] = evaluate(query["Expression"], found, self._past(minutes))
        return found

    def _past(self, minutes: Sequence[int]) -> Sequence[int]:
        return [minute for minute in minutes if minute + MINUTE + LATE_SECONDS <= self._deployment.time]

    def _metric(self, wanted: Parameters, minutes: Sequence[int]) -> Values:
        refuse_unknown(wanted, "MetricStat", "Metric", "Period", "Stat")
        if wanted["Period"] != MINUTE:
            raise _invalid(f"Period must be {MINUTE} in the embedded AWS; {wanted['Period']} given")
        key = _series(wanted["Metric"])
        visible = self._past(minutes) if key.namespace == LOAD_BALANCER_NAMESPACE else minutes
        values: dict[int, float] = {}
        for minute, bucket in self._minutes.between(key, visible).items():
            value = self._statistic(bucket, wanted["Stat"])
            seen = self._seen(key, minute, wanted["Stat"], value)
            if seen is not None:
                values[minute] = seen
        return values

    @staticmethod
    def _statistic(bucket: Bucket, statistic: str) -> float:
        value = bucket.statistic(statistic)
        if value is None:
            raise _invalid(f"The value {statistic} for parameter Stat is not supported.")
        return value

    def _seen(self, key: Series, minute: int, statistic: str, value: float) -> float | None:
        """The statistic as it is seen now; None: not yet, or never."""
        if key.namespace != LOAD_BALANCER_NAMESPACE or not self.visibility.disturbances:
            return value
        group = dict(key.dimensions).get(TARGET_GROUP)
        unit = None if group is None else self._deployment.unit_of_group(group)
        share = self.visibility.share(key.metric, unit, minute, self._deployment.time)
        if share == 0:
            return None
        return partial(value, share) if statistic in SUMS else value


def _window(parameters: Parameters) -> Sequence[int]:
    """The minutes that start within the window; AWS rounds its start down to a whole minute."""
    start, end = parameters["StartTime"], parameters["EndTime"]
    if start >= end:
        raise _invalid("The parameter StartTime must be less than the parameter EndTime.")
    return range(minute_of(start), ceil(end), MINUTE)


def _check_queries(queries: Sequence[Parameters], minutes: int) -> None:
    if len(queries) > MAX_QUERIES:
        raise _invalid(f"The collection MetricDataQueries must not have a size greater than {MAX_QUERIES}.")
    if len(queries) * minutes > MAX_POINTS:
        raise not_implemented(f"GetMetricData of more than {MAX_POINTS} points, which AWS pages")
    ids = [query["Id"] for query in queries]
    if len(set(ids)) < len(ids):
        raise _invalid("The values for parameter Id in MetricDataQueries must be unique.")
    for query in queries:
        refuse_unknown(query, "a query", "Id", "MetricStat", "Expression", "Label", "ReturnData")
        if not (query["Id"][0].islower() and query["Id"].replace("_", "").isalnum()):
            raise _invalid(f"The value {query['Id']} for parameter Id is not a valid id.")
        if ("MetricStat" in query) == ("Expression" in query):
            raise _invalid("Exactly one of MetricStat and Expression must be given.")


def _series(metric: Parameters) -> Series:
    return series(metric["Namespace"], metric["MetricName"], _dimensions(metric))


def _name_of(key: Series) -> list[tuple[str, str]]:
    return sorted(key.dimensions)


def _dimensions(metric: Parameters) -> Mapping[str, str]:
    return {dimension["Name"]: dimension["Value"] for dimension in metric.get("Dimensions", ())}


def _values(datum: Parameters) -> Any:
    if "Values" not in datum:
        return [datum["Value"]]
    counts = [int(count) for count in datum.get("Counts", [1] * len(datum["Values"]))]
    return np.repeat(datum["Values"], counts)


def _result(query: Parameters, values: Values, order: Sequence[int]) -> Result:
    minutes = [minute for minute in order if minute in values]
    label = query["MetricStat"]["Metric"]["MetricName"] if "MetricStat" in query else query["Expression"]
    return {
        "Id": query["Id"],
        "Label": query.get("Label", label),
        "Timestamps": minutes,
        "Values": [values[minute] for minute in minutes],
        "StatusCode": "Complete",
    }


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message)
