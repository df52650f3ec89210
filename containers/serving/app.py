"""The HTTP interface: OpenAI's images API, health, metrics, and a page to try it."""

import asyncio
import base64
import math
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from containers.serving import page, png
from containers.serving.backends.protocol import ContentRefusedError, DeviceOutOfMemoryError
from containers.serving.batching import Job
from containers.serving.engine import Engine
from containers.serving.errors import ApiError, error_body, too_late
from containers.serving.middleware import BodyLimit, Draining
from containers.serving.schema import ImageData, ImageRequest, ImageResponse, timeout_seconds

CLIENT_LEFT: Final = 499  # nginx's status for it; nobody reads the answer, the metrics do
_METRICS_FLUSH_SECONDS: Final = 60.0
_CREATED: Final = int(time.time())


class ClientLeftError(Exception):
    """The client closed its connection before the answer."""


def create_app(engine: Engine) -> FastAPI:
    """The application around one engine, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        flushing = asyncio.create_task(_flush_metrics(engine))
        yield
        flushing.cancel()
        await asyncio.to_thread(engine.stop)

    # Its pages of documentation would load scripts from elsewhere; /openapi.json stays.
    app = FastAPI(title="Fulcrum serving", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit)
    app.add_middleware(Draining, is_draining=lambda: engine.health.is_draining)
    _add_images(app, engine)
    _add_operations(app, engine)
    page.add_page(app, engine, generate)
    _add_errors(app, engine)
    return app


def _add_images(app: FastAPI, engine: Engine) -> None:
    @app.post("/v1/images/generations")
    async def generations(body: ImageRequest, request: Request) -> ImageResponse:
        """Make pictures."""
        return await generate(engine, body, request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model served here."""
        model = {
            "id": engine.settings.model,
            "object": "model",
            "created": _CREATED,
            "owned_by": "fulcrum",
        }
        return {"object": "list", "data": [model]}


def _add_operations(app: FastAPI, engine: Engine) -> None:
    @app.get("/health/live")
    async def live() -> Response:
        """Whether the process should go on."""
        return _health(engine.health.not_live)

    @app.get("/health/ready")
    async def ready() -> Response:
        """Whether it should get traffic."""
        return _health(engine.health.not_ready)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus' text format."""
        return PlainTextResponse(
            engine.telemetry.prometheus(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


def _health(reason: str) -> Response:
    return JSONResponse({"status": reason or "ok"}, 503 if reason else 200)


async def generate(engine: Engine, body: ImageRequest, request: Request) -> ImageResponse:
    """Make the pictures of one request and count the answer.

    Raises:
        ApiError: whatever keeps them from being made, in the client's terms.
    """
    try:
        limit = timeout_seconds(request.headers.get("X-Request-Timeout"), engine.settings.latency_seconds)
        jobs = engine.submit(body.pictures(engine.settings, engine.served), limit)
        data = await _in_time(request, _all_made(engine, jobs), limit)
    except ClientLeftError:
        engine.telemetry.answered(CLIENT_LEFT)
        raise
    except Exception as error:
        told = _in_clients_terms(error)
        engine.telemetry.answered(told.status_code)
        raise told from error
    engine.telemetry.answered(200)
    return ImageResponse(
        created=int(time.time()), data=data, model=engine.settings.model, pool=engine.settings.pool
    )


async def _all_made(engine: Engine, jobs: Sequence[Job]) -> list[ImageData]:
    try:
        return list(await asyncio.gather(*(_made(engine, job) for job in jobs)))
    finally:
        for job in jobs:
            job.future.cancel()  # it leaves the queue, or the device between two steps


async def _made(engine: Engine, job: Job) -> ImageData:
    made = await asyncio.wrap_future(job.future)
    began = time.monotonic()
    text = await asyncio.to_thread(_encoded, engine, job, made.image)
    engine.telemetry.picture(made.queue_seconds, made.inference_seconds, time.monotonic() - began)
    return ImageData(b64_json=text, seed=job.picture.seed)


def _encoded(engine: Engine, job: Job, image: Any) -> str:
    file = png.encode(image, job.picture, model=engine.settings.model, pool=engine.settings.pool)
    return base64.b64encode(file).decode("ascii")


async def _in_time(
    request: Request, work: Coroutine[Any, Any, list[ImageData]], limit_seconds: float
) -> list[ImageData]:
    """The work's result, unless something ends it before: the work is cancelled then.

    Raises:
        ClientLeftError: the client left.
        ApiError: 504, `limit_seconds` have passed.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_client_left(request))
    try:
        timeout = None if math.isinf(limit_seconds) else limit_seconds
        await asyncio.wait({working, leaving}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeftError if leaving.done() else too_late()
    finally:
        working.cancel()
        leaving.cancel()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # what is left of the body


def _in_clients_terms(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, DeviceOutOfMemoryError):
        return ApiError(503, "the device has not enough memory for this picture", code="out_of_memory")
    if isinstance(error, ContentRefusedError):
        return ApiError(400, "the safety checker refuses the picture", code="content_policy_violation")
    return ApiError(500, "the device failed to make the picture", code="device_error")


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
        return JSONResponse(body, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        engine.telemetry.answered(400)
        first = error.errors()[0]
        param = next((str(part) for part in first["loc"] if isinstance(part, str) and part != "body"), None)
        message = f"{param or 'body'}: {first['msg']}"
        if first["type"] == "extra_forbidden":
            message = f"{param}: unknown; valid: {', '.join(ImageRequest.model_fields)}"
        return JSONResponse(error_body(400, message, param=param, code="invalid_request"), 400)
