"""A hub of models at a port of this machine."""

from http.server import BaseHTTPRequestHandler
from typing import ClassVar


class Hub(BaseHTTPRequestHandler):
    """Answers HEAD with the status that is set for a path, 404 for every other; keeps what was asked."""

    statuses: ClassVar[dict[str, int]] = {}
    asked: ClassVar[list[tuple[str, str]]] = []

    def do_HEAD(self) -> None:
        """One answer without a body."""
        Hub.asked.append((self.path, self.headers.get("Authorization", "")))
        self.send_response(Hub.statuses.get(self.path, 404))
        self.send_header("Location", "/file")
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the library's name
        """Nothing on standard error."""
