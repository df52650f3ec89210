"""With HOLD_SECONDS a router without pods holds queries for the first one instead of refusing them."""

import asyncio

import pytest

from containers.router.endpoints import Discovered
from tests.containers.router.fake_pods import House, eventually, house, open_pod, scenario


def leave(one: House) -> None:
    """The last pod goes: the fleet sleeps."""
    one.router.discover(Discovered(()))


@scenario
async def test_a_held_query_is_answered_by_the_first_pod() -> None:
    """It is counted when it comes, so that the loop sees it, and not again when it is answered."""
    pod = open_pod("fast")
    async with house(pod, HOLD_SECONDS="300") as one:
        leave(one)
        asked = asyncio.create_task(one.ask())
        await eventually(lambda: len(one.router.lobby) == 1)
        assert one.router.telemetry.take_report().refused == 1
        one.router.discover(Discovered((pod.endpoint,)))
        status, _, _ = await asked
        assert status == 200
        report = one.router.telemetry.take_report()
        assert (report.refused, report.units["fast"].requests, len(report.units["fast"].seconds)) == (0, 0, 0)
        assert (await one.metrics())["fulcrum_router_holds_total"] == 1


@scenario
async def test_what_was_held_may_still_wait_for_its_turn() -> None:
    """One pod has to serve all that came meanwhile: the hold comes on top of the objective."""
    pod = open_pod("fast")
    async with house(pod, HOLD_SECONDS="300") as one:
        leave(one)
        asked = asyncio.create_task(one.ask())
        await eventually(lambda: len(one.router.lobby) == 1)
        one.router.discover(Discovered((pod.endpoint,)))
        assert (await asked)[0] == 200
    (told,) = pod.asked
    assert 20 < float(told.headers["X-Request-Timeout"]) <= 320


@scenario
async def test_a_clients_own_timeout_ends_the_hold() -> None:
    """503 with Retry-After; what it named is the whole time that it has."""
    async with house(HOLD_SECONDS="300") as one:
        status, headers, body = await one.ask(**{"X-Request-Timeout": "0.05"})
        assert (status, headers["Retry-After"]) == (503, "10")
        assert body["error"]["code"] == "no_capacity"
        assert one.router.telemetry.take_report().refused == 1


@scenario
async def test_more_than_the_places_are_refused_at_once() -> None:
    """And a client that leaves makes room."""
    async with house(HOLD_SECONDS="300", MAX_HELD="1") as one:
        held = asyncio.create_task(one.ask())
        await eventually(lambda: len(one.router.lobby) == 1)
        status, headers, _ = await one.ask()
        assert (status, headers["Retry-After"]) == (503, "10")
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        one.router.drain()
        assert one.router.telemetry.take_report().refused == 2


@scenario
async def test_a_router_that_stops_holds_nobody() -> None:
    """Those held are told to come back, and whoever comes later is refused at once."""
    async with house(HOLD_SECONDS="300") as one:
        held = asyncio.create_task(one.ask())
        await eventually(lambda: len(one.router.lobby) == 1)
        one.router.drain()
        status, headers, body = await held
        assert (status, headers["Retry-After"], body["error"]["code"]) == (503, "1", "stopping")
        assert (await one.ask())[2]["error"]["code"] == "no_capacity"


@scenario
async def test_held_queries_are_passed_on_as_held() -> None:
    """The router that holds the queue does not count them again."""
    pod = open_pod("fast")
    async with (
        house(pod) as holder,
        house(pod, HOLD_SECONDS="300", POD_IP="127.0.0.2", PORT=holder.url.rpartition(":")[2]) as one,
    ):
        one.router.discover(Discovered((), ("127.0.0.1", "127.0.0.2")))
        asked = asyncio.create_task(one.ask())
        await eventually(lambda: len(one.router.lobby) == 1)
        one.router.discover(Discovered((pod.endpoint,), ("127.0.0.1", "127.0.0.2")))
        assert (await asked)[0] == 200
        assert holder.router.telemetry.take_report().units["fast"].requests == 0
