import base64
import io
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import kubernetes_validate
import numpy as np
import pytest
import yaml
from PIL import Image

from containers.serving.command_line import InputError
from containers.serving.consistency import __main__ as command
from containers.serving.consistency import golden, metric, report
from containers.serving.consistency.compare import Likeness, Tolerance, UnitResult, likeness
from control_lambda.core import names

CRONJOB = Path(command.__file__).parents[1] / "consistency-cronjob.yaml"
TOLERANCE = Tolerance(least_ssim=0.8, most_hash_distance=10)


def scene(seed: int, size: int = 64) -> Image.Image:
    """A smooth picture of its own for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def with_noise(image: Image.Image, amplitude: int) -> Image.Image:
    """The picture with every value moved by up to `amplitude`."""
    noise = np.random.default_rng(0).integers(-amplitude, amplitude + 1, (*image.size, 3))
    return Image.fromarray(np.clip(np.asarray(image).astype(int) + noise, 0, 255).astype(np.uint8))


def test_a_picture_agrees_with_itself() -> None:
    """The same pixels have an SSIM of 1 and no hash distance."""
    assert likeness(scene(1), scene(1), TOLERANCE) == Likeness(1.0, 0, agrees=True)


def test_rounding_agrees_and_another_picture_does_not() -> None:
    """Accelerators that round differently pass; a wrong seed, or a broken kernel's noise, doesn't."""
    assert likeness(scene(1), with_noise(scene(1), amplitude=3), TOLERANCE).agrees
    assert not likeness(scene(1), scene(2), TOLERANCE).agrees
    assert not likeness(scene(1), with_noise(scene(1), amplitude=200), TOLERANCE).agrees


def test_either_measure_can_refuse() -> None:
    """Both the SSIM and the hash have to be within the tolerance."""
    noisy = likeness(scene(1), with_noise(scene(1), amplitude=40), Tolerance(0.0, 64))
    assert noisy.agrees
    assert not likeness(scene(1), with_noise(scene(1), 40), Tolerance(noisy.ssim + 0.01, 64)).agrees
    other = likeness(scene(1), scene(2), Tolerance(-1.0, 64))
    assert other.agrees
    assert not likeness(scene(1), scene(2), Tolerance(-1.0, other.hash_distance - 1)).agrees


def test_pictures_of_different_sizes_are_not_alike() -> None:
    """A unit that ignores the size does not agree."""
    assert likeness(scene(1), scene(1, size=128), TOLERANCE).ssim == 0
    assert not likeness(scene(1), scene(1, size=128), TOLERANCE).agrees


class Server(ThreadingHTTPServer):
    """A unit that draws a scene from the seed plus its own shift; it is busy for its first requests."""

    daemon_threads = True

    def __init__(self, shift: int = 0, busy: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.shift = shift
        self.busy = busy
        self.pools: list[str] = []
        self.bodies: list[Mapping[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if self.server.busy:
            self.server.busy -= 1
            self.send_response(503)
            self.send_header("Retry-After", "7")
            self.end_headers()
            return
        file = io.BytesIO()
        scene(body["seed"] + self.server.shift).save(file, format="PNG")
        answer: dict[str, Any] = {"data": [{"b64_json": base64.b64encode(file.getvalue()).decode()}]}
        if self.server.pools:
            answer["pool"] = self.server.pools.pop(0)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server, answering while the context is open."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_units_that_make_the_same_pictures_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, a page with every picture inside, and the figures."""
    with serving(Server()) as one, serving(Server()) as other:
        arguments = ["--unit", f"one={one.url}", "--unit", f"other={other.url}", "--out", str(tmp_path)]
        assert command.main([*arguments, "--steps", "4"]) == 0
        assert one.bodies == other.bodies
        assert {body["steps"] for body in one.bodies} == {4}
    prompts = golden.read_golden(golden.PROMPTS)
    page = (tmp_path / report.PAGE).read_text()
    assert page.count("data:image/png;base64,") == 2 * len(prompts)
    figures = json.loads((tmp_path / report.FIGURES).read_text())
    assert [unit["agreement"] for unit in figures] == [1, 1]
    assert [picture["seed"] for picture in figures[1]["pictures"]] == [prompt.seed for prompt in prompts]
    assert f"other: 100 % of {len(prompts)} pictures agree with one" in capsys.readouterr().out


