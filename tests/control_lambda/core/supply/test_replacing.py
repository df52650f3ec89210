"""Whom the loop terminates by id, how fast, with or without its place, and when it stops itself."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from control_lambda.core.decide import decide
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import (
    Cause,
    Decision,
    EvidenceKind,
    Limit,
    NodeSignal,
    NodesMemory,
    PoolSignals,
    Refusal,
    Snapshot,
    State,
    Suspension,
    TargetHealth,
    Trial,
)
from control_lambda.core.reasons import Code
from control_lambda.core.supply.replacing import PACE_SECONDS
from tests.control_lambda.core.examples import NOON, START, fleet, group, minutes, serving, unit

FLEET = fleet(unit("cheap", price=0.5, most=20), unit("dear", price=2.0, most=20))
CHEAP, DEAR = (pool.name for pool in FLEET.pools)
LONG_AGO = NOON - 3 * START


def ill(pool: str, count: int, *, since: float = NOON - 600) -> tuple[dict[str, NodeSignal], NodesMemory]:
    """Nodes of the pool that served and have failed their checks since, and the memory of that."""
    names = [f"i-{pool}-ill-{number}" for number in range(count)]
    signals = {name: NodeSignal(LONG_AGO, target=TargetHealth.UNHEALTHY) for name in names}
    return signals, NodesMemory(NOON - 60, unhealthy=dict.fromkeys(names, since))


def hung(pool: str, count: int) -> dict[str, NodeSignal]:
    """Nodes of the pool that never served."""
    return {
        f"i-{pool}-hung-{number}": NodeSignal(LONG_AGO, target=TargetHealth.INITIAL)
        for number in range(count)
    }


def well(pool: str, count: int) -> dict[str, NodeSignal]:
    """Nodes of the pool that serve."""
    return serving(f"i-{pool}-well-{number}" for number in range(count))


def held(nodes: Mapping[str, NodeSignal], **told: object) -> PoolSignals:
    """A group that holds what it wants."""
    return PoolSignals(desired=int(str(told.pop("desired", len(nodes)))), nodes=nodes, **told)  # type: ignore[arg-type]


def decided(
    pools: Mapping[str, PoolSignals], rpm: float, state: State, steered: Fleet = FLEET, at: float = NOON
) -> tuple[Decision, State]:
    """What is decided about these groups under `rpm`."""
    seen = Snapshot(
        at,
        minutes={steered.units[0].name: minutes(at, rpm)},
        pools={pool.name: pools.get(pool.name, group(pool.name)) for pool in steered.pools},
        weights=dict(state.weights),
    )
    return decide(seen, state, steered)


def remembering(tick: int = 5, **told: object) -> State:
    """A state of a minute ago."""
    weights = {unit.name: 500 for unit in FLEET.units}
    return State(tick=tick, at=NOON - 60, weights=weights, **told)  # type: ignore[arg-type]


def codes(decision: Decision) -> set[str]:
    """The codes of its reasons."""
    return {reason.code for reason in decision.reasons}


def test_dead_nodes_block_no_growth_and_are_replaced() -> None:
    """Four of nine: the plan buys anew what they carried, and one of them goes at once."""
    dead, memory = ill(CHEAP, 4)
    decision, _ = decided(
        {CHEAP: held({**well(CHEAP, 5), **dead})}, 600.0, remembering(nodes={CHEAP: memory})
    )

    (item,) = decision.terminate
    assert (item.pool, item.why, item.decrement) == (CHEAP, Cause.DEAD, False)
    assert item.node in dead
    assert decision.sizes[CHEAP] > 9
    assert decision.pools[CHEAP].planned > 5


def test_at_most_a_tenth_of_the_pool_goes_within_three_minutes() -> None:
    """Two of twenty, whatever is dead; and no more before the pace allows it."""
    dead, memory = ill(CHEAP, 8)
    pools = {CHEAP: held({**well(CHEAP, 12), **dead})}
    first, after = decided(pools, 900.0, remembering(nodes={CHEAP: memory}))
    soon, _ = decided(pools, 900.0, after, at=NOON + PACE_SECONDS - 1)
    later, _ = decided(pools, 900.0, after, at=NOON + PACE_SECONDS)

    assert [len(found.terminate) for found in (first, soon, later)] == [2, 0, 2]


def test_a_tick_that_died_after_it_terminated_does_not_quicken_the_pace() -> None:
    """Nothing was saved: what is on its way out was perhaps terminated by it."""
    dead, memory = ill(CHEAP, 3)
    pools = {CHEAP: held({**well(CHEAP, 5), **dead}, terminating=1)}
    known = replace(remembering(nodes={CHEAP: memory}), at=NOON - 120)
    decision, _ = decided(pools, 300.0, known)
    in_time, _ = decided(pools, 300.0, replace(known, at=NOON - 60))

    assert decision.terminate == ()
    assert len(in_time.terminate) == 1


def test_a_hung_node_gives_up_its_place() -> None:
    """The pool may not grow: what was launched here never served. What it lacks is bought elsewhere."""
    pools = {CHEAP: held({**well(CHEAP, 3), **hung(CHEAP, 3)})}
    decision, after = decided(pools, 600.0, remembering())

    (item,) = decision.terminate
    assert (item.why, item.decrement) == (Cause.HUNG, True)
    assert decision.sizes.keys() == {DEAR}
    assert [refusal.kind for refusal in after.refusals.values()] == [EvidenceKind.NEVER_READY]


def test_at_the_maximum_a_dead_node_is_replaced_in_its_place() -> None:
    """The group is full of it: a node of use comes for every one that goes, and none beside them."""
    full = fleet(unit("cheap", most=6))
    dead, memory = ill(CHEAP, 3)
    pools = {CHEAP: held({**well(CHEAP, 3), **dead})}
    decision, _ = decided(pools, 2000.0, remembering(nodes={CHEAP: memory}), full)

    assert [item.decrement for item in decision.terminate] == [False]
    assert decision.sizes == {}
    assert decision.pools[CHEAP].desired == 6


def test_at_the_budget_nothing_is_bought_beside_the_dead() -> None:
    """They are paid for: the planned cost stays within the budget with them."""
    tight = fleet(unit("cheap", price=0.5, most=20), budget_usd_per_hour=3.0)
    dead, memory = ill(CHEAP, 3)
    pools = {CHEAP: held({**well(CHEAP, 3), **dead})}
    decision, _ = decided(pools, 2000.0, remembering(nodes={CHEAP: memory}), tight)

    assert decision.cost_usd_per_hour <= 3.0
    assert decision.pools[CHEAP].desired == 6


def test_what_demand_no_longer_needs_is_not_replaced() -> None:
    """Two that serve carry it: the dead one goes, and its place with it."""
    dead, memory = ill(CHEAP, 1)
    decision, _ = decided({CHEAP: held({**well(CHEAP, 2), **dead})}, 40.0, remembering(nodes={CHEAP: memory}))

    assert [item.decrement for item in decision.terminate] == [True]


def test_a_slow_node_leaves_first_when_its_pool_shrinks() -> None:
    """By its id, with its place; the group itself would take its oldest."""
    limping = {"i-slow": NodeSignal(NOON - 5000, target=TargetHealth.HEALTHY, anomalous=True)}
    pools = {CHEAP: held({**well(CHEAP, 2), **limping})}
    memory = NodesMemory(NOON - 60, limping={"i-slow": NOON - 120})
    decision, _ = decided(pools, 70.0, remembering(nodes={CHEAP: memory}))

    assert [(item.node, item.why, item.decrement) for item in decision.terminate] == [
        ("i-slow", Cause.SLOW, True)
    ]
    assert decision.sizes == {}


def limping(pool: str, count: int) -> tuple[dict[str, NodeSignal], NodesMemory]:
    """Nodes of the pool that serve and have answered far more errors than others for three ticks."""
    names = [f"i-{pool}-slow-{number}" for number in range(count)]
    signals = {name: NodeSignal(LONG_AGO, target=TargetHealth.HEALTHY, anomalous=True) for name in names}
    return signals, NodesMemory(NOON - 60, limping=dict.fromkeys(names, NOON - 120))


def test_a_slow_node_is_replaced_and_keeps_its_place() -> None:
    """One of the two, as the pace allows."""
    slow, memory = limping(CHEAP, 2)
    state = remembering(nodes={CHEAP: memory})
    decision, after = decided({CHEAP: held({**well(CHEAP, 4), **slow})}, 600.0, state)

    (item,) = decision.terminate
    assert (item.why, item.decrement, item.node in slow) == (Cause.SLOW, False, True)
    assert after.nodes[CHEAP].terminated == (NOON,)
    assert decided({CHEAP: held({**well(CHEAP, 4), **slow})}, 600.0, after, at=NOON + 60)[0].terminate == ()


def test_a_slow_node_waits_for_the_dead_and_hung() -> None:
    """They serve nobody; all share one pace."""
    slow, memory = limping(CHEAP, 1)
    dead, fallen = ill(CHEAP, 1)
    state = remembering(nodes={CHEAP: replace(memory, unhealthy=fallen.unhealthy)})
    decision, _ = decided({CHEAP: held({**well(CHEAP, 4), **slow, **dead})}, 600.0, state)

    assert [item.why for item in decision.terminate] == [Cause.DEAD]


def test_the_last_node_of_a_unit_that_serves_stays_however_slow() -> None:
    """Slow answers are answers."""
    slow, memory = limping(CHEAP, 1)
    decision, _ = decided({CHEAP: held(slow)}, 100.0, remembering(nodes={CHEAP: memory}))

    assert decision.terminate == ()
    assert Code.SLOW in codes(decision)


def test_a_slow_node_gives_up_its_place_where_the_pool_may_not_grow() -> None:
    """Nothing could be had in its place, and the group would only try."""
    slow, memory = limping(CHEAP, 1)
    state = remembering(
        nodes={CHEAP: memory},
        refusals={CHEAP: Refusal(EvidenceKind.SHORTAGE, CHEAP, NOON - 60, NOON + 600, 1)},
    )
    decision, _ = decided({CHEAP: held({**well(CHEAP, 4), **slow})}, 600.0, state)

    assert [(item.why, item.decrement) for item in decision.terminate] == [(Cause.SLOW, True)]


def test_while_the_breaker_is_open_no_slow_node_is_replaced() -> None:
    """What serves is needed."""
    slow, memory = limping(DEAR, 1)
    dead, fallen = ill(CHEAP, 3)
    state = remembering(nodes={CHEAP: fallen, DEAR: memory})
    pools = {CHEAP: held(dead), DEAR: held(slow)}
    decision, _ = decided(pools, 300.0, state)

    assert Cause.SLOW not in {item.why for item in decision.terminate}


def test_while_all_is_well_a_pool_shrinks_by_its_size() -> None:
    """One call, as ever."""
    decision, _ = decided({CHEAP: held(well(CHEAP, 6))}, 70.0, remembering())

    assert decision.terminate == ()
    assert decision.sizes[CHEAP] < 6


# --- The breaker ---------------------------------------------------------------------------------------


def fallen(cheap: int, dear: int, cheap_serves: int = 0) -> tuple[dict[str, PoolSignals], State]:
    """Both units' nodes ceased to serve ten minutes ago."""
    of_cheap, cheap_memory = ill(CHEAP, cheap)
    of_dear, dear_memory = ill(DEAR, dear, since=NOON - 500)
    pools = {CHEAP: held({**of_cheap, **well(CHEAP, cheap_serves)}), DEAR: held(of_dear)}
    return pools, remembering(nodes={CHEAP: cheap_memory, DEAR: dear_memory})


