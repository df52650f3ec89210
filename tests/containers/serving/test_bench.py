import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from containers.serving.backends.protocol import Picture, Work
from containers.serving.bench import __main__ as command
from containers.serving.bench import soak, tables
from containers.serving.bench.direct import Turns, TurnTakingBackend
from containers.serving.bench.saturation import (
    BenchError,
    Comparison,
    check_all_answered,
    compare,
    steady_seconds,
)
from containers.serving.bench.setting import Setting
from containers.serving.bench.side_by_side import peers
from containers.serving.bench.soak import Soak, kinds, told
from containers.serving.load import Answer
from containers.serving.settings import Settings
from tests.containers.serving.fake_backend import SMALL, FakeBackend

ROOT = Path(__file__).parents[3]
WORK = Work(SMALL, 1, 7.5)
STATE = {"resident_bytes": 500 * 2**20, "tasks": 4, "threads": 7, "files": 12}


def test_the_sides_of_a_comparison_take_turns() -> None:
    """A slice of one side follows a slice of the other, after one of each as warm-up."""
    order: list[tuple[str, int]] = []

    def side(name: str, rate: float) -> Any:
        def measure(number: int) -> float:
            order.append((name, number))
            return rate

        return measure

    compare(side("direct", 2.0), side("server", 1.9), rounds=2)
    assert order == [("direct", 0), ("server", 0), ("direct", 1), ("server", 1), ("direct", 2), ("server", 2)]


def test_what_slows_both_sides_leaves_the_ratio_alone() -> None:
    """The sides take turns: a machine at half its speed for a while does not move their ratio."""
    slowness = [0.01, 1.0, 2.0, 4.0, 1.0]
    found = compare(lambda number: 9 * slowness[number], lambda number: 10 * slowness[number], rounds=4)
    assert found.first == (9.0, 18.0, 36.0, 9.0)
    assert found.ratio == pytest.approx(0.9)
    assert found.quartiles == pytest.approx((0.9, 0.9))
    assert found.interval == pytest.approx((0.9, 0.9))


def test_the_ratio_counts_every_turn_and_the_interval_tells_how_sure_it_is() -> None:
    """A cost that comes once in ten turns is a cost, and the interval knows that it might come oftener."""
    found = Comparison(first=(1.0,) * 10, second=(*(1.0,) * 9, 2.0))
    assert found.ratio == pytest.approx(10 / 11)
    assert found.quartiles == (1.0, 1.0)
    low, high = found.interval
    assert low < found.ratio < high == 1.0


def test_the_interval_holds_the_ratio_as_often_as_it_says() -> None:
    """Of a hundred samples of turns that vary by a tenth, about 95 % hold their ratio."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        first, second = random.normal(1.0, 0.1, (2, 60))
        low, high = Comparison(tuple(0.95 * first), tuple(second)).interval
        held += low <= 0.95 <= high
    assert held / 100 == pytest.approx(0.95, abs=0.04)


def test_throughput_of_failures_is_none() -> None:
    """A server that refuses quickly is not a fast one."""
    check_all_answered([200, 200])
    with pytest.raises(BenchError, match="2 of 3 requests failed, the first with status 503"):
        check_all_answered([200, 503, 500])


def test_filling_up_and_running_empty_are_no_saturation() -> None:
    """Two clients: the first two answers and the last two are left out, whatever order they come in."""
    moments = [9.0, 5.0, 5.5, 6.0, 6.5, 7.0, 20.0]
    answers = [Answer(0.0, 0.0, moment, 200) for moment in moments]
    assert steady_seconds(answers, clients=2) == (7.0 - 5.5) / 3


def test_the_sides_make_two_full_batches_each_in_turns() -> None:
    """Twice directly, twice served: two turns of it, and none before turns are wanted."""
    device, turns = FakeBackend(), Turns()
    backend = TurnTakingBackend(device, 2, turns)
    one, two, three, four = (Picture("", "", seed, WORK) for seed in (1, 2, 3, 4))
    backend.generate([one, two])
    turns.are_wanted = True
    for _ in range(2):
        backend.generate([one, two])
        backend.generate([three, four])
    assert device.seeds == [[1, 2], *[[1, 2], [1, 2], [1, 2], [3, 4]] * 2]
    assert len(turns.taken) == 2
    assert all(turn.direct > 0 and turn.waited < turn.served for turn in turns.taken)


def test_a_batch_that_is_not_full_ends_its_turn() -> None:
    """What it took says nothing about full ones."""
    device, turns = FakeBackend(), Turns(are_wanted=True)
    backend = TurnTakingBackend(device, 2, turns)
    one, two = (Picture("", "", seed, WORK) for seed in (1, 2))
    for batch in ([one, two], [one], [one, two], [one, two]):
        backend.generate(batch)
    assert device.seeds == [*[[1, 2]] * 3, [1], *[[1, 2]] * 4]
    assert len(turns.taken) == 1


def test_a_thousand_requests_hold_the_stated_shares_in_a_random_order() -> None:
    """5 % malformed, 10 % cancelled, the rest good; the same seed gives the same order."""
    wanted = kinds(seed=1)
    assert {kind: wanted.count(kind) for kind in set(wanted)} == {
        "good": 850,
        "malformed": 50,
        "cancelled": 100,
    }
    assert wanted == kinds(seed=1)
    assert wanted != kinds(seed=2)


def run_of(
    *,
    good: int = 200,
    malformed: int = 400,
    last: Mapping[str, int] | None = None,
    exit_code: int = 0,
) -> Soak:
    """A soak in which all went well but for what is given."""
    return Soak(
        statuses={"good": [200, good], "malformed": [413, malformed], "cancelled": [0, 200]},
        states=[STATE, {**STATE, **(last or {})}],
        exit_code=exit_code,
        seconds=1.0,
    )


def test_a_soak_without_problems_tells_its_counts() -> None:
    """Every kind is counted; a cancellation that came too late is told apart."""
    shown = told(run_of())
    assert shown["problems"] == []
    assert (shown["good_answered"], shown["malformed_refused"]) == (2, 2)
    assert (shown["cancelled"], shown["answered_before_cancelled"]) == (1, 1)


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (run_of(good=0), "1 good requests not answered, the first with status 0"),
        (run_of(good=503), "1 good requests not answered, the first with status 503"),
        (run_of(malformed=200), "1 malformed requests not refused, the first with status 200"),
        (run_of(malformed=500), "1 malformed requests not refused, the first with status 500"),
        (run_of(last={"tasks": 5}), "tasks grew from 4 to 5"),
        (run_of(last={"files": 13}), "files grew from 12 to 13"),
        (run_of(last={"resident_bytes": 550 * 2**20}), "resident memory grew by 10.0 %"),
        (run_of(exit_code=-11), "the server ended with exit code -11"),
    ],
)
def test_whatever_goes_wrong_in_a_soak_is_a_problem(run: Soak, problem: str) -> None:
    """Unanswered, wrongly accepted, leaking or crashing: each is told, and fails the bench."""
    [only] = told(run)["problems"]
    assert only.startswith(problem)


def test_every_malformed_body_breaks_a_rule_of_its_own() -> None:
    """No two are the same, and one is longer than any body may be."""
    assert len(set(soak.MALFORMED)) == len(soak.MALFORMED)
    assert max(map(len, soak.MALFORMED)) > 131_072


def test_our_server_and_the_plain_loop_are_always_compared_and_ray_where_it_is() -> None:
    """Ray Serve has its own Python, because its packages would change the server's."""
    assert [peer.name for peer in peers(None)] == ["fulcrum", "plain loop"]
    with_ray = peers(Path("/elsewhere/python"))
    assert [peer.name for peer in with_ray] == ["fulcrum", "plain loop", "ray serve"]
    assert with_ray[-1].command[0] == "/elsewhere/python"


