"""What a client is told when a request fails, in the shape of OpenAI's API."""

import math
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException

# OpenAI's clients obey it before their own rules.
FINAL: Final = {"x-should-retry": "false"}


class ApiError(HTTPException):
    """An answer that is an error: status, message, and OpenAI's type, param and code.

    `is_final` tells OpenAI's clients, which would repeat a 5xx, that another try will not get better.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_seconds: float | None = None,
        is_final: bool = False,
    ) -> None:
        headers = (
            {}
            if retry_after_seconds is None
            else {"Retry-After": f"{max(1, math.ceil(retry_after_seconds))}"}
        )
        super().__init__(status, message, headers | (FINAL if is_final else retry_headers(status)))
        self.code = code
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body, as OpenAI's clients parse it."""
        return error_body(self.status_code, self.detail, code=self.code, param=self.param)


def retry_headers(status: int) -> dict[str, str]:
    """The request is at fault (4xx), and will be the next time; but for a body that came too slowly."""
    is_requests_fault = status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.REQUEST_TIMEOUT
    return FINAL if is_requests_fault else {}


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
