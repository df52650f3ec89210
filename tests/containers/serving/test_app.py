import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from PIL import Image

from containers.serving.backends.protocol import Served
from containers.serving.engine import Engine
from containers.serving.middleware import BODY_LIMIT_BYTES
from containers.serving.schema import LARGEST_SEED
from containers.serving.settings import Settings
from tests.containers.serving.asking import PATH, ask, backend_is_faster_in_batches, counted
from tests.containers.serving.fake_backend import SMALL, FakeBackend
from tests.containers.serving.running import application, eventually


def opened(data: dict[str, Any]) -> Image.Image:
    """The picture of one entry of an answer."""
    return Image.open(io.BytesIO(base64.b64decode(data["b64_json"])))


def test_an_answer_has_openais_shape_and_says_how_the_picture_was_made(client: httpx2.Client) -> None:
    """The PNG's text says model, seed, steps and pool, and not the prompt."""
    answer = ask(client, seed=7, steps=3).json()
    assert set(answer) == {"created", "data", "model", "pool", "size", "output_format"}
    assert (answer["model"], answer["pool"]) == ("test-model", "test-pool")
    picture = opened(answer["data"][0])
    assert picture.format == "PNG"
    assert picture.size == (64, 64)
    assert picture.info == {"model": "test-model", "seed": "7", "steps": "3", "pool": "test-pool"}


def test_several_pictures_count_their_seeds_up(client: httpx2.Client) -> None:
    """The seeds follow the first one, around the largest."""
    answer = ask(client, seed=LARGEST_SEED, n=3).json()
    assert [data["seed"] for data in answer["data"]] == [LARGEST_SEED, 0, 1]
    assert [opened(data).info["seed"] for data in answer["data"]] == [str(LARGEST_SEED), "0", "1"]