def test_a_unit_that_makes_other_pictures_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the report says which unit."""
    with serving(Server()) as one, serving(Server(shift=1)) as other:
        arguments = ["--unit", f"one={one.url}", "--unit", f"other={other.url}", "--out", str(tmp_path)]
        assert command.main(arguments) == 1
    assert "other: 0 % of" in capsys.readouterr().out


def test_a_unit_that_does_not_answer_fails_the_check_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No pictures are no agreement; the next unit becomes the reference, the report is still written."""
    with serving(Server()) as one, serving(Server()) as other:
        arguments = ["--unit", "gone=http://127.0.0.1:1", "--unit", f"one={one.url}"]
        arguments += ["--unit", f"other={other.url}", "--out", str(tmp_path)]
        assert command.main(arguments) == 1
    told = capsys.readouterr().out
    assert "gone: no pictures: gone: ConnectError" in told
    assert "other: 100 % of" in told
    assert "no picture" in (tmp_path / report.PAGE).read_text()


def test_behind_a_load_balancer_requests_are_sent_until_the_unit_answers() -> None:
    """No rule can ask for one unit; the answer says which pool made it."""
    golden_prompt = golden.Golden(prompt="a", seed=1)
    with serving(Server()) as server, httpx2.Client() as client:
        server.pools = ["g5-eager-spot", "inf2-neuron-spot", "g5-on-demand"]
        golden.picture(client, golden.Unit("inf2-neuron", server.url, shared=True), golden_prompt, {})
        assert len(server.bodies) == 2
        server.pools = ["g5-eager-spot"] * golden.TRIES
        with pytest.raises(golden.NoPictureError, match=r"inf2-neuron: others answered 300 times; valid:"):
            golden.picture(client, golden.Unit("inf2-neuron", server.url, shared=True), golden_prompt, {})


def test_a_busy_unit_is_asked_again_when_it_says() -> None:
    """503 with Retry-After is waited out; after the last attempt it is a failure."""
    waits: list[float] = []
    prompt = golden.Golden(prompt="x", seed=1)
    with serving(Server(busy=2)) as server, httpx2.Client() as client:
        unit = golden.Unit("slow", server.url)
        assert golden.picture(client, unit, prompt, {}, waits.append).size == (64, 64)
        assert waits == [7.0, 7.0]
        server.busy = golden.ATTEMPTS
        with pytest.raises(golden.NoPictureError, match="slow: still busy after 5 attempts"):
            golden.picture(client, unit, prompt, {}, waits.append)


@pytest.mark.parametrize(
    ("status", "text", "told"),
    [
        (400, "steps: at most 50", "u: status 400: steps: at most 50"),
        (200, "no json", "u: the answer holds no picture"),
        (200, '{"data": []}', "u: the answer holds no picture"),
        (200, '{"data": [{"b64_json": "AAAA"}]}', "u: the answer holds no picture"),
    ],
)
def test_an_answer_without_a_picture_is_told(status: int, text: str, told: str) -> None:
    """Whatever the answer is, the message names the unit and what came."""
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(status, text=text))
    with httpx2.Client(transport=transport) as client, pytest.raises(golden.NoPictureError, match=told):
        golden.picture(client, golden.Unit("u", "http://u"), golden.Golden(prompt="x", seed=1), {})


class FakeCloudWatch:
    """Keeps what is put."""

    def __init__(self) -> None:
        self.puts: list[dict[str, Any]] = []

    def put_metric_data(self, **data: Any) -> None:
        """Keep one call."""
        self.puts.append(data)


