"""What nodes that are taken away teach about their pool."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_lambda.core.decide import decide
from control_lambda.core.model import Losses, Snapshot, State
from control_lambda.core.supply import losses
from tests.control_lambda.core.examples import NOON, fleet, group, snapshot, unit

POOL = "aa-spot"
FLEET = fleet(unit("aa", markets=("spot",)))
TICK = 60.0


def learned(before: int, after: int, *, desired: int, seconds: float = TICK) -> Losses:
    """What a tick learns that finds `after` nodes where there were `before`."""
    state = State(at=NOON - seconds, in_service={POOL: before}, desired={POOL: desired})
    return losses.learn(state, Snapshot(NOON, pools={POOL: group(POOL, after)}))[POOL]


def test_nodes_that_go_although_they_are_wanted_are_lost() -> None:
    """Two of four went while all four were wanted."""
    assert learned(4, 2, desired=4).lost == pytest.approx(2.0)


def test_nodes_that_we_gave_up_are_not_lost() -> None:
    """The group shrank because it was told to."""
    assert learned(4, 2, desired=2).lost == 0.0


def test_every_node_adds_its_time() -> None:
    """Four nodes for a minute are four sixtieths of a node-hour."""
    assert learned(4, 4, desired=4).node_hours == pytest.approx(4 / 60)


def test_a_long_gap_between_ticks_counts_for_five_minutes_only() -> None:
    """Nobody saw whether the nodes were there all the time."""
    assert learned(1, 1, desired=1, seconds=86400.0).node_hours == pytest.approx(300 / 3600)


def test_a_pool_that_cannot_be_sensed_teaches_nothing() -> None:
    """Missing is not lost."""
    state = State(at=NOON - TICK, in_service={POOL: 4}, desired={POOL: 4}, losses={POOL: Losses(1.0, 2.0)})

    assert losses.learn(state, Snapshot(NOON)) == {POOL: Losses(1.0, 2.0)}


def test_a_calm_pool_is_thought_safer_by_the_hour_and_a_restless_one_dearer_by_the_loss() -> None:
    """The rate is what was seen, with a prior that two hours outweigh."""
    calm, unknown, restless = (
        losses.rate_per_hour(known, "spot") for known in (Losses(0.0, 50.0), None, Losses(10.0, 10.0))
    )

    assert calm < unknown < restless
    assert restless == pytest.approx(10 / 12, rel=0.15)


def test_nodes_on_demand_are_not_taken_away() -> None:
    """A node that fails there says nothing about the market."""
    assert losses.rate_per_hour(Losses(10.0, 10.0), "on-demand") == 0.0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(0.0, 1e3), st.floats(0.0, 1e4))
def test_a_rate_is_told_in_steps_of_a_quarter(lost: float, hours: float) -> None:
    """The plan does not change with every minute's learning."""
    exact = (lost + losses.PRIOR_LOST) / (hours + losses.PRIOR_NODE_HOURS)

    assert losses.rate_per_hour(Losses(lost, hours), "spot") == pytest.approx(exact, rel=0.125)


def test_the_risk_of_a_node_is_its_late_requests_priced() -> None:
    """One loss an hour: eleven minutes of 120 requests each, a third of them late."""
    assert losses.risk_usd_per_hour(1.0, FLEET.units[0], 0.003) == pytest.approx(11 * 120 / 3 * 0.003)


def test_a_pool_that_keeps_losing_its_nodes_is_passed_over_for_a_steadier_dearer_one() -> None:
    """The same demand goes to the cheaper spot pool until its nodes turn out not to last."""
    steered = fleet(unit("aa", price=1.0, markets=("spot",)), unit("bb", price=1.2, markets=("spot",)))
    seen = snapshot(steered, {"aa-spot": 3, "bb-spot": 3}, 150.0)
    trusting, _ = decide(seen, State(), steered)
    wary, _ = decide(seen, State(losses={"aa-spot": Losses(20.0, 10.0)}), steered)

    assert trusting.pools["aa-spot"].planned > trusting.pools["bb-spot"].planned
    assert wary.pools["aa-spot"].planned < wary.pools["bb-spot"].planned
