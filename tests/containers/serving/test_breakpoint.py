import json
import socket
import sys
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import pytest
import yaml

from containers.serving.breakpoint import __main__ as command
from containers.serving.breakpoint import report
from containers.serving.breakpoint.search import (
    BreakPoint,
    Measure,
    MeasurementError,
    Method,
    break_point,
    find_break_point,
    rising_rates,
)
from containers.serving.load import Figures
from control_lambda.core.fleet import Profile
from tests.containers.serving.queueing_theory import mean_sojourn, rate_within
from tests.containers.serving.virtual_time import OneAtATime, run

STAND_IN = Path(__file__).with_name("stand_in.py")
METHOD = Method(objective_seconds=2.0, seconds=3_000, warm_up_seconds=60, repeats=4, halvings=3)


def test_the_break_point_agrees_with_queueing_theory() -> None:
    """On a server of known service time (M/D/1) rate, throughput and latency are the theory's within 5 %."""
    found = run(find_break_point(OneAtATime(0.5), METHOD))
    rate = rate_within(0.95, seconds=2.0, service=0.5)
    assert found.service_seconds == pytest.approx(0.5)
    assert found.rate_rpm == pytest.approx(60 * rate, rel=0.05)
    assert found.throughput_rpm == pytest.approx(60 * rate, rel=0.05)
    assert found.latency_seconds == pytest.approx(mean_sojourn(rate, 0.5), rel=0.05)
    assert abs(found.rate_rpm - 60 * rate) < found.spread_rpm


def test_a_loose_objective_ends_at_the_plateau() -> None:
    """Where waiting is allowed, the break point is the server's throughput: one per service time."""
    method = replace(METHOD, objective_seconds=60.0, seconds=1_000, repeats=2)
    found = run(find_break_point(OneAtATime(0.5), method))
    assert found.throughput_rpm == pytest.approx(120, rel=0.05)


def test_refused_requests_break_the_promise_like_late_ones() -> None:
    """A server that is never late, because it refuses, breaks where more than 5 % are refused."""
    method = replace(METHOD, seconds=1_000)
    found = run(find_break_point(OneAtATime(0.5, most_waiting=2), method))
    refused = {
        point.rate: sum(repeat.failed for repeat in point.repeats)
        / sum(repeat.requests for repeat in point.repeats)
        for point in found.points
    }
    assert all(share < 0.06 for rate, share in refused.items() if 60 * rate < found.rate_rpm)
    assert all(share > 0.04 for rate, share in refused.items() if 60 * rate > found.rate_rpm)
    assert found.throughput_rpm == pytest.approx(0.95 * found.rate_rpm, rel=0.02)


def shown(within: float, *, lateness: float = 0.0) -> Figures:
    """Figures at one request per second with so large a share within the objective."""
    return Figures(
        requests=100,
        failed=0,
        offered=1.0,
        throughput=1.0,
        mean=1.0,
        p50=1.0,
        p95=inf if within < 0.95 else 1.5,
        within_objective=within,
        lateness=lateness,
    )


def breaking_at(edge: float) -> Measure:
    """A measurement whose share within the objective falls through 95 % at a rate, another for each seed."""

    async def measure(rate: float, seed: int) -> Figures:
        return shown(min(1.0, 0.95 + 0.1 * (edge + 0.1 * (seed - 1) - rate)))

    return measure


def test_rates_rise_to_the_first_broken_one_and_then_close_in() -> None:
    """The last kept and the first broken rate are halved as often as the method says."""
    method = replace(METHOD, growth=1.5, halvings=2, repeats=3, seed=0)
    points = run(rising_rates(breaking_at(2.0), method, first_rate=1.0))
    assert [point.rate for point in points] == [1.0, 1.5, 1.875, 2.0625, 2.25]


def test_every_repeat_gives_its_own_break_point_and_the_spread_is_students() -> None:
    """Repeats breaking at 1.9, 2.0 and 2.1 give 2.0 with t(0.975, 2) × 0.1 / √3 on either side."""
    method = replace(METHOD, growth=1.5, halvings=2, repeats=3, seed=0)
    points = run(rising_rates(breaking_at(2.0), method, first_rate=1.0))
    found = break_point(points, method, service_seconds=0.5)
    assert found.rate_rpm == pytest.approx(120)
    assert found.spread_rpm == pytest.approx(60 * 4.302653 * 0.1 / 3**0.5)


def test_an_idle_server_slower_than_the_objective_is_told() -> None:
    """There is no break point where not even one request keeps the promise."""
    with pytest.raises(
        MeasurementError, match=r"the idle server takes 3 s, longer than the objective of 2 s"
    ):
        run(find_break_point(OneAtATime(3.0), METHOD))


def test_a_failing_idle_server_is_told() -> None:
    """Failures on an idle server are no measurement."""

    async def failing(_index: int) -> int:
        return 500

    with pytest.raises(MeasurementError, match="12 of 12 requests to the idle server failed, status 500"):
        run(find_break_point(failing, METHOD))


def test_a_load_generator_that_cannot_keep_up_is_told() -> None:
    """What the generator's own delay adds must not be taken for the server's latency."""

    async def late(_rate: float, _seed: int) -> Figures:
        return shown(1.0, lateness=0.3)

    with pytest.raises(MeasurementError, match=r"the load generator sent 0\.3 s late"):
        run(rising_rates(late, METHOD, first_rate=1.0))


