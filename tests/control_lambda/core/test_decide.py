"""One decision after the other: the mode machine, failover, and what staleness holds."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from control_lambda.core.decide import LEAST_DWELL_SECONDS, choose_mode, decide
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Decision, Evidence, EvidenceKind, Mode, PoolSignals, State, Suspension
from control_lambda.core.outlook import look
from control_lambda.core.reasons import Code
from tests.control_lambda.core.examples import NOON, fleet, group, nodes, snapshot, unit

FLEET = fleet(unit("cheap", price=0.5), unit("dear", price=2.0, type="g5.xlarge"))
CHEAP, DEAR = (pool.name for pool in FLEET.pools)
ENOUGH = 400.0  # rpm that four or five nodes carry


def shortage(at: float, pool: str = CHEAP, kind: EvidenceKind = EvidenceKind.SHORTAGE) -> Evidence:
    """A launch was refused."""
    return Evidence(pool, kind, at)


class Steered:
    """A fleet under the loop's decisions, a tick a minute; the groups are as each tick says."""

    def __init__(self, steered: Fleet = FLEET) -> None:
        self.fleet = steered
        self.state = State()
        self.at = float(NOON)
        self.weights: Mapping[str, int] = {}

    def tick(
        self, ready: Mapping[str, int], rpm: float = ENOUGH, after: float = 60.0, **told: Any
    ) -> Decision:
        """One tick `after` seconds later."""
        self.at += after
        seen = snapshot(self.fleet, ready, rpm, at=self.at, **{"weights": dict(self.weights), **told})
        decision, self.state = decide(seen, self.state, self.fleet)
        self.weights = self.state.weights
        return decision


def codes(decision: Decision) -> set[str]:
    """The codes of the decision's reasons."""
    return {reason.code for reason in decision.reasons}


# --- The mode machine ----------------------------------------------------------------------------------


def test_shortage_of_the_cheapest_leads_to_capacity_mode_at_once() -> None:
    """In the very tick that brings the evidence."""
    steered = Steered()
    assert steered.tick({CHEAP: 1, DEAR: 1}).mode is Mode.COST

    decision = steered.tick({CHEAP: 1, DEAR: 1}, evidence=(shortage(steered.at),))

    assert decision.mode is Mode.CAPACITY
    assert Code.CAPACITY_MODE in codes(decision)
    assert decision.sizes[DEAR] > 1


@pytest.mark.parametrize(
    "kind", [kind for kind in EvidenceKind if kind not in (EvidenceKind.SHORTAGE, EvidenceKind.INTERRUPTION)]
)
def test_no_other_refusal_flips_the_mode(kind: EvidenceKind) -> None:
    """It caps the pool, and the plan goes elsewhere, in cost mode."""
    steered = Steered()
    steered.tick({CHEAP: 1, DEAR: 1})
    decision = steered.tick({CHEAP: 1, DEAR: 1}, evidence=(shortage(steered.at, kind=kind),))

    assert decision.mode is Mode.COST
    assert decision.pools[CHEAP].planned == 1
    assert not decision.pools[CHEAP].available


def test_a_shortage_that_does_not_matter_flips_nothing() -> None:
    """The dear unit is short, and nobody needs it."""
    steered = Steered()
    steered.tick({CHEAP: 6})
    decision = steered.tick({CHEAP: 6}, evidence=(shortage(steered.at, DEAR),))

    assert decision.mode is Mode.COST


def test_a_shortage_flips_nothing_while_what_is_ready_suffices() -> None:
    """Ready and launchable capacity of the cheapest units still carries the forecast."""
    steered = Steered()
    steered.tick({CHEAP: 10}, rpm=100.0)
    decision = steered.tick({CHEAP: 10}, rpm=100.0, evidence=(shortage(steered.at),))

    assert decision.mode is Mode.COST


def failed_over() -> Steered:
    """A fleet in capacity mode since the last tick."""
    steered = Steered()
    steered.tick({CHEAP: 1, DEAR: 6})
    steered.tick({CHEAP: 1, DEAR: 6}, evidence=(shortage(steered.at),))
    assert steered.state.mode is Mode.CAPACITY
    return steered


def test_capacity_mode_dwells_although_capacity_is_back() -> None:
    """Markets flap; the mode must not."""
    steered = failed_over()
    granted = {CHEAP: group(CHEAP, 1, starting=[steered.at + 30]), DEAR: group(DEAR, 6)}
    decision = steered.tick({}, pools=granted)

    assert decision.pools[CHEAP].available
    assert decision.mode is Mode.CAPACITY


def test_cost_mode_comes_back_after_the_dwell_and_with_proof() -> None:
    """A node was granted since, and the least time has passed."""
    steered = failed_over()
    steered.tick({}, pools={CHEAP: group(CHEAP, 1, starting=[steered.at + 30]), DEAR: group(DEAR, 6)})
    decision = steered.tick({CHEAP: 6, DEAR: 6}, after=LEAST_DWELL_SECONDS + 60)

    assert decision.mode is Mode.COST
    assert Code.COST_MODE in codes(decision)


