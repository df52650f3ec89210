"""What every test can rely on: no account, no foreign host, the same examples on every run."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

LOCAL_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

# Derandomized: the same examples on every run. `--hypothesis-profile bench` searches widely instead.
settings.register_profile(
    "suite",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],  # says nothing about the code on a busy machine
)
settings.register_profile(
    "bench", parent=settings.get_profile("suite"), derandomize=False, max_examples=10_000
)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _no_account() -> Iterator[None]:
    """Credentials that open nothing, so that no test can reach a real account."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_foreign_host() -> Iterator[None]:
    """Connections beyond this machine are refused at once, with the address."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in LOCAL_HOSTS:
            raise ConnectionRefusedError(f"tests reach nothing beyond localhost, yet one tried {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_locally)
        yield
