import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes_asyncio import client

from containers.router.discovery import SELECTOR, discovered, watch_endpoints
from containers.router.endpoints import Discovered, Endpoint
from infra.manifests.common import ROUTER, SERVER, labels
from tests.containers.router.fake_pods import eventually

INF2 = labels(SERVER, unit="inf2-neuron")


def slice_of(
    name: str, labelled: Mapping[str, str], *addresses: str, ready: bool | None = True
) -> dict[str, Any]:
    """An EndpointSlice as the API tells it; a pod is named after its Deployment."""
    return {
        "metadata": {"name": name, "labels": dict(labelled), "resourceVersion": "7"},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {} if ready is None else {"ready": ready},
                "targetRef": {"kind": "Pod", "name": "server-inf2-neuron-spot-5d8f7c9b6-x2x4z"},
            }
            for address in addresses
        ]
        or None,
    }


def test_ready_pods_are_found_with_unit_and_pool() -> None:
    """The unit is the Service's label, the pool the pod's Deployment; labels are those of the stack."""
    found = discovered(
        [slice_of("a", INF2, "10.0.0.1"), slice_of("r", labels(ROUTER), "10.0.0.9", "10.0.0.8")]
    )
    assert found.endpoints == (Endpoint("inf2-neuron", "server-inf2-neuron-spot", "http://10.0.0.1:8000"),)
    assert found.routers == ("10.0.0.8", "10.0.0.9")


def test_a_pod_that_is_not_ready_is_left_out() -> None:
    """False is not ready; the API says to take no value for ready."""
    assert discovered([slice_of("a", INF2, "10.0.0.1", ready=False)]) == Discovered()
    assert len(discovered([slice_of("a", INF2, "10.0.0.1", ready=None)]).endpoints) == 1


def test_slices_without_endpoints_or_ports_are_empty() -> None:
    """The API tells both as null."""
    without_ports = {**slice_of("b", INF2, "10.0.0.1"), "ports": None}
    assert discovered([slice_of("a", INF2), without_ports]) == Discovered()


def test_an_address_in_two_slices_is_one_pod() -> None:
    """Slices may overlap for a moment, says the API; a pod listed twice would get two queries."""
    assert len(discovered([slice_of("a", INF2, "10.0.0.1"), slice_of("b", INF2, "10.0.0.1")]).endpoints) == 1


def test_the_selector_takes_what_the_stack_labels() -> None:
    """Servers and routers of this project."""
    component = "app.kubernetes.io/component"
    assert f"app.kubernetes.io/part-of=fulcrum,{component} in (server,router)" == SELECTOR
    assert {labels(SERVER)[component], labels(ROUTER)[component]} == {SERVER, ROUTER}


class FakeApi:
    """The Kubernetes API, as far as EndpointSlices are listed and watched; it may fail for a while."""

    def __init__(self, *slices: dict[str, Any]) -> None:
        self.slices = list(slices)
        self.failures = 0
        self.lists = 0
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def tell(self, kind: str, found: dict[str, Any]) -> None:
        """One event to whoever watches."""
        self._events.put_nowait({"type": kind, "object": found})

    def end_watch(self) -> None:
        """The watch ends, as it does after its timeout."""
        self._events.put_nowait(None)

    def app(self) -> web.Application:
        """Its application."""
        app = web.Application()
        app.router.add_get("/apis/discovery.k8s.io/v1/namespaces/fulcrum/endpointslices", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        assert request.query["labelSelector"] == SELECTOR
        if "watch" in request.query:
            return await self._watched(request)
        if self.failures:
            self.failures -= 1
            return web.json_response({"message": "etcd is busy"}, status=500)
        self.lists += 1
        return web.json_response({"metadata": {"resourceVersion": "7"}, "items": self.slices})

    async def _watched(self, request: web.Request) -> web.StreamResponse:
        assert request.query["resourceVersion"] == "7"
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self._events.get()) is not None:
            await response.write(json.dumps(event).encode() + b"\n")
        return response


async def follow(api: FakeApi, told: list[Discovered]) -> tuple["asyncio.Task[None]", TestServer]:
    """Begin to watch the fake."""
    server = TestServer(api.app())
    await server.start_server()
    configuration = client.Configuration(host=str(server.make_url("")).rstrip("/"))
    return asyncio.create_task(watch_endpoints(configuration, "fulcrum", told.append)), server


async def end(watching: "asyncio.Task[None]", api: FakeApi, server: TestServer) -> None:
    """End both."""
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    api.end_watch()
    await server.close()


def test_what_changes_is_told_as_it_changes() -> None:
    """Listed, then watched: new slices, changed ones, emptied ones, deleted ones."""

    async def scenario() -> None:
        api, told = FakeApi(slice_of("a", INF2, "10.0.0.1")), list[Discovered]()
        watching, server = await follow(api, told)
        await eventually(lambda: told)
        api.tell("ADDED", slice_of("b", INF2, "10.0.0.2"))
        api.tell("MODIFIED", slice_of("a", INF2))
        api.tell("DELETED", slice_of("b", INF2))
        await eventually(lambda: len(told) == 4)
        urls = [[endpoint.url for endpoint in found.endpoints] for found in told]
        first, second = "http://10.0.0.1:8000", "http://10.0.0.2:8000"
        assert urls == [[first], [first, second], [second], []]
        await end(watching, api, server)

    asyncio.run(scenario())


def test_when_a_watch_ends_all_is_listed_anew() -> None:
    """What it missed is found."""

    async def scenario() -> None:
        api, told = FakeApi(), list[Discovered]()
        watching, server = await follow(api, told)
        await eventually(lambda: told)
        api.slices.append(slice_of("a", INF2, "10.0.0.1"))
        api.end_watch()
        await eventually(lambda: api.lists == 2)
        await eventually(lambda: len(told) == 2)
        assert len(told[-1].endpoints) == 1
        await end(watching, api, server)

    asyncio.run(scenario())


def test_while_the_api_fails_what_was_known_remains(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is told of a failure but a warning; then it goes on."""
    monkeypatch.setattr("containers.router.discovery.RETRY_SECONDS", 0)

    async def scenario() -> None:
        api, told = FakeApi(slice_of("a", INF2, "10.0.0.1")), list[Discovered]()
        watching, server = await follow(api, told)
        await eventually(lambda: told)
        api.failures = 2
        api.end_watch()
        await eventually(lambda: api.lists == 2)
        assert all(len(found.endpoints) == 1 for found in told)
        await end(watching, api, server)

    asyncio.run(scenario())
    assert "trying again" in caplog.text
