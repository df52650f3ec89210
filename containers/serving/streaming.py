"""An answer in pieces: unfinished pictures, then the finished one, as OpenAI's server-sent events.

https://platform.openai.com/docs/api-reference/images-streaming
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import Request
from fastapi.responses import StreamingResponse
from PIL.Image import Image

from containers.serving.batching import Previews
from containers.serving.delivery import file_format
from containers.serving.errors import ApiError, too_late
from containers.serving.making import ClientLeftError, Maker, Order, headers, in_clients_terms
from containers.serving.schema import Given, PictureRequest

# What events are called after: OpenAI's words.
GENERATION: Final = "image_generation"
EDIT: Final = "image_edit"


def stream(
    maker: Maker, body: PictureRequest, request: Request, subject: str, given: Given | None = None
) -> StreamingResponse:
    """The answer to a request with `stream`.

    Raises:
        ApiError: whatever keeps the picture from being queued; what fails later is an event.
    """
    previews: asyncio.Queue[Image | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def show(image: Image) -> None:
        loop.call_soon_threadsafe(previews.put_nowait, image)

    def spread(steps: int) -> Previews:
        return Previews(preview_steps(steps, body.partial_images or 0), show)

    try:
        _check_is_one(body)
        order = maker.take(body, request, given, spread)
    except Exception as error:
        raise maker.failed(error) from error
    events = _events(maker, order, previews, subject)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers(order, set()))


def preview_steps(steps: int, count: int) -> frozenset[int]:
    """After which of so many steps a picture is shown: evenly spread, before the last."""
    return frozenset(steps * number // (count + 1) for number in range(1, count + 1)) - {0}


def _check_is_one(body: PictureRequest) -> None:
    if (body.n or 1) > 1:
        raise ApiError(400, f"n: {body.n}; valid with stream: 1", param="n", code="limit_exceeded")


async def _events(
    maker: Maker, order: Order, previews: "asyncio.Queue[Image | None]", subject: str
) -> AsyncIterator[str]:
    finishing = asyncio.ensure_future(_finished_in_time(maker, order))
    finishing.add_done_callback(lambda _: previews.put_nowait(None))
    shown = 0
    try:
        while (image := await previews.get()) is not None:
            yield await _picture(maker, order, image, f"{subject}.partial_image", shown)
            shown += 1
        yield await _picture(maker, order, finishing.result(), f"{subject}.completed")
        maker.engine.telemetry.answered(200)
    except (asyncio.CancelledError, GeneratorExit):
        maker.failed(ClientLeftError())
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        maker.failed(error)
        yield _event({"type": "error", **in_clients_terms(error).body})
    finally:
        finishing.cancel()
        order.cancel()


async def _finished_in_time(maker: Maker, order: Order) -> Image:
    try:
        async with asyncio.timeout(order.seconds_left):
            _, made = await maker.finished(order, order.jobs[0])
    except TimeoutError:
        raise too_late() from None
    return made.image


async def _picture(maker: Maker, order: Order, image: Image, kind: str, index: int | None = None) -> str:
    file = await asyncio.to_thread(maker.delivery.encoded, image, order.jobs[0].picture, order.body)
    event: dict[str, Any] = {
        "type": kind,
        "b64_json": base64.b64encode(file).decode("ascii"),
        "created_at": int(time.time()),
        "size": order.size,
        "quality": "auto",
        "background": "opaque",
        "output_format": file_format(order.body),
    }
    if index is None:
        return _event(event | {"seed": order.jobs[0].picture.seed, "usage": _NO_TOKENS})
    return _event(event | {"partial_image_index": index})


# A diffusion model counts none; clients want the field.
_NO_TOKENS: Final = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}


def _event(data: dict[str, Any]) -> str:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"
