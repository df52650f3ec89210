"""The command line that chooses mixes, as a user runs it."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from control_lambda.fleet_file import load_fleet
from twin.__main__ import main

CATALOGUE = Path("twin/catalogues/mtwnd.yaml")
SMALL = """\
latency_seconds: 1.0
types:
  - {name: base, price_usd_per_hour: 1.0, seconds: {fixed: 0.05, per_size: 0.01}, spread: 0.02}
  - {name: cheap, price_usd_per_hour: 0.3, seconds: [[10, 0.35], [40, 1.25]], spread: 0.02}
"""
SIZES = "size,share\n10,0.5\n20,0.3\n40,0.2\n"
REQUESTS = "t_s,n_images,steps\n" + "0,1,30\n" * 70 + "1,,\n" * 10 + "2,4,30\n" * 15 + "3,8,\n" * 5


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a catalogue, sizes and requests."""
    (tmp_path / "catalogue.yaml").write_text(SMALL)
    (tmp_path / "sizes.csv").write_text(SIZES)
    (tmp_path / "requests.csv").write_text(REQUESTS)
    return tmp_path


def fleet_with_classes(folder: Path) -> Path:
    """The shipped fleet with a class for large queries."""
    text = Path("fleet.yaml").read_text(encoding="utf-8")
    path = folder / "classed.yaml"
    path.write_text(text + "classes: [{name: large, from_size: 121}, rest]\n", encoding="utf-8")
    return path


