"""In which state every node is, from what is seen and the little that is remembered."""

import json
from collections.abc import Mapping

import pytest

from control_lambda.core.model import (
    NodeSignal,
    NodesMemory,
    PoolSignals,
    Snapshot,
    State,
    TargetHealth,
    plain,
)
from control_lambda.core.supply import nodes
from control_lambda.core.supply.nodes import DEAD_SECONDS, Census
from tests.control_lambda.core.examples import NOON, START, booting, fleet, group, serving, unit

FLEET = fleet(unit("aa"), unit("bb"))
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


def test_an_anomalous_node_is_slow() -> None:
    """It serves, and answers more errors than the others."""
    held = {**serving(["i-1"]), "i-2": NodeSignal(0.0, target=TargetHealth.HEALTHY, anomalous=True)}

    assert lived((NOON, held)).slow == ("i-2",)


def test_a_node_far_slower_than_the_others_of_its_unit_is_slow() -> None:
    """The servers report their latency; of two nobody can tell which is the odd one."""
    pools = {A: group(A, 3), B: group(B, 2)}
    told = {f"i-{A}-0": 0.5, f"i-{A}-1": 0.5, f"i-{A}-2": 1.5, f"i-{B}-0": 0.5, f"i-{B}-1": 1.5}
    found = nodes.censuses(Snapshot(NOON, pools=pools, node_seconds=told), State(), FLEET)

    assert (found[A].slow, found[B].slow) == ((f"i-{A}-2",), ())


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