@pytest.fixture
def found() -> BreakPoint:
    """A break point with a rate whose percentile was never answered."""
    method = replace(METHOD, growth=1.5, halvings=1)
    return break_point(
        run(rising_rates(breaking_at(2.0), method, first_rate=1.0)), method, service_seconds=0.5
    )


def test_the_profile_is_what_the_fleet_file_takes(found: BreakPoint) -> None:
    """The written block parses as a unit's profile and holds the measured values."""
    block = yaml.safe_load(report.profile(found, 412.0, "2026-11-22, 512x512"))
    profile = Profile.model_validate(block["profile"], strict=False)
    assert profile.service_seconds == 0.5
    assert profile.throughput_rpm == pytest.approx(found.throughput_rpm, rel=0.005)
    assert profile.start_seconds == 412


def test_the_profile_holds_the_batches_that_were_measured(found: BreakPoint, tmp_path: Path) -> None:
    """Seconds by the number of pictures made at once; without any the key is left out."""
    batch = {2: 0.7236, 4: 1.2}
    report.write(found, METHOD, 412.0, "2026-11-22", tmp_path, batch)
    block = yaml.safe_load((tmp_path / report.PROFILE).read_text())
    assert block["profile"]["batch"] == {2: 0.724, 4: 1.2}
    assert json.loads((tmp_path / report.FIGURES).read_text())["batch_seconds"] == {"2": 0.7236, "4": 1.2}
    assert "batch" not in report.profile(found, 412.0, "2026-11-22")


def test_the_written_files_hold_the_figures_and_the_plot(found: BreakPoint, tmp_path: Path) -> None:
    """Figures are valid JSON (null where never answered) and the page is self-contained."""
    report.write(found, METHOD, 412.0, "a <b>server</b>", tmp_path)
    written = json.loads((tmp_path / report.FIGURES).read_text())
    assert written["rate_rpm"] == found.rate_rpm
    assert written["points"][-1]["repeats"][0]["p95"] is None
    page = (tmp_path / report.PAGE).read_text()
    assert "Plotly.newPlot" in page
    assert "a &lt;b&gt;server&lt;/b&gt;" in page
    assert report.headline(found, METHOD) in page


def test_a_single_repeat_has_no_spread() -> None:
    """One measurement says nothing about how far the next would be from it."""
    method = replace(METHOD, repeats=1)
    found = break_point(
        run(rising_rates(breaking_at(2.0), method, first_rate=1.0)), method, service_seconds=0.5
    )
    assert found.spread_rpm == pytest.approx(nan, nan_ok=True)
    assert report.headline(found, method).startswith("114 requests per minute with 95 % within 2 s")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_command_starts_the_server_measures_it_and_writes_the_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line to the files, over HTTP, on a server that refuses after 52 requests."""
    port = free_port()
    arguments = ["--url", f"http://127.0.0.1:{port}", "--objective", "60", "--out", str(tmp_path)]
    arguments += ["--start-command", f"{sys.executable} {STAND_IN} {port} 0.02 52", "--node-seconds", "300"]
    arguments += [
        "--batches",
        "2",
        "--seconds",
        "0.5",
        "--warm-up-seconds",
        "0",
        "--repeats",
        "1",
        "--halvings",
        "1",
    ]
    assert command.main(arguments) == 0
    profile = yaml.safe_load((tmp_path / report.PROFILE).read_text())["profile"]
    assert profile["service_seconds"] >= 0.02
    assert profile["batch"][2] >= 0.02
    assert json.loads((tmp_path / report.FIGURES).read_text())["start_seconds"] > 300
    assert "profile: {service_seconds: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--objective", "-1"], "-1; valid: a number above 0"),
        (["--url", "localhost"], "localhost; valid: an address such as http://127.0.0.1:8000"),
        (["--repeats", "0"], "0; valid: a whole number of 1 or more"),
        (["--batches", "4,2"], "4,2; valid: ascending numbers above 1, such as 2,4,8"),
        (["--batches", "2,x"], "2,x; valid: ascending numbers above 1"),
        (["--growth", "1"], "1; valid: a factor above 1"),
        (["--percentile", "100"], "100; valid: a number above 0 and below 100"),
        (["--out", __file__], "is a file; valid: a folder"),
        (["--start-command", "true"], "not allowed with argument --start-seconds"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line that says what would be valid, nothing written."""
    out = tmp_path / "out"
    good = ["--url", "http://127.0.0.1:1", "--objective", "2", "--start-seconds", "5", "--out", str(out)]
    with pytest.raises(SystemExit) as left:
        command.main([*good, *arguments])
    written = capsys.readouterr().err
    assert (left.value.code, written.count("\n")) == (2, 1)
    assert told in written
    assert not out.exists()


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (["--start-seconds", "5"], "requests to the idle server failed, status 0"),
        (["--start-command", f"{sys.executable} -c pass"], "ended with exit code 0 before it was ready"),
        (["--start-command", "no-such-command"], "no-such-command: No such file or directory"),
    ],
)
def test_a_server_that_does_not_serve_is_told_in_one_line(
    start: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, one line, nothing written."""
    out = tmp_path / "out"
    arguments = ["--url", f"http://127.0.0.1:{free_port()}", "--objective", "2", "--out", str(out), *start]
    assert command.main(arguments) == 1
    assert told in capsys.readouterr().err
    assert not out.exists()
