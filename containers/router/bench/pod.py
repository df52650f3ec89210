"""Stand-ins for serving pods: each takes a fixed time for a query, and says how long it really took.

A thread for each connection, because threads sleep to within a tenth of a millisecond: an event loop's timers
are whole milliseconds, so that answers of different pods would leave together.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

# How long the pod itself had the query, its delays included: what a proxy adds is the rest.
POD_SECONDS: Final = "X-Pod-Seconds"


class Pod(ThreadingHTTPServer):
    """A pod that answers a query after `service_seconds` with about `answer_bytes` of JSON."""

    request_queue_size = 1024

    def __init__(self, port: int, service_seconds: float, answer_bytes: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.service_seconds = service_seconds
        self.answer = json.dumps({"created": 0, "data": [{"b64_json": "A" * answer_bytes}]}).encode()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that its other end cut is no error of the pod's."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Pod
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet

    def do_GET(self) -> None:
        """Health."""
        self._answer(b'{"status": "ok"}', {})

    def do_POST(self) -> None:
        """A query."""
        began = time.perf_counter()
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.service_seconds)
        self._answer(self.server.answer, {POD_SECONDS: f"{time.perf_counter() - began:.6f}"})

    def _answer(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        always = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        for name, value in (always | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No line for each query."""


def serve(ports: Sequence[int], service_seconds: float, answer_bytes: int) -> None:
    """Serve one pod on each port of this machine, until the process is ended."""
    for port in ports:
        pod = Pod(port, service_seconds, answer_bytes)
        threading.Thread(target=pod.serve_forever).start()


def command(ports: Sequence[int], service_seconds: float, answer_bytes: int) -> list[str]:
    """The command that serves these pods in a process of its own."""
    options = [*map(str, ports), "--seconds", str(service_seconds), "--answer-bytes", str(answer_bytes)]
    return [sys.executable, "-m", "containers.router.bench.pod", *options]


def main() -> None:
    """Serve pods as the command line says."""
    parser = argparse.ArgumentParser(description="Stand-ins for serving pods, one on each port.")
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, required=True, help="how long a query takes")
    parser.add_argument("--answer-bytes", type=int, required=True, help="how long the answer is")
    given = parser.parse_args()
    serve(given.ports, given.seconds, given.answer_bytes)


if __name__ == "__main__":
    main()
