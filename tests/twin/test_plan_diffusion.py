"""The diffusion case: from recorded requests to what a mix carries under each distributor."""

import json
from pathlib import Path

import pytest

from control_lambda.core.mix_model import Sizes
from control_lambda.fleet_file import load_fleet
from twin import plan_diffusion
from twin.plan_diffusion import Case, Outcome, cases, main, measure, rounded_up, told

FLEET = Path("fleet.yaml")
SIZES = Sizes((30.0, 120.0, 240.0), (0.7, 0.2, 0.1))


def test_sizes_are_rounded_up_to_those_of_the_laboratory() -> None:
    """A query is never made smaller."""
    assert rounded_up(Sizes((28.0, 30.0, 31.0), (0.2, 0.3, 0.5))) == Sizes((30.0, 40.0), (0.5, 0.5))


def test_the_cases_have_the_fleets_budget_and_a_shortage_of_its_first_unit() -> None:
    """A tenth of the unit's nodes is left, one at least."""
    fleet = load_fleet(FLEET)
    assert {case.budget_usd_per_hour for case in cases(fleet)} == {10.0, fleet.budget_usd_per_hour}
    assert next(dict(case.most) for case in cases(fleet) if case.most) == {"inf2-neuron": 4}


def test_matching_carries_what_least_outstanding_cannot() -> None:
    """Eight images take g6 more than 6 s: who does not look at sizes sends it some."""
    case = Case("short", 6.0, 10.0, {"inf2-neuron": 4})
    mixed, alone = measure(case, load_fleet(FLEET), FLEET, SIZES, queries=1500, seeds=1)
    assert mixed.estimated_rpm > alone.estimated_rpm
    assert mixed.measured_rpm["KAIROS' matching"] > mixed.measured_rpm["least outstanding"]
    assert mixed.measured_rpm["ours"] == pytest.approx(mixed.estimated_rpm, rel=0.15)


def test_an_outcome_is_told_with_what_a_thousand_requests_cost() -> None:
    """At the measured rate; a mix that carries nothing keeps no promise."""
    outcome = Outcome("a case", "2 × x", 6.0, 100.0, {"ours": 50.0, "none": 0.0}, {"ours": 0.0, "none": 0.0})
    assert told(outcome) == "a case: 2 × x: estimated 100; ours 50 ($2.000), none 0 (keeps no promise)"


def test_every_outcome_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file holds what was printed, figure by figure."""
    requests = tmp_path / "requests.csv"
    requests.write_text("n_images,steps\n" + "1,30\n" * 8 + "4,30\n" * 2)
    only = [Case("one", 6.0, 3.0, {})]
    monkeypatch.setattr(plan_diffusion, "cases", lambda _: only)
    given = ["--requests", str(requests), "--queries", "400", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert main(given) == 0
    written = json.loads((tmp_path / "out" / "diffusion.json").read_text(encoding="utf-8"))
    assert [outcome["case"] for outcome in written] == ["one"] * len(written)
    assert all(outcome["measured_rpm"]["ours"] > 0 for outcome in written)


def test_bad_input_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, nothing written."""
    given = ["--requests", str(tmp_path / "none.csv"), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