def test_the_best_mix_for_a_budget_is_told_with_its_figures(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mix, throughput, promise, cost, what one type alone brings, the paper's pick and the runners-up."""
    arguments = ["--catalogue", str(files / "catalogue.yaml"), "--sizes", str(files / "sizes.csv")]
    assert main(["plan", *arguments, "--budget", "4"]) == 0
    told = capsys.readouterr().out
    assert "requests per minute within 1 s at" in told.splitlines()[0]
    assert "times what one type alone brings (4 × base)" in told.splitlines()[0]
    assert "The paper's rule, highest upper bound, picks" in told
    assert "at the chosen mix's rate" in told


def test_the_papers_setting_gives_the_papers_kind_of_mix(capsys: pytest.CaptureFixture[str]) -> None:
    """MT-WND under 2.5 USD per hour: g4dn for the large queries, r5n for the small ones."""
    assert main(["plan", "--catalogue", str(CATALOGUE), "--sizes", "kairos", "--budget", "2.5"]) == 0
    assert capsys.readouterr().out.startswith("2 × g4dn.xlarge, 9 × r5n.large:")


def test_out_holds_the_plan_and_its_picture(files: Path) -> None:
    """plan.json has what the page shows; the page needs no network."""
    out = files / "out"
    arguments = ["--catalogue", str(files / "catalogue.yaml"), "--sizes", str(files / "sizes.csv")]
    assert main(["plan", *arguments, "--budget", "4", "--out", str(out)]) == 0
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    assert plan["chosen"]["cost_usd_per_hour"] <= 4
    assert plan["chosen"]["throughput_rpm"] >= plan["homogeneous"]["throughput_rpm"]
    assert all(item["why"] for item in plan["runners_up"])
    page = (out / "plan.html").read_text(encoding="utf-8")
    assert "Throughput against budget" in page
    assert '<script src="http' not in page


def test_what_a_budget_buys_never_falls(files: Path) -> None:
    """A larger budget buys at least what a smaller one does, and a mix at least what one type does."""
    out = files / "out"
    main(["plan", "--catalogue", str(CATALOGUE), "--sizes", "kairos", "--budget", "2.5", "--out", str(out)])
    points = json.loads((out / "plan.json").read_text(encoding="utf-8"))["frontier"]
    carried = [point["throughput_rpm"] for point in points]
    assert all(more >= 0.995 * less for less, more in pairwise(carried))
    assert all(point["throughput_rpm"] >= point["homogeneous_rpm"] for point in points)


def test_the_cheapest_mix_for_a_demand_carries_it(files: Path) -> None:
    """The budget is then what that mix costs."""
    out = files / "out"
    arguments = ["--catalogue", str(files / "catalogue.yaml"), "--sizes", str(files / "sizes.csv")]
    assert main(["plan", *arguments, "--demand", "500", "--out", str(out)]) == 0
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    assert plan["chosen"]["throughput_rpm"] >= 500
    assert plan["budget_usd_per_hour"] == plan["chosen"]["cost_usd_per_hour"]


def test_a_fleet_gets_a_proposal_that_is_a_valid_fleet(files: Path) -> None:
    """Counts from the mix, weights for the class of large queries, the rest as it was; the file stays."""
    path, out = fleet_with_classes(files), files / "out"
    before = path.read_text(encoding="utf-8")
    requests = ["--requests", str(files / "requests.csv"), "--latency-seconds", "6"]
    assert main(["plan", "--fleet", str(path), *requests, "--demand", "600", "--out", str(out)]) == 0
    assert path.read_text(encoding="utf-8") == before
    fleet, proposed = load_fleet(path), load_fleet(out / "classed.planned.yaml")
    mix = json.loads((out / "plan.json").read_text(encoding="utf-8"))["chosen"]["mix"]
    for unit in proposed.units:
        most = unit.pools[0].nodes.max
        assert most == mix.get(unit.name, fleet.unit_of[unit.pools[0].name].pools[0].nodes.max)
    assert proposed.objective.latency_seconds == 6
    large = proposed.classes[0].weights
    assert sum(large.values()) == 999
    assert {name for name, weight in large.items() if weight} <= mix.keys()
    assert not large["g6-inductor"], "8 images take it 6.7 s"
    assert proposed.classes[1] == fleet.classes[1]


def test_the_quietest_hour_sets_the_minimum(files: Path) -> None:
    """nodes.min carries --quiet; without it a base keeps one node."""
    path, out = fleet_with_classes(files), files / "out"
    common = ["plan", "--fleet", str(path), "--requests", str(files / "requests.csv"), "--out", str(out)]
    choices = ["--latency-seconds", "6", "--demand", "600", "--quiet", "150"]
    assert main([*common, *choices]) == 0
    proposed = load_fleet(out / "classed.planned.yaml")
    least = sum(pool.nodes.min for pool in proposed.pools)
    assert 1 <= least < sum(pool.nodes.max for pool in proposed.pools if pool.nodes.min)


def test_a_proposal_is_never_overwritten(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody may have edited it; the same proposal again is no harm."""
    path, out = fleet_with_classes(files), files / "out"
    arguments = ["plan", "--fleet", str(path), "--requests", str(files / "requests.csv"), "--out", str(out)]
    arguments += ["--latency-seconds", "6", "--demand", "300"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    proposal = out / "classed.planned.yaml"
    proposal.write_text("# mine\n")
    assert main(arguments) == 2
    assert "holds another proposal; valid: another folder" in capsys.readouterr().err
    assert proposal.read_text() == "# mine\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--budget", "0.9"],
            "does not pay for one base instance; valid: at least 1",
        ),
        (["--budget", "-1"], "budget: -1; valid: a number above 0"),
        ([], "budget: missing; valid: --budget USD per hour, or --demand requests per minute"),
        (
            ["--demand", "1e9"],
            "is more than all instances carry; valid: at most",
        ),
        (
            ["--budget", "4", "--quiet", "9"],
            "quiet: a catalogue has no node counts",
        ),
        (["--budget", "4", "--largest", "1"], "largest: 1; valid: at least the smallest size, 10"),
        (
            ["--budget", "4", "--latency-seconds", "0.3"],
            "none serves a query of size 40 within 0.3 s; valid:",
        ),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_in_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """What is wrong and what would be valid; exit code 2, nothing written."""
    given = ["--catalogue", str(files / "catalogue.yaml"), "--sizes", str(files / "sizes.csv")]
    out = files / "out"
    assert main(["plan", *given, *arguments, "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert not out.exists()


def test_a_demand_beyond_the_fleets_budget_is_refused_with_what_it_needs(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The proposal would be a fleet that its own budget does not pay for."""
    arguments = ["--fleet", "fleet.yaml", "--requests", str(files / "requests.csv"), "--latency-seconds", "6"]
    assert main(["plan", *arguments, "--demand", "600", "--budget", "3"]) == 2
    assert "valid: a budget of at least that (it is 3), or a lower demand" in capsys.readouterr().err
