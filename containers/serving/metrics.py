"""What the server measures of itself: for Prometheus at /metrics, for CloudWatch as EMF on stdout."""

import collections
import sys
import threading
from collections.abc import Callable
from typing import Final

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from containers.serving.settings import Settings

# Spelled as the control loop spells them; a test compares.
FLEET_DIMENSION: Final = "Fleet"
UNIT_DIMENSION: Final = "Unit"
POOL_DIMENSION: Final = "Pool"
NODE_DIMENSION: Final = "Node"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
_BATCHES: Final = (1, 2, 3, 4, 6, 8, 16, 32, 64)


class Telemetry:
    """Counts once, for both readers. Any thread may call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._emf = self._new_emf()
        self._counts: collections.Counter[str] = collections.Counter()
        self.registry = CollectorRegistry()
        registry = self.registry
        self._requests = Counter("fulcrum_requests", "Answers by status", ["status"], registry=registry)
        self._images = Counter("fulcrum_images", "Pictures answered", registry=registry)
        self._device_errors = Counter(
            "fulcrum_device_errors", "Batches that the device failed", ["kind"], registry=registry
        )
        self._stages = Histogram(
            "fulcrum_stage_seconds",
            "Time of a picture by stage",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "fulcrum_batch_size", "Pictures per batch", buckets=_BATCHES, registry=registry
        )
        self._queue = Gauge("fulcrum_queue_depth", "Pictures waiting for the device", registry=registry)
        self._load = Gauge("fulcrum_load_seconds", "Time to load the model", registry=registry)
        self._warm_up = Gauge("fulcrum_warm_up_seconds", "Time to warm up every shape", registry=registry)

    def prepared(self, load_seconds: float, warm_up_seconds: float) -> None:
        """The model is loaded and warm."""
        self._load.set(load_seconds)
        self._warm_up.set(warm_up_seconds)
        self._put("LoadSeconds", MetricUnit.Seconds, load_seconds)
        self._put("WarmUpSeconds", MetricUnit.Seconds, warm_up_seconds)

    def answered(self, status: int) -> None:
        """A request for pictures got its answer; 499 when the client had left."""
        self._requests.labels(str(status)).inc()
        self._add("RequestCount")

    def picture(self, queue_seconds: float, inference_seconds: float, encode_seconds: float) -> None:
        """A picture is ready to send."""
        self._images.inc()
        self._add("Images")
        for stage, seconds in (
            ("queue", queue_seconds),
            ("inference", inference_seconds),
            ("encode", encode_seconds),
        ):
            self._stages.labels(stage).observe(seconds)
            self._put(f"{stage.title()}Seconds", MetricUnit.Seconds, seconds)

    def batch(self, pictures: int) -> None:
        """The device made a batch."""
        self._batches.observe(pictures)
        self._put("BatchSize", MetricUnit.Count, pictures)

    def device_error(self, kind: str) -> None:
        """The device failed a batch: `out_of_memory`, `invalid_picture` or `device`."""
        self._device_errors.labels(kind).inc()
        self._add("DeviceErrors")

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Have /metrics tell how many pictures wait as it is read."""
        self._queue.set_function(depth)

    def queue_depth(self, pictures: int) -> None:
        """How many pictures wait, seen as a request came."""
        self._put("QueueDepth", MetricUnit.Count, pictures)

    def prometheus(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def flush(self) -> None:
        """Write what came since the last time as one line of EMF; nothing when nothing came."""
        with self._lock:
            for name, count in self._counts.items():
                self._emf.add_metric(name, MetricUnit.Count, count)
            self._counts.clear()
            if self._emf.metric_set:
                self._emf.flush_metrics()
                self._emf = self._new_emf()
        sys.stdout.flush()

    def _add(self, name: str) -> None:
        """Count an event: one sum for each line, not a list of ones."""
        with self._lock:
            self._counts[name] += 1

    def _put(self, name: str, unit: MetricUnit, value: float) -> None:
        """Keep a measured value, to the microsecond; a hundred of one name are written as a line at once."""
        with self._lock:
            self._emf.add_metric(name, unit, round(value, 6))

    def _new_emf(self) -> EphemeralMetrics:
        emf = EphemeralMetrics(namespace=self._settings.metric_namespace)
        emf.add_dimension(FLEET_DIMENSION, self._settings.fleet)
        emf.add_dimension(UNIT_DIMENSION, self._settings.unit)
        emf.add_dimension(POOL_DIMENSION, self._settings.pool)
        return emf
