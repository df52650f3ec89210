"""The diffusion case: from recorded requests to what a mix carries under each distributor."""

from pathlib import Path

import pytest

from control_lambda.core.mix.model import Sizes
from control_lambda.fleet_file import load_fleet
from twin.errors import InputError
from twin.mixes.diffusion import ONE_ROW, ROW_BY_SIZE, Case, DiffusionJob, OnRequests, cases, jobs, rounded_up
from twin.mixes.jobs import KAIROS, OURS, Size, label

FLEET = Path("fleet.yaml")
# One image, four and eight of thirty steps.
REQUESTS = "n_images,steps\n" + "1,30\n" * 7 + "4,30\n" * 2 + "8,30\n"


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnRequests, ...]:
    """Ten USD per hour while the first unit is short: our mix, and the best of one type."""
    requests = tmp_path_factory.mktemp("requests") / "requests.csv"
    requests.write_text(REQUESTS)
    case = Case("short", 6.0, 10.0, {"inf2-neuron": 4})
    return DiffusionJob(case, Size(queries=1500, seeds=1), FLEET, requests).run().outcomes


def test_sizes_are_rounded_up_to_those_of_the_laboratory() -> None:
    """A query is never made smaller."""
    assert rounded_up(Sizes((28.0, 30.0, 31.0), (0.2, 0.3, 0.5))) == Sizes((30.0, 40.0), (0.5, 0.5))


def test_the_cases_have_the_fleets_budget_and_a_shortage_of_its_first_unit() -> None:
    """A tenth of the unit's nodes is left, one at least."""
    fleet = load_fleet(FLEET)
    every = list(cases(fleet))
    assert {case.budget_usd_per_hour for case in every} == {10.0, fleet.budget_usd_per_hour}
    assert next(dict(case.most) for case in every if case.most) == {"inf2-neuron": 4}


def test_matching_carries_what_weights_and_least_outstanding_cannot(short: tuple[OnRequests, ...]) -> None:
    """Eight images take g6 more than 6 s: who does not look at sizes sends it some, or does without it."""
    carried = {name: one.mean for name, one in short[0].measured_rpm.items()}
    assert carried[label(KAIROS)] > max(carried[ROW_BY_SIZE], carried["least outstanding"])
    assert carried[ROW_BY_SIZE] > carried[ONE_ROW]


def test_ours_carries_about_what_the_estimate_says(short: tuple[OnRequests, ...]) -> None:
    """Which is more than it estimates for one type alone."""
    mixed, alone = short
    assert mixed.estimated_rpm > alone.estimated_rpm
    assert mixed.measured_rpm[label(OURS)].mean == pytest.approx(mixed.estimated_rpm, rel=0.15)


def test_absent_requests_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is measured; the message names the variable."""
    monkeypatch.setenv("FULCRUM_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"FULCRUM_DATA: .*sd_requests\.csv"):
        jobs(Size())
