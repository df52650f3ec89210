"""OpenAI's other two ways to make pictures: edits of a given one, with or without a mask, and variations."""

from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from containers.serving import uploads
from containers.serving.documents import PICTURE_RESPONSES, form_of
from containers.serving.errors import ApiError
from containers.serving.making import Maker
from containers.serving.schema import EditRequest, ImageResponse
from containers.serving.streaming import EDIT, stream

EDITS_PATH: Final = "/v1/images/edits"
VARIATIONS_PATH: Final = "/v1/images/variations"
# How clients name the picture: alone, or as a list.
_IMAGE_NAMES: Final = ("image", "image[]")


def add_edits(app: FastAPI, maker: Maker) -> None:
    """Serve both paths; where the pipeline can't do it, they answer 400."""

    @app.post(
        EDITS_PATH,
        response_model=ImageResponse,
        responses=PICTURE_RESPONSES,
        openapi_extra=form_of(EditRequest, required=("image", "prompt"), files=("image", "mask")),
    )
    async def edits(request: Request) -> Response:
        """Make a picture from another, everywhere or where a mask is transparent."""
        return await _edited(maker, request, is_variation=False)

    @app.post(
        VARIATIONS_PATH,
        response_model=ImageResponse,
        responses=PICTURE_RESPONSES,
        openapi_extra=form_of(EditRequest, required=("image",), files=("image",)),
    )
    async def variations(request: Request) -> Response:
        """Make a picture like another."""
        return await _edited(maker, request, is_variation=True)


async def _edited(maker: Maker, request: Request, *, is_variation: bool) -> Response:
    async with request.form(max_files=4, max_fields=40) as form:
        body = _fields(form)
        if not body.prompt and not is_variation:
            raise ApiError(400, "prompt: missing", param="prompt", code="invalid_request")
        mask = None if is_variation else form.get("mask")
        served = maker.engine.served
        given = await uploads.given(
            _image(form),
            mask if isinstance(mask, UploadFile) else None,
            body.shape(maker.settings, served),
            served,
        )
    if body.stream:
        return stream(maker, body, request, EDIT, given)
    answer, headers = await maker.make(body, request, given)
    return JSONResponse(answer.model_dump(exclude_none=True), headers=dict(headers))


def _fields(form: FormData) -> EditRequest:
    given: dict[str, Any] = {
        name: value for name, value in form.items() if isinstance(value, str) and name not in _IMAGE_NAMES
    }
    try:
        return EditRequest.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def _image(form: FormData) -> UploadFile:
    images = [value for name in _IMAGE_NAMES for value in form.getlist(name) if isinstance(value, UploadFile)]
    if len(images) != 1:
        raise ApiError(400, f"image: {len(images)} files; valid: one", param="image", code="invalid_image")
    return images[0]
