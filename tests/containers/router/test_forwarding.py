"""Peers and pods that say nothing: they may still be at work, so nothing is sent a second time."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from aiohttp import ClientPayloadError

from containers.router.endpoints import Discovered, Endpoint
from tests.containers.router.fake_pods import PATH, FakePod, House, house, open_pod, scenario

SILENCE = "1"  # seconds; whoever has to answer in these tests is given none
PIECES = (b'{"data": ', b"[]}")


def silent(unit: str, **how: Any) -> FakePod:
    """One that takes every request and never ends its answer."""
    return FakePod(unit, unit, is_ready=False, pieces=PIECES, **how)


@asynccontextmanager
async def beside(holder: FakePod, pod: FakePod) -> AsyncIterator[House]:
    """A router with a pod of its own, whose queue another router holds."""
    async with house(holder, pod, POD_IP="127.0.0.2", PORT="1", ANSWER_SECONDS=SILENCE) as one:
        port = int(holder.endpoint.url.rpartition(":")[2])
        one.router.settings = one.router.settings.model_copy(update={"port": port})
        one.router.discover(Discovered((pod.endpoint,), ("127.0.0.1", "127.0.0.2")))
        yield one


@contextmanager
def unreachable() -> Iterator[str]:
    """The URL of a node that is gone: nobody answers the first packet of a connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]  # more than the listener's queue takes
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for one in waiting:
                one.close()


@pytest.mark.parametrize("stalls", [False, True], ids=["before its answer", "within it"])
@scenario
async def test_a_silent_router_is_a_504_and_the_query_is_not_sent_again(*, stalls: bool) -> None:
    """It holds the queue and may have given the query to a pod."""
    holder, pod = silent("router", stalls=stalls), open_pod("fast")
    async with beside(holder, pod) as one:
        status, _, body = await one.ask()
        assert (status, body["error"]["code"]) == (504, "timeout")
    assert len(holder.asked) == 1
    assert pod.asked == []


@scenario
async def test_a_router_that_falls_silent_in_a_stream_cuts_the_connection() -> None:
    """Half an answer must not look like a whole one."""
    holder, pod = silent("router", stalls=True, is_streamed=True), open_pod("fast")
    async with beside(holder, pod) as one:
        with pytest.raises(ClientPayloadError):
            async with one.client.post(one.url + PATH, json={}) as answer:
                await answer.read()
    assert pod.asked == []


@scenario
async def test_a_router_whose_node_is_gone_is_lost_and_not_silent() -> None:
    """Nothing was sent, so the query goes to a pod of one's own."""
    pod = open_pod("fast")
    with unreachable() as url:
        async with house(pod, POD_IP="127.0.0.2", PORT=url.rpartition(":")[2]) as one:
            one.router.discover(Discovered((pod.endpoint,), ("127.0.0.1", "127.0.0.2")))
            assert (await one.ask())[1]["X-Pool"] == "fast"


@scenario
async def test_a_pod_whose_node_is_gone_is_lost_and_not_silent() -> None:
    """Nothing was sent: another pod answers."""
    pod = open_pod("slow")
    with unreachable() as url:
        async with house(pod) as one:
            one.router.discover(Discovered((Endpoint("fast", "gone", url), pod.endpoint)))
            assert (await one.ask())[1]["X-Pool"] == "slow"


@pytest.mark.parametrize("stalls", [False, True], ids=["before its answer", "within it"])
@scenario
async def test_a_lookup_at_a_silent_pod_is_a_504_and_the_pod_set_aside(*, stalls: bool) -> None:
    """The next one goes elsewhere."""
    pod = silent("fast", stalls=stalls)
    async with house(pod, ANSWER_SECONDS=SILENCE) as one:
        async with one.client.get(f"{one.url}/v1/models") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (504, "timeout")
        assert one.router.dispatcher.usable()["fast"] == 0
    assert len(pod.asked) == 1


@scenario
async def test_a_pod_that_falls_silent_within_a_short_answer_is_a_504_and_set_aside() -> None:
    """The answer is awaited whole, and its silence is the pod's."""
    pod, other = silent("fast", stalls=True), open_pod("slow")
    async with house(pod, other, ANSWER_SECONDS=SILENCE) as one:
        assert (await one.ask())[0] == 504
        assert one.router.dispatcher.usable()["fast"] == 0
    assert other.asked == []


@scenario
async def test_a_silent_second_pod_is_a_504_after_the_first_one_died() -> None:
    """The death cost a retry; the silence ends it."""
    dying, other = FakePod("fast", "fast", dies=True, is_ready=False), silent("slow")
    async with house(dying, other, ANSWER_SECONDS="5") as one:
        status, _, body = await one.ask()
        assert (status, body["error"]["code"]) == (504, "timeout")
        assert one.router.dispatcher.usable() == {"fast": 0, "slow": 0}
    assert (len(dying.asked), len(other.asked)) == (1, 1)


@scenario
async def test_a_silent_pod_keeps_nobody_waiting_for_it() -> None:
    """Its place is given back with the 504: who waits goes to the pod that is left."""
    pod, other = silent("fast"), FakePod("slow", "slow")
    async with house(pod, other, ANSWER_SECONDS="5") as one:
        asking = [asyncio.create_task(one.ask()) for _ in range(3)]
        other.gate.set()
        statuses = sorted([(await task)[0] for task in asking])
    assert statuses == [200, 200, 504]
