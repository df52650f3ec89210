"""Requests for pictures, as tests send them, and what the server counted of them."""

import json
import threading
from typing import Any, Final

import httpx2

from containers.serving.backends.protocol import ignore_step
from tests.containers.serving.fake_backend import FakeBackend

PATH: Final = "/v1/images/generations"


def ask(client: httpx2.Client, **body: Any) -> httpx2.Response:
    """Ask for a picture."""
    return client.post(PATH, json={"prompt": "a cat", **body})


def raw(body: dict[str, Any]) -> bytes:
    """A request for pictures as it goes over the wire."""
    content = json.dumps(body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def counted(client: httpx2.Client, sample: str) -> float:
    """The value of one sample at /metrics; 0 where there is none."""
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{sample} ")), 0.0)


def backend_is_faster_in_batches(backend: FakeBackend) -> None:
    """Let every call take the same short time, however many pictures it makes."""
    generate = backend.generate
    pause = threading.Event()

    def generate_slowly(pictures: Any, on_step: Any = ignore_step) -> Any:
        pause.wait(0.02)
        return generate(pictures, on_step)

    backend.generate = generate_slowly  # type: ignore[method-assign]
