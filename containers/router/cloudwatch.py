"""The minute's report as CloudWatch takes it, put at the end of every minute.

Put directly rather than written to a log as EMF: the loop steers by these figures, and they must not wait
for an agent that ships logs.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from containers.router.metrics import (
    ERROR_COUNT,
    FLEET_DIMENSION,
    REFUSED_COUNT,
    REQUEST_COUNT,
    RESPONSE_TIME,
    UNIT_DIMENSION,
    Report,
    Telemetry,
)
from containers.router.settings import Settings

MINUTE_SECONDS: Final = 60
# PutMetricData's limits: values in a datum, and data in a call (1,000; fewer keep a call below 1 MB).
VALUES_IN_DATUM: Final = 150
DATA_IN_CALL: Final = 100

Datum = dict[str, Any]
Item = TypeVar("Item")

_log = logging.getLogger(__name__)


def metric_data(report: Report, fleet: str, at: float) -> list[Datum]:
    """The report of the minute that began at `at` (epoch seconds), as PutMetricData's MetricData.

    Units without requests report zero: no datum at all would mean that no router lives. Response times go
    as values with counts, of which CloudWatch makes percentiles.
    """
    moment = datetime.fromtimestamp(at, UTC)
    data = [_datum(REFUSED_COUNT, {FLEET_DIMENSION: fleet}, moment, Unit="Count", Value=report.refused)]
    for unit, minute in report.units.items():
        dimensions = {FLEET_DIMENSION: fleet, UNIT_DIMENSION: unit}
        data.append(_datum(REQUEST_COUNT, dimensions, moment, Unit="Count", Value=minute.requests))
        data.append(_datum(ERROR_COUNT, dimensions, moment, Unit="Count", Value=minute.errors))
        for counted in _parts(sorted(minute.seconds.items()), VALUES_IN_DATUM):
            values = {
                "Values": [seconds for seconds, _ in counted],
                "Counts": [count for _, count in counted],
            }
            data.append(_datum(RESPONSE_TIME, dimensions, moment, Unit="Seconds", **values))
    return data


def _datum(name: str, dimensions: Mapping[str, str], at: datetime, **values: Any) -> Datum:
    named = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    return {"MetricName": name, "Dimensions": named, "Timestamp": at, **values}


def _parts(items: list[Item], length: int) -> Iterator[list[Item]]:
    return (items[start : start + length] for start in range(0, len(items), length))


class Publisher:
    """Puts what the telemetry counted, minute by minute."""

    def __init__(self, telemetry: Telemetry, settings: Settings, client: Any = None) -> None:
        self._telemetry = telemetry
        self._settings = settings
        self._client = client or boto3.client(
            "cloudwatch",
            region_name=settings.aws_region,
            config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3}),
        )

    async def run(self) -> None:
        """Put every minute as it ends; runs until it is cancelled, and then puts what is left."""
        try:
            while True:
                began = time.time() // MINUTE_SECONDS * MINUTE_SECONDS
                await asyncio.sleep(began + MINUTE_SECONDS - time.time())
                await self.put_report(began)
        finally:
            await self.put_report(time.time())

    async def put_report(self, at: float) -> None:
        """Put what was counted since the last time, as of the minute that holds `at` (epoch seconds).

        A minute that CloudWatch does not take is lost, and says so: the next one must not carry it.
        """
        minute = at // MINUTE_SECONDS * MINUTE_SECONDS
        data = metric_data(self._telemetry.take_report(), self._settings.fleet, minute)
        try:
            await asyncio.to_thread(self._put, data)
        except (BotoCoreError, ClientError) as error:
            _log.warning("the minute's metrics were not put: %s", error)

    def _put(self, data: list[Datum]) -> None:
        for part in _parts(data, DATA_IN_CALL):
            self._client.put_metric_data(Namespace=self._settings.metric_namespace, MetricData=part)
