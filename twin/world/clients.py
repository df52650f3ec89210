"""Those who send the requests, and send them again when they fail."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from twin.world.plant import Floats, Served
from twin.world.queues import CLIENT_SECONDS, DROPPED

# A client sends a failed request again after so long.
RETRY_SECONDS: Final = 1.0


class Clients:
    """Requests on their way, each sent up to 1 + `retries` times.

    A user's request is counted once, when its last answer is known: its latency runs from its first attempt.
    """

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._waiting: Floats = np.empty(0)
        self._first: Floats = np.empty(0)
        self._attempt: NDArray[np.int64] = np.empty(0, np.int64)
        self._told: list[NDArray[np.float32]] = []

    def send(self, arrivals: Floats) -> None:
        """Send these requests for the first time."""
        self._add(arrivals, arrivals, np.zeros(len(arrivals), np.int64))

    def arriving(self, until: float) -> Floats:
        """The attempts that arrive before `until`, in order."""
        return self._waiting[: int(np.searchsorted(self._waiting, until))]

    def answer(self, served: Served) -> None:
        """Take what became of the attempts that arrived: the failed ones come again while they may."""
        count = len(served.arrival)
        first, attempt = self._first[:count], self._attempt[:count]
        self._waiting, self._first = self._waiting[count:], self._first[count:]
        self._attempt = self._attempt[count:]
        again = served.failed & (attempt < self._retries)
        waited = (served.arrival - first).astype(np.float32)
        self._told.append((served.latency + waited)[~again])
        noticed = np.where(served.outcome == DROPPED, CLIENT_SECONDS, 0.0) + RETRY_SECONDS
        self._add((served.arrival + noticed)[again], first[again], attempt[again] + 1)

    def give_up(self) -> None:
        """Count what has not been answered yet as failed."""
        self._told.append(np.full(len(self._waiting), np.inf, np.float32))
        self._waiting, self._first = np.empty(0), np.empty(0)
        self._attempt = np.empty(0, np.int64)

    def told(self) -> NDArray[np.float32]:
        """The latencies (seconds; inf: failed) of the users' requests that ended since the last call."""
        told, self._told = self._told, []
        return np.concatenate(told) if told else np.empty(0, np.float32)

    def _add(self, arrivals: Floats, first: Floats, attempt: NDArray[np.int64]) -> None:
        waiting = np.concatenate([self._waiting, arrivals])
        order = np.argsort(waiting, kind="stable")
        self._waiting = waiting[order]
        self._first = np.concatenate([self._first, first])[order]
        self._attempt = np.concatenate([self._attempt, attempt])[order]