def test_every_server_under_test_gets_one_core_and_the_same_model(tmp_path: Path) -> None:
    """The device is one thread, and a request is told by its index."""
    setting = Setting(tmp_path, steps=3, max_batch=4)
    settings = Settings.from_environ(setting.environment())
    assert (settings.model, settings.steps, settings.max_batch) == ("tiny", 3, 4)
    assert setting.environment()["OMP_NUM_THREADS"] == "1"
    assert setting.environment(max_batch=1)["MAX_BATCH"] == "1"
    assert setting.body(5)["seed"] == 5


def test_the_tables_show_every_figure() -> None:
    """Overhead in percent, gain as a factor, problems in words, a row for every peer and load."""
    overhead = {
        "batch": 4,
        "direct_images_per_second": 10.0,
        "server_images_per_second": 9.7,
        "overhead": 0.03,
        "overhead_quartiles": [0.02, 0.045],
        "overhead_interval": [0.025, 0.041],
        "waiting": 0.021,
        "turns": [[0.4, 0.41, 0.01]],
    }
    assert "3.0 %" in printed("overhead", [overhead])
    assert "2.00 to 4.50 %" in printed("overhead", [overhead])
    assert "2.50 to 4.10 %" in printed("overhead", [overhead])
    assert "2.1 %" in printed("overhead", [overhead])
    batching = {
        "max_batch": 4,
        "single_images_per_second": 10.0,
        "batched_images_per_second": 17.0,
        "gain": 1.7,
        "gain_interval": [1.65, 1.75],
        "gain_quartiles": [1.6, 1.8],
        "mean_batch": 3.9,
    }
    assert "× 1.70" in printed("batching", batching)
    assert "tasks grew from 4 to 5" in printed("soak", told(run_of(last={"tasks": 5})))


def printed(section: str, result: Any) -> str:
    """A section's table as the terminal shows it."""
    console = Console(file=io.StringIO(), width=200)
    console.print(tables.table(section, result))
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


@pytest.mark.parametrize(
    ("arguments", "told_in_words"),
    [
        (["--only", "overheads"], "invalid choice: 'overheads'"),
        (["--steps", "0"], "0; valid: a whole number of 1 or more"),
        (["--ray-python", "/no/such/python"], "--ray-python: /no/such/python: no such file; valid: a Python"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: list[str], told_in_words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line, nothing written."""
    out = tmp_path / "out"
    try:
        code = command.main(["--out", str(out), *arguments])
    except SystemExit as left:
        code = int(left.code or 0)
    written = capsys.readouterr().err
    assert (code, written.count("\n")) == (2, 1)
    assert told_in_words in written
    assert not out.exists()


def test_the_peer_has_pinned_requirements_beside_the_servers() -> None:
    """The bench's own environment holds what the server needs, and Ray Serve at one version."""
    lines = (ROOT / "requirements-bench-serving.txt").read_text().splitlines()
    wanted = [line.partition("#")[0].strip() for line in lines]
    assert "-r requirements-serving.txt" in wanted
    assert [line for line in wanted if re.fullmatch(r"ray\[serve\]==[\d.]+", line)]
