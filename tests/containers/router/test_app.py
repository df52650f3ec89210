import asyncio
import gzip
import json

import pytest
from aiohttp import ClientPayloadError
from yarl import URL

from containers.router.app import BODY_LIMIT_BYTES
from containers.router.endpoints import Discovered, Endpoint
from containers.router.forwarding import SHORT_BYTES
from tests.containers.router.fake_pods import PATH, FakePod, eventually, house, open_pod, scenario


@scenario
async def test_a_query_goes_to_the_pod_and_its_answer_comes_back() -> None:
    """Body, query string and headers arrive as they were sent; status, headers and body come back."""
    pod = open_pod("fast", status=201, pieces=(b'{"data": [1]}',))
    async with (
        house(pod) as one,
        one.client.post(
            URL(f"{one.url}{PATH}?a=%2F1", encoded=True),
            json={"prompt": "é"},
            headers={"X-Mine": "1", "Connection": "X-Hop", "X-Hop": "2"},
        ) as answer,
    ):
        assert (answer.status, await answer.json()) == (201, {"data": [1]})
        assert answer.headers["X-Pool"] == "fast"
    (asked,) = pod.asked
    assert asked.raw_path == f"{PATH}?a=%2F1"
    assert asked.headers["X-Mine"] == "1"
    assert "X-Hop" not in asked.headers
    assert json.loads(pod.bodies[0]) == {"prompt": "é"}


@scenario
async def test_a_compressed_body_is_passed_on_as_it_came() -> None:
    """The router does not decode what it does not own."""
    pod = open_pod("fast")
    body = gzip.compress(b'{"prompt": "a cat"}')
    async with (
        house(pod) as one,
        one.client.post(one.url + PATH, data=body, headers={"Content-Encoding": "gzip"}) as answer,
    ):
        assert answer.status == 200
    assert pod.bodies == [b'{"prompt": "a cat"}']  # which the pod's own server decoded, as it was told to
    assert pod.asked[0].headers["Content-Encoding"] == "gzip"


@scenario
async def test_a_pod_has_one_query_at_a_time() -> None:
    """The second waits in the router until the first is answered, and then gets the same pod."""
    pod = FakePod("fast", "fast")
    async with house(pod) as one:
        first, second = (asyncio.create_task(one.ask()) for _ in range(2))
        await eventually(lambda: one.router.dispatcher.waiting == 1 and len(pod.asked) == 1)
        pod.gate.set()
        assert [(await first)[0], (await second)[0]] == [200, 200]
        assert len(pod.asked) == 2


@scenario
async def test_a_query_takes_the_cheaper_of_two_idle_pods() -> None:
    """The distributor decides: an idle fast pod before an idle slow one."""
    slow, fast = open_pod("slow"), open_pod("fast")
    async with house(slow, fast) as one:
        assert (await one.ask())[1]["X-Pool"] == "fast"


@scenario
async def test_a_large_query_that_only_one_unit_answers_in_time_waits_for_that_unit() -> None:
    """8 pictures of 100 steps take 4 s on fast and 8 s on slow: with 7 s allowed slow is no choice."""
    slow, fast = open_pod("slow"), open_pod("fast")
    async with house(slow, fast) as one:
        _, headers, _ = await one.ask({"n": 8, "steps": 100}, **{"X-Request-Timeout": "7"})
        assert headers["X-Pool"] == "fast"


@scenario
async def test_a_query_whose_pod_dies_is_sent_to_another_pool() -> None:
    """Before the first byte nothing is lost; the pool that failed is avoided, and the dead pod set aside."""
    dying, same_pool, other = FakePod("fast", "spot", dies=True), open_pod("fast", "spot"), open_pod("slow")
    dying.is_ready = False
    async with house(dying, other) as one:
        status, headers, _ = await one.ask()
        assert (status, headers["X-Pool"]) == (200, "slow")
        assert one.router.dispatcher.usable() == {"fast": 0, "slow": 1}
        samples = await one.metrics()
        assert samples['fulcrum_router_retries_total{unit="fast"}'] == 1
    dying.asked.clear()
    async with house(dying, same_pool, other) as one:
        one.router.dispatcher.set_aside(same_pool.endpoint)
        asking = asyncio.create_task(one.ask())
        await eventually(lambda: dying.asked)
        one.router.dispatcher.restore(same_pool.endpoint)
        assert (await asking)[1]["X-Pool"] == "slow"


@scenario
async def test_two_deaths_in_a_row_are_told_to_the_client() -> None:
    """A query is sent again once, not for ever: it may be what kills pods."""
    pods = [FakePod(unit, unit, dies=True, is_ready=False) for unit in ("fast", "slow")]
    async with house(*pods) as one:
        status, _, body = await one.ask()
        assert (status, body["error"]["code"]) == (502, "pods_died")


