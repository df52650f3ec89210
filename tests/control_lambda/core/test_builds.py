"""A unit that has nothing to run yet: no nodes, said each tick, until it is built or proves that it is."""

from typing import get_args

import pytest

from control_lambda.core.decide import decide
from control_lambda.core.fleet import Fleet, Policy
from control_lambda.core.model import Decision, Mode, State
from control_lambda.core.reasons import Code
from tests.control_lambda.core.examples import NOON, fleet, snapshot, unit

WAITING = {"cheap": "build-cheap: FAILED"}
RPM = 400.0


def steered(least: int = 0) -> Fleet:
    """A cheap unit and a dear one; the cheap one has that many nodes at least."""
    return fleet(unit("cheap", price=0.5, least=least), unit("dear", price=2.0, type="g5.xlarge"))


CHEAP, DEAR = (pool.name for pool in steered().pools)


def tick(
    fleet: Fleet, state: State, ready: dict[str, int], minute: int, **told: object
) -> tuple[Decision, State]:
    """The tick of that minute after noon."""
    return decide(snapshot(fleet, ready, RPM, at=NOON + 60.0 * minute, **told), state, fleet)


def reasons(decision: Decision) -> dict[str, str]:
    """The text of each reason that concerns the cheap unit."""
    return {reason.code: reason.text for reason in decision.reasons if reason.subject == "cheap"}


@pytest.mark.parametrize("least", [0, 2])
def test_an_unbuilt_unit_gets_no_nodes_and_says_so(least: int) -> None:
    """Not even those that fleet.yaml asks for at least; the others carry demand."""
    decision, _ = tick(steered(least), State(), {DEAR: 1}, 0, unbuilt=WAITING)
    assert CHEAP not in decision.sizes
    assert decision.pools[CHEAP].planned == 0
    assert decision.sizes[DEAR] > 1
    assert (
        reasons(decision)[Code.NOT_BUILT] == "cheap: gets no nodes before it is built (build-cheap: FAILED)"
    )


def test_it_says_so_in_every_tick() -> None:
    """It is a state, not an event."""
    _, state = tick(steered(), State(), {DEAR: 1}, 0, unbuilt=WAITING)
    decision, _ = tick(steered(), state, {DEAR: 8}, 1, unbuilt=WAITING)
    assert Code.NOT_BUILT in reasons(decision)


def test_an_unbuilt_unit_is_no_shortage() -> None:
    """The mode stays; only refused launches flip it."""
    decision, _ = tick(steered(), State(), {DEAR: 1}, 0, unbuilt=WAITING)
    assert decision.mode is Mode.COST


def test_once_it_is_built_it_gets_nodes() -> None:
    """In the same tick."""
    _, state = tick(steered(), State(), {DEAR: 1}, 0, unbuilt=WAITING)
    decision, _ = tick(steered(), state, {DEAR: 8}, 1)
    assert decision.sizes[CHEAP] > 0
    assert Code.NOT_BUILT not in reasons(decision)


def test_a_unit_that_serves_is_built_whatever_is_told() -> None:
    """The word that it was built may have been lost; its nodes are the proof."""
    decision, state = tick(steered(), State(), {CHEAP: 1}, 0, unbuilt=WAITING)
    assert decision.sizes[CHEAP] > 1
    assert Code.NOT_BUILT not in reasons(decision)
    assert state.served == ("cheap",)


def test_a_unit_that_has_served_stays_built_without_any_node() -> None:
    """After a night without demand it has none, and must get some in the morning."""
    _, state = tick(steered(), State(), {CHEAP: 1}, 0, unbuilt=WAITING)
    decision, _ = tick(steered(), state, {}, 1, unbuilt=WAITING)
    assert decision.sizes[CHEAP] > 0
    assert Code.NOT_BUILT not in reasons(decision)


def test_a_fleet_of_unbuilt_units_waits() -> None:
    """The first deployment: nothing is launched, nothing breaks."""
    both = {**WAITING, "dear": "build-dear: IN_PROGRESS"}
    decision, _ = tick(steered(1), State(), {}, 0, unbuilt=both)
    assert decision.sizes == {}
    assert {reason.subject for reason in decision.reasons if reason.code == Code.NOT_BUILT} == set(both)


@pytest.mark.parametrize("policy", get_args(Policy))
def test_under_every_policy_the_others_get_an_unbuilt_units_share(policy: str) -> None:
    """As if the unit were not in the fleet."""
    cheap, dear = (described.model_dump(mode="json", exclude_defaults=True) for described in steered().units)
    decision, _ = tick(fleet(dear, cheap, policy=policy), State(), {DEAR: 1}, 0, unbuilt=WAITING)
    alone, _ = tick(fleet(dear, policy=policy), State(), {DEAR: 1}, 0)
    assert CHEAP not in decision.sizes
    assert decision.pools[DEAR].planned == alone.pools[DEAR].planned > 1
