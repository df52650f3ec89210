"""What a client is told when the router itself answers, in the shape of OpenAI's API."""

import json
import math
from typing import Final

from aiohttp import web

SERVER_ERROR: Final = 500


class ApiError(Exception):
    """An answer that is an error: status, message, and OpenAI's param and code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self._param = param
        self._retry_after_seconds = retry_after_seconds

    def response(self) -> web.Response:
        """The answer, with Retry-After where it is known when to come back."""
        headers = {}
        if self._retry_after_seconds is not None:
            headers["Retry-After"] = f"{max(1, math.ceil(self._retry_after_seconds))}"
        kind = "server_error" if self.status >= SERVER_ERROR else "invalid_request_error"
        error = {"message": str(self), "type": kind, "param": self._param, "code": self.code}
        return web.Response(
            status=self.status,
            text=json.dumps({"error": error}),
            content_type="application/json",
            headers=headers,
        )


class RefusedError(ApiError):
    """A refusal for now, of a query that reached no pod: 503 with Retry-After."""

    def __init__(self, message: str, retry_after_seconds: float, code: str = "overloaded") -> None:
        super().__init__(503, message, code=code, retry_after_seconds=retry_after_seconds)
