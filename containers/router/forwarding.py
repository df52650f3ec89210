"""One request to one pod, and the answer back; what is lost before that can be sent elsewhere."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    ServerTimeoutError,
    TCPConnector,
    web,
)
from multidict import CIMultiDict
from yarl import URL

# RFC 9110, section 7.6.1: what belongs to one connection; and what the client library writes itself.
NOT_FORWARDED: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "content-length", "expect"}
)
# Pods and router stand in one VPC: what takes longer is a node that is gone.
CONNECT_SECONDS: Final = 1.0
# Below the 130 s for which the servers keep idle connections, so that none is used as it is being closed.
KEEP_ALIVE_SECONDS: Final = 60.0
# A picture of 512x512 as base64 and more; many of these at once still fit into the router's memory.
SHORT_BYTES: Final = 1_048_576

_log = logging.getLogger(__name__)


class PodLostError(Exception):
    """The pod died or was gone before it answered: `was_sent` tells whether it may have begun to work."""

    def __init__(self, reason: str, *, was_sent: bool) -> None:
        super().__init__(reason)
        self.was_sent = was_sent


class PodSilentError(Exception):
    """The pod took too long to begin its answer; it may still be at work."""


def new_session(answer_seconds: float) -> ClientSession:
    """Kept connections to pods; an answer may pause for `answer_seconds`, before it and in it."""
    return ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
        timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=answer_seconds),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )


def _ignore(_: ClientResponse) -> None:
    pass


async def forward(
    session: ClientSession,
    request: web.Request,
    body: bytes,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    on_answer: Callable[[ClientResponse], None] = _ignore,
) -> web.StreamResponse:
    """Send the request with some headers replaced, and pass the answer on.

    A short answer is awaited whole, so that nothing is lost with a pod that dies at it; any other is
    streamed. `on_answer` is called before its first byte is passed on. When the pod dies after that, the
    client's connection is cut: half an answer must not look like a whole one.

    Raises:
        PodLostError, PodSilentError: nothing of the answer was passed on.
    """
    sent = _forwarded(request.headers)
    sent.update(headers or {})
    target = URL(url + request.raw_path, encoded=True)
    with _told_as_ours(url):
        answer = await session.request(
            request.method, target, data=body or None, headers=sent, allow_redirects=False
        )
    async with answer:
        if answer.content_length is None or answer.content_length > SHORT_BYTES:
            on_answer(answer)
            return await _stream(request, answer)
        with _told_as_ours(url):
            whole = await answer.read()
        on_answer(answer)
        return web.Response(
            status=answer.status, reason=answer.reason, headers=_forwarded(answer.headers), body=whole
        )


async def _stream(request: web.Request, answer: ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=_forwarded(answer.headers)
    )
    response.content_length = answer.content_length
    try:
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except ClientError as error:  # of the pod; or the client has left, for which the library raises the same
        transport = request.transport
        if transport is not None and not transport.is_closing():
            _log.warning("%s died while it answered: %s", answer.url, error)
            transport.abort()
    return response


@contextmanager
def _told_as_ours(url: str) -> Iterator[None]:
    """The client library's errors in this module's terms."""
    try:
        yield
    except (ClientConnectorError, ConnectionTimeoutError) as error:
        raise PodLostError(f"{url}: {error}", was_sent=False) from error
    except ServerTimeoutError as error:
        raise PodSilentError(f"{url}: {error}") from error
    except ClientError as error:
        raise PodLostError(f"{url}: {error}", was_sent=True) from error


def _forwarded(headers: Mapping[str, str]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in (*NOT_FORWARDED, *headers.get("Connection", "").split(",")):
        kept.popall(name.strip(), None)
    return kept
