"""Which pods and routers exist: from a fixed list, or from Kubernetes' EndpointSlices.

EndpointSlices carry the labels of their Service; the labels below are those that the stack gives to the
units' Services and to the router's own (a test compares).
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from aiohttp import ClientError
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.exceptions import ApiException

from containers.router.endpoints import Discovered, Endpoint
from containers.router.settings import InvalidSettingsError

COMPONENT_LABEL: Final = "app.kubernetes.io/component"
UNIT_LABEL: Final = "fulcrum.dev/unit"
SERVER: Final = "server"
ROUTER: Final = "router"
SELECTOR: Final = f"app.kubernetes.io/part-of=fulcrum,{COMPONENT_LABEL} in ({SERVER},{ROUTER})"

# A watch ends after so long, and all is listed anew: what a silent connection hid is not hidden for longer.
WATCH_SECONDS: Final = 60
ANSWER_SECONDS: Final = 10
# Between a failure of the API and the next try.
RETRY_SECONDS: Final = 1.0

Slice = Mapping[str, Any]
OnChange = Callable[[Discovered], None]

_log = logging.getLogger(__name__)


def discovered(slices: Iterable[Slice]) -> Discovered:
    """What the EndpointSlices, as the API's JSON, say is ready; each address once."""
    endpoints: dict[str, Endpoint] = {}
    routers: set[str] = set()
    for found in slices:
        labels = found["metadata"].get("labels") or {}
        for address, port, pod in _ready(found):
            if labels.get(COMPONENT_LABEL) == ROUTER:
                routers.add(address)
            elif UNIT_LABEL in labels:
                url = f"http://{address}:{port}"
                endpoints[url] = Endpoint(labels[UNIT_LABEL], _pool(pod), url)
    return Discovered(tuple(endpoints.values()), tuple(sorted(routers)))


def _ready(found: Slice) -> Iterator[tuple[str, int, str]]:
    """Address, port and pod of each endpoint that is ready; no value counts as ready, says the API."""
    ports = found.get("ports") or []
    if not ports or found.get("addressType") != "IPv4":
        return
    for endpoint in found.get("endpoints") or []:
        if (endpoint.get("conditions") or {}).get("ready") is not False:
            pod = (endpoint.get("targetRef") or {}).get("name", "")
            yield endpoint["addresses"][0], ports[0]["port"], pod


def _pool(pod: str) -> str:
    """A pod's Deployment, one for each pool: its name without the two hashes that Kubernetes appends."""
    return pod.rsplit("-", 2)[0]


def in_cluster() -> client.Configuration:
    """How to reach the Kubernetes API from inside a pod.

    Raises:
        InvalidSettingsError: this is no pod.
    """
    configuration = client.Configuration()
    try:
        config.incluster_config.InClusterConfigLoader(
            config.incluster_config.SERVICE_TOKEN_FILENAME, config.incluster_config.SERVICE_CERT_FILENAME
        ).load_and_set(configuration)
    except config.ConfigException as error:
        raise InvalidSettingsError(
            f"environment: NAMESPACE: {error} valid: inside Kubernetes; elsewhere ENDPOINTS"
        ) from None
    return configuration


async def watch_endpoints(configuration: client.Configuration, namespace: str, on_change: OnChange) -> None:
    """Tell what is ready in the namespace, now and at every change; runs until it is cancelled.

    While the API cannot be reached, what it told last remains.
    """
    async with client.ApiClient(configuration) as api:
        slices = client.DiscoveryV1Api(api)
        while True:
            try:
                await _list_and_watch(slices, namespace, on_change)
            except (ApiException, ClientError, TimeoutError) as error:
                _log.warning("EndpointSlices: %s; trying again", error)
                await asyncio.sleep(RETRY_SECONDS)


async def _list_and_watch(api: client.DiscoveryV1Api, namespace: str, on_change: OnChange) -> None:
    listed = await _list(api, namespace)
    known: dict[str, Slice] = {found["metadata"]["name"]: found for found in listed["items"]}
    on_change(discovered(known.values()))
    async with watch.Watch(return_type="object") as events:  # the API's JSON, for the same reason
        changes = events.stream(
            api.list_namespaced_endpoint_slice,
            namespace,
            label_selector=SELECTOR,
            resource_version=listed["metadata"]["resourceVersion"],
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=WATCH_SECONDS + ANSWER_SECONDS,
        )
        async for event in changes:
            found = event["raw_object"]
            if event["type"] == "DELETED":
                known.pop(found["metadata"]["name"], None)
            else:
                known[found["metadata"]["name"]] = found
            on_change(discovered(known.values()))


async def _list(api: client.DiscoveryV1Api, namespace: str) -> dict[str, Any]:
    """The list as the API's JSON: the client's models refuse a slice whose endpoints are null."""
    answer: Any = await api.list_namespaced_endpoint_slice(
        namespace, label_selector=SELECTOR, _preload_content=False, _request_timeout=ANSWER_SECONDS
    )
    async with answer:
        if not answer.ok:
            raise ApiException(status=answer.status, reason=answer.reason)
        listed: dict[str, Any] = await answer.json()
        return listed
