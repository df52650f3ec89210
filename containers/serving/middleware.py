"""What holds for every request: limits for its body, any form of its target, a last answer before the end."""

import asyncio
from collections.abc import Callable
from typing import Final

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from containers.serving.errors import ApiError

# Two prompts of the longest allowed length, every character escaped, fit four times over.
BODY_LIMIT_BYTES: Final = 131_072
# Where a form brings a picture and a mask.
UPLOAD_LIMIT_BYTES: Final = 16_777_216
# For a body to arrive: a megabyte over a slow telephone line.
BODY_SECONDS: Final = 30.0
_UPLOAD_PATHS: Final = ("/v1/images/edits", "/v1/images/variations")


class BodyLimit:
    """Answers 413 to a body that is too large, before reading it where it says so, and 408 to a slow one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = UPLOAD_LIMIT_BYTES if scope["path"] in _UPLOAD_PATHS else BODY_LIMIT_BYTES
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > limit:
            error = _too_large(limit)
            await JSONResponse(error.body, error.status_code, headers=error.headers)(scope, receive, send)
            return
        seen, is_whole = 0, False
        until = asyncio.get_running_loop().time() + BODY_SECONDS

        async def counted() -> Message:
            nonlocal seen, is_whole
            if is_whole:
                return await receive()  # the client's leaving, however late
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise _too_slow() from None
            is_whole = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, counted, send)


class AnyTarget:
    """Understands a target in absolute form, `GET http://host/path`, as a server must (RFC 9112, 3.2.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its path alone."""
        if scope["type"] == "http" and scope["path"].startswith(("http://", "https://")):
            path = "/" + scope["path"].split("/", 3)[3] if scope["path"].count("/") > 2 else "/"  # noqa: PLR2004 - scheme://host/
            scope = {**scope, "path": path, "raw_path": path.encode("utf-8", "surrogateescape")}
        await self._app(scope, receive, send)


class Draining:
    """While the server stops, every answer closes its connection, so that clients go elsewhere."""

    def __init__(self, app: ASGIApp, is_draining: Callable[[], bool]) -> None:
        self._app = app
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._is_draining():
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, closing)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is too large; valid: at most {limit} bytes", code="body_too_large")


def _too_slow() -> ApiError:
    error = ApiError(408, f"the body came too slowly; valid: within {BODY_SECONDS:g} s", code="body_too_slow")
    error.headers = {**(error.headers or {}), "Connection": "close"}
    return error
