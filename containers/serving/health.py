"""Whether this server should get traffic (ready), and whether it should go on living (live)."""

import threading
import time
from collections.abc import Callable
from typing import Final

# A lone failure may be the request's own; this many in a row are the device's.
FAILURES_UNTIL_NOT_READY: Final = 3
# A device that has failed for this long, every probe included, needs a new process.
FAILING_SECONDS_UNTIL_DEAD: Final = 120.0
# A batch that is overdue for this long never ends: a hung kernel goes only with its process.
OVERDUE_SECONDS_UNTIL_DEAD: Final = 60.0


class Health:
    """What is known of the device and of the server's life. Any thread may call.

    The empty string means well; anything else is the reason why not.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._preparing = "the model is loading"
        self._is_draining = False
        self._failures = 0
        self._failing_since = 0.0
        self._dead = ""
        self._due: float | None = None

    def warming(self) -> None:
        """The model is loaded, its shapes are being warmed up."""
        self._preparing = "the model is warming up"

    def warmed(self) -> None:
        """The model is loaded and every served shape has been made once."""
        self._preparing = ""

    def draining(self) -> None:
        """The server was told to stop."""
        self._is_draining = True

    def device_began(self, allowed_seconds: float) -> None:
        """A batch is on the device, which may take so long at most."""
        self._due = self._clock() + allowed_seconds

    def device_ended(self) -> None:
        """The batch is off the device, whatever became of it."""
        self._due = None

    def device_worked(self) -> None:
        """A batch succeeded."""
        with self._lock:
            self._failures = 0

    def device_failed(self) -> None:
        """A batch failed through the device."""
        with self._lock:
            if self._failures == 0:
                self._failing_since = self._clock()
            self._failures += 1

    def died(self, reason: str) -> None:
        """Nothing can be made any more in this process."""
        self._dead = reason

    @property
    def is_preparing(self) -> bool:
        """Whether the model is still loading or warming up."""
        return bool(self._preparing) and not self._dead

    @property
    def is_draining(self) -> bool:
        """Whether the server was told to stop."""
        return self._is_draining

    @property
    def is_device_failing(self) -> bool:
        """Whether the device failed so often that it gets no traffic."""
        return self._failures >= FAILURES_UNTIL_NOT_READY

    @property
    def overdue_seconds(self) -> float:
        """For how long the batch on the device should have been done; 0 when it is not late."""
        due = self._due
        return 0.0 if due is None else max(0.0, self._clock() - due)

    @property
    def not_able(self) -> str:
        """Why it can make no pictures."""
        if self._dead or self._preparing:
            return self._dead or self._preparing
        overdue = self.overdue_seconds
        if overdue:
            return f"the batch on the device is overdue by {overdue:.1f} s"
        return f"the device failed {self._failures} times in a row" if self.is_device_failing else ""

    @property
    def not_ready(self) -> str:
        """Why it should get no traffic."""
        return self.not_able or ("the server is stopping" if self._is_draining else "")

    @property
    def not_live(self) -> str:
        """Why the process should be replaced."""
        if self._dead:
            return self._dead
        failing = self._clock() - self._failing_since
        if self.is_device_failing and failing > FAILING_SECONDS_UNTIL_DEAD:
            return f"the device has failed for {failing:.0f} s"
        if self.overdue_seconds > OVERDUE_SECONDS_UNTIL_DEAD:
            return f"the batch on the device is overdue by {self.overdue_seconds:.0f} s"
        return ""
