"""A stand-in server: one request at a time, a known service time, and 503 after so many requests.

`python stand_in.py PORT SERVICE_SECONDS ANSWERED` answers the image API's path with an empty picture.
"""

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

device = threading.Lock()
answered = 0


class Handler(BaseHTTPRequestHandler):
    """Ready at once; a generation holds the one device for its service time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer the readiness probe."""
        self._answer(200)

    def do_POST(self) -> None:
        """Hold the device for the service time, or refuse."""
        global answered  # noqa: PLW0603 - the handler is made anew for every connection
        self.rfile.read(int(self.headers["Content-Length"]))
        with device:
            if answered >= int(sys.argv[3]):
                self._answer(503)
                return
            answered += 1
            time.sleep(float(sys.argv[2]))
        self._answer(200)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep quiet."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
