"""The one thread that uses the device: loads the model, warms it up, makes batch after batch."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from PIL.Image import Image

from containers.serving.admission import Backlog, ServiceTimes
from containers.serving.backends.protocol import (
    AbandonedError,
    Backend,
    ContentRefusedError,
    DeviceError,
    DeviceOutOfMemoryError,
    InvalidPictureError,
    Preview,
    Served,
    Shape,
    Work,
)
from containers.serving.batching import Job, JobQueue, Made
from containers.serving.checks import checked
from containers.serving.errors import too_late
from containers.serving.health import Health
from containers.serving.metrics import Telemetry
from containers.serving.settings import InvalidSettingsError, Settings
from containers.serving.slowness import Pace
from containers.serving.warmup import sample, warm_up

log = logging.getLogger(__name__)

# How often a device that fails is tried again while it gets no traffic.
PROBE_SECONDS: Final = 10.0
# How often its estimate a batch may take, and the least that is granted: a busy host makes any batch slow.
ALLOWED_ESTIMATES: Final = 5.0
LEAST_ALLOWED_SECONDS: Final = 5.0


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
        self._failed: Work | None = None
        self.pace = Pace(settings.service_seconds)
        self._as_warmed_up = times

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
        self._as_warmed_up = self._times.snapshot()
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
        if not wanted:
            return
        errors = self._make(backend, wanted)
        if len(errors) == len(wanted) and not isinstance(errors[0], ContentRefusedError):
            # Of text, since nobody's picture starts from another one.
            self._failed = replace(wanted[0].work, kind="text", strength=1.0)
            self._health.device_failed()
            if self._health.is_device_failing:
                self._probe(backend)  # whether it is the device or what it was given

    def _make(self, backend: Backend, batch: Sequence[Job]) -> list[Exception]:
        """Answer every job of a batch; the errors of those that failed.

        A batch that fails is made one by one, whatever the error: only what is to blame for it fails.
        """
        began = time.monotonic()
        try:
            cut = [backend.cut(job.picture) for job in batch]
            images = self._generate(backend, batch)
        except AbandonedError:
            return []
        except Exception as error:  # whatever it is, it is the answer to these requests
            if len(batch) > 1:
                log.warning("a batch of %d failed, one by one now: %s", len(batch), error)
                return [each for job in batch if _starts(job) for each in self._make(backend, [job])]
            log.exception("a picture failed")
            batch[0].fail(error)
            return [error]
        seconds = time.monotonic() - began
        self._times.record(batch[0].work, len(batch), seconds)
        self._keep_pace(batch[0].work, len(batch), seconds)
        for job, image, texts in zip(batch, images, cut, strict=True):
            job.succeed(Made(image, began - job.queued_at, seconds, texts))
        return []

    def _keep_pace(self, work: Work, size: int, seconds: float) -> None:
        """What the usual picture alone would have taken: as much slower as this batch than at warm-up."""
        usual = self._as_warmed_up.estimate(self._usual(self.served.shapes[0]), 1)
        expected = self._as_warmed_up.estimate(work, size)
        if expected > 0:
            self.pace.add(usual * seconds / expected)

    def _generate(self, backend: Backend, batch: Sequence[Job]) -> list[Image]:
        """Make the pictures, and tell health and metrics how it went."""
        work, size = batch[0].work, len(batch)
        began = time.monotonic()
        self._current = (work, size, began)
        self._health.device_began(
            max(LEAST_ALLOWED_SECONDS, ALLOWED_ESTIMATES * self._times.estimate(work, size))
        )

        def on_step(done: int, preview: Preview) -> None:
            if not any(job.is_wanted for job in batch):
                # Else a device that has become too slow for every deadline would never be known to be.
                self._times.record(
                    work, size, (time.monotonic() - began) * max(1.0, work.denoising_steps / done)
                )
                raise AbandonedError
            _show(batch, done, preview)

        try:
            images = checked(backend, [job.picture for job in batch], on_step)
        except DeviceError as error:
            self._telemetry.device_error(_kind(error))
            raise
        finally:
            self._current = None
            self._health.device_ended()
        self._health.device_worked()
        self._telemetry.batch(size)
        return images

    def _probe(self, backend: Backend) -> None:
        """Try the device with a picture of nobody's, of the work that failed; health learns the outcome."""
        picture = sample(self._failed or self._usual(self.served.shapes[0]))
        try:
            self._generate(backend, [Job(picture, math.inf)])
        except Exception as error:  # noqa: BLE001 - whatever it is, the device does not work
            self._health.device_failed()
            log.warning("the device still fails: %s", error)

    def _fail_rest(self) -> None:
        self._queue.close()
        while batch := self._queue.take(self.batch_limit):
            _fail([job for job in batch if _starts(job)], RuntimeError("the server is stopping"))


def _starts(job: Job) -> bool:
    """Whether the job is still wanted; a late one is told so."""
    if job.is_late:
        job.fail(too_late())
    return job.is_wanted


def _fail(batch: Sequence[Job], error: Exception) -> None:
    for job in batch:
        job.fail(error)


def _show(batch: Sequence[Job], done: int, preview: Preview) -> None:
    """Give the pictures, as they are, to those who want to see them after so many steps."""
    if any(job.wants_to_be_seen(done) for job in batch):
        for job, image in zip(batch, preview(), strict=False):  # empty where the backend can't show them
            if job.previews is not None and job.wants_to_be_seen(done):
                job.previews.show(image)


def _kind(error: DeviceError) -> str:
    if isinstance(error, DeviceOutOfMemoryError):
        return "out_of_memory"
    return "invalid_picture" if isinstance(error, InvalidPictureError) else "device"
