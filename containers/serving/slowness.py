"""Whether this server is slower than its unit's profile says, told to CloudWatch only while it is.

A unit's latency hides one slow node among many; only the node itself knows. While all is well nothing is
put, and nothing is paid: CloudWatch charges a custom metric for the hours in which it is put, 0.30 USD a
month of them, and 0.01 USD for a thousand calls (https://aws.amazon.com/cloudwatch/pricing/, us-east-1):
a slow node costs 0.001 USD an hour.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import cached_property
from statistics import median
from typing import Any, Final

from containers.serving.metrics import FLEET_DIMENSION, NODE_DIMENSION, UNIT_DIMENSION
from containers.serving.settings import Settings

NODE_SERVICE_SECONDS: Final = "NodeServiceSeconds"
# So much slower than the profile is beyond what batches, requests and hosts differ by.
SLOW: Final = 1.3
WINDOW_SECONDS: Final = 300.0
# Fewer batches than this within the window say nothing.
LEAST_BATCHES: Final = 5
PUT_EVERY_SECONDS: Final = 60.0

log = logging.getLogger(__name__)


class Pace:
    """How long the usual picture takes on this device, over the last minutes. Any thread may call."""

    def __init__(self, service_seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._service_seconds = service_seconds
        self._clock = clock
        self._recent: deque[tuple[float, float]] = deque(maxlen=1000)

    def add(self, seconds: float) -> None:
        """A picture took so long, or a batch would have taken with one usual picture in it."""
        self._recent.append((self._clock(), seconds))

    def slow_seconds(self) -> float | None:
        """The median, where it is beyond what the profile says by more than chance; else None."""
        since = self._clock() - WINDOW_SECONDS
        seconds = [each for at, each in list(self._recent) if at >= since]
        if self._service_seconds is None or len(seconds) < LEAST_BATCHES:
            return None
        middle = median(seconds)
        return middle if middle > SLOW * self._service_seconds else None


class SlownessReport:
    """Puts NodeServiceSeconds (Fleet, Unit, Node) once a minute while the pace is slow."""

    def __init__(self, pace: Pace, settings: Settings, client: Any = None) -> None:
        self._pace = pace
        self._settings = settings
        self._given = client
        self._is_failing = False

    async def run(self) -> None:
        """Look every minute, until cancelled; without a profile or a node there is nothing to say."""
        while self._settings.service_seconds is not None and self._settings.host_ip:
            await asyncio.sleep(PUT_EVERY_SECONDS)
            await self.report()

    async def report(self) -> None:
        """Put the median if it is slow; a failure is logged once, until the next success."""
        seconds = self._pace.slow_seconds()
        if seconds is None:
            return
        try:
            await asyncio.to_thread(self._put, seconds)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being put, the server serves on
            if not self._is_failing:
                log.warning("%s was not put: %s", NODE_SERVICE_SECONDS, error)
            self._is_failing = True
        else:
            self._is_failing = False

    def _put(self, seconds: float) -> None:
        dimensions = {
            FLEET_DIMENSION: self._settings.fleet,
            UNIT_DIMENSION: self._settings.unit,
            NODE_DIMENSION: self._settings.host_ip,
        }
        datum = {
            "MetricName": NODE_SERVICE_SECONDS,
            "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
            "Value": seconds,
            "Unit": "Seconds",
        }
        self._client.put_metric_data(Namespace=self._settings.metric_namespace, MetricData=[datum])

    @cached_property
    def _client(self) -> Any:
        if self._given is not None:
            return self._given
        import boto3  # noqa: PLC0415 - only a slow server needs it
        from botocore.config import Config  # noqa: PLC0415 - the same

        return boto3.client(
            "cloudwatch", config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
        )
