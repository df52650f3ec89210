"""How many nodes serve is read from whatever source still answers, and no belief outlives five minutes."""

from typing import Any

import pytest

from control_lambda.core.decide import decide
from control_lambda.core.model import Health, Minute, NodeSignal, PoolSignals, Snapshot, State, TargetHealth
from control_lambda.core.outlook import Outlook, look
from control_lambda.core.reasons import Code
from control_lambda.core.supply.health import Serving, Source, remember
from tests.control_lambda.core.examples import NOON, fleet, group, unit

FLEET = fleet(unit("aa", markets=("on-demand", "spot")), unit("bb"))
A, A_SPOT, B = (pool.name for pool in FLEET.pools)
SEEN = {A: group(A, 2), A_SPOT: group(A_SPOT, 1), B: group(B, 3)}
UNSEEN = {pool: group(pool, 4, health_known=False) for pool in SEEN}
STANDS = {"aa": 700, "bb": 299}
MEMORY = {"aa": Health(NOON - 60, 2, NOON - 60), "bb": Health(NOON - 60, 3, NOON - 60)}


def seen(state: State | None = None, **told: Any) -> Outlook:
    """The outlook on what a tick read."""
    return look(Snapshot(NOON, **{"weights": STANDS, **told}), state or State(), FLEET)


def minute(at: float, hosts: float | None = 4.0, errors: float | None = None, **told: float) -> Minute:
    """What was counted in the minute that starts at `at`."""
    return Minute(int(at), errors=errors, healthy_hosts=hosts, **told)


def test_where_every_node_was_seen_the_nodes_count() -> None:
    """Both pools of a unit together, whatever its target group says beside."""
    assert seen(pools=SEEN, healthy={"aa": 9, "bb": 9}).ready == {"aa": 3, "bb": 3}


@pytest.mark.parametrize("pools", [{}, UNSEEN, {A: SEEN[A], B: SEEN[B]}])
def test_target_health_alone_tells_how_many_serve(pools: dict[str, PoolSignals]) -> None:
    """Without the groups, without the instances, or without one of a unit's groups."""
    found = seen(State(health=MEMORY), pools=pools, healthy={"aa": 7})

    assert found.serving["aa"] == Serving(7, Source.TARGETS, NOON)


def test_nodes_announced_to_leave_do_not_count_by_target_health_either() -> None:
    """Four are held, one of them leaves."""
    state = State(leaving={f"i-{B}-0": NOON + 100.0})

    assert seen(state, pools=UNSEEN, healthy={"bb": 4}).ready["bb"] == 3


def test_without_target_health_the_newest_count_or_memory_is_believed() -> None:
    """Memory is a minute old; counts are of a minute that ended three minutes ago, or of the last."""
    state = State(health=MEMORY)
    old, new = minute(NOON - 240), minute(NOON - 90)

    assert seen(state, minutes={"bb": (old,)}).serving["bb"] == Serving(3, Source.MEMORY, NOON - 60)
    assert seen(state, minutes={"bb": (old, new)}).serving["bb"] == Serving(4, Source.COUNTS, NOON - 30)


def test_a_unit_that_answers_nothing_but_errors_serves_nobody() -> None:
    """Whatever its health checks say."""
    failing = minute(NOON - 90, errors=50)

    assert seen(minutes={"bb": (failing,)}).serving["bb"] == Serving(0, Source.COUNTS, NOON - 30)


def test_some_errors_beside_answers_prove_that_it_serves() -> None:
    """It refuses what is too much."""
    busy = minute(NOON - 90, errors=50, samples=50)

    assert seen(minutes={"bb": (busy,)}).ready["bb"] == 4


def test_a_belief_is_unknown_after_five_minutes() -> None:
    """Both of them."""
    state = State(health={"bb": Health(NOON - 300, 3, NOON - 300)})

    assert seen(state, minutes={"bb": (minute(NOON - 360),)}).serving["bb"].source is Source.UNKNOWN


def test_an_unknown_unit_keeps_its_weight_only_while_no_other_is_healthy() -> None:
    """Weights stay as they are, or leave it."""
    nobody, _ = decide(Snapshot(NOON, weights=STANDS), State(), FLEET)
    other, _ = decide(Snapshot(NOON, weights=STANDS, healthy={"bb": 3}), State(), FLEET)

    assert nobody.weights is None
    assert other.weights == {"aa": 0, "bb": 999}
    assert Code.HEALTH_UNKNOWN in {reason.code for reason in other.reasons}


def test_of_pools_that_were_not_seen_those_are_ready_that_their_units_others_are_not() -> None:
    """Sizes are planned with what serves, never with more than a group holds."""
    pools = {**UNSEEN, A: SEEN[A]}
    found = {item.pool.name: item.ready for item in seen(pools=pools, healthy={"aa": 9, "bb": 3}).supplies}

    assert found == {A: 2, A_SPOT: 4, B: 3}


def test_memory_keeps_what_was_read_last_and_when_some_last_served() -> None:
    """A unit whose health was not read keeps what it had."""
    known = remember(MEMORY, Snapshot(NOON, healthy={"aa": 0}))

    assert known == {"aa": Health(NOON, 0, NOON - 60), "bb": MEMORY["bb"]}


def unhealthy(pool: str, launched_at: float = NOON - 3600) -> PoolSignals:
    """A pool of two nodes in service that miss their checks."""
    node = NodeSignal(launched_at, target=TargetHealth.UNHEALTHY)
    return PoolSignals(2, {f"i-{pool}-0": node, f"i-{pool}-1": node})


def test_when_all_that_served_is_unhealthy_weights_and_sizes_are_held() -> None:
    """The load balancer fails open, and the checks may be to blame; demand for more changes nothing."""
    pools = {pool: unhealthy(pool) for pool in SEEN}
    snapshot = Snapshot(NOON, weights=STANDS, pools=pools, healthy={"aa": 0, "bb": 0})
    decision, _ = decide(snapshot, State(health=MEMORY), FLEET)

    assert (decision.weights, decision.sizes) == (None, {})
    assert Code.ALL_UNHEALTHY in {reason.code for reason in decision.reasons}


@pytest.mark.parametrize(
    ("launched_at", "healthy", "state"),
    [
        (NOON - 30, {"aa": 0, "bb": 0}, State(health=MEMORY)),
        (NOON - 3600, {"aa": 0, "bb": 0}, State()),
        (NOON - 3600, {"aa": 0, "bb": 1}, State(health=MEMORY)),
    ],
    ids=["only-new-nodes", "never-served", "another-serves"],
)
def test_nodes_that_have_yet_to_serve_or_others_that_do_blame_no_checks(
    launched_at: float, healthy: dict[str, int], state: State
) -> None:
    """A cold start may grow, and so may a fleet that lost one unit."""
    pools = {A: unhealthy(A, launched_at), A_SPOT: unhealthy(A_SPOT, launched_at)}

    assert not seen(state, pools=pools, healthy=healthy).all_unhealthy
