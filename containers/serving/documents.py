"""What the OpenAPI document says beyond what FastAPI reads off the types: errors as they are, and forms."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail


Responses = dict[int | str, dict[str, Any]]

_ERRORS: Final = {
    400: "The request is at fault; the message names what is",
    404: "No such model",
    408: "The body came too slowly",
    413: "The body is too large",
    415: "The body is of another type",
    500: "The device failed",
    503: "Not ready, or it could not be answered in time",
    504: "The deadline passed",
}
PICTURE_RESPONSES: Final[Responses] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    **{status: {"model": ErrorAnswer, "description": told} for status, told in _ERRORS.items()},
}
NOT_FOUND: Final[Responses] = {404: PICTURE_RESPONSES[404]}
NOT_WELL: Final[Responses] = {503: {"description": "Not so; `status` says why"}}


def add_document(app: FastAPI) -> None:
    """Let the document leave out FastAPI's own 422, which is never answered: bad input is 400."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change it


def form_of(model: type[BaseModel], *, required: Sequence[str], files: Sequence[str]) -> dict[str, Any]:
    """The body of a form with the model's fields and files, as an operation's part of the document."""
    schema = model.model_json_schema()
    properties = schema["properties"] | {name: {"type": "string", "format": "binary"} for name in files}
    content = {"schema": {"type": "object", "properties": properties, "required": list(required)}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}
