"""From a request to its answer: queued, awaited until its deadline, encoded, counted."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import Request

from containers.serving.backends.protocol import ContentRefusedError, DeviceOutOfMemoryError
from containers.serving.batching import Job, Made, Previews
from containers.serving.delivery import Delivery, file_format
from containers.serving.engine import Engine
from containers.serving.errors import ApiError, too_late
from containers.serving.schema import Given, ImageData, ImageResponse, PictureRequest, timeout_seconds

CLIENT_LEFT: Final = 499  # nginx's status for it; nobody reads the answer, the metrics do

Result = TypeVar("Result")


class ClientLeftError(Exception):
    """The client closed its connection before the answer."""


@dataclass(frozen=True, slots=True)
class Order:
    """The pictures of one request on their way, and until when they are wanted (`time.monotonic()`)."""

    body: PictureRequest
    jobs: Sequence[Job]
    deadline: float

    @property
    def seconds_left(self) -> float | None:
        """Until the deadline; None where there is none."""
        return None if math.isinf(self.deadline) else max(0.0, self.deadline - time.monotonic())

    @property
    def size(self) -> str:
        """That of its pictures."""
        return str(self.jobs[0].work.shape)

    def cancel(self) -> None:
        """Let what is not finished leave the queue, or the device between two steps."""
        for job in self.jobs:
            job.future.cancel()


class Maker:
    """Makes the pictures of requests with one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.settings = engine.settings
        self.delivery = Delivery(engine.settings)

    def take(
        self,
        body: PictureRequest,
        request: Request,
        given: Given | None = None,
        previews: Callable[[int], Previews] | None = None,
    ) -> Order:
        """Queue the pictures of a request; `previews` says what is shown of so many steps.

        Raises:
            ApiError: whatever is wrong with it, or 503 when it can't be answered in time.
        """
        limit = timeout_seconds(request.headers.get("X-Request-Timeout"), self.settings.latency_seconds)
        deadline = time.monotonic() + limit
        pictures = body.pictures(self.settings, self.engine.served, given)
        shown = previews(pictures[0].work.denoising_steps) if previews else None
        jobs = self.engine.submit(pictures, limit, shown)
        return Order(body, jobs, deadline)

    async def make(
        self, body: PictureRequest, request: Request, given: Given | None = None
    ) -> tuple[ImageResponse, Mapping[str, str]]:
        """The answer to a request, counted, and its headers.

        Raises:
            ApiError: whatever keeps the pictures from being made, in the client's terms.
            ClientLeftError: nobody waits any more.
        """
        try:
            order = self.take(body, request, given)
            made = await _in_time(request, order, self._all_made(order))
        except Exception as error:
            raise self.failed(error) from error
        self.engine.telemetry.answered(200)
        data, cut = [each for each, _ in made], {name for _, texts in made for name in texts}
        return self.response(order, data), headers(order, cut)

    def response(self, order: Order, data: list[ImageData]) -> ImageResponse:
        """The body of the answer."""
        return ImageResponse(
            created=int(time.time()),
            data=data,
            model=self.settings.model,
            pool=self.settings.pool,
            size=order.size,
            output_format=file_format(order.body),
        )

    def failed(self, error: Exception) -> Exception:
        """Count an answer that is an error; the error in the client's terms."""
        if isinstance(error, ClientLeftError):
            self.engine.telemetry.answered(CLIENT_LEFT)
            return error
        told = in_clients_terms(error)
        self.engine.telemetry.answered(told.status_code)
        return told

    async def finished(self, order: Order, job: Job) -> tuple[ImageData, Made]:
        """One picture, encoded."""
        made = await asyncio.wrap_future(job.future)
        began = time.monotonic()
        data = await asyncio.to_thread(self.delivery.delivered, made.image, job.picture, order.body)
        self.engine.telemetry.picture(made.queue_seconds, made.inference_seconds, time.monotonic() - began)
        return data, made

    async def _all_made(self, order: Order) -> list[tuple[ImageData, tuple[str, ...]]]:
        made = await asyncio.gather(*(self.finished(order, job) for job in order.jobs))
        return [(data, each.cut) for data, each in made]


def headers(order: Order, cut: set[str]) -> dict[str, str]:
    """What an answer says of its request: what was ignored, and which texts were cut."""
    work = order.jobs[0].work
    ignored = list(order.body.ignored)
    if work.has_negative_prompt and not work.is_guided:
        ignored.append("negative_prompt")
    told = {"x-fulcrum-ignored": ", ".join(ignored), "x-fulcrum-truncated": ", ".join(sorted(cut))}
    return {name: value for name, value in told.items() if value}


def in_clients_terms(error: Exception) -> ApiError:
    """What went wrong as a client is told."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, DeviceOutOfMemoryError):
        told = "the device has not enough memory for this picture"
        return ApiError(503, told, code="out_of_memory", is_final=True)
    if isinstance(error, ContentRefusedError):
        return ApiError(400, "the safety checker refuses the picture", code="content_policy_violation")
    return ApiError(500, "the device failed to make the picture", code="device_error")


async def _in_time(request: Request, order: Order, work: Coroutine[Any, Any, Result]) -> Result:
    """The work's result, unless something ends it before: the order is cancelled then.

    Raises:
        ClientLeftError: the client left.
        ApiError: 504, the deadline passed.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_client_left(request))
    waiting: set[asyncio.Future[Any]] = {working, leaving}
    try:
        await asyncio.wait(waiting, timeout=order.seconds_left, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeftError if leaving.done() else too_late()
    finally:
        working.cancel()
        leaving.cancel()
        order.cancel()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # what is left of the body