@scenario
async def test_a_pod_that_is_gone_costs_no_retry() -> None:
    """What nobody listened to was not sent: three refused connections, and the fourth pod answers."""
    gone = [Endpoint("fast", f"gone-{port}", f"http://127.0.0.1:{port}") for port in (1, 2, 3)]
    pod = open_pod("slow")
    async with house(pod) as one:
        one.router.discover(Discovered((*gone, pod.endpoint)))
        assert (await one.ask())[0] == 200
        assert len(pod.asked) == 1


@scenario
async def test_a_dead_pod_comes_back_when_it_is_ready() -> None:
    """It is asked for its health, and gets queries again."""
    pod, other = FakePod("fast", "fast", dies=True, is_ready=False), open_pod("slow")
    async with house(pod, other) as one:
        await one.ask()
        pod.dies, pod.is_ready = False, True
        pod.gate.set()
        await eventually(lambda: one.router.dispatcher.usable()["fast"] == 1)
        assert (await one.ask())[1]["X-Pool"] == "fast"


@scenario
async def test_a_long_answer_is_streamed() -> None:
    """Its first part arrives before the pod has made the last one."""
    part = b"x" * (SHORT_BYTES + 1)
    pod = FakePod("fast", "fast", is_streamed=True, pieces=(part, part))
    pod.gate.set()
    async with house(pod) as one, one.client.post(one.url + PATH, json={}) as answer:
        assert "Content-Length" not in answer.headers
        assert await answer.read() == part + part


@scenario
async def test_half_an_answer_never_looks_like_a_whole_one() -> None:
    """A pod that dies while it streams cuts the connection: after the first byte nothing is sent again."""
    pod, other = FakePod("fast", "fast", dies_midway=True, pieces=(b"x" * 100,)), open_pod("slow")
    pod.gate.set()
    async with house(pod, other) as one:
        with pytest.raises(ClientPayloadError):
            async with one.client.post(one.url + PATH, json={}) as answer:
                await answer.read()
    assert other.asked == []


@scenario
async def test_a_client_that_leaves_makes_room() -> None:
    """In the queue, and at the pod, whose connection is closed."""
    pod = FakePod("fast", "fast")
    async with house(pod) as one:
        at_the_pod = asyncio.create_task(one.ask())
        await eventually(lambda: pod.asked)
        in_the_queue = asyncio.create_task(one.ask())
        await eventually(lambda: one.router.dispatcher.waiting == 1)
        in_the_queue.cancel()
        await eventually(lambda: one.router.dispatcher.waiting == 0)
        at_the_pod.cancel()
        await one.counts('fulcrum_router_answers_total{status="499",unit="fast"}')
        await one.counts('fulcrum_router_refusals_total{code="client_left"}')
        pod.gate.set()
        assert (await one.ask())[0] == 200


@scenario
async def test_a_deadline_that_passes_in_the_queue_is_a_503_with_retry_after() -> None:
    """In OpenAI's error shape."""
    pod = FakePod("fast", "fast")
    async with house(pod) as one:
        busy = asyncio.create_task(one.ask())
        await eventually(lambda: pod.asked)
        status, headers, body = await one.ask(**{"X-Request-Timeout": "0.15"})
        assert (status, int(headers["Retry-After"]) >= 1) == (503, True)
        assert body["error"]["code"] == "deadline"
        assert set(body["error"]) == {"message", "type", "param", "code"}
        pod.gate.set()
        await busy


@scenario
async def test_a_query_that_no_unit_can_answer_in_time_is_refused_at_once() -> None:
    """And says what would be valid."""
    async with house(open_pod("fast")) as one:
        status, _, body = await one.ask({"n": 8, "steps": 100}, **{"X-Request-Timeout": "1"})
        assert (status, body["error"]["code"]) == (503, "deadline_impossible")
        assert "the fastest takes 4 s; valid: fewer" in body["error"]["message"]


@scenario
async def test_the_pod_is_told_what_is_left_of_the_deadline() -> None:
    """X-Request-Timeout, less what the queue took; the objective where the client names none."""
    pod = open_pod("fast")
    async with house(pod) as one:
        await one.ask(**{"X-Request-Timeout": "7"})
        await one.ask()
    seconds = [float(asked.headers["X-Request-Timeout"]) for asked in pod.asked]
    assert 0 < seconds[0] <= 7 < seconds[1] <= 20


