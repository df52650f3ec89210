import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from containers.router.dispatcher import Dispatcher
from containers.router.endpoints import Endpoint
from containers.router.errors import RefusedError
from containers.router.matching import Decision, Dispatch, Instance, LeastLaxity, Query
from containers.router.predictors import LatencyModel, LatencyPredictor

A, B = Endpoint("fast", "spot", "http://a"), Endpoint("fast", "on-demand", "http://b")
STRANGER = Endpoint("unheard-of", "spot", "http://c")
QUERY = Query(size=1.0, arrived=0.0, deadline=100.0)


class FirstCome:
    """The simplest distributor: the oldest query to the first idle instance; it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[Query], Sequence[Instance]]] = []

    def decide(
        self,
        _now: float,
        waiting: Sequence[Query],
        instances: Sequence[Instance],
        _models: Mapping[str, LatencyModel],
    ) -> Decision:
        """Pairs in order."""
        self.asked.append((waiting, instances))
        idle = [index for index, instance in enumerate(instances) if instance.idle]
        pairs = zip(range(len(waiting)), idle, strict=False)
        return Decision(tuple(Dispatch(query, instance) for query, instance in pairs))


def dispatcher(distributor: FirstCome | LeastLaxity | None = None, max_waiting: int = 10) -> Dispatcher:
    """A dispatcher whose clock stands at 0; a query of size 1 takes 1 s."""
    predictor = LatencyPredictor(LatencyModel(0.0, 1.0, 0.05), typical_size=1.0)
    return Dispatcher(
        distributor or FirstCome(),
        {"fast": predictor},
        max_waiting=max_waiting,
        clock=lambda: 0.0,
    )


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """In an event loop."""

    async def inside() -> None:
        await scenario()

    asyncio.run(inside())


async def turn() -> None:
    """Let every task that can run, run."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_releases_a_pod_lets_the_next_one_in() -> None:
    """In the order of the distributor; the pod is told busy until its predicted end meanwhile."""

    async def scenario() -> None:
        distributor = FirstCome()
        one = dispatcher(distributor)
        one.update([A])
        assert await one.acquire(QUERY) == A
        waiting = asyncio.create_task(one.acquire(QUERY))
        await turn()
        assert not waiting.done()
        assert distributor.asked[-1][1] == [Instance("fast", idle=False, free_at=1.0)]
        one.release(A)
        assert await waiting == A

    run(scenario)


def test_a_pod_that_appears_serves_who_waits() -> None:
    """And one of a unit that the fleet does not have is not used."""

    async def scenario() -> None:
        one = dispatcher()
        one.update([A])
        await one.acquire(QUERY)
        waiting = asyncio.create_task(one.acquire(QUERY))
        await turn()
        one.update([A, STRANGER])
        await turn()
        assert not waiting.done()
        one.update([A, B])
        assert await waiting == B

    run(scenario)


def test_an_update_keeps_busy_pods_busy() -> None:
    """The same address is the same pod."""

    async def scenario() -> None:
        one = dispatcher()
        one.update([A])
        await one.acquire(QUERY)
        one.update([A])
        waiting = asyncio.create_task(one.acquire(QUERY))
        await turn()
        assert not waiting.done()
        waiting.cancel()

    run(scenario)


def test_a_pod_that_is_set_aside_gets_nothing_until_it_is_restored() -> None:
    """Though its query was given up."""

    async def scenario() -> None:
        one = dispatcher()
        one.update([A])
        one.set_aside(await one.acquire(QUERY))
        waiting = asyncio.create_task(one.acquire(QUERY))
        await turn()
        one.release(A)
        await turn()
        assert not waiting.done()
        assert one.usable() == {"fast": 0}
        one.restore(A)
        assert await waiting == A

    run(scenario)


