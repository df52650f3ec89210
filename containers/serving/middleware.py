"""What holds for every request: a limit for its body, and a last answer before the server stops."""

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
_UPLOAD_PATHS: Final = ("/v1/images/edits", "/v1/images/variations")


class BodyLimit:
    """Answers 413 to a body above the limit, before it is read where its length is announced."""

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
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, counted, send)


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
