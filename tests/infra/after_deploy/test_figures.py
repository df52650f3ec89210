"""The figures of a game day, from answers and records whose truth is plain."""

from typing import Any

import pytest

from control_lambda.core.fleet import Objective
from infra.after_deploy.figures import Times, attainment, by_minute, cost, failback, failover, figures
from infra.after_deploy.load import Answer

OBJECTIVE = Objective(latency_seconds=2.0, percentile=95, attainment=0.9)
TIMES = Times(start=0, begin=300, end=600, stop=1200)


def answers(lost_from: float = 0, lost_until: float = 0) -> list[Answer]:
    """One request a second, answered in a second; none in between."""
    return [Answer(at, 1.0, 503 if lost_from <= at < lost_until else 200) for at in range(1200)]


def record(at: float, usd: float = 36.0, **weights: int) -> dict[str, Any]:
    """A decision record, as far as figures read it."""
    return {
        "at": at,
        "cost_usd_per_hour": usd,
        "units": {unit: {"weight": weight} for unit, weight in weights.items()},
        "reasons": [{"code": "grow", "subject": "a", "text": "a grows"}],
    }


def test_late_and_lost_requests_are_not_attained() -> None:
    """An answer counts that is a picture and in time."""
    given = [Answer(0, 1.0, 200), Answer(0, 2.5, 200), Answer(0, 0.1, 500), Answer(0, 0.1, 0)]
    assert attainment(given, OBJECTIVE) == 0.25
    assert attainment([], OBJECTIVE) is None


def test_failover_is_the_time_until_users_are_served_for_good() -> None:
    """From the beginning of trouble; nothing when they always were; unknown when they are not yet."""
    assert failover(answers(), TIMES, OBJECTIVE) == 0
    assert failover(answers(310, 340), TIMES, OBJECTIVE) == 40
    assert failover(answers(310, 1200), TIMES, OBJECTIVE) is None


def test_a_miss_long_before_trouble_is_no_part_of_it() -> None:
    """Nor is one after users were served steadily."""
    assert failover(answers(100, 200), TIMES, OBJECTIVE) == 0
    twice = answers(300, 320)
    twice[900:905] = [Answer(900 + each, 1.0, 503) for each in range(5)]
    assert failover(twice, TIMES, OBJECTIVE) == 20


def test_failback_is_the_time_from_the_end_until_shares_are_as_before() -> None:
    """Of every unit; a share may differ a little."""
    records = [
        record(290, a=999, b=0),
        record(400, a=0, b=999),
        record(700, a=500, b=499),
        record(760, a=990, b=9),
    ]
    assert failback(records, TIMES) == 160
    assert failback(records[:3], TIMES) is None
    assert failback([record(290, a=1), record(400, a=1)], TIMES) == 0
    assert failback([], TIMES) is None


def test_nodes_cost_what_the_records_priced() -> None:
    """Each price holds until the next record; the first one reaches back."""
    records = [record(100, usd=36.0), record(600, usd=72.0)]
    assert cost(records, 0, 1200) == pytest.approx(0.01 * 600 + 0.02 * 600)
    assert cost(records, 600, 1200) == pytest.approx(0.02 * 600)
    assert cost([], 0, 1200) is None


def test_the_phases_share_the_answers() -> None:
    """Each request counts in one phase; what was lost before trouble is not trouble's."""
    told = figures(answers(280, 320), [record(0)], TIMES, OBJECTIVE)
    assert [phase["requests"] for phase in told["phases"]] == [300, 300, 600]
    assert [phase["lost"] for phase in told["phases"]] == [20, 20, 0]
    assert told["lost"] == 20
    assert len(by_minute(answers(), TIMES, OBJECTIVE)) == 20
