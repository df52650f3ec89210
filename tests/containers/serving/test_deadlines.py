import socket
from concurrent.futures import ThreadPoolExecutor

import httpx2

from containers.serving.engine import Engine
from tests.containers.serving.asking import PATH, ask, counted, raw
from tests.containers.serving.fake_backend import FakeBackend
from tests.containers.serving.running import eventually


def test_a_deadline_that_passes_in_the_queue_is_told_at_once(
    client: httpx2.Client, backend: FakeBackend
) -> None:
    """504 while the device still works on what came before; it is not spent on what nobody waits for."""
    backend.hold()
    with ThreadPoolExecutor() as others:
        first = others.submit(ask, client, seed=1)
        assert backend.began.wait(60)
        late = client.post(PATH, json={"prompt": "x", "seed": 99}, headers={"X-Request-Timeout": "0.2"})
        backend.release()
        assert first.result().status_code == 200
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert [99] not in backend.seeds


def test_a_deadline_that_passes_on_the_device_frees_it_within_a_step(
    client: httpx2.Client, backend: FakeBackend
) -> None:
    """504 at once, and of the picture's many steps only the one that had begun is made."""
    backend.hold()
    late = client.post(PATH, json={"prompt": "x", "steps": 50}, headers={"X-Request-Timeout": "0.05"})
    backend.release()
    assert late.status_code == 504
    assert ask(client, steps=3).status_code == 200
    assert backend.made_steps[-2:] == [1, 3]


def test_a_client_that_leaves_frees_the_device_within_a_step(
    client: httpx2.Client, backend: FakeBackend
) -> None:
    """Its picture is of no use to anybody."""
    backend.hold()
    with socket.create_connection((client.base_url.host, client.base_url.port)) as leaving:
        leaving.sendall(raw({"prompt": "x", "steps": 50}))
        assert backend.began.wait(60)
    eventually(lambda: counted(client, 'fulcrum_requests_total{status="499"}') == 1)
    backend.release()
    assert ask(client, steps=3).status_code == 200
    assert backend.made_steps[-2:] == [1, 3]


def test_a_client_that_leaves_takes_its_waiting_pictures_with_it(
    client: httpx2.Client, backend: FakeBackend, engine: Engine
) -> None:
    """Queued work is cancelled; what is on the device is finished, and the others are answered."""
    backend.hold()
    with ThreadPoolExecutor() as others:
        first = others.submit(ask, client, seed=1)
        assert backend.began.wait(60)
        with socket.create_connection((client.base_url.host, client.base_url.port)) as leaving:
            leaving.sendall(raw({"prompt": "x", "seed": 50, "n": 3}))
            eventually(lambda: len(engine.worker.backlog().waiting) == 3)
        eventually(lambda: not engine.worker.backlog().waiting)
        backend.release()
        assert first.result().status_code == 200
    assert not any(50 in seeds for seeds in backend.seeds)
    eventually(lambda: counted(client, 'fulcrum_requests_total{status="499"}') == 1)