def test_when_everything_falls_at_once_one_node_is_replaced_and_a_person_called() -> None:
    """The checks are to blame, or the image: nothing is bought for what may serve all the time."""
    pools, before = fallen(6, 3)
    decision, after = decided(pools, 300.0, before)

    assert len(decision.terminate) == 1
    assert Code.BREAKER in codes(decision)
    assert decision.sizes == {}
    assert after.trial == Trial(CHEAP, NOON)


def test_a_trial_that_nobody_remembers_is_not_begun_again() -> None:
    """The tick that began it died: something is on its way out."""
    pools, before = fallen(6, 3)
    pools[CHEAP] = replace(pools[CHEAP], terminating=1)
    decision, _ = decided(pools, 300.0, replace(before, at=NOON - 120))

    assert decision.terminate == ()


def test_the_next_goes_only_when_the_replacement_serves() -> None:
    """While it starts, nothing; when it serves, its unit is no longer whole among the fallen."""
    pools, before = fallen(6, 3)
    _, after = decided(pools, 600.0, before)
    starting = {"i-new": NodeSignal(NOON + 5, target=TargetHealth.INITIAL)}
    waiting = {**pools, CHEAP: held({**dict(list(pools[CHEAP].nodes.items())[1:]), **starting})}
    meanwhile, later = decided(waiting, 600.0, after, at=NOON + 300)
    serves = {"i-new": NodeSignal(NOON + 5, target=TargetHealth.HEALTHY)}
    proven = {**waiting, CHEAP: held({**waiting[CHEAP].nodes, **serves})}
    decision, _ = decided(proven, 600.0, later, at=NOON + 600)

    assert meanwhile.terminate == ()
    assert later.trial == Trial(CHEAP, NOON)
    assert Code.BREAKER not in codes(decision)
    assert {item.pool for item in decision.terminate} == {CHEAP, DEAR}


