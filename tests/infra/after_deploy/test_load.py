"""Load on a fleet: bounded, and honest about what could not be sent or was not answered."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from infra.after_deploy.load import NO_ANSWER, PoissonLoad, request_picture

MANY = 60_000.0  # requests a minute: a thousand a second


def test_every_request_that_was_due_is_told_of() -> None:
    """In the order in which they were due."""
    sent = threading.Event()

    def send() -> int:
        sent.set()
        return 200

    load = PoissonLoad(send)
    load.begin(MANY)
    assert sent.wait(30)
    answers = load.end()
    assert answers
    assert {answer.status for answer in answers} == {200}
    assert [answer.at for answer in answers] == sorted(answer.at for answer in answers)


def test_what_is_due_while_too_many_are_on_their_way_is_lost() -> None:
    """It is not sent later: users would not wait for it either."""
    lost, let_go = threading.Event(), threading.Event()

    class Noticing(list[object]):
        """Tells when the first answer came in, which is a lost one while the only slot is taken."""

        def append(self, answer: object) -> None:
            super().append(answer)
            lost.set()

    def send() -> int:
        let_go.wait(30)
        return 200

    load = PoissonLoad(send, most_in_flight=1)
    load._answers = Noticing()  # type: ignore[assignment]  # noqa: SLF001 - it is where answers appear
    load.begin(MANY)
    assert lost.wait(30)
    let_go.set()
    answers = load.end()
    assert any(answer.status == NO_ANSWER and answer.lost for answer in answers)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 200 if body.get("steps") == 1 else 503
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b'{"pool": "g5-eager-spot"}' if status == 200 else b"<html>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """Makes pictures of one step, and is busy otherwise."""
    made = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_a_picture_is_asked_for_over_http(server: ThreadingHTTPServer) -> None:
    """Status and body as they come; nobody there is no answer."""
    url = f"http://127.0.0.1:{server.server_port}"
    assert request_picture(url, steps=1).body == {"pool": "g5-eager-spot"}
    busy = request_picture(url)
    assert (busy.status, busy.body) == (503, {})
    assert request_picture("http://127.0.0.1:9").status == NO_ANSWER
