"""A server as a child process: started, awaited until it is ready, and ended as Kubernetes ends it."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

import httpx2

READY_PATH: Final = "/health/ready"
POLL_SECONDS: Final = 0.02
STANDARD_ERROR: Final = 2
# terminationGracePeriodSeconds of the pods.
GRACE_SECONDS: Final = 90.0


class ServerError(RuntimeError):
    """A server that did not start, or did not become ready in time."""


@dataclass(frozen=True, slots=True)
class Server:
    """A ready server: its process, its address, and the seconds from its start until it was ready."""

    process: "subprocess.Popen[bytes]"
    url: str
    start_seconds: float


@contextmanager
def running(
    command: Sequence[str],
    url: str,
    *,
    ready_path: str = READY_PATH,
    timeout_seconds: float,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> Iterator[Server]:
    """Start `command`, wait until `url` is ready, end it with SIGTERM.

    What it writes goes to `output`, or to standard error.

    Raises:
        ServerError: it could not be started, ended by itself, or was not ready within `timeout_seconds`.
    """
    began = time.monotonic()
    try:
        # The caller names the command: measuring what it starts is this function's purpose.
        process = subprocess.Popen(  # noqa: S603
            command,
            env={**os.environ, **(environment or {})},
            stdout=output or STANDARD_ERROR,
            stderr=output,
        )
    except OSError as error:
        raise ServerError(f"{command[0]}: {error.strerror}") from error
    try:
        _wait_until_ready(process, url + ready_path, began + timeout_seconds)
        yield Server(process, url, time.monotonic() - began)
    finally:
        _end(process)


def _wait_until_ready(process: "subprocess.Popen[bytes]", ready_url: str, deadline: float) -> None:
    with httpx2.Client(timeout=1.0) as client:
        while not _is_ready(client, ready_url):
            if process.poll() is not None:
                raise ServerError(f"the server ended with exit code {process.returncode} before it was ready")
            if time.monotonic() > deadline:
                raise ServerError(f"the server was not ready in time: {ready_url} gave no 200")
            time.sleep(POLL_SECONDS)


def _is_ready(client: httpx2.Client, ready_url: str) -> bool:
    try:
        return client.get(ready_url).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end; kill it when it outlasts the grace period."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
