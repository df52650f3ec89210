"""The one thread that uses the device: loads the model, warms it up, makes batch after batch."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from PIL.Image import Image

from containers.serving.admission import Backlog, ServiceTimes
from containers.serving.backends.protocol import (
    Backend,
    DeviceError,
    DeviceOutOfMemoryError,
    Picture,
    Served,
    Shape,
    Work,
)
from containers.serving.batching import Job, JobQueue, Made
from containers.serving.errors import overloaded
from containers.serving.health import Health
from containers.serving.metrics import Telemetry
from containers.serving.settings import InvalidSettingsError, Settings
from containers.serving.warmup import sample, warm_up

log = logging.getLogger(__name__)

# How often a device that fails is tried again while it gets no traffic.
PROBE_SECONDS: Final = 10.0


class DeviceWorker(threading.Thread):
    """Runs a backend over the queue until the queue is closed."""

    def __init__(
        self,
        load: Callable[[], Backend],
        queue: JobQueue,
        health: Health,
        times: ServiceTimes,
        telemetry: Telemetry,
        settings: Settings,
    ) -> None:
        super().__init__(name="device", daemon=True)
        self.served = Served(())
        self.error: Exception | None = None
        self._load = load
        self._queue = queue
        self._health = health
        self._times = times
        self._telemetry = telemetry
        self._settings = settings
        self._limits: dict[Shape, int] = {}
        self._current: tuple[Work, int, float] | None = None

    def batch_limit(self, work: Work) -> int:
        """How many pictures of this work are made at once: what paid at warm-up."""
        return self._limits.get(work.shape, 1)

    def backlog(self) -> Backlog:
        """What the device has before it now."""
        waiting, current = self._queue.waiting(), self._current
        if current is None:
            return Backlog(waiting)
        work, size, since = current
        return Backlog(waiting, (work, size), time.monotonic() - since)

    def run(self) -> None:
        """Load, warm up, then serve until the queue is closed; `error` tells what ended it before."""
        try:
            backend = self._prepare()
            while not self._queue.has_ended():
                self._step(backend)
        except Exception as error:
            log.error("the device thread ends", exc_info=not isinstance(error, InvalidSettingsError))  # noqa: TRY400 - no traceback for a wrong setting
            self.error = error
            self._health.died(f"the device thread ended: {error}")
        finally:
            self._fail_rest()

    def _prepare(self) -> Backend:
        began = time.monotonic()
        backend = self._load()
        self.served = backend.served
        loaded = time.monotonic()
        self._health.warming()
        for shape in self.served.shapes:
            self._limits[shape] = warm_up(
                backend, self._usual(shape), self._times, self._settings.latency_seconds or math.inf
            )
        self._telemetry.prepared(loaded - began, time.monotonic() - loaded)
        self._health.warmed()
        log.info("ready: %s", ", ".join(f"{shape} in batches of {n}" for shape, n in self._limits.items()))
        return backend

    def _usual(self, shape: Shape) -> Work:
        return Work(shape, self._settings.steps, self._settings.guidance_scale)

    def _step(self, backend: Backend) -> None:
        failing = self._health.is_device_failing
        batch = self._queue.take(self.batch_limit, PROBE_SECONDS if failing else None)
        if batch:
            self._serve(backend, batch)
        elif failing:
            self._probe(backend)

    def _serve(self, backend: Backend, batch: Sequence[Job]) -> None:
        wanted = [job for job in batch if _starts(job)]
        if wanted:
            self._make(backend, wanted)

    def _make(self, backend: Backend, batch: Sequence[Job]) -> None:
        """Make a batch or fail it; where memory is short one by one, so that only what doesn't fit fails."""
        began = time.monotonic()
        try:
            images = self._generate(backend, [job.picture for job in batch])
        except Exception as error:  # whatever it is, it is the answer to these requests
            if isinstance(error, DeviceOutOfMemoryError) and len(batch) > 1:
                log.warning("no memory for a batch of %d: one by one", len(batch))
                for job in batch:
                    self._make(backend, [job])
            else:
                log.exception("a batch of %d failed", len(batch))
                _fail(batch, error)
        else:
            seconds = time.monotonic() - began
            self._times.record(batch[0].work, len(batch), seconds)
            for job, image in zip(batch, images, strict=True):
                job.future.set_result(Made(image, began - job.queued_at, seconds))

    def _generate(self, backend: Backend, pictures: Sequence[Picture]) -> list[Image]:
        """Make the pictures, and tell health and metrics how it went."""
        self._current = (pictures[0].work, len(pictures), time.monotonic())
        try:
            images = backend.generate(pictures)
        except DeviceOutOfMemoryError:
            self._telemetry.device_error("out_of_memory")
            raise
        except DeviceError:
            self._telemetry.device_error("device")
            self._health.device_failed()
            raise
        finally:
            self._current = None
        self._health.device_worked()
        self._telemetry.batch(len(pictures))
        return images

    def _probe(self, backend: Backend) -> None:
        """Try the device with a picture of nobody's; health learns the outcome."""
        try:
            self._generate(backend, [sample(self._usual(self.served.shapes[0]))])
        except DeviceError as error:
            log.warning("the device still fails: %s", error)

    def _fail_rest(self) -> None:
        self._queue.close()
        while batch := self._queue.take(self.batch_limit):
            _fail([job for job in batch if _starts(job)], RuntimeError("the server is stopping"))


def _starts(job: Job) -> bool:
    """Whether the job is still wanted; it can't be cancelled from here on."""
    if not job.future.set_running_or_notify_cancel():
        return False
    if time.monotonic() > job.deadline:
        job.future.set_exception(overloaded("the deadline passed in the queue", 1, "deadline_exceeded"))
        return False
    return True


def _fail(batch: Sequence[Job], error: Exception) -> None:
    for job in batch:
        job.future.set_exception(error)
