"""Servers for tests: the application around a fake device in a thread, and the real one as a process."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
import uvicorn

from containers.serving.app import create_app
from containers.serving.backends.protocol import Backend
from containers.serving.engine import Engine
from containers.serving.impatience import ImpatientProtocol
from containers.serving.settings import Settings

PATIENCE_SECONDS = 120.0  # until a condition must hold on the busiest machine; nothing is asserted about it


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up, "a condition never came to hold"
        time.sleep(0.01)


@contextmanager
def application(
    settings: Settings, backend: Backend, *, is_awaited: bool = True
) -> Iterator[tuple[Engine, httpx2.Client]]:
    """The application on a port of this process, and a client for it; unless `is_awaited` is false, ready."""
    engine = Engine(settings, lambda: backend)
    # Named as TCP, else asyncio leaves Nagle's delay on.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            create_app(engine), http=ImpatientProtocol, log_config=None, timeout_graceful_shutdown=30
        )
        server = uvicorn.Server(config)
        # A daemon: a server that does not end fails its test and does not keep the process from ending.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx2.Client(base_url=url, timeout=60) as client:
                eventually(lambda: server.started and not (is_awaited and engine.health.is_preparing))
                yield engine, client
        finally:
            server.should_exit = True
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), "the server does not end"


@contextmanager
def process(
    log: Path, module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """`python -m module` in a process of its own; what it says goes to the file `log`.

    It is ended as Kubernetes ends it, and has to leave with exit code 0.
    """
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=variables, stdout=output, stderr=output
        )
        try:
            yield server
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE_SECONDS) == 0, log.read_text("utf-8")


def is_ready(url: str) -> bool:
    """Whether the server says that it is ready."""
    try:
        return httpx2.get(f"{url}/health/ready", timeout=5).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False