def test_what_lost_a_pod_goes_first_and_to_another_pool() -> None:
    """Before queries that came earlier; the same pool only where there is no other."""

    async def scenario() -> None:
        one = dispatcher()
        one.update([A, B])
        await one.acquire(QUERY)
        await one.acquire(QUERY)
        earlier = asyncio.create_task(one.acquire(QUERY))
        await turn()
        again = asyncio.create_task(one.acquire(QUERY, avoided_pool="spot"))
        await turn()
        one.release(A)
        assert await earlier == A
        one.release(B)
        assert await again == B
        one.set_aside(B)
        one.release(A)
        assert await one.acquire(QUERY, avoided_pool="spot") == A

    run(scenario)


def test_a_pod_given_in_the_moment_of_a_cancellation_is_not_lost() -> None:
    """The task that was given it never runs on; the pod goes to the next."""

    async def scenario() -> None:
        one = dispatcher()
        one.update([A])
        await one.acquire(QUERY)
        leaving = asyncio.create_task(one.acquire(QUERY))
        await turn()
        one.release(A)  # gives it to `leaving`
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await one.acquire(QUERY) == A

    run(scenario)


def test_a_cancelled_query_is_given_nothing() -> None:
    """Cancelled, but its task has not run yet: the pod goes to who still waits."""

    async def scenario() -> None:
        one = dispatcher()
        one.update([A])
        await one.acquire(QUERY)
        leaving, staying = (asyncio.create_task(one.acquire(QUERY)) for _ in range(2))
        await turn()
        leaving.cancel()
        one.release(A)
        assert await staying == A
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert one.waiting == 0

    run(scenario)


def test_a_deadline_in_the_queue_ends_the_wait() -> None:
    """With a refusal that says when to come back: when the pod is predicted to be free."""

    async def scenario() -> None:
        one = dispatcher()
        one.update([A])
        await one.acquire(Query(size=5.0, arrived=0.0, deadline=100.0))
        with pytest.raises(RefusedError, match="no pod can answer within 2 s now") as caught:
            await one.acquire(Query(size=1.0, arrived=-1.99, deadline=0.01))
        assert caught.value.response().headers["Retry-After"] == "5"
        assert one.waiting == 0

    run(scenario)


def test_what_the_distributor_sheds_is_refused_at_once() -> None:
    """Two seconds of work within one."""

    async def scenario() -> None:
        one = dispatcher(LeastLaxity(typical_size=1.0))
        one.update([A])
        with pytest.raises(RefusedError, match="the fastest takes 2 s") as caught:
            await one.acquire(Query(size=2.0, arrived=0.0, deadline=1.0))
        assert caught.value.code == "deadline_impossible"

    run(scenario)


def test_no_pod_and_a_full_queue_refuse() -> None:
    """Without waiting."""

    async def scenario() -> None:
        one = dispatcher(max_waiting=1)
        with pytest.raises(RefusedError, match="no pod is ready"):
            await one.acquire(QUERY)
        with pytest.raises(RefusedError, match="no pod is ready"):
            one.any_pod()
        one.update([A])
        await one.acquire(QUERY)
        waiting = asyncio.create_task(one.acquire(QUERY))
        await turn()
        with pytest.raises(RefusedError, match="1 queries wait already"):
            await one.acquire(QUERY)
        waiting.cancel()

    run(scenario)


def test_lookups_take_turns() -> None:
    """Over the pods that are not set aside, busy or not."""

    async def scenario() -> None:
        one = dispatcher()
        one.update([A, B])
        await one.acquire(QUERY)
        assert {one.any_pod(), one.any_pod()} == {A, B}
        one.set_aside(A)
        assert {one.any_pod(), one.any_pod()} == {B}

    run(scenario)


def test_what_a_pod_took_is_learned() -> None:
    """Twice the predicted time, again and again: the next prediction is longer."""

    async def scenario() -> None:
        distributor = FirstCome()
        one = dispatcher(distributor)
        one.update([A])
        for _ in range(100):
            one.observe(A, 1.0, 2.0)
        await one.acquire(QUERY)
        waiting = asyncio.create_task(one.acquire(QUERY))
        await turn()
        assert distributor.asked[-1][1][0].free_at > 1.5
        waiting.cancel()

    run(scenario)
