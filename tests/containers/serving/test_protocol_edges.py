"""What HTTP allows and few clients do."""

import socket

import httpx2
import pytest

from tests.containers.serving.asking import PATH


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_answers_head(client: httpx2.Client, path: str) -> None:
    """Some balancers and monitors ask without wanting a body."""
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_target_in_absolute_form_is_understood(client: httpx2.Client) -> None:
    """As a proxy writes it."""
    for target, line in (
        ("/health/live", b"HTTP/1.1 200"),
        ("/nothing", b"HTTP/1.1 404"),
        ("", b"HTTP/1.1 200"),
    ):
        with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
            raw.sendall(
                f"GET http://test{target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode()
            )
            assert raw.makefile("rb").readline().startswith(line)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_of_another_type_is_told_what_is_wrong(client: httpx2.Client, kind: str | None) -> None:
    """415 naming the header, whatever the body holds."""
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post(PATH, content=b'{"prompt": "a cat"}', headers=headers)
    assert answer.status_code == 415
    assert answer.json()["error"]["message"] == f"Content-Type: {kind or 'none'}; valid: application/json"