def test_without_proof_capacity_mode_stays_however_long() -> None:
    """That time passes proves nothing."""
    steered = failed_over()
    decision = steered.tick({CHEAP: 1, DEAR: 6}, after=2 * LEAST_DWELL_SECONDS)

    assert decision.mode is Mode.CAPACITY


def test_the_way_back_takes_more_than_the_way_in() -> None:
    """Hysteresis: somewhere between the two, the mode stays what it was."""
    big = fleet(unit("cheap", price=0.5, most=60), unit("dear", price=2.0, type="g5.xlarge", most=60))

    def is_enough(before: Mode, ready: int) -> bool:
        steered = Steered(big)
        steered.tick({CHEAP: ready}, rpm=2000.0)
        steered.state = replace(steered.state, mode=before, mode_since=0.0)
        return steered.tick({CHEAP: ready}, 2000.0, evidence=(shortage(steered.at),)).mode is Mode.COST

    stays = next(ready for ready in range(10, 61) if is_enough(Mode.COST, ready))
    returns = next(ready for ready in range(10, 61) if is_enough(Mode.CAPACITY, ready))

    assert stays < returns


def test_stale_demand_keeps_the_mode() -> None:
    """Whether the cheapest carry the forecast cannot be told without one."""
    for mode in Mode:
        steered = Steered()
        steered.state = State(mode=mode, tick=1, at=steered.at)
        decision = steered.tick({CHEAP: 1}, minutes={}, evidence=(shortage(steered.at),))
        assert decision.mode is mode


# --- Refusals and sizes --------------------------------------------------------------------------------


def test_a_refused_pool_falls_back_to_what_is_in_service() -> None:
    """Otherwise the group would go on asking behind the loop's back."""
    steered = Steered()
    steered.tick({CHEAP: 2})
    pools = {CHEAP: group(CHEAP, 2, desired=6), DEAR: group(DEAR)}
    decision = steered.tick({}, pools=pools, evidence=(shortage(steered.at),))

    assert decision.sizes[CHEAP] == 2


def test_after_its_back_off_a_refused_pool_is_probed_with_one_node() -> None:
    """And with no second one while the first is starting."""
    steered = Steered()
    steered.tick({CHEAP: 2}, rpm=1000.0)
    steered.tick({CHEAP: 2}, rpm=1000.0, evidence=(shortage(steered.at),))
    decision = steered.tick({CHEAP: 2}, rpm=1000.0, after=1000.0)

    assert decision.sizes[CHEAP] == 3
    assert Code.PROBE in codes(decision)


def test_a_refused_launch_takes_no_weight_from_ready_nodes() -> None:
    """The unit that was refused more goes on serving with what it has."""
    steered = Steered()
    steered.tick({CHEAP: 5}, rpm=200.0)
    steered.tick({CHEAP: 5}, rpm=200.0, evidence=(shortage(steered.at),))

    assert steered.state.weights == {"cheap": 999, "dear": 0}


# --- Failover ------------------------------------------------------------------------------------------


def test_a_unit_whose_last_node_is_gone_loses_its_weight_in_one_tick() -> None:
    """And the decision says so."""
    steered = Steered()
    steered.tick({CHEAP: 4, DEAR: 1})
    decision = steered.tick({DEAR: 1})

    assert steered.state.weights == {"cheap": 0, "dear": 999}
    assert Code.FAILOVER in codes(decision)


def test_an_announced_interruption_moves_traffic_before_the_node_is_gone() -> None:
    """Two minutes are enough to lose no request."""
    steered = Steered()
    steered.tick({CHEAP: 1, DEAR: 1}, rpm=50.0)
    (node,) = nodes(CHEAP, 1)
    told = Evidence(CHEAP, EvidenceKind.INTERRUPTION, steered.at, node=node)
    decision = steered.tick({CHEAP: 1, DEAR: 1}, rpm=50.0, evidence=(told,), cause="event")

    assert steered.state.weights == {"cheap": 0, "dear": 999}
    assert Code.INTERRUPTED in codes(decision)


def test_dead_weights_go_while_demand_is_stale() -> None:
    """Readiness is known although demand is not."""
    steered = Steered()
    steered.tick({CHEAP: 4, DEAR: 4})
    decision = steered.tick({DEAR: 4}, minutes={}, after=1200.0)

    assert Code.STALE in codes(decision)
    assert steered.state.weights == {"cheap": 0, "dear": 999}


# --- Stale data, budget, foreign hands -----------------------------------------------------------------


