"""The one queue: queries wait here for the pod that the distributor gives them."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from containers.router.endpoints import Endpoint
from containers.router.errors import RefusedError
from containers.router.matching import Distributor, Instance, Query
from containers.router.predictors import LatencyPredictor

Clock = Callable[[], float]


@dataclass(slots=True)
class _Pod:
    """A pod as the router sees it, and as the distributor does."""

    endpoint: Endpoint
    instance: Instance
    is_aside: bool = False

    @classmethod
    def idle(cls, endpoint: Endpoint) -> "_Pod":
        """A pod that can begin at once."""
        return cls(endpoint, Instance(endpoint.unit, idle=True, free_at=0.0))

    def free(self) -> None:
        """It is done."""
        self.instance = Instance(self.endpoint.unit, idle=True, free_at=0.0)

    def begin(self, free_at: float) -> None:
        """It is given a query, and will be done then."""
        self.instance = Instance(self.endpoint.unit, idle=False, free_at=free_at)


@dataclass(slots=True, eq=False)
class _Waiter:
    """A query, the pool that it had better avoid, and the future that will hold its pod."""

    query: Query
    avoided_pool: str
    place: "asyncio.Future[Endpoint]" = field(default_factory=asyncio.Future)


class Dispatcher:
    """Gives each query a pod to itself, when the distributor says so; for one event loop.

    A distributor is asked at every event: a query came, a pod became idle, was found or was given up.
    Who was given a pod returns it with `release`, or with `set_aside` when it failed; then it gets nothing
    until `restore`.
    """

    def __init__(
        self,
        distributor: Distributor,
        predictors: Mapping[str, LatencyPredictor],
        *,
        max_waiting: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self._distributor = distributor
        self._predictors = predictors
        self._max_waiting = max_waiting
        self._clock = clock
        self._pods: dict[str, _Pod] = {}
        self._waiting: list[_Waiter] = []
        self._turn = count()

    def update(self, endpoints: Iterable[Endpoint]) -> None:
        """These pods, of known units, exist now; what is known of those that stay is kept."""
        known = [endpoint for endpoint in endpoints if endpoint.unit in self._predictors]
        self._pods = {
            endpoint.url: self._pods.get(endpoint.url) or _Pod.idle(endpoint)
            for endpoint in sorted(known, key=lambda endpoint: endpoint.url)
        }
        self._dispatch()

    @property
    def has_pods(self) -> bool:
        """Whether any pod exists."""
        return bool(self._pods)

    @property
    def waiting(self) -> int:
        """How many queries wait."""
        return len(self._waiting)

    def usable(self) -> dict[str, int]:
        """How many pods each unit has that are not set aside."""
        usable = [pod.endpoint.unit for pod in self._pods.values() if not pod.is_aside]
        return {unit: usable.count(unit) for unit in self._predictors}

    async def acquire(self, query: Query, avoided_pool: str = "") -> Endpoint:
        """Wait for a pod, until the query's deadline; of another pool than the avoided one if there is one.

        Raises:
            RefusedError: there is no pod, too many wait, or the deadline cannot be kept.
        """
        if not self._pods:
            raise RefusedError("no pod is ready", 10, code="no_capacity")
        if len(self._waiting) >= self._max_waiting:
            raise RefusedError(f"{self._max_waiting} queries wait already", self._seconds_until_idle())
        waiter = _Waiter(query, avoided_pool)
        self._waiting.append(waiter)
        self._dispatch()
        if waiter.place.done():
            return waiter.place.result()
        try:
            async with asyncio.timeout(query.deadline - self._clock()):
                return await waiter.place
        except TimeoutError:
            self._withdraw(waiter)
            raise self._too_late(query) from None
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def release(self, endpoint: Endpoint) -> None:
        """The pod is done with its query."""
        pod = self._pods.get(endpoint.url)
        if pod:
            pod.free()
            self._dispatch()

    def observe(self, endpoint: Endpoint, size: float, seconds: float) -> None:
        """A query of that size took the pod so many seconds."""
        self._predictors[endpoint.unit].observe(size, seconds)

    def set_aside(self, endpoint: Endpoint) -> None:
        """The pod failed: nothing for it until it is restored."""
        pod = self._pods.get(endpoint.url)
        if pod:
            pod.free()
            pod.is_aside = True
            self._dispatch()

    def restore(self, endpoint: Endpoint) -> None:
        """The pod answers again."""
        pod = self._pods.get(endpoint.url)
        if pod:
            pod.is_aside = False
            self._dispatch()

    def is_known(self, endpoint: Endpoint) -> bool:
        """Whether the pod still exists."""
        return endpoint.url in self._pods

    def any_pod(self) -> Endpoint:
        """A pod for what costs no device time, in turn; busy or not.

        Raises:
            RefusedError: there is none.
        """
        usable = [pod.endpoint for pod in self._pods.values() if not pod.is_aside]
        if not usable:
            raise RefusedError("no pod is ready", 10, code="no_capacity")
        return usable[next(self._turn) % len(usable)]

    def _dispatch(self) -> None:
        """Ask the distributor, first for the queries that lost a pod, for each without the pool it avoids."""
        # A waiter whose task was just cancelled is still listed until that task runs.
        self._waiting = [waiter for waiter in self._waiting if not waiter.place.done()]
        for avoided in sorted({waiter.avoided_pool for waiter in self._waiting}, reverse=True):
            waiters = [waiter for waiter in self._waiting if waiter.avoided_pool == avoided]
            usable = [pod for pod in self._pods.values() if not pod.is_aside]
            elsewhere = [pod for pod in usable if pod.endpoint.pool != avoided]
            self._decide(waiters, elsewhere or usable)

    def _decide(self, waiters: Sequence[_Waiter], pods: Sequence[_Pod]) -> None:
        now = self._clock()
        models = {unit: predictor.model for unit, predictor in self._predictors.items()}
        decision = self._distributor.decide(
            now,
            [waiter.query for waiter in waiters],
            [pod.instance for pod in pods],
            models,
        )
        for dispatch in decision.dispatches:
            waiter, pod = waiters[dispatch.query], pods[dispatch.instance]
            pod.begin(now + models[pod.endpoint.unit].seconds(waiter.query.size))
            self._waiting.remove(waiter)
            waiter.place.set_result(pod.endpoint)
        for index in decision.sheds:
            self._waiting.remove(waiters[index])
            waiters[index].place.set_exception(self._too_late(waiters[index].query))

    def _withdraw(self, waiter: _Waiter) -> None:
        """Its client left or its time is up; it may have been given a pod in the same moment."""
        if not waiter.place.done():
            waiter.place.cancel()
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif not waiter.place.cancelled() and waiter.place.exception() is None:
            self.release(waiter.place.result())

    def _too_late(self, query: Query) -> RefusedError:
        fastest = min(predictor.model.seconds(query.size) for predictor in self._predictors.values())
        allowed = query.deadline - query.arrived
        if fastest > allowed:
            message = (
                f"no unit answers a query of this size within {allowed:g} s, the fastest takes "
                f"{fastest:.2g} s; valid: fewer or smaller pictures, fewer steps, a longer X-Request-Timeout"
            )
            return RefusedError(message, fastest, code="deadline_impossible")
        return RefusedError(
            f"no pod can answer within {allowed:g} s now", self._seconds_until_idle(), code="deadline"
        )

    def _seconds_until_idle(self) -> float:
        free_at = [pod.instance.free_at for pod in self._pods.values() if not pod.instance.idle]
        return max(0.0, min(free_at, default=0.0) - self._clock())
