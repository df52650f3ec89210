import base64
import io
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest
from PIL import Image

from containers.serving.engine import Engine
from containers.serving.server import make_server
from containers.serving.settings import Settings
from tests.containers.serving.fake_backend import FakeBackend
from tests.containers.serving.fake_server import HANG
from tests.containers.serving.running import eventually, free_port, is_ready, process

# The load balancer's idle timeout, which the server's must outlive.
LOAD_BALANCER_IDLE_SECONDS = 120
CLIENTS = 3


def picture(encoded: str | None) -> Image.Image:
    """The picture of an answer."""
    return Image.open(io.BytesIO(base64.b64decode(encoded or "")))


def ended(environment: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A server that does not get to serving."""
    return subprocess.run(
        [sys.executable, "-m", "containers.serving", *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_official_client_works_unchanged(server_url: str) -> None:
    """OpenAI's own Python client makes pictures; what goes beyond its API goes into extra_body."""
    client = openai.OpenAI(base_url=f"{server_url}/v1", api_key="unused", max_retries=0)
    assert [model.id for model in client.models.list()] == ["tiny"]
    answer = client.images.generate(
        model="tiny", prompt="a lighthouse", n=2, response_format="b64_json", user="u", extra_body={"seed": 4}
    )
    assert answer.data is not None
    first, second = (picture(data.b64_json) for data in answer.data)
    assert first.info == {"model": "tiny", "seed": "4", "steps": "1", "pool": "cpu-pool"}
    assert second.info["seed"] == "5"
    assert first.tobytes() != second.tobytes()


def test_the_official_client_understands_a_refusal(server_url: str) -> None:
    """Errors become the client's own exceptions, with param and code."""
    client = openai.OpenAI(base_url=f"{server_url}/v1", api_key="unused", max_retries=0)
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a lighthouse", size="1024x1024")
    assert refused.value.param == "size"
    assert refused.value.code == "invalid_size"


def test_a_browsers_form_gets_the_picture_that_the_api_gives(server_url: str) -> None:
    """The same prompt and seed: the same file, bit for bit."""
    body = {"prompt": "a lighthouse", "seed": 9}
    encoded = httpx2.post(f"{server_url}/v1/images/generations", json=body, timeout=60).json()["data"][0]
    page = httpx2.post(server_url, data={"prompt": "a lighthouse", "seed": "9"}, timeout=60).text
    assert encoded["b64_json"] in page
    assert "made by pool <b>cpu-pool</b>" in page


def test_told_to_stop_under_load_it_loses_nothing(tmp_path: Path) -> None:
    """Not ready at once; whatever was sent before that was seen is answered with 200; then exit code 0."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path / "log"
    not_ready = threading.Event()
    statuses: list[int] = []

    def send_while_ready() -> None:
        while not not_ready.is_set():
            answer = httpx2.post(f"{url}/v1/images/generations", json={"prompt": "x"}, timeout=60)
            statuses.append(answer.status_code)

    with (
        process(log, "tests.containers.serving.fake_server", str(port)) as server,
        ThreadPoolExecutor() as clients,
    ):
        eventually(lambda: is_ready(url))
        sending = [clients.submit(send_while_ready) for _ in range(CLIENTS)]
        eventually(lambda: len(statuses) >= 2 * CLIENTS)
        server.send_signal(signal.SIGTERM)
        eventually(lambda: not is_ready(url))
        assert httpx2.get(f"{url}/health/live").status_code == 200
        not_ready.set()
        for one in sending:
            one.result()
        assert set(statuses) == {200}
        assert server.wait(60) == 0, log.read_text("utf-8")


def test_a_device_that_hangs_for_ever_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Its client is answered by the deadline, readiness goes, and told to stop the process still leaves."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(tmp_path / "log", "tests.containers.serving.fake_server", str(port)):
        eventually(lambda: is_ready(url))
        late = httpx2.post(
            f"{url}/v1/images/generations",
            json={"prompt": HANG},
            headers={"X-Request-Timeout": "0.5"},
            timeout=60,
        )
        assert late.status_code == 504
        eventually(lambda: not is_ready(url))


def test_a_wrong_setting_ends_it_at_once_with_one_line() -> None:
    """Exit code 2, before anything is loaded."""
    told = ended({"BACKEND": "tpu"})
    assert told.returncode == 2
    assert told.stderr == (
        "python -m containers.serving: environment: BACKEND: 'tpu'; "
        "Input should be 'cpu', 'cuda', 'inductor' or 'neuron'\n"
    )
    assert ended({}, "--port", "x").returncode == 2


def test_a_model_that_is_not_there_ends_it_with_one_line(tmp_path: Path) -> None:
    """Exit code 2; the log has no traceback, nothing is wrong with the program."""
    told = ended({"MODEL": str(tmp_path / "nothing"), "PORT": "0", "CACHE_DIRECTORY": str(tmp_path)})
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1].startswith("python -m containers.serving: environment: MODEL: ")
    assert "Traceback" not in told.stderr


def test_help_and_settings_do_not_wait_for_torch() -> None:
    """What takes seconds to import is imported by who uses it."""
    code = (
        "import sys, containers.serving.__main__; sys.exit(not {'torch', 'fastapi'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_idle_connections_outlive_the_load_balancers(settings: Settings) -> None:
    """Else it would send a request into a connection that the server has just closed: a 502."""
    engine = Engine(settings, FakeBackend)
    assert make_server(settings, None, engine).config.timeout_keep_alive > LOAD_BALANCER_IDLE_SECONDS