def test_a_unit_that_dies_whole_while_others_serve_is_replaced_at_the_normal_pace() -> None:
    """The others prove the checks."""
    pools, before = fallen(2, 3, cheap_serves=5)
    decision, _ = decided(pools, 300.0, before)

    assert Code.BREAKER not in codes(decision)
    assert {item.pool for item in decision.terminate} == {CHEAP, DEAR}


def test_units_that_fell_at_different_times_fell_for_different_reasons() -> None:
    """An hour lies between them, and a third one serves."""
    three = fleet(unit("cheap", price=0.5), unit("dear", price=2.0), unit("other", price=1.0))
    other = three.pools[2].name
    of_cheap, cheap_memory = ill(CHEAP, 2, since=NOON - 3600)
    of_dear, dear_memory = ill(DEAR, 2)
    pools = {CHEAP: held(of_cheap), DEAR: held(of_dear), other: held(well(other, 4))}
    decision, _ = decided(pools, 300.0, remembering(nodes={CHEAP: cheap_memory, DEAR: dear_memory}), three)

    assert Code.BREAKER not in codes(decision)


def test_a_node_that_never_served_goes_although_the_breaker_is_open() -> None:
    """Nobody is served by it, whatever the checks say."""
    pools, before = fallen(6, 3)
    stuck = hung(DEAR, 1)
    pools[DEAR] = held({**pools[DEAR].nodes, **stuck})
    memory = replace(before.nodes[DEAR], unserved=tuple(stuck))
    decision, _ = decided(pools, 300.0, replace(before, nodes={**before.nodes, DEAR: memory}))

    assert {item.why for item in decision.terminate} == {Cause.DEAD, Cause.HUNG}


