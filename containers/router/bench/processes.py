"""The processes of a measurement, and the ports between them."""

import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from containers.router.bench import pod
from containers.serving.server_process import Server, running

PATIENCE_SECONDS: Final = 60.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def urls(ports: Sequence[int]) -> list[str]:
    """The addresses at these ports of this machine."""
    return [f"http://127.0.0.1:{port}" for port in ports]


def pods(ports: Sequence[int], service_seconds: float, answer_bytes: int) -> AbstractContextManager[Server]:
    """One process that serves a pod at each of these ports."""
    command = pod.command(ports, service_seconds, answer_bytes)
    return running(command, urls(ports)[-1], timeout_seconds=PATIENCE_SECONDS)


def router(units: Mapping[str, Sequence[int]], service_seconds: float) -> AbstractContextManager[Server]:
    """The router over pods at these ports, by unit."""
    (port,) = free_ports(1)
    profile = {"service_seconds": service_seconds}
    fleet = {
        "objective": {"latency_seconds": 2.0},
        "units": [{"name": unit, "profile": profile} for unit in units],
    }
    environment = {
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "FLEET_JSON": json.dumps(fleet),
        "ENDPOINTS": ",".join(f"{unit}={url}" for unit, ports in units.items() for url in urls(ports)),
        "AWS_REGION": "",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "containers.router"]
    return running(
        command, f"http://127.0.0.1:{port}", timeout_seconds=PATIENCE_SECONDS, environment=environment
    )


def processor_seconds(server: Server) -> float:
    """The processor time that the server's main thread has had so far; Linux tells it in nanoseconds."""
    return int(Path(f"/proc/{server.process.pid}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def haproxy(ports: Sequence[int], folder: Path) -> Iterator[Server]:
    """The peer over the same pods: least connections first, connections kept, one thread."""
    (port,) = free_ports(1)
    servers = [f"  server pod{number} 127.0.0.1:{one}" for number, one in enumerate(ports)]
    file = folder / "haproxy.cfg"
    file.write_text("\n".join([_HAPROXY.format(port=port), *servers, ""]), "utf-8")
    command = ["haproxy", "-db", "-q", "-f", str(file)]
    with running(command, f"http://127.0.0.1:{port}", timeout_seconds=PATIENCE_SECONDS) as server:
        yield server


_HAPROXY: Final = """global
  maxconn 4096
  nbthread 1
defaults
  mode http
  timeout connect 1s
  timeout client 120s
  timeout server 120s
  option http-keep-alive
  http-reuse always
frontend front
  bind 127.0.0.1:{port}
  default_backend pods
backend pods
  balance leastconn"""