@pytest.mark.parametrize("header", ["soon", "0", "-1", "nan", "inf"])
@scenario
async def test_a_timeout_that_is_none_is_refused(header: str) -> None:
    """400, naming the header and what would be valid."""
    async with house(open_pod("fast")) as one:
        status, _, body = await one.ask(**{"X-Request-Timeout": header})
        assert (status, body["error"]["param"]) == (400, "X-Request-Timeout")
        assert "valid: a positive number of seconds" in body["error"]["message"]


@scenario
async def test_a_body_above_the_limit_is_refused() -> None:
    """413, naming the limit; no pod sees it."""
    pod = open_pod("fast")
    async with house(pod) as one:
        assert (await one.ask({"prompt": "a" * BODY_LIMIT_BYTES}))[0] == 413
        assert (await one.ask({"prompt": "a" * (BODY_LIMIT_BYTES - 100)}))[0] == 200
    assert len(pod.asked) == 1


@scenario
async def test_a_full_queue_refuses() -> None:
    """At once, before the deadline."""
    pod = FakePod("fast", "fast")
    async with house(pod, MAX_WAITING="1") as one:
        waiting = [asyncio.create_task(one.ask()) for _ in range(2)]
        await eventually(lambda: one.router.dispatcher.waiting == 1)
        status, _, body = await one.ask()
        assert (status, body["error"]["code"]) == (503, "overloaded")
        pod.gate.set()
        await asyncio.gather(*waiting)


@scenario
async def test_without_pods_the_router_is_ready_and_refuses() -> None:
    """It knows that there are none; a router that does not know yet is not ready."""
    async with house() as one:
        status, headers, body = await one.ask()
        assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "no_capacity", "10")
        async with one.client.get(f"{one.url}/health/ready") as answer:
            assert answer.status == 200


@scenario
async def test_lookups_need_no_idle_pod() -> None:
    """GET /v1/models is answered while every pod is busy with pictures."""
    pod = FakePod("fast", "fast")
    async with house(pod) as one:
        busy = asyncio.create_task(one.ask())
        await eventually(lambda: pod.asked)
        lookup = asyncio.create_task(one.client.get(f"{one.url}/v1/models"))
        await eventually(lambda: len(pod.asked) == 2)
        pod.gate.set()
        assert (await lookup).status == 200
        await busy


@scenario
async def test_draining_is_not_ready_and_closes_connections_but_serves() -> None:
    """Whoever still comes is answered, and sent elsewhere for the next one."""
    async with house(open_pod("fast")) as one:
        one.router.drain()
        status, headers, _ = await one.ask()
        assert (status, headers["Connection"]) == (200, "close")
        for path, expected in (("live", 200), ("ready", 503)):
            async with one.client.get(f"{one.url}/health/{path}") as answer:
                assert answer.status == expected


@scenario
async def test_an_error_of_the_pod_comes_back_as_it_is() -> None:
    """What a pod answers is its own to say; it counts as the unit's error."""
    async with house(open_pod("fast", status=500)) as one:
        assert (await one.ask())[0] == 500
        report = one.router.telemetry.take_report()
        assert (report.units["fast"].requests, report.units["fast"].errors) == (1, 1)


@scenario
async def test_a_silent_pod_is_a_504_and_set_aside() -> None:
    """It may still be at work, so the query is not sent again."""
    silent, other = FakePod("fast", "fast", is_ready=False), open_pod("slow")
    async with house(silent, other, ANSWER_SECONDS="0.2") as one:
        assert (await one.ask())[0] == 504
        assert one.router.dispatcher.usable()["fast"] == 0
    assert other.asked == []


@scenario
async def test_queries_are_passed_on_to_the_router_that_holds_the_queue() -> None:
    """One queue over all pods: the ready router with the lowest address has it, and gets each query once."""
    holder = open_pod("router")
    pod = open_pod("fast")
    async with house(holder, pod, POD_IP="127.0.0.2", PORT="1") as one:
        port = holder.endpoint.url.rpartition(":")[2]
        one.router.settings = one.router.settings.model_copy(update={"port": int(port)})
        one.router.discover(Discovered((pod.endpoint,), ("127.0.0.1", "127.0.0.2")))
        assert (await one.ask())[1]["X-Pool"] == "router"
        assert (await one.ask(**{"X-Fulcrum-Passed-On": "1"}))[1]["X-Pool"] == "fast"
        holder.dies = True
        assert (await one.ask())[1]["X-Pool"] == "fast"
        one.router.discover(Discovered((pod.endpoint,), ("127.0.0.2", "127.0.0.3")))
        assert (await one.ask())[1]["X-Pool"] == "fast"