def test_the_metric_holds_the_agreement_of_every_unit_that_made_pictures() -> None:
    """Namespace and fleet come from the environment; a unit without pictures gets no value."""
    agreeing, differing = Likeness(1.0, 0, agrees=True), Likeness(0.2, 30, agrees=False)
    results = [
        UnitResult("one", (), (agreeing, agreeing)),
        UnitResult("other", (), (agreeing, differing)),
        UnitResult("gone", (), (), failure="gone: no answer"),
    ]
    cloudwatch = FakeCloudWatch()
    metric.put(cloudwatch, results, {"METRIC_NAMESPACE": "Here", "FLEET": "sd21"})
    [put] = cloudwatch.puts
    assert put["Namespace"] == "Here"
    assert [(one["Dimensions"][1]["Value"], one["Value"]) for one in put["MetricData"]] == [
        ("one", 1.0),
        ("other", 0.5),
    ]
    dimensions = [dimension["Name"] for dimension in put["MetricData"][0]["Dimensions"]]
    assert dimensions == [names.FLEET, names.UNIT]
    assert put["MetricData"][0]["Dimensions"][0]["Value"] == "sd21"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--unit: one; valid: two units or more"),
        (["--unit", "one=http://other"], "--unit: one, one; valid: two units or more, each with a name"),
        (["--unit", "other"], "other; valid: NAME=URL"),
        (["--unit", "other=http://other", "--put-metric"], "environment: METRIC_NAMESPACE is not set"),
        (["--unit", "other=http://other", "--least-ssim", "2"], "2; valid: a number from 0 to 1"),
        (["--unit", "other=http://other", "--prompts", "no-such-file"], "no-such-file: "),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line that says what would be valid, nothing written."""
    out = tmp_path / "out"
    assert exit_code([*["--unit", "one=http://one", "--out", str(out)], *arguments]) == 2
    written = capsys.readouterr().err
    assert told in written
    assert written.count("\n") == 1
    assert not out.exists()


def exit_code(arguments: list[str]) -> int:
    """The command's exit code, whether it returns or leaves."""
    try:
        return command.main(arguments, environment={})
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- {prompt: a, seed: 1, sead: 2}", r"prompts.yaml: 0.sead: Extra inputs are not permitted"),
        ("- {prompt: a, seed: -1}", r"prompts.yaml: 0.seed: Input should be greater than or equal to 0"),
        ("[]", r"prompts.yaml: no prompt; valid: a list of one"),
        ("prompt: [", r"valid: a YAML list of {prompt, seed}"),
        ("prompt", r"prompts.yaml: prompts: Input should be a valid list"),
    ],
)
def test_a_wrong_file_of_prompts_is_told(text: str, told: str, tmp_path: Path) -> None:
    """The message names the file, the key, and what would be valid."""
    file = tmp_path / "prompts.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=told) as raised:
        golden.read_golden(file)
    assert "\n" not in str(raised.value)


def manifests() -> list[dict[str, Any]]:
    """The Kubernetes objects of the scheduled check."""
    return list(yaml.safe_load_all(CRONJOB.read_text()))


@pytest.mark.parametrize("version", ["1.33", "1.34", "1.35"])
def test_the_scheduled_check_is_valid_kubernetes(version: str) -> None:
    """Every object passes the strict schema of the chosen version, one older and one newer."""
    kinds = [document["kind"] for document in manifests()]
    assert kinds == ["CronJob", "NetworkPolicy", "NetworkPolicy"]
    for document in manifests():
        kubernetes_validate.validate(document, version, strict=True)


def test_the_scheduled_check_runs_the_command_as_it_is() -> None:
    """Its arguments parse, its environment is complete, and it can't write but to its scratch volume."""
    pod = manifests()[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"] == ["python", "-m", "containers.serving.consistency"]
    given = command.make_parser().parse_args(container["args"])
    assert [unit.name for unit in given.unit] == ["inf2-neuron", "g5-inductor"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert variables[names.METRIC_NAMESPACE] == names.NAMESPACE
    assert "FLEET" in variables
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [str(given.out.parent)]