def test_stale_demand_holds_every_size() -> None:
    """It never scales to the minimum, and replaces what was lost."""
    steered = Steered()
    steered.tick({CHEAP: 5, DEAR: 2})
    pools: dict[str, PoolSignals] = {CHEAP: group(CHEAP, 4, desired=5), DEAR: group(DEAR, 2)}
    decision = steered.tick({}, minutes={}, pools=pools, after=1200.0)

    assert decision.sizes == {}


def test_demand_that_is_known_to_be_zero_is_not_stale() -> None:
    """Hosts reported and counts absent: after a while the nodes go."""
    steered = Steered()
    for _ in range(30):
        decision = steered.tick({CHEAP: 5}, rpm=0.0)

    assert Code.STALE not in codes(decision)
    assert decision.pools[CHEAP].planned < 5


def test_the_budget_holds_and_says_what_it_costs() -> None:
    """Demand beyond what the money buys is a shortfall, told as a reason."""
    steered = Steered(fleet(unit("cheap", price=0.5), unit("dear", price=2.0), budget_usd_per_hour=2.1))
    decision = steered.tick({CHEAP: 1}, rpm=2000.0)

    assert decision.cost_usd_per_hour <= 2.1
    assert {Code.BUDGET, Code.SHORTFALL} <= codes(decision)


def test_a_foreign_change_of_the_weights_is_reported_and_corrected() -> None:
    """The loop alone writes the rule."""
    steered = Steered()
    steered.tick({CHEAP: 4, DEAR: 1}, rpm=100.0)
    ours = dict(steered.weights)
    decision = steered.tick({CHEAP: 4, DEAR: 1}, rpm=100.0, weights={"cheap": 0, "dear": 7})

    assert Code.FOREIGN_WEIGHTS in codes(decision)
    assert decision.weights == ours


def test_weights_that_stand_are_not_written_again() -> None:
    """A quiet tick writes nothing."""
    steered = Steered()
    for _ in range(5):
        decision = steered.tick({CHEAP: 5}, rpm=100.0)

    assert decision.weights is None


def test_suspended_launches_are_resumed_when_they_are_needed() -> None:
    """AWS suspends a group after a day of refusals."""
    steered = Steered()
    by_aws = Suspension.AWS
    suspended = {CHEAP: group(CHEAP, 1, launch_suspended=by_aws), DEAR: group(DEAR, launch_suspended=by_aws)}
    decision = steered.tick({}, rpm=300.0, pools=suspended)

    assert decision.resume == (CHEAP,)


def test_a_clock_that_jumped_back_does_not_stop_the_loop() -> None:
    """After one tick dated tomorrow, demand that grows gets its nodes."""
    steered = Steered()
    starting = {CHEAP: group(CHEAP, 2, starting=[steered.at]), DEAR: group(DEAR)}
    steered.tick({}, rpm=100.0, pools=starting)
    today = steered.at
    steered.tick({}, rpm=100.0, after=86400.0, pools=starting, minutes={})
    steered.at = today
    decision = steered.tick({CHEAP: 3}, rpm=900.0)

    assert decision.pools[CHEAP].available
    assert decision.pools[CHEAP].desired > 3


@pytest.mark.parametrize(
    ("before", "headroom", "after"),
    [
        (Mode.COST, 0.99, Mode.CAPACITY),
        (Mode.COST, 1.01, Mode.COST),
        (Mode.CAPACITY, 1.01, Mode.CAPACITY),
        (Mode.CAPACITY, 1.09, Mode.CAPACITY),
        (Mode.CAPACITY, 1.11, Mode.COST),
    ],
)
def test_between_the_threshold_and_a_tenth_more_the_mode_stays(
    before: Mode, headroom: float, after: Mode
) -> None:
    """What the cheapest carry, as a multiple of the forecast: below 1 it fails over, above 1.1 it returns."""
    big = fleet(unit("cheap", price=0.5, most=60), unit("dear", price=2.0, type="g5.xlarge", most=60))
    seen = snapshot(big, {CHEAP: 20}, 1000.0, evidence=(shortage(NOON),))
    outlook = look(seen, State(mode=before, mode_since=NOON - LEAST_DWELL_SECONDS), big)
    upper = outlook.tables["cheap"][20] / headroom

    assert choose_mode(replace(outlook, forecast=replace(outlook.forecast, upper=upper))) is after


def test_the_threshold_scales_what_the_cheapest_have_to_carry() -> None:
    """At 1.5 they need half as much again."""
    wary = fleet(unit("cheap", price=0.5, most=60), unit("dear", price=2.0, most=60), threshold=1.5)
    outlook = look(snapshot(wary, {CHEAP: 20}, 1000.0, evidence=(shortage(NOON),)), State(), wary)
    carried = outlook.tables["cheap"][20]

    def mode(headroom: float) -> Mode:
        return choose_mode(replace(outlook, forecast=replace(outlook.forecast, upper=carried / headroom)))

    assert (mode(1.4), mode(1.6)) == (Mode.CAPACITY, Mode.COST)
