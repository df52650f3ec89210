"""One tiny pipeline, one application around a fake device, and one real server for all tests."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from containers.serving.engine import Engine
from containers.serving.settings import Settings
from tests.containers.serving.fake_backend import FakeBackend
from tests.containers.serving.running import application, eventually, free_port, is_ready, process


@pytest.fixture(scope="session")
def serving_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory that keeps the tiny pipeline for the session."""
    return tmp_path_factory.mktemp("serving-cache")


@pytest.fixture
def backend() -> FakeBackend:
    """A device that makes up to four pictures at once."""
    return FakeBackend()


@pytest.fixture
def settings() -> Settings:
    """Settings of a test's application."""
    return Settings(model="test-model", pool="test-pool", steps=2, max_queue=4)


@pytest.fixture
def served(settings: Settings, backend: FakeBackend) -> Iterator[tuple[Engine, httpx2.Client]]:
    """The application around the fake device, and a client for it."""
    with application(settings, backend) as running:
        yield running


@pytest.fixture
def client(served: tuple[Engine, httpx2.Client]) -> httpx2.Client:
    """A client of the application."""
    return served[1]


@pytest.fixture
def engine(served: tuple[Engine, httpx2.Client]) -> Engine:
    """The engine of the application."""
    return served[0]


@pytest.fixture(scope="session")
def server_url(serving_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server with the tiny pipeline on the CPU, ready."""
    log = tmp_path_factory.mktemp("server") / "log"
    environment = {
        "STEPS": "1",
        "MAX_BATCH": "2",
        "POOL": "cpu-pool",
        "CACHE_DIRECTORY": str(serving_cache),
    }
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(log, "containers.serving", "--port", str(port), environment=environment) as server:
        eventually(lambda: server.poll() is not None or is_ready(url))
        assert server.poll() is None, log.read_text("utf-8")
        yield url
