"""What the router counts: for Prometheus at /metrics, and by the minute for the loop.

With the router in front the units' target groups lose their traffic, so the router tells the loop what
they would: per unit requests, errors and response times, and what reached no unit.
"""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Spelled as the control loop spells them; a test compares.
FLEET_DIMENSION: Final = "Fleet"
UNIT_DIMENSION: Final = "Unit"
REQUEST_COUNT: Final = "RequestCount"
RESPONSE_TIME: Final = "TargetResponseTime"
ERROR_COUNT: Final = "HTTPCode_Target_5XX_Count"
REFUSED_COUNT: Final = "RefusedRequestCount"

SERVER_ERROR: Final = 500
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
_DECISION_SECONDS: Final = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)


@dataclass(slots=True)
class UnitMinute:
    """What one unit did since the last report; `seconds` counts response times, to three digits."""

    requests: int = 0
    errors: int = 0
    seconds: "Tally[float]" = field(default_factory=Tally)


@dataclass(slots=True)
class Report:
    """What happened since the last one, by unit, and how many queries reached none."""

    units: Mapping[str, UnitMinute]
    refused: int = 0


class Telemetry:
    """Counts once, for both readers."""

    def __init__(self, units: Sequence[str]) -> None:
        self._units = tuple(units)
        self._report = self._new_report()
        registry = self._registry = CollectorRegistry()
        self._answers = Counter(
            "fulcrum_router_answers", "Answers by unit and status", ["unit", "status"], registry=registry
        )
        self._seconds = Histogram(
            "fulcrum_router_response_seconds",
            "From a query's arrival to the head of its answer",
            ["unit"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._refusals = Counter("fulcrum_router_refusals", "Refused queries", ["code"], registry=registry)
        self._holds = Counter("fulcrum_router_holds", "Queries held for the first pod", registry=registry)
        self._retries = Counter("fulcrum_router_retries", "Queries sent again", ["unit"], registry=registry)
        self._waiting = Gauge("fulcrum_router_waiting", "Queries that wait for a pod", registry=registry)
        self._pods = Gauge("fulcrum_router_pods", "Pods that can be used", ["unit"], registry=registry)
        self._decisions = Histogram(
            "fulcrum_router_decision_seconds",
            "Time of one decision of the distributor",
            buckets=_DECISION_SECONDS,
            registry=registry,
        )

    def answered(
        self, unit: str, status: int, seconds: float | None = None, *, was_held: bool = False
    ) -> None:
        """A unit began to answer so many seconds after the query came, or never did (None).

        What was held is in no minute of the unit: it was counted when it came, and its wait says nothing of
        the unit.
        """
        self._answers.labels(unit, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(unit).observe(seconds)
        if was_held:
            return
        minute = self._report.units[unit]
        minute.requests += 1
        minute.errors += status >= SERVER_ERROR
        if seconds is not None:
            minute.seconds[float(f"{seconds:.3g}")] += 1

    def held(self) -> None:
        """A query found no pod and is held: counted now, since the loop launches nodes for what it sees."""
        self._holds.inc()
        self._report.refused += 1

    def refused(self, code: str, *, was_held: bool = False) -> None:
        """A query reached no unit; `code` says why. What was held has been counted already."""
        self._refusals.labels(code).inc()
        self._report.refused += not was_held

    def retried(self, unit: str) -> None:
        """A pod of the unit was lost before it answered, and its query was sent elsewhere."""
        self._retries.labels(unit).inc()

    def decided(self, seconds: float) -> None:
        """The distributor took so long for a decision."""
        self._decisions.observe(seconds)

    def prometheus(self, waiting: int, pods: Mapping[str, int]) -> bytes:
        """Everything in Prometheus' text format, with what waits and what can be used now."""
        self._waiting.set(waiting)
        for unit, usable in pods.items():
            self._pods.labels(unit).set(usable)
        return generate_latest(self._registry)

    def take_report(self) -> Report:
        """What was counted since the last call; units without requests are in it."""
        taken, self._report = self._report, self._new_report()
        return taken

    def _new_report(self) -> Report:
        return Report({unit: UnitMinute() for unit in self._units})
