"""What a client is told when a request fails, in the shape of OpenAI's API."""

import math
from typing import Any

from starlette.exceptions import HTTPException


class ApiError(HTTPException):
    """An answer that is an error: status, message, and OpenAI's type, param and code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        headers = (
            None
            if retry_after_seconds is None
            else {"Retry-After": f"{max(1, math.ceil(retry_after_seconds))}"}
        )
        super().__init__(status, message, headers)
        self.code = code
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body, as OpenAI's clients parse it."""
        return error_body(self.status_code, self.detail, code=self.code, param=self.param)


def error_body(status: int, message: str, *, code: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004 - HTTP's line
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def too_late() -> ApiError:
    """The deadline passed before the picture was made: 504, since something was tried."""
    return ApiError(504, "the deadline passed before the picture was made", code="deadline_exceeded")


def overloaded(message: str, retry_after_seconds: float, code: str = "overloaded") -> ApiError:
    """A refusal for now: 503 with Retry-After."""
    return ApiError(503, message, code=code, retry_after_seconds=retry_after_seconds)
