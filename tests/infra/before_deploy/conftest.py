"""What several of the preflight's tests ask."""

from collections.abc import Iterator
from http.server import HTTPServer
from threading import Thread

import pytest

from tests.infra.before_deploy.fake_hub import Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub that has no model yet, in place of the real one."""
    Hub.statuses, Hub.asked = {}, []
    server = HTTPServer(("127.0.0.1", 0), Hub)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()
