"""Time as a smoke test or a game day sees it, so that a test can play an hour in a moment."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time (epoch seconds) and lets it pass."""

    def now(self) -> float:
        """Epoch seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let that many seconds pass."""
        ...


class WallClock:
    """The real time."""

    def now(self) -> float:
        """Epoch seconds."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Let that many seconds pass."""
        time.sleep(seconds)
