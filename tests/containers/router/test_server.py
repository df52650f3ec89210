import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from containers.router import server
from containers.router.bench import processes
from tests.containers.router.fake_pods import FLEET, PATH, settings
from tests.containers.serving.running import eventually, free_port, is_ready, process

SERVICE_SECONDS = 0.2


def environment(pods: list[int], port: int) -> dict[str, str]:
    """The router's environment over pods at these ports."""
    return {
        "FLEET_JSON": json.dumps(FLEET),
        "ENDPOINTS": ",".join(f"fast={url}" for url in processes.urls(pods)),
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "DRAIN_SECONDS": "0.5",
        "AWS_REGION": "",
    }


def test_sigterm_loses_nothing_and_ends_with_code_0(tmp_path: Path) -> None:
    """Told to stop with queries at every pod and in the queue, it answers them all first."""
    pods, port = processes.free_ports(2), free_port()
    url = f"http://127.0.0.1:{port}"

    def ask(_: int) -> int:
        return httpx2.post(url + PATH, json={"prompt": "a"}, timeout=60).status_code

    with ExitStack() as stack:
        stack.enter_context(processes.pods(pods, SERVICE_SECONDS, 1000))
        threads = stack.enter_context(ThreadPoolExecutor(8))
        router = stack.enter_context(
            process(tmp_path / "log", "containers.router", environment=environment(pods, port))
        )
        eventually(lambda: is_ready(url))
        asked = [threads.submit(ask, number) for number in range(8)]
        waiting = "\nfulcrum_router_waiting 6.0\n"
        eventually(lambda: waiting in httpx2.get(f"{url}/metrics").text)
        router.send_signal(signal.SIGTERM)
        eventually(lambda: not is_ready(url))
        assert [one.result() for one in asked] == [200] * 8
        assert router.wait(60) == 0


def start(**variables: str) -> "subprocess.CompletedProcess[str]":
    """The router with that environment, until it ends by itself."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    return subprocess.run(
        [sys.executable, "-m", "containers.router"],
        env={**known, "FLEET_JSON": json.dumps(FLEET), "AWS_REGION": "", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ENDPOINTS": "fast=x"}, "environment: ENDPOINTS: 'fast=x'; valid: unit=url"),
        ({"NAMESPACE": "fulcrum"}, "environment: NAMESPACE: "),
    ],
)
def test_a_wrong_environment_is_told_in_one_line_with_code_2(variables: dict[str, str], message: str) -> None:
    """Before anything listens."""
    ended = start(**variables)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"python -m containers.router: {message}")


def test_a_taken_port_is_told_in_one_line_with_code_1() -> None:
    """And the process ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = start(ENDPOINTS="fast=http://127.0.0.1:1", HOST="127.0.0.1", PORT=port)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert port in line


def test_a_router_that_can_find_no_pods_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks discovery is told, and the orchestrator starts a new process."""

    async def broken() -> None:
        raise RuntimeError("no discovery")

    monkeypatch.setattr(server, "_background", lambda *_: [broken()])
    with pytest.raises(RuntimeError, match="no discovery"):
        asyncio.run(server.serve(settings(PORT="0", HOST="127.0.0.1", DRAIN_SECONDS="0")))
