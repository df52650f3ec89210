"""An event loop whose clock jumps to the next timer instead of waiting: hours of load in a second."""

import asyncio
import selectors
from collections.abc import Coroutine
from math import ceil, inf
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Jumping(selectors.SelectSelector):
    """Where nothing is ready, the time until the next timer passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is scheduled: in real time this would wait forever")
        if not ready and timeout:
            self.now += timeout
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` to its end in virtual time, which starts at 0 seconds."""
    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        return runner.run(main)


class OneAtATime:
    """A server of known service time (seconds) that serves requests one at a time, first come first served.

    It refuses with 503 while `most_waiting` requests wait (None: never).
    """

    def __init__(self, service_seconds: float, most_waiting: int | None = None) -> None:
        self._service_seconds = service_seconds
        self._most_waiting = inf if most_waiting is None else most_waiting
        self._free_at = 0.0

    async def __call__(self, _index: int) -> int:
        """Serve one request; its HTTP status."""
        now = asyncio.get_running_loop().time()
        waiting = ceil((self._free_at - now) / self._service_seconds) - 1
        if waiting >= self._most_waiting:
            return 503
        self._free_at = max(self._free_at, now) + self._service_seconds
        await asyncio.sleep(self._free_at - now)
        return 200
