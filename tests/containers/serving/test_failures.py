"""What the application makes of devices that fail, hang, and make no pictures."""

import httpx2
import pytest

from containers.serving.backends.protocol import (
    ContentRefusedError,
    DeviceError,
    DeviceOutOfMemoryError,
)
from containers.serving.engine import Engine
from containers.serving.settings import Settings
from tests.containers.serving.asking import PATH, ask, backend_is_faster_in_batches, counted
from tests.containers.serving.fake_backend import FakeBackend
from tests.containers.serving.running import application, eventually


def test_out_of_memory_fails_only_the_picture_that_does_not_fit() -> None:
    """A batch that is too large is made one by one; one that can't be made alone is told so."""
    backend = FakeBackend(batch_sizes=(1, 2))
    backend_is_faster_in_batches(backend)
    with application(Settings(steps=2), backend) as (_, client):
        backend.largest, backend.out_of_memory = 1, DeviceOutOfMemoryError("CUDA out of memory")
        assert ask(client, seed=1, n=2).status_code == 200
        backend.errors[5] = DeviceOutOfMemoryError("CUDA out of memory")
        failed = ask(client, seed=5)
        assert (failed.status_code, failed.json()["error"]["code"]) == (503, "out_of_memory")
        assert ask(client, seed=6).status_code == 200
        assert client.get("/health/ready").status_code == 200
        assert counted(client, 'fulcrum_device_errors_total{kind="out_of_memory"}') == 2


def test_a_device_error_fails_its_request_and_three_in_a_row_the_readiness(
    client: httpx2.Client, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 each; then not ready, and ready again once a probe of the device succeeds."""
    monkeypatch.setattr("containers.serving.worker.PROBE_SECONDS", 0.01)
    backend.errors.update({5: DeviceError("lost"), 0: DeviceError("lost")})  # 0: the probe's seed
    failed = [ask(client, seed=5) for _ in range(3)]
    assert [answer.status_code for answer in failed] == [500] * 3
    assert failed[0].json()["error"]["code"] == "device_error"
    assert "lost" not in failed[0].text
    eventually(lambda: client.get("/health/ready").status_code == 503)
    assert client.get("/health/live").status_code == 200
    assert ask(client, seed=6).json()["error"]["code"] == "not_ready"
    backend.errors.clear()
    eventually(lambda: client.get("/health/ready").status_code == 200)


def test_a_bug_in_the_backend_fails_the_request_and_nothing_else(
    client: httpx2.Client, backend: FakeBackend
) -> None:
    """An unforeseen exception is an answer too; the device's thread goes on."""
    backend.errors[5] = ValueError("tokenizer")
    assert ask(client, seed=5).status_code == 500
    assert ask(client, seed=6).status_code == 200


def test_a_device_that_is_always_out_of_memory_gets_no_traffic(
    client: httpx2.Client, backend: FakeBackend
) -> None:
    """Each answer is quick, so a load balancer would send it ever more; three are enough to know."""
    backend.largest, backend.out_of_memory = 0, DeviceOutOfMemoryError("CUDA out of memory")
    assert [ask(client).status_code for _ in range(3)] == [503] * 3
    eventually(lambda: client.get("/health/ready").status_code == 503)
    assert client.get("/health/live").status_code == 200


def test_a_server_that_fails_whatever_it_is_given_gets_no_traffic(
    client: httpx2.Client, backend: FakeBackend
) -> None:
    """A bug is as quick to answer as a device that is lost."""
    for seed in (0, 5):  # 0: the probe's
        backend.errors[seed] = ValueError("a bug")
    assert [ask(client, seed=5).status_code for _ in range(3)] == [500] * 3
    eventually(lambda: client.get("/health/ready").status_code == 503)


def test_three_bad_requests_do_not_take_a_good_device_away(
    client: httpx2.Client, backend: FakeBackend
) -> None:
    """A picture of nobody's decides whether it is the device or what it was given."""
    backend.errors[5] = DeviceError("index out of range")
    assert [ask(client, seed=5).status_code for _ in range(3)] == [500] * 3
    eventually(lambda: backend.seeds[-1] == [0])
    eventually(lambda: client.get("/health/ready").status_code == 200)
    assert ask(client, seed=6).status_code == 200


def test_a_device_that_hangs_is_not_ready_and_its_clients_are_answered(
    client: httpx2.Client, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their deadline; who comes later is refused at once, and a batch that ends after all is believed."""
    monkeypatch.setattr("containers.serving.worker.LEAST_ALLOWED_SECONDS", 0.01)
    backend.hold()
    late = client.post(PATH, json={"prompt": "x"}, headers={"X-Request-Timeout": "0.2"})
    assert late.status_code == 504
    eventually(lambda: client.get("/health/ready").status_code == 503)
    assert "overdue" in client.get("/health/ready").json()["status"]
    assert ask(client).json()["error"]["code"] == "not_ready"
    backend.release()
    eventually(lambda: client.get("/health/ready").status_code == 200)


def test_a_picture_of_one_colour_is_no_answer(client: httpx2.Client, backend: FakeBackend) -> None:
    """500, as for any device that fails: numbers that are not finite come out black."""
    backend.blank.add(5)
    assert (ask(client, seed=5).status_code, ask(client, seed=6).status_code) == (500, 200)
    assert counted(client, 'fulcrum_device_errors_total{kind="invalid_picture"}') == 1


def test_a_device_that_makes_no_pictures_never_becomes_ready(settings: Settings) -> None:
    """Warm-up looks at what it made."""
    backend = FakeBackend()
    backend.blank.add(0)
    engine = Engine(settings, lambda: backend)
    engine.start()
    eventually(lambda: engine.health.not_live)
    assert "a single colour" in engine.health.not_ready


def test_what_the_safety_checker_refuses_is_an_error_that_says_so(
    client: httpx2.Client, backend: FakeBackend
) -> None:
    """OpenAI's code, 400, and the device is well."""
    backend.errors[5] = ContentRefusedError("nsfw")
    answers = [ask(client, seed=5) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [400] * 4
    assert answers[0].json()["error"]["code"] == "content_policy_violation"
    assert client.get("/health/ready").status_code == 200
