"""The cases of trouble and the matrix: files that can be used, and outcomes that can miss."""

from dataclasses import replace

import pytest

from control_lambda.fleet_file import load_fleet
from twin.bench import cases
from twin.bench.cases import CASES, FLEETS, TROUBLE, CaseJob
from twin.bench.matrix import FLEETS_OF_THE_MATRIX, MatrixJob, troubles
from twin.world.kinds import KINDS
from twin.world.trouble import Trouble


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_a_file_that_its_fleet_can_be_struck_with(name: str) -> None:
    """And its bar lies within the replay."""
    case = CASES[name]
    trouble = Trouble.read(TROUBLE / f"{name}.yaml", load_fleet(case.fleet), case.minutes)
    assert trouble.entries
    assert 0 <= case.begin < case.end <= case.minutes


def test_no_file_of_the_cases_is_left_over() -> None:
    """Each file belongs to a case, each fleet is somebody's."""
    assert {path.stem for path in TROUBLE.glob("*.yaml")} == CASES.keys()
    fleets = {case.fleet for case in CASES.values()} | {*FLEETS_OF_THE_MATRIX.values()}
    assert {*FLEETS.glob("*.yaml")} <= fleets


def test_a_case_reaches_its_bar() -> None:
    """A failing health check takes no traffic from what serves."""
    found = CaseJob("checks-fail", "refuse").run()
    assert found.reached, found.told()


def test_a_case_that_costs_too_much_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict can be no."""
    dear = replace(CASES["checks-fail"], most_usd_per_hour=(60, 120, 0.01))
    monkeypatch.setattr(cases, "CASES", {"checks-fail": dear})
    found = CaseJob("checks-fail", "refuse").run()
    assert not found.reached
    assert "at most 0.01" in found.told()


def test_nearly_every_kind_can_befall_every_fleet_of_the_matrix() -> None:
    """Only what needs spot or standby nodes is left out where there are none."""
    left_out = {
        name: KINDS.keys() - {what for what, _ in troubles(load_fleet(path))}
        for name, path in FLEETS_OF_THE_MATRIX.items()
    }
    standby = {"refill-refused", "standby-refused"}
    assert left_out["spot twins"] == standby
    assert left_out["default"] == standby | {"interrupted"}
    assert left_out["inf2 alone"] == standby | {"interrupted"}


def test_the_matrix_tells_what_trouble_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same replay without it."""
    monkeypatch.setattr("twin.bench.matrix.KINDS", {"note": KINDS["note"]})
    monkeypatch.setattr("twin.bench.matrix.MINUTES", 150)
    (cell,) = MatrixJob("inf2 alone", "steady").run().cells
    assert cell.what == "note"
    assert cell.loss == 0.0
    assert cell.usd_per_hour == cell.calm_usd_per_hour
