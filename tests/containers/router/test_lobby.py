"""Queries that come while there is no pod, in virtual time."""

import asyncio

import pytest

from containers.router.errors import RefusedError
from containers.router.lobby import Lobby
from tests.containers.serving.virtual_time import run


def test_the_first_pod_lets_everybody_in() -> None:
    """As soon as it is there, however long the hold might have been."""

    async def scenario() -> float:
        lobby = Lobby(10)
        held = [asyncio.create_task(lobby.wait(300.0)) for _ in range(3)]
        await asyncio.sleep(90)
        assert len(lobby) == 3
        lobby.let_in()
        await asyncio.gather(*held)
        assert len(lobby) == 0
        return asyncio.get_running_loop().time()

    assert run(scenario()) == 90


def test_a_hold_ends_with_a_503_that_says_when_to_come_back() -> None:
    """Its time is over and no pod came; the place is free again."""

    async def scenario() -> float:
        lobby = Lobby(10)
        with pytest.raises(RefusedError, match="no pod became ready within 300 s") as refused:
            await lobby.wait(300.0)
        response = refused.value.response()
        assert (response.status, response.headers["Retry-After"]) == (503, "10")
        assert len(lobby) == 0
        return asyncio.get_running_loop().time()

    assert run(scenario()) == 300


def test_a_client_that_leaves_frees_its_place() -> None:
    """So many are held and no more."""

    async def scenario() -> None:
        lobby = Lobby(1)
        leaving = asyncio.create_task(lobby.wait(300.0))
        await asyncio.sleep(1)
        assert lobby.is_full
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert not lobby.is_full

    run(scenario())


def test_a_router_that_stops_sends_them_away_at_once() -> None:
    """Another router may hold them: they come back in a second."""

    async def scenario() -> None:
        lobby = Lobby(10)
        held = asyncio.create_task(lobby.wait(300.0))
        await asyncio.sleep(1)
        lobby.send_away()
        with pytest.raises(RefusedError) as refused:
            await held
        assert refused.value.response().headers["Retry-After"] == "1"
        assert asyncio.get_running_loop().time() == 1

    run(scenario())
