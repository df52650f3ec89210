"""A query's way: to the router that holds the queue, to a pod, and to another pod if that one dies."""

import asyncio
import logging
import math
import time
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import ClientResponse, ClientSession, web

from containers.router.dispatcher import Dispatcher
from containers.router.endpoints import Endpoint
from containers.router.errors import ApiError, RefusedError
from containers.router.forwarding import PodLostError, PodSilentError, forward
from containers.router.lobby import RETRY_SECONDS
from containers.router.matching import Query
from containers.router.metrics import Telemetry
from containers.router.query_size import query_size
from containers.router.recovery import Recovery
from containers.router.router import Router

TIMEOUT: Final = "X-Request-Timeout"
# Marks what another router has passed on, so that no query goes in circles, and what it has held before.
PASSED_ON: Final = "X-Fulcrum-Passed-On"
HELD: Final = "held"
CLIENT_LEFT: Final = 499  # nginx's status for it; nobody reads the answer, the metrics do
OK: Final = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a client asks; `was_held` while there was no pod, here or in the router that passed it on."""

    request: web.Request
    body: bytes
    query: Query
    was_held: bool


class Proxy:
    """Answers requests from pods."""

    def __init__(self, router: Router, session: ClientSession) -> None:
        self._settings = router.settings
        self._router = router
        self._dispatcher = router.dispatcher
        self._telemetry = router.telemetry
        self._session = session
        self._recovery = Recovery(router.dispatcher, session)

    def stop(self) -> None:
        """Ask for no pod's health any more."""
        self._recovery.stop()

    async def query(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Answer what takes a pod to itself, within its deadline.

        Raises:
            ApiError: 400 for a timeout that is none, 503 when refused, 502 and 504 when pods failed.
        """
        arrived = time.monotonic()
        seconds = _timeout_seconds(request, self._settings.fleet_json.objective.latency_seconds)
        query = Query(query_size(body, self._settings), arrived, arrived + seconds)
        asked = _Asked(request, body, query, request.headers.get(PASSED_ON) == HELD)
        if self._router.holds:
            asked = await self._hold(asked)
        if self._router.holder and PASSED_ON not in request.headers:
            try:
                return await self._pass_on(asked)
            except PodLostError as error:
                _log.warning("the router that holds the queue is lost: %s", error)
        return await self._route(asked)

    async def lookup(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Answer what costs no device time, from any pod; the next one where that one is gone.

        Raises:
            ApiError: 503 without a pod, 504 when it was silent.
        """
        while True:
            endpoint = self._dispatcher.any_pod()
            try:
                return await forward(self._session, request, body, endpoint.url)
            except PodLostError as error:
                self._set_aside(endpoint, error)
            except PodSilentError as error:
                self._set_aside(endpoint, error)
                raise _timed_out() from error

    async def _hold(self, asked: _Asked) -> _Asked:
        """Wait for the first pod. A client that names a timeout has all of it; others get the hold on top.

        Its time at a unit is counted from the end of the hold.

        Raises:
            RefusedError: no pod came in time, or too many are held.
        """
        query, hold_seconds = asked.query, self._settings.hold_seconds
        if self._router.lobby.is_full:
            self._telemetry.refused("held_full", was_held=asked.was_held)
            raise RefusedError(
                "no pod is ready, and too many wait for one", RETRY_SECONDS, code="no_capacity"
            )
        if not asked.was_held:
            self._telemetry.held()
        patience = query.deadline - query.arrived if TIMEOUT in asked.request.headers else math.inf
        try:
            await self._router.lobby.wait(min(hold_seconds, patience))
        except RefusedError as error:
            self._telemetry.refused(error.code, was_held=True)
            raise
        except asyncio.CancelledError:
            self._telemetry.refused("client_left", was_held=True)
            raise
        deadline = query.deadline if patience < math.inf else query.deadline + hold_seconds
        return replace(asked, query=Query(query.size, time.monotonic(), deadline), was_held=True)

    async def _pass_on(self, asked: _Asked) -> web.StreamResponse:
        headers = {PASSED_ON: HELD if asked.was_held else "1", TIMEOUT: _left(asked.query)}
        try:
            return await forward(
                self._session, asked.request, asked.body, self._router.holder, headers=headers
            )
        except PodSilentError as error:
            raise _timed_out() from error

    async def _route(self, asked: _Asked) -> web.StreamResponse:
        """Send to a pod; if it dies at work, once more, to another pool. One that was gone doesn't count."""
        avoided, is_retried = "", False
        while True:
            endpoint = await self._acquire(asked, avoided)
            try:
                return await self._send(asked, endpoint)
            except PodLostError as error:
                if error.was_sent and is_retried:
                    self._telemetry.answered(endpoint.unit, 502, was_held=asked.was_held)
                    raise ApiError(502, "two pods died before they answered", code="pods_died") from error
                is_retried = is_retried or error.was_sent
                avoided = endpoint.pool
                self._telemetry.retried(endpoint.unit)
            except PodSilentError as error:
                self._telemetry.answered(endpoint.unit, 504, was_held=asked.was_held)
                raise _timed_out() from error

    async def _acquire(self, asked: _Asked, avoided_pool: str) -> Endpoint:
        try:
            return await self._dispatcher.acquire(asked.query, avoided_pool)
        except RefusedError as error:
            self._telemetry.refused(error.code, was_held=asked.was_held)
            raise
        except asyncio.CancelledError:
            self._telemetry.refused("client_left", was_held=asked.was_held)
            raise

    async def _send(self, asked: _Asked, endpoint: Endpoint) -> web.StreamResponse:
        visit = _Visit(self._dispatcher, self._telemetry, endpoint, asked)
        headers = {TIMEOUT: _left(asked.query)}
        try:
            return await forward(
                self._session,
                asked.request,
                asked.body,
                endpoint.url,
                headers=headers,
                on_answer=visit.answered,
            )
        except (PodLostError, PodSilentError) as error:
            self._set_aside(endpoint, error)
            raise
        except asyncio.CancelledError:
            visit.left()
            raise
        finally:
            visit.end()

    def _set_aside(self, endpoint: Endpoint, error: Exception) -> None:
        _log.warning("set aside until it is ready again: %s", error)
        self._dispatcher.set_aside(endpoint)
        self._recovery.watch(endpoint)


class _Visit:
    """A query's stay at a pod: counted once, and the pod given back once."""

    def __init__(
        self, dispatcher: Dispatcher, telemetry: Telemetry, endpoint: Endpoint, asked: _Asked
    ) -> None:
        self._dispatcher = dispatcher
        self._telemetry = telemetry
        self._endpoint = endpoint
        self._query = asked.query
        self._was_held = asked.was_held
        self._began = time.monotonic()
        self._is_answered = False
        self._is_over = False

    def answered(self, answer: ClientResponse) -> None:
        """The answer has begun."""
        now = time.monotonic()
        self._is_answered = True
        self._telemetry.answered(
            self._endpoint.unit, answer.status, now - self._query.arrived, was_held=self._was_held
        )
        if answer.status == OK:
            self._dispatcher.observe(self._endpoint, self._query.size, now - self._began)
        if answer.content_length is not None:
            self.end()  # whoever tells the length has made it all; the rest is the network's work

    def left(self) -> None:
        """The client did not wait for the answer, or for all of it."""
        if not self._is_answered:
            self._telemetry.answered(self._endpoint.unit, CLIENT_LEFT, was_held=self._was_held)

    def end(self) -> None:
        """The pod is free."""
        if not self._is_over:
            self._is_over = True
            self._dispatcher.release(self._endpoint)


def _timed_out() -> ApiError:
    return ApiError(504, "no answer came in time", code="timeout")


def _left(query: Query) -> str:
    """The seconds until the deadline, as a header; a pod that has less would refuse to begin."""
    return f"{max(query.deadline - time.monotonic(), 0.001):.3f}"


def _timeout_seconds(request: web.Request, objective_seconds: float) -> float:
    """How long the query may take: X-Request-Timeout, else the objective.

    Raises:
        ApiError: 400, when the header is not a positive number.
    """
    header = request.headers.get(TIMEOUT)
    if header is None:
        return objective_seconds
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        message = f"{TIMEOUT}: {header!r}; valid: a positive number of seconds"
        raise ApiError(400, message, param=TIMEOUT, code="invalid_timeout")
    return seconds
