"""The model behind the API: takes pictures, refuses what it can't make in time, gives jobs to wait for."""

import time
from collections.abc import Callable, Sequence

from containers.serving.admission import Admission, ServiceTimes
from containers.serving.backends.protocol import Backend, Picture, Served
from containers.serving.batching import Job, JobQueue, Previews
from containers.serving.errors import overloaded
from containers.serving.health import Health
from containers.serving.metrics import Telemetry
from containers.serving.settings import Settings
from containers.serving.worker import DeviceWorker

# While the model loads nobody knows how long it still takes; a balancer finds another node meanwhile.
_RETRY_WHILE_NOT_ABLE_SECONDS = 10


class Engine:
    """One device with its queue. All but the worker's thread is called from the event loop."""

    def __init__(self, settings: Settings, load: Callable[[], Backend]) -> None:
        self.settings = settings
        self.health = Health()
        self.telemetry = Telemetry(settings)
        self._queue = JobQueue(settings.batch_window_seconds)
        self.telemetry.watch_queue(lambda: len(self._queue.waiting()))
        times = ServiceTimes()
        self.worker = DeviceWorker(load, self._queue, self.health, times, self.telemetry, settings)
        self._admission = Admission(times, self.worker.batch_limit, settings.max_queue)

    @property
    def served(self) -> Served:
        """What it makes; known once the model is loaded.

        Raises:
            ApiError: 503 while it can make no pictures. A stopping server still makes what comes.
        """
        if self.health.not_able:
            raise overloaded(self.health.not_able, _RETRY_WHILE_NOT_ABLE_SECONDS, "not_ready")
        return self.worker.served

    def start(self) -> None:
        """Load and warm up in the device's own thread."""
        self.worker.start()

    def stop(self) -> None:
        """Finish what waits, end the device's thread, and write the last metrics.

        A model that is still being loaded is left alone: nobody waits for it, and it may take minutes. So is
        a batch that is overdue: it may never end, and the process has to.
        """
        self._queue.close()
        if not self.health.is_preparing and not self.health.overdue_seconds:
            self.worker.join(self.settings.grace_seconds)
        self.telemetry.flush()

    def submit(
        self, pictures: Sequence[Picture], timeout_seconds: float, previews: Previews | None = None
    ) -> list[Job]:
        """Queue the pictures of one request, which share their work.

        Raises:
            ApiError: 503 with Retry-After, when they can't be made within `timeout_seconds`.
        """
        backlog = self.worker.backlog()
        self.telemetry.queue_depth(len(backlog.waiting))
        self._admission.admit(pictures[0].work, len(pictures), backlog, timeout_seconds)
        deadline = time.monotonic() + timeout_seconds
        jobs = [Job(picture, deadline, previews=previews) for picture in pictures]
        self._queue.put(jobs)
        return jobs
