"""The HTTP interface: OpenAI's images API, health, metrics, and a page to try it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from containers.serving import models, page
from containers.serving.documents import NOT_FOUND, NOT_WELL, PICTURE_RESPONSES, add_document
from containers.serving.edits import add_edits
from containers.serving.engine import Engine
from containers.serving.errors import ApiError, error_body, retry_headers
from containers.serving.making import CLIENT_LEFT, ClientLeftError, Maker
from containers.serving.middleware import AnyTarget, BodyLimit, Draining
from containers.serving.schema import ImageRequest, ImageResponse
from containers.serving.slowness import SlownessReport
from containers.serving.streaming import GENERATION, stream

_METRICS_FLUSH_SECONDS: Final = 60.0
_CREATED: Final = int(time.time())


def create_app(engine: Engine) -> FastAPI:
    """The application around one engine, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        slowness = SlownessReport(engine.worker.pace, engine.settings)
        beside = [asyncio.create_task(_flush_metrics(engine)), asyncio.create_task(slowness.run())]
        yield
        for task in beside:
            task.cancel()
        await asyncio.to_thread(engine.stop)

    # Its pages of documentation would load scripts from elsewhere; /openapi.json stays.
    app = FastAPI(title="Fulcrum serving", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit)
    app.add_middleware(AnyTarget)
    app.add_middleware(Draining, is_draining=lambda: engine.health.is_draining)
    maker = Maker(engine)
    _add_images(app, maker)
    add_edits(app, maker)
    _add_operations(app, engine)
    page.add_page(app, maker)
    _add_errors(app, engine)
    add_document(app)
    return app


def _add_images(app: FastAPI, maker: Maker) -> None:
    @app.post("/v1/images/generations", response_model=ImageResponse, responses=PICTURE_RESPONSES)
    async def generations(body: ImageRequest, request: Request) -> Response:
        """Make pictures."""
        if body.stream:
            return stream(maker, body, request, GENERATION)
        answer, headers = await maker.make(body, request)
        return JSONResponse(answer.model_dump(exclude_none=True), headers=dict(headers))

    @app.get("/v1/models")
    async def listed() -> dict[str, Any]:
        """The one model served here."""
        return {"object": "list", "data": [models.listed(maker.settings, _CREATED)]}

    @app.get("/v1/models/{name:path}", responses=NOT_FOUND)
    async def model(name: str) -> dict[str, Any]:
        """The model that answers to a name."""
        if not models.is_served(name, maker.settings):
            raise ApiError(404, f"model {name!r} is not served", param="model", code="model_not_found")
        return models.listed(maker.settings, _CREATED)


def _add_operations(app: FastAPI, engine: Engine) -> None:
    @app.head("/health/live", include_in_schema=False)
    @app.get("/health/live", responses=NOT_WELL)
    async def live() -> Response:
        """Whether the process should go on."""
        return _health(engine.health.not_live)

    @app.head("/health/ready", include_in_schema=False)
    @app.get("/health/ready", responses=NOT_WELL)
    async def ready() -> Response:
        """Whether it should get traffic."""
        return _health(engine.health.not_ready)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus' text format."""
        return PlainTextResponse(
            engine.telemetry.prometheus(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


def _health(reason: str) -> Response:
    return JSONResponse({"status": reason or "ok"}, 503 if reason else 200)


async def _flush_metrics(engine: Engine) -> None:
    while True:
        await asyncio.sleep(_METRICS_FLUSH_SECONDS)
        engine.telemetry.flush()


def _add_errors(app: FastAPI, engine: Engine) -> None:
    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        return JSONResponse(error.body, error.status_code, headers=error.headers)

    @app.exception_handler(ClientLeftError)
    async def client_left(_request: Request, _error: ClientLeftError) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        body = error_body(error.status_code, str(error.detail), code="http_error")
        headers = {**(error.headers or {}), **retry_headers(error.status_code)}
        return JSONResponse(body, error.status_code, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        told = _invalid(request, error)
        engine.telemetry.answered(told.status_code)
        return JSONResponse(told.body, told.status_code, headers=told.headers)


def _invalid(request: Request, error: RequestValidationError) -> ApiError:
    """What is wrong with a body, its first fault named."""
    first = error.errors()[0]
    kind = request.headers.get("content-type", "")
    if first["loc"] == ("body",) and not kind.partition(";")[0].endswith("json"):
        told = f"Content-Type: {kind or 'none'}; valid: application/json"
        return ApiError(415, told, param="Content-Type", code="unsupported_media_type")
    param = next((str(part) for part in first["loc"] if isinstance(part, str) and part != "body"), None)
    message = f"{param or 'body'}: {first['msg']}"
    if first["type"] == "extra_forbidden":
        message = f"{param}: unknown; valid: {', '.join(ImageRequest.model_fields)}"
    return ApiError(400, message, param=param, code="invalid_request")
