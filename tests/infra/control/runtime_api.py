"""AWS Lambda's side of its Runtime API, on localhost: hands a runtime one event after the other.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self

VERSION: Final = "/2018-06-01/runtime"
ARN: Final = "arn:aws:lambda:us-east-1:123456789012:function:fulcrum-tick"
PATIENCE_SECONDS: Final = 60.0  # for a machine under load; nothing waits for it where all is well


class FunctionError(Exception):
    """The function, or its initialization, failed; the message is what it told Lambda."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a runtime that was killed while it waited for an event."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class LambdaProcess:
    """A function under awslambdaric in a process of its own, as Lambda runs it; use it as a context manager.

    `folder` is the unpacked asset, `handler` its dotted name, `environ` what the function finds in its
    environment.
    """

    def __init__(self, folder: Path, handler: str, environ: Mapping[str, str]) -> None:
        self._events: Queue[bytes] = Queue()
        self._answers: Queue[tuple[str, bytes]] = Queue()
        self._server = _Server(("127.0.0.1", 0), self._endpoint())
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        # A pipe that nobody empties would stop the process.
        self._logs = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the process
        self._command = [sys.executable, "-m", "awslambdaric", handler]
        self._folder = folder
        self._environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **environ,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "fulcrum",
            "LAMBDA_TASK_ROOT": str(folder),
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._environ,
            stdout=self._logs,
            stderr=self._logs,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._logs.close()
        self._events.put(b"")  # lets the waiting request end
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def invoke(self, event: Mapping[str, Any]) -> tuple[Any, float]:
        """Hand over an event; what the function returns, and the seconds from the one to the other.

        Raises:
            FunctionError: the function raised, could not be imported, or does not answer.
        """
        begun = time.perf_counter()
        self._events.put(json.dumps(event).encode())
        kind, body = self._answer()
        if kind != "response":
            raise FunctionError(body.decode())
        return json.loads(body), time.perf_counter() - begun

    def _answer(self) -> tuple[str, bytes]:
        """The next answer, while there is a process that may give one."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up and self._process.poll() is None:
            try:
                return self._answers.get(timeout=1.0)
            except Empty:
                continue
        if not self._answers.empty():
            return self._answers.get()
        self._logs.seek(0)
        raise FunctionError(f"no answer; exit code {self._process.poll()}; {self._logs.read().decode()}")

    def peak_memory_mib(self) -> float:
        """The most memory that the process has held so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024

    def _endpoint(self) -> type[BaseHTTPRequestHandler]:
        events, answers = self._events, self._answers

        class Endpoint(BaseHTTPRequestHandler):
            """Answers one runtime."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # head and body leave in one packet

            def do_GET(self) -> None:
                """Wait for the next event and hand it over."""
                assert self.path == f"{VERSION}/invocation/next"
                body = events.get()
                deadline = str(int(time.time() * 1000) + 30_000)
                self._send(
                    200,
                    body,
                    {
                        "Content-Type": "application/json",
                        "Lambda-Runtime-Aws-Request-Id": "request",
                        "Lambda-Runtime-Deadline-Ms": deadline,
                        "Lambda-Runtime-Invoked-Function-Arn": ARN,
                    },
                )

            def do_POST(self) -> None:
                """Take what the runtime tells: a response, or an error of the function or of its start."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answers.put((self.path.rpartition("/")[2], body))
                self._send(202, b"{}", {})

            def log_message(self, *_: object) -> None:
                """Log nothing."""

            def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        return Endpoint
