"""A stand-in for the load balancer: it follows the rule that the loop wrote, to real servers."""

import random
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TIMEOUT_SECONDS = 120.0


class Balancer(ThreadingHTTPServer):
    """Sends each request to one of `servers` (target group's ARN to address), by the weights of the rule."""

    daemon_threads = True

    def __init__(self, elbv2: Any, listener_arn: str, servers: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._elbv2 = elbv2
        self._listener_arn = listener_arn
        self._servers = servers
        self._random = random.Random(1)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def chosen(self) -> str | None:
        """The address of the next request; None while there is no rule, or none with weight."""
        rules = self._elbv2.describe_rules(ListenerArn=self._listener_arn)["Rules"]
        groups = [
            group
            for rule in rules
            if rule["Priority"] == "1"
            for group in rule["Actions"][0]["ForwardConfig"]["TargetGroups"]
            if group["Weight"]
        ]
        if not groups:
            return None
        weights = [group["Weight"] for group in groups]
        (group,) = self._random.choices(groups, weights)
        return self._servers[group["TargetGroupArn"]]


class _Handler(BaseHTTPRequestHandler):
    server: Balancer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = self.server.chosen()
        if url is None:
            self._answer(503, b'{"error": "no unit has capacity; try again"}')
            return
        request = urllib.request.Request(url + self.path, body, {"Content-Type": "application/json"})  # noqa: S310 - a server of the test's
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - the same
                self._answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            with error:
                self._answer(error.code, error.read())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@contextmanager
def balancing(balancer: Balancer) -> Iterator[Balancer]:
    """The balancer, answering while the context is open."""
    thread = threading.Thread(target=balancer.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield balancer
    finally:
        balancer.shutdown()
        thread.join()
        balancer.server_close()
