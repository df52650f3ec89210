"""In which state every node is, from what is seen and the little that is remembered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import pytest

from control_lambda.core.model import (
    NodeSignal,
    NodesMemory,
    PoolSignals,
    ServiceMemory,
    Snapshot,
    State,
    TargetHealth,
    plain,
)
from control_lambda.core.supply import nodes
from control_lambda.core.supply.nodes import DEAD_SECONDS, Census
from tests.control_lambda.core.examples import NOON, START, booting, fleet, group, serving, unit

FLEET = fleet(unit("aa"), unit("bb"))
STATE = State()
UNIT = FLEET.units[0]
A, B = (pool.name for pool in FLEET.pools)
UNHEALTHY, INITIAL, NONE = TargetHealth.UNHEALTHY, TargetHealth.INITIAL, TargetHealth.NONE


def ailing(*identities: str, target: TargetHealth = UNHEALTHY, at: float = 0.0) -> dict[str, NodeSignal]:
    """Nodes launched long ago whose targets fare like that."""
    return {identity: NodeSignal(at, target=target) for identity in identities}


def seen(held: Mapping[str, NodeSignal]) -> PoolSignals:
    """The pool with these nodes."""
    return PoolSignals(len(held), held)


def lived(*moments: tuple[float, Mapping[str, NodeSignal]]) -> Census:
    """The census after the pool was seen like that, one moment after the other."""
    memory = NodesMemory()
    for at, held in moments:
        memory = nodes.remember(memory, seen(held), UNIT, at)
    at, held = moments[-1]
    return nodes.census(memory, seen(held), UNIT, at)


def test_a_node_that_ceases_to_serve_is_suspect_and_after_two_minutes_dead() -> None:
    """A check that failed once is no death."""
    well, ill = serving(["i-1"]), ailing("i-1")

    assert lived((NOON, well), (NOON + 60, ill)).suspect == ("i-1",)
    assert lived((NOON, well), (NOON + 60, ill), (NOON + 60 + DEAD_SECONDS, ill)).dead == ("i-1",)


def test_a_node_that_recovers_begins_anew() -> None:
    """Two short failures are not one long one."""
    well, ill = serving(["i-1"]), ailing("i-1")
    moments = ((NOON, well), (NOON + 60, ill), (NOON + 120, well), (NOON + 180, ill))

    assert lived(*moments, (NOON + 240, ill)) == Census(suspect=("i-1",))


@pytest.mark.parametrize("target", [INITIAL, NONE, TargetHealth.DRAINING])
def test_a_pod_that_is_replaced_gets_as_long_as_a_start(target: TargetHealth) -> None:
    """A roll-out takes the target of every node away for minutes; that is no death either."""
    well, gone = serving(["i-1"]), ailing("i-1", target=target)

    assert lived((NOON, well), (NOON + 60, gone), (NOON + START, gone)).suspect == ("i-1",)
    assert lived((NOON, well), (NOON + 60, gone), (NOON + 60 + START, gone)).dead == ("i-1",)


def test_a_node_that_has_not_served_within_twice_its_start_hangs() -> None:
    """Whatever its target says: it fails its checks, or has none."""
    born = ailing("i-1", at=NOON)

    assert lived((NOON, born), (NOON + 2 * START, born)).starting == ("i-1",)
    assert lived((NOON, born), (NOON + 2 * START + 1, born)).hung == ("i-1",)


def test_without_memory_an_old_unhealthy_target_is_taken_for_one_that_served() -> None:
    """So that the breaker spares it; a target that never was healthy tells of a node that hangs."""
    old = {**ailing("i-1"), **ailing("i-2", target=INITIAL)}

    assert lived((NOON, old)) == Census(suspect=("i-1",), hung=("i-2",))


def test_a_node_launched_since_the_last_look_is_new() -> None:
    """It is seen unhealthy at first: nobody has seen it serve."""
    young = ailing("i-2", at=NOON + 30)

    assert lived((NOON, serving(["i-1"])), (NOON + 60, {**serving(["i-1"]), **young})).starting == ("i-2",)


def test_what_is_remembered_stays_while_nobody_knows_who_serves() -> None:
    """A blind tick neither heals nor kills."""
    memory = NodesMemory(NOON, ("i-2",), {"i-1": NOON})
    blind = PoolSignals(2, ailing("i-1", "i-2"), health_known=False)

    assert nodes.remember(memory, blind, UNIT, NOON + 60) == memory
    assert nodes.census(memory, blind, UNIT, NOON + 600) == Census()


def ticks(
    pools: Mapping[str, PoolSignals], told: Mapping[str, float], times: Sequence[float], state: State = STATE
) -> dict[str, tuple[str, ...]]:
    """The slow nodes by pool after ticks at these times that all saw the same."""
    for at in times:
        seen = Snapshot(at, pools=pools, node_seconds=told)
        state = replace(state, nodes=nodes.learn(state, seen, FLEET))
    return {pool: census.slow for pool, census in nodes.censuses(seen, state, FLEET).items()}


THREE_TICKS: Final = (NOON, NOON + 60, NOON + 120)


def test_an_anomalous_node_is_slow_after_three_ticks() -> None:
    """It serves, and answers more errors than the others; one look may be a hiccup."""
    odd = {"i-2": NodeSignal(0.0, target=TargetHealth.HEALTHY, anomalous=True)}
    pools = {A: PoolSignals(2, {**serving(["i-1"]), **odd})}

    assert ticks(pools, {}, THREE_TICKS)[A] == ("i-2",)
    assert ticks(pools, {}, THREE_TICKS[:2])[A] == ()


def test_a_node_that_says_it_is_far_slower_than_its_unit_is_slow() -> None:
    """In three ticks a minute apart; of events in between there may be any number."""
    pools = {A: group(A, 3), B: group(B, 2)}
    slow = 1.6 * UNIT.profile.service_seconds
    told = {f"i-{A}-1": 1.4 * UNIT.profile.service_seconds, f"i-{A}-2": slow, "i-gone": slow}

    assert ticks(pools, told, THREE_TICKS) == {A: (f"i-{A}-2",), B: ()}
    assert ticks(pools, told, (NOON, NOON + 1, NOON + 2, NOON + 119))[A] == ()


def test_a_node_that_was_well_in_between_is_not_slow() -> None:
    """It begins anew."""
    pools = {A: group(A, 3)}
    told = {f"i-{A}-2": 3 * UNIT.profile.service_seconds}
    state = STATE
    for at, said in ((NOON, told), (NOON + 60, {}), (NOON + 120, told)):
        seen = Snapshot(at, pools=pools, node_seconds=said)
        state = replace(state, nodes=nodes.learn(state, seen, FLEET))

    assert nodes.censuses(seen, state, FLEET)[A].slow == ()


def test_slow_is_measured_against_what_the_unit_is_known_to_take() -> None:
    """Where the profile is wrong every node is slower than it says."""
    pools = {A: group(A, 3)}
    told = {f"i-{A}-2": 1.6 * UNIT.profile.service_seconds}
    learned = replace(STATE, service={UNIT.name: ServiceMemory(ratio=1.5)})

    assert ticks(pools, told, THREE_TICKS, learned)[A] == ()


def test_where_most_of_its_nodes_are_slow_the_unit_is() -> None:
    """Its service time is learned; replacing its nodes would change nothing. Its pools count together."""
    fleet_pool = {A: group(A, 4)}
    told = {f"i-{A}-{number}": 3 * UNIT.profile.service_seconds for number in range(3)}

    assert ticks(fleet_pool, told, THREE_TICKS)[A] == ()
    assert len(ticks({A: group(A, 6)}, told, THREE_TICKS)[A]) == 3


def test_the_memory_of_a_thousand_nodes_that_all_fell_ill_fits_into_the_state() -> None:
    """Ten pools of a hundred; DynamoDB takes 400 KB, and all that serve need nothing."""
    names = [f"i-{number:017x}" for number in range(100)]
    memory = nodes.remember(NodesMemory(NOON), seen(ailing(*names)), UNIT, NOON + 60)
    well = nodes.remember(NodesMemory(NOON), seen(serving(names)), UNIT, NOON + 60)

    assert 10 * len(json.dumps(plain(memory))) < 100_000
    assert well == NodesMemory(NOON + 60)


def test_starting_nodes_are_listed_oldest_first() -> None:
    """Whoever has to choose takes the first."""
    assert lived((NOON, booting({"i-1": NOON, "i-2": NOON - 60}))).starting == ("i-2", "i-1")