# --- Whole pools that hang, and what people do ---------------------------------------------------------


def test_while_two_pools_hang_they_have_one_probe_together() -> None:
    """Something that they share is to blame: the cheapest whose turn it is tries."""
    refusals = {
        f"pool:{pool}": Refusal(EvidenceKind.NEVER_READY, pool, NOON - 1000, NOON - 100, 1)
        for pool in (CHEAP, DEAR)
    }
    decision, _ = decided({}, 600.0, remembering(refusals=refusals))

    assert decision.sizes == {CHEAP: 1}


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"maximum": 2}, Code.LIMITED),
        ({"launch_suspended": Suspension.PERSON}, Code.LAUNCHES_STOPPED),
        ({"status": "DELETED", "maximum": 0, "desired": 0, "nodes": {}}, Code.GROUP_DELETED),
    ],
)
def test_what_a_person_did_is_respected_and_the_rest_bought_elsewhere(
    told: dict[str, object], code: Code
) -> None:
    """And told; nothing is resumed."""
    nodes = told.pop("nodes", well(CHEAP, 2))
    assert isinstance(nodes, Mapping)
    decision, _ = decided({CHEAP: held(nodes, **told)}, 600.0, remembering())

    assert CHEAP not in decision.sizes
    assert decision.sizes[DEAR] > 0
    assert decision.resume == ()
    assert code in codes(decision)


def test_a_limit_that_a_refused_write_taught_holds_until_it_is_tried_again() -> None:
    """Then the group is asked for more."""
    limited = remembering(limits={CHEAP: Limit(2, NOON + 1)})
    pools = {CHEAP: held(well(CHEAP, 2))}
    now, _ = decided(pools, 600.0, limited)
    later, _ = decided(pools, 600.0, remembering(limits={CHEAP: Limit(2, NOON)}))

    assert CHEAP not in now.sizes
    assert now.sizes[DEAR] > 0
    assert later.sizes[CHEAP] > 2


def test_a_suspended_pool_replaces_no_dead_node() -> None:
    """It may not launch: the dead one goes with its place."""
    dead, memory = ill(CHEAP, 1)
    stopped = held({**well(CHEAP, 2), **dead}, launch_suspended=Suspension.PERSON)
    decision, _ = decided({CHEAP: stopped}, 600.0, remembering(nodes={CHEAP: memory}))

    assert [item.decrement for item in decision.terminate] == [True]


def test_a_held_node_group_loses_no_node() -> None:
    """EKS replaces its nodes by itself."""
    dead, memory = ill(CHEAP, 2)
    updating = held({**well(CHEAP, 2), **dead}, status="UPDATING")
    decision, _ = decided({CHEAP: updating}, 300.0, remembering(nodes={CHEAP: memory}))

    assert decision.terminate == ()