def test_a_request_without_a_seed_gets_one_that_repeats_it(client: httpx2.Client) -> None:
    """The answer tells the random seed."""
    seeds = {ask(client).json()["data"][0]["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_what_is_absent_takes_the_servers_default(client: httpx2.Client, backend: FakeBackend) -> None:
    """Steps and guidance from the settings, the first size, no negative prompt."""
    ask(client)
    ask(client, steps=5, guidance_scale=2, size="128x64", negative_prompt="dogs", user="someone")
    plain, full = (batch[0] for batch in backend.batches[-2:])
    assert (plain.work.steps, plain.work.guidance_scale, plain.work.shape) == (2, 7.5, SMALL)
    assert not plain.work.has_negative_prompt
    assert (full.work.steps, full.work.guidance_scale, str(full.work.shape)) == (5, 2.0, "128x64")
    assert (full.work.has_negative_prompt, full.negative_prompt) == (True, "dogs")


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        ({"n": 9}, "n", "9; valid: at most 8"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"steps": 101}, "steps", "101; valid: at most 100"),
        ({"prompt": "x" * 2001}, "prompt", "2001 characters; valid: at most 2000"),
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"negative_prompt": "x" * 2001}, "negative_prompt", "at most 2000"),
        ({"size": "512x512"}, "size", "'512x512' is not served; valid: 64x64, 128x64, auto"),
        ({"guidance_scale": 31}, "guidance_scale", "less than or equal to 30"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": LARGEST_SEED + 1}, "seed", f"less than or equal to {LARGEST_SEED}"),
        ({"response_format": "file"}, "response_format", "'b64_json' or 'url'"),
        ({"sead": 1}, "sead", "unknown; valid: prompt, model, n,"),
    ],
)
def test_what_passes_a_limit_is_refused_with_400_naming_it(
    client: httpx2.Client, backend: FakeBackend, body: dict[str, Any], param: str, told: str
) -> None:
    """In OpenAI's error shape, and the device never sees it."""
    made = len(backend.batches)
    answer = ask(client, **body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert told in error["message"]
    assert len(backend.batches) == made


def test_a_body_that_is_no_json_is_refused(client: httpx2.Client) -> None:
    """400 in OpenAI's shape."""
    answer = client.post(PATH, content=b'{"prompt": ', headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


def test_another_model_is_not_found(client: httpx2.Client) -> None:
    """404 with OpenAI's code; the served one is named and answers."""
    answer = ask(client, model="someone/else")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "test-model" in answer.json()["error"]["message"]
    assert ask(client, model="test-model").status_code == 200


def test_the_served_model_is_listed(client: httpx2.Client) -> None:
    """OpenAI's list shape."""
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["test-model"]


def test_an_unknown_path_and_method_answer_in_openais_shape(client: httpx2.Client) -> None:
    """Whatever fails, a client finds the same object."""
    assert client.get("/v2").json()["error"]["type"] == "invalid_request_error"
    assert client.get(PATH).status_code == 405


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_above_the_limit_is_refused(client: httpx2.Client, *, is_announced: bool) -> None:
    """413, whether its length was announced or came in chunks."""
    text = json.dumps({"prompt": "x" * BODY_LIMIT_BYTES}).encode()
    content = text if is_announced else iter([text[:1000], text[1000:]])
    answer = client.post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert str(BODY_LIMIT_BYTES) in answer.json()["error"]["message"]


@pytest.mark.parametrize("timeout", ["soon", "0", "-1", "inf", "nan"])
def test_a_timeout_that_is_no_time_is_refused(client: httpx2.Client, timeout: str) -> None:
    """400 naming the header."""
    answer = client.post(PATH, json={"prompt": "a cat"}, headers={"X-Request-Timeout": timeout})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Request-Timeout"


def test_a_deadline_that_can_not_be_met_is_refused_at_once(
    client: httpx2.Client, backend: FakeBackend
) -> None:
    """503 with Retry-After, while the device still works on what came before."""
    backend.hold()
    with ThreadPoolExecutor() as others:
        first = others.submit(ask, client, seed=1)
        assert backend.began.wait(60)
        refused = client.post(PATH, json={"prompt": "x"}, headers={"X-Request-Timeout": "1e-9"})
        backend.release()
        assert first.result().status_code == 200
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "deadline_exceeded"
    assert int(refused.headers["Retry-After"]) >= 1


def test_the_objective_is_the_deadline_of_a_request_that_brings_none(backend: FakeBackend) -> None:
    """LATENCY_SECONDS refuses what X-Request-Timeout would; the header may ask for more time."""
    with application(Settings(latency_seconds=1e-9), backend) as (_, client):
        backend.hold()
        with ThreadPoolExecutor() as others:
            patient = {"X-Request-Timeout": "60"}
            first = others.submit(client.post, PATH, json={"prompt": "x"}, headers=patient)
            assert backend.began.wait(60)
            refused = ask(client)
            backend.release()
            assert first.result().status_code == 200
        assert refused.json()["error"]["code"] == "deadline_exceeded"


def test_a_full_queue_refuses_at_once(client: httpx2.Client, backend: FakeBackend, engine: Engine) -> None:
    """One picture is on the device, four wait, the sixth is refused."""
    backend.hold()
    with ThreadPoolExecutor() as others:
        first = others.submit(ask, client, seed=1)
        assert backend.began.wait(60)
        rest = others.submit(ask, client, seed=2, n=4)
        eventually(lambda: len(engine.worker.backlog().waiting) == 4)
        refused = ask(client, seed=3)
        backend.release()
        assert (first.result().status_code, rest.result().status_code) == (200, 200)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert "Retry-After" in refused.headers


def test_compatible_requests_share_a_batch() -> None:
    """What waits for the device is made together when it shares size, steps and guidance."""
    backend = FakeBackend(batch_sizes=(1, 2, 4))
    backend_is_faster_in_batches(backend)
    with application(Settings(steps=2), backend) as (engine, client), ThreadPoolExecutor() as others:
        assert engine.worker.batch_limit(backend.batches[-1][0].work) == 4
        backend.hold()
        answers = [others.submit(ask, client, seed=1)]
        assert backend.began.wait(60)
        answers += [others.submit(ask, client, seed=seed) for seed in (2, 3)]
        answers += [others.submit(ask, client, seed=4, steps=9)]
        eventually(lambda: len(engine.worker.backlog().waiting) == 3)
        backend.release()
        assert [answer.result().status_code for answer in answers] == [200] * 4
    batches = [sorted(seeds) for seeds in backend.seeds]
    assert [2, 3] in batches
    assert [4] in batches


def test_a_server_is_not_ready_before_every_shape_is_warm(settings: Settings) -> None:
    """Until then it is live, and pictures are refused with Retry-After; afterwards each size was made."""
    backend = FakeBackend()
    backend.hold()
    with application(settings, backend, is_awaited=False) as (_, client):
        assert backend.began.wait(60)
        assert client.get("/health/ready").json() == {"status": "the model is warming up"}
        assert client.get("/health/live").status_code == 200
        refused = ask(client)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
        assert "Retry-After" in refused.headers
        backend.release()
        eventually(lambda: client.get("/health/ready").status_code == 200)
        assert {str(batch[0].work.shape) for batch in backend.batches} == {"64x64", "128x64"}
        assert ask(client).status_code == 200


def test_told_to_stop_while_it_loads_it_still_refuses(settings: Settings) -> None:
    """There is nothing yet that could make the picture."""
    backend = FakeBackend()
    backend.hold()
    with application(settings, backend, is_awaited=False) as (engine, client):
        assert backend.began.wait(60)
        engine.health.draining()
        assert ask(client).json()["error"]["code"] == "not_ready"
        backend.release()


def test_a_model_that_can_not_be_loaded_is_neither_ready_nor_live(settings: Settings) -> None:
    """Kubernetes replaces the pod; the reason is told."""
    engine = Engine(settings, lambda: (_ for _ in ()).throw(OSError("no such weights")))
    engine.start()
    eventually(lambda: engine.health.not_live)
    assert engine.health.not_live == engine.health.not_ready == "the device thread ended: no such weights"
    assert isinstance(engine.worker.error, OSError)


def test_a_compiled_model_refuses_the_other_kind_of_guidance(settings: Settings) -> None:
    """Compiled with guidance, a request without would need another graph: 400 names what is valid."""
    with application(settings, FakeBackend(served=Served((SMALL,), guided=True))) as (_, client):
        refused = ask(client, guidance_scale=1)
        assert refused.status_code == 400
        assert refused.json()["error"]["message"].endswith("compiled: above 1")
        assert ask(client, guidance_scale=1.5).status_code == 200


def test_metrics_count_answers_pictures_and_stages(client: httpx2.Client) -> None:
    """/metrics holds every figure that the contract names."""
    ask(client, n=2)
    ask(client, n=99)
    assert counted(client, 'fulcrum_requests_total{status="200"}') == 1
    assert counted(client, 'fulcrum_requests_total{status="400"}') == 1
    assert counted(client, "fulcrum_images_total") == 2
    for stage in ("queue", "inference", "encode"):
        assert counted(client, f'fulcrum_stage_seconds_count{{stage="{stage}"}}') == 2
    assert counted(client, "fulcrum_batch_size_sum") == 2
    for name in ("fulcrum_queue_depth", "fulcrum_load_seconds", "fulcrum_warm_up_seconds"):
        assert f"# TYPE {name} gauge" in client.get("/metrics").text


def test_the_queues_depth_is_that_of_the_moment_it_is_read(
    client: httpx2.Client, backend: FakeBackend, engine: Engine
) -> None:
    """Not of the last request: a server that has become idle says 0."""
    backend.hold()
    with ThreadPoolExecutor() as others:
        first = others.submit(ask, client, seed=1)
        assert backend.began.wait(60)
        rest = [others.submit(ask, client, seed=seed) for seed in (2, 3)]
        eventually(lambda: len(engine.worker.backlog().waiting) == 2)
        assert counted(client, "fulcrum_queue_depth") == 2
        backend.release()
        assert [answer.result().status_code for answer in (first, *rest)] == [200] * 3
    assert counted(client, "fulcrum_queue_depth") == 0


def test_a_draining_server_answers_and_closes_the_connection(client: httpx2.Client, engine: Engine) -> None:
    """Not ready at once, and what still comes is served."""
    engine.health.draining()
    assert client.get("/health/ready").status_code == 503
    answer = ask(client)
    assert answer.status_code == 200
    assert answer.headers["Connection"] == "close"
