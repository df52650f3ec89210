"""The router's HTTP interface: every query to the pod that the distributor picks, health, and metrics."""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from containers.router.errors import ApiError
from containers.router.forwarding import new_session
from containers.router.proxy import Proxy
from containers.router.router import Router

# As the servers': two prompts of the longest allowed length, every character escaped, fit four times over.
BODY_LIMIT_BYTES: Final = 131_072

ROUTER: Final = web.AppKey("router", Router)
PROXY: Final = web.AppKey("proxy", Proxy)


def create_app(router: Router) -> web.Application:
    """The application around one router; its connections to pods live as long as it runs."""
    app = web.Application(middlewares=[_told_as_openai_does], client_max_size=BODY_LIMIT_BYTES)
    app[ROUTER] = router
    app.cleanup_ctx.append(_proxying)
    app.on_response_prepare.append(_close_while_draining)
    app.router.add_get("/health/live", _live)
    app.router.add_get("/health/ready", _ready)
    app.router.add_get("/metrics", _metrics)
    app.router.add_post("/{path:.*}", _query)
    app.router.add_get("/{path:.*}", _lookup, allow_head=False)
    return app


async def _proxying(app: web.Application) -> AsyncIterator[None]:
    async with new_session(app[ROUTER].settings.answer_seconds) as session:
        app[PROXY] = Proxy(app[ROUTER], session)
        yield
        app[PROXY].stop()


async def _query(request: web.Request) -> web.StreamResponse:
    """What asks for pictures, and takes a pod to itself."""
    return await request.app[PROXY].query(request, await _body(request))


async def _lookup(request: web.Request) -> web.StreamResponse:
    """What asks only what a pod knows, such as /v1/models."""
    return await request.app[PROXY].lookup(request, await _body(request))


async def _live(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _ready(request: web.Request) -> web.Response:
    reason = request.app[ROUTER].not_ready
    return web.json_response({"status": reason or "ok"}, status=503 if reason else 200)


async def _metrics(request: web.Request) -> web.Response:
    router = request.app[ROUTER]
    text = router.telemetry.prometheus(router.dispatcher.waiting, router.dispatcher.usable())
    return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        message = f"the body is too large; valid: at most {BODY_LIMIT_BYTES} bytes"
        raise ApiError(413, message, code="body_too_large") from None


@web.middleware
async def _told_as_openai_does(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except web.HTTPException as error:
        return ApiError(error.status, error.reason, code="http_error").response()


async def _close_while_draining(request: web.Request, response: web.StreamResponse) -> None:
    """Clients go elsewhere for their next request."""
    if request.app[ROUTER].is_draining:
        response.headers["Connection"] = "close"
        response.force_close()
