"""The queue before the device: first come, first served, in batches of pictures that share their work."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from PIL.Image import Image

from containers.serving.backends.protocol import Picture, Work
from containers.serving.errors import overloaded

BatchLimit = Callable[[Work], int]


@dataclass(frozen=True, slots=True)
class Made:
    """A picture that the device made, and what it took (seconds)."""

    image: Image
    queue_seconds: float
    inference_seconds: float
    cut: tuple[str, ...] = ()
    """The texts of which the model read only the beginning."""


@dataclass(frozen=True, slots=True)
class Previews:
    """When a picture wants to be seen unfinished, and who takes it, called in the device's thread."""

    after: frozenset[int]
    show: Callable[[Image], None]


@dataclass(eq=False, slots=True)
class Job:
    """A picture on its way; whoever waits for it holds its future, and cancels by cancelling that."""

    picture: Picture
    deadline: float
    """When it is of no more use; `time.monotonic()`, infinite where there is no deadline."""
    queued_at: float = field(default_factory=time.monotonic)
    future: Future[Made] = field(default_factory=Future)
    """Pending until it has its outcome, so that it can be cancelled while the device works on it."""
    previews: Previews | None = None

    @property
    def work(self) -> Work:
        """What it shares with the others of its batch."""
        return self.picture.work

    def wants_to_be_seen(self, done: int) -> bool:
        """Whether it wants a preview after so many steps."""
        return self.previews is not None and done in self.previews.after and self.is_wanted

    @property
    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return time.monotonic() > self.deadline

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.future.cancelled() and not self.is_late

    def succeed(self, made: Made) -> None:
        """Answer with the picture, unless nobody waits any more."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(made)

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless nobody waits any more."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class JobQueue:
    """Jobs that wait for the device. Any thread may put; one takes."""

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False

    def put(self, jobs: Iterable[Job]) -> None:
        """Add jobs at the end.

        Raises:
            ApiError: 503, the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise overloaded("the server is stopping", 1, "not_ready")
            self._jobs.extend(jobs)
            self._changed.notify()

    def waiting(self) -> list[Work]:
        """The work of each job that still waits for the device; cancelled ones have left."""
        with self._changed:
            self._leave_cancelled()
            return [job.work for job in self._jobs]

    def take(self, limit: BatchLimit, timeout: float | None = None) -> list[Job]:
        """The next batch: the oldest job and those that share its work, at most `limit` of them.

        A batch that isn't full is held for the rest of the window since its oldest job came. Empty when
        nothing came within `timeout` seconds, or when the queue is closed and empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._oldest() or self._closed, timeout)
            while oldest := self._oldest():
                batch = self._sharing(oldest.work, limit(oldest.work))
                left = oldest.queued_at + self._window_seconds - time.monotonic()
                if len(batch) == limit(oldest.work) or left <= 0 or self._closed:
                    self._jobs = [job for job in self._jobs if job not in batch]
                    return batch
                self._changed.wait(left)
            return []

    def close(self) -> None:
        """Take no window any more; `take` returns what is left, then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def has_ended(self) -> bool:
        """Whether it is closed and nothing is left in it."""
        with self._changed:
            return self._closed and not self._jobs

    def _oldest(self) -> Job | None:
        self._leave_cancelled()
        return self._jobs[0] if self._jobs else None

    def _leave_cancelled(self) -> None:
        self._jobs = [job for job in self._jobs if not job.future.cancelled()]

    def _sharing(self, work: Work, limit: int) -> list[Job]:
        return [job for job in self._jobs if job.work == work][:limit]
