import asyncio
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from containers.router.bench import __main__ as command
from containers.router.bench import failures, overhead
from containers.router.bench.load import Client, Outcome, poisson_load
from containers.router.bench.overhead import DIRECT, HAPROXY, ROUTER, Route
from containers.router.bench.pod import Pod
from containers.router.bench.processes import free_ports, urls

SERVICE_SECONDS = 0.02
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


class CountingPod(Pod):
    """A stand-in for a pod that counts its connections."""

    connections = 0

    def get_request(self) -> tuple[socket.socket, object]:
        """The next connection."""
        self.connections += 1
        return super().get_request()


@contextmanager
def serving() -> Iterator[CountingPod]:
    """A stand-in for a pod on a port of this process."""
    with CountingPod(0, SERVICE_SECONDS, 1000) as pod:
        threading.Thread(target=pod.serve_forever).start()
        try:
            yield pod
        finally:
            pod.shutdown()


def url_of(pod: Pod) -> str:
    """Where it is."""
    return f"http://127.0.0.1:{pod.server_port}"


def asked(url: str) -> Outcome:
    """What becomes of one query."""

    async def ask() -> Outcome:
        client = Client(30)
        try:
            return await client.ask(url)
        finally:
            client.close()

    return asyncio.run(ask())


def test_a_pod_tells_for_how_long_it_had_the_query() -> None:
    """So that what remains of the client's seconds is the way there and back."""
    with serving() as pod:
        outcome = asked(url_of(pod))
    assert outcome.status == 200
    assert SERVICE_SECONDS <= outcome.pod_seconds < outcome.seconds


def test_a_pod_that_is_not_there_is_no_answer() -> None:
    """Status 0."""
    (port,) = free_ports(1)
    assert asked(*urls([port])).status == 0


def test_half_an_answer_is_no_answer() -> None:
    """Status 0, even though its head said 200."""

    def cut(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(HEAD + b"half of it")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        cutting = threading.Thread(target=cut, args=[listening])
        cutting.start()
        outcome = asked(f"http://127.0.0.1:{listening.getsockname()[1]}")
        cutting.join()
    assert outcome.status == 0


def test_a_client_keeps_its_connections() -> None:
    """One query after the other needs one connection."""

    async def ask_twice(url: str) -> list[int]:
        client = Client(30)
        statuses = [(await client.ask(url)).status for _ in range(2)]
        client.close()
        return statuses

    with serving() as pod:
        assert asyncio.run(ask_twice(url_of(pod))) == [200, 200]
    assert pod.connections == 1


def test_the_load_goes_to_the_addresses_in_turn() -> None:
    """However many are still to be answered."""

    class Recorder(Client):
        def __init__(self) -> None:
            super().__init__(30)
            self.urls: list[str] = []

        async def ask(self, url: str) -> Outcome:
            self.urls.append(url)
            return Outcome(200, 0.0, 0.0)

    recorder = Recorder()
    outcomes = asyncio.run(poisson_load(recorder, ["a", "b"], rate=1000, queries=5, seed=1))
    assert recorder.urls == ["a", "b", "a", "b", "a"]
    assert len(outcomes) == 5


def route(rounds: Sequence[Sequence[float]], failed: int = 0) -> Route:
    """A way that added so many milliseconds to each query of each round, and lost some more of each."""
    outcomes = [
        [*(Outcome(200, 0.02 + one / 1000, 0.02) for one in added), *[Outcome(0, 1.0, 0.0)] * failed]
        for added in rounds
    ]
    return Route(["http://pod"], rounds=outcomes)


def test_the_overhead_is_the_difference_of_the_99th_percentiles() -> None:
    """Over all rounds, of the answered queries; the others are counted as failed."""
    direct = [[1.0] * 100, [2.0] * 100]
    router = [[4.0] * 100, [5.0] * 100]
    found = overhead.summary({DIRECT: route(direct), ROUTER: route(router, failed=1)})
    assert found["routes"][ROUTER] == {
        "queries": 202,
        "failed": 2,
        "added_ms_p50": 4.5,
        "added_ms_p99": 5.0,
        "added_ms_p999": 5.0,
        "added_ms_p99_by_round": [4.0, 5.0],
        "processor_ms": None,
    }
    assert found["over_direct_ms_p99"][ROUTER] == {
        "difference": 3.0,
        "interval_95": [3.0, 3.0],
        "is_resolved": True,
    }


def test_a_difference_that_changes_its_sign_between_rounds_is_not_resolved() -> None:
    """The harness says so, instead of a number that a second run would not give."""
    direct, haproxy = [[1.0], [3.0]] * 5, [[3.0], [1.0]] * 5
    found = overhead.summary({DIRECT: route(direct), HAPROXY: route(haproxy)})["over_direct_ms_p99"]
    assert not found[HAPROXY]["is_resolved"]


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="the peer is a Debian package")
def test_every_way_answers_every_query() -> None:
    """Direct, by haproxy and by the router, over the same pods."""
    found = overhead.measure(overhead.Setting(queries=30, rounds=1, pods=4))["routes"]
    told = {name: (one["queries"], one["failed"]) for name, one in found.items()}
    assert told == dict.fromkeys((DIRECT, HAPROXY, ROUTER), (30, 0))


def test_no_query_is_lost_while_pods_die_and_come_back() -> None:
    """None that had not begun to answer: each is sent again to another pod."""
    setting = failures.Setting(rate=50, queries=100, pods=2, kill_seconds=0.5)
    found = failures.measure(setting)
    assert found["pods_killed"] > 0
    assert (found["answered"], found["not_answered"]) == (100, {})


def test_without_haproxy_the_overhead_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In one line, with exit code 2, and before anything is measured."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert command.main(["--out", str(tmp_path), "--only", "overhead"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("haproxy is not installed; valid: its Debian package")
