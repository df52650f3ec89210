"""What CloudWatch would make of an alarm: a synthesized alarm and metric data in, its states out.

As "Using Amazon CloudWatch alarms" (CloudWatch User Guide) describes them: every minute the last N periods
are compared with the threshold, M breaching ones raise the alarm, and missing ones count as the alarm says.
CloudWatch may look somewhat further back for missing data than this does.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from twin.cloud.moto_gaps.metric_math import Values, evaluate
from twin.cloud.moto_gaps.minutes import MINUTE, Bucket, Minutes, series

OK: Final = "OK"
ALARM: Final = "ALARM"
INSUFFICIENT: Final = "INSUFFICIENT_DATA"
RANK: Final = re.compile(r"PR\((?P<above>[\d.]*):(?P<upto>[\d.]+)\)")
COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}

Template = Mapping[str, Any]


class Metrics:
    """Metric data by the minute; a minute of which nothing was put is missing."""

    def __init__(self) -> None:
        self._minutes = Minutes()

    def put(
        self, namespace: str, metric: str, dimensions: Mapping[str, str], minute: int, values: ArrayLike
    ) -> None:
        """Add values to the minute (epoch seconds of its start)."""
        self._minutes.add(series(namespace, metric, dimensions), minute, values)

    def statistic(self, wanted: Mapping[str, Any], start: int) -> float | None:
        """The statistic of a MetricStat over its period from `start` on; None when it holds no datum."""
        metric = wanted["Metric"]
        dimensions = {item["Name"]: item["Value"] for item in metric.get("Dimensions", ())}
        key = series(metric["Namespace"], metric["MetricName"], dimensions)
        minutes = range(start, start + wanted["Period"], MINUTE)
        found = [bucket.values for bucket in self._minutes.between(key, minutes).values()]
        return _statistic(np.sort(np.concatenate(found)), wanted["Stat"]) if found else None


class Alarm:
    """One metric alarm of a template, its references replaced by `physical` names."""

    def __init__(self, template: Template, name: str, physical: Mapping[str, str]) -> None:
        found = [
            resource["Properties"]
            for resource in template["Resources"].values()
            if resource["Type"] == "AWS::CloudWatch::Alarm" and resource["Properties"]["AlarmName"] == name
        ]
        (self.properties,) = (_resolved(properties, physical) for properties in found)
        self._periods: int = self.properties["EvaluationPeriods"]
        self._datapoints: int = self.properties.get("DatapointsToAlarm", self._periods)

    @property
    def period(self) -> int:
        """The seconds of one period."""
        periods = {query["MetricStat"]["Period"] for query in self._queries() if "MetricStat" in query}
        (period,) = periods
        return int(period)

    def states(self, metrics: Metrics, minutes: Sequence[int]) -> Iterator[str]:
        """The alarm's state at the end of each of the minutes, from INSUFFICIENT_DATA on."""
        state = INSUFFICIENT
        for minute in minutes:
            state = self._next(state, self.values(metrics, minute + MINUTE))
            yield state

    def values(self, metrics: Metrics, now: int) -> list[float | None]:
        """What the alarm compares at `now` (epoch seconds): one value per period, oldest first."""
        starts = [now - self.period * back for back in range(self._periods, 0, -1)]
        known: dict[str, Values] = {}
        waiting = list(self._queries())
        while waiting:
            query = next(query for query in waiting if _operands(query) <= known.keys())
            waiting.remove(query)
            known[query["Id"]] = _values_of(query, metrics, known, starts)
        (watched,) = (query["Id"] for query in self._queries() if query.get("ReturnData", True))
        return [known[watched].get(start) for start in starts]

    def _next(self, state: str, values: Sequence[float | None]) -> str:
        compare = COMPARISONS[self.properties["ComparisonOperator"]]
        present = [compare(value, self.properties["Threshold"]) for value in values if value is not None]
        missing = len(values) - len(present)
        treat = self.properties.get("TreatMissingData", "missing")
        if treat == "missing" and not present:
            return INSUFFICIENT
        breaching = sum(present) + (missing if treat == "breaching" else 0)
        within = len(present) - sum(present) + (missing if treat == "notBreaching" else 0)
        if breaching >= self._datapoints:
            return ALARM
        return OK if within > self._periods - self._datapoints else state

    def _queries(self) -> Sequence[Mapping[str, Any]]:
        queries: Sequence[Mapping[str, Any]] = self.properties.get("Metrics", ())
        return queries or [{"Id": "m", "MetricStat": _single(self.properties)}]


def _single(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The alarm's one metric as the MetricStat of a query."""
    metric = {key: properties[key] for key in ("Namespace", "MetricName", "Dimensions")}
    statistic = properties.get("Statistic") or properties["ExtendedStatistic"]
    return {"Metric": metric, "Period": properties["Period"], "Stat": statistic}


def _operands(query: Mapping[str, Any]) -> set[str]:
    return set(re.findall(r"\b[a-z]\w*", query.get("Expression", "")))


def _values_of(
    query: Mapping[str, Any], metrics: Metrics, known: Mapping[str, Values], starts: Sequence[int]
) -> Values:
    if "Expression" in query:
        return evaluate(query["Expression"], known, starts)
    found = {start: metrics.statistic(query["MetricStat"], start) for start in starts}
    return {start: value for start, value in found.items() if value is not None}


def _statistic(ascending: np.ndarray[Any, np.dtype[np.float64]], name: str) -> float:
    if rank := RANK.fullmatch(name):
        above = float(rank["above"] or "-inf")
        within = (ascending > above) & (ascending <= float(rank["upto"]))
        return 100 * float(np.mean(within))
    value = Bucket(ascending).statistic(name)
    if value is None:
        raise ValueError(f"no such statistic: {name}")
    return value


def _resolved(value: Any, physical: Mapping[str, str]) -> Any:
    match value:
        case {"Ref": str() as name}:
            return physical.get(name, name)
        case Mapping():
            return {key: _resolved(item, physical) for key, item in value.items()}
        case list():
            return [_resolved(item, physical) for item in value]
        case _:
            return value
