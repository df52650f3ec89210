from collections.abc import Mapping
from math import inf
from pathlib import Path

import numpy as np
import pytest

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import EvidenceKind
from control_lambda.core.reasons import Skip
from control_lambda.core.record import Answer, Skipped
from control_lambda.fleet_file import load_fleet
from twin.world.metrics import LATE_SECONDS
from twin.world.node import UNHEALTHY_SECONDS, WAIT_SECONDS, Node
from twin.world.nodes import (
    DRAIN_SECONDS,
    LAUNCH,
    NOTICE_SECONDS,
    REBALANCE,
    ZONES,
    CallRefusedError,
    Interrupted,
    Refused,
)
from twin.world.plant import MINUTE_SECONDS
from twin.world.strikes import KilledError
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.trouble import Trouble
from twin.world.world import Past, Scenario, ServersRule, World

ROOT = Path(__file__).parents[3]
FLEET: Fleet = load_fleet(ROOT / "fleet.yaml")
TWINS: Fleet = load_fleet(ROOT / "fleets" / "spot-twins.yaml")
POOL, UNIT = "inf2-neuron-on-demand", "inf2-neuron"
MINUTES = 60
Entry = Mapping[str, object]


def world(
    *entries: Entry,
    fleet: Fleet = FLEET,
    rpm: int = 300,
    nodes: int = 6,
    pool: str = POOL,
    servers: ServersRule = "refuse",
    retries: int = 0,
) -> World:
    """A world under that trouble, whose traffic goes to the pool's unit alone, with so many ready nodes."""
    made = World(
        Scenario(
            fleet=fleet,
            demand=Demand(np.full(MINUTES, rpm), seed=3, epoch=1767225600),
            capacity=CapacityTrace({}),
            prices=PriceTrace({}),
            seed=3,
            trouble=Trouble.parse({"trouble": [dict(entry) for entry in entries]}, fleet, MINUTES),
            servers=servers,
            retries=retries,
        )
    )
    made.nodes.start(pool, nodes, made.now)
    made.weights = {fleet.unit_of[pool].name: 1}
    return made


def live(made: World, minutes: int) -> list[Past]:
    """Let that many minutes pass under nobody's control."""
    past = []
    for _ in range(minutes):
        made.begin_minute()
        past.append(made.end_minute())
    return past


def failed(past: Past) -> float:
    """The share of the minute's requests that failed."""
    return past.failed / len(past.latency)


def states(made: World, pool: str = POOL) -> list[str | None]:
    """The target states of the pool's nodes now."""
    return [node.target_state(made.now) for node in made.nodes.existing(pool)]


def test_a_dead_node_draws_requests_until_its_checks_fail() -> None:
    """It answers 503 at once, so it has the least outstanding requests; 20 s later it gets no more."""
    made = world({"at": 2, "what": "node-dead", "pool": POOL, "nodes": 2})
    before, _, dying, after = live(made, 4)
    assert failed(before) == failed(after) == 0
    fair = 2 / 6 * UNHEALTHY_SECONDS / MINUTE_SECONDS
    assert fair < failed(dying) < 2 * fair
    assert states(made) == ["unhealthy"] * 2 + ["healthy"] * 4
    assert (after.nodes[POOL], after.ready[POOL]) == (6, 4)
    assert [node.lifecycle(made.now) for node in made.nodes.members(POOL)] == ["InService"] * 6


def test_a_unit_of_dead_nodes_fails_open_and_answers_nothing() -> None:
    """With no healthy target the load balancer sends to all that are registered: 503 from targets."""
    made = world({"at": 1, "what": "node-dead", "pool": POOL, "share": 1})
    *_, last = live(made, 4)
    assert failed(last) == 1
    counted = made.minutes_visible(UNIT)[-1]
    assert counted.errors == counted.requests
    assert counted.healthy_hosts == (0 if counted.at >= made.now - 240 else 6)
    assert made.untargeted_visible() == {}


def test_a_terminated_dead_node_waits_paid_and_held_against_the_quota() -> None:
    """It is no member and no capacity for five minutes, while its replacement starts at once."""
    made = world({"at": 1, "what": "node-dead", "pool": POOL, "nodes": 1})
    live(made, 2)
    dead = made.nodes.members(POOL)[0]
    made.nodes.terminate(dead.id, False, made.now)
    assert dead not in made.nodes.members(POOL)
    assert [node.id for node in made.nodes.terminating(POOL)] == [dead.id]
    assert dead.lifecycle(made.now) == "Terminating:Wait"
    assert (made.nodes.desired(POOL), len(made.nodes.members(POOL))) == (6, 6)
    begun = made.now
    assert dead.target_state(begun) == "draining"
    assert dead.target_state(begun + DRAIN_SECONDS) is None
    made.nodes.advance(begun + WAIT_SECONDS - 1)
    assert len(made.nodes.existing(POOL)) == 7
    made.nodes.advance(begun + WAIT_SECONDS)
    assert len(made.nodes.existing(POOL)) == 6


def test_a_termination_with_decrement_shrinks_by_that_node() -> None:
    """A healthy node drains as always; an unknown one is a ValidationError."""
    made = world()
    leaving = made.nodes.members(POOL)[3]
    made.nodes.terminate(leaving.id, True, made.now)
    assert made.nodes.desired(POOL) == len(made.nodes.members(POOL)) == 5
    assert leaving.lifecycle(made.now) == "Terminating"
    made.nodes.advance(made.now + DRAIN_SECONDS)
    assert leaving not in made.nodes.existing(POOL)
    with pytest.raises(CallRefusedError) as refused:
        made.nodes.terminate(leaving.id, True, made.nodes.now)
    assert refused.value.code == "ValidationError"


def test_hung_launches_never_become_ready_and_later_ones_do() -> None:
    """The counter is armed until the entry ends."""
    made = world({"at": 0, "minutes": 5, "what": "node-hangs", "pool": POOL, "nodes": 2})
    made.begin_minute()
    made.nodes.set_desired(POOL, 9, made.now)
    hung, started = made.nodes.starting(POOL)[:2], made.nodes.starting(POOL)[2:]
    assert [node.ready_at for node in hung] == [inf, inf]
    assert all(node.ready_at == made.now + 600 for node in started)
    assert {node.target_state(made.now + 5000) for node in hung} == {"initial"}


def test_a_slow_node_is_healthy_and_slower_until_the_entry_ends() -> None:
    """Its queue takes longer; with servers that refuse it refuses what it cannot answer in time."""
    entry = {"at": 1, "minutes": 2, "what": "node-slow", "pool": POOL, "nodes": 1, "factor": 3}
    made = world(entry, rpm=20, nodes=1, servers="queue")
    before, slow, _, after = live(made, 4)
    assert np.median(slow.latency) > 2.5 * np.median(before.latency)
    assert np.median(after.latency) < 1.3 * np.median(before.latency)
    assert set(states(made)) == {"healthy"}


def test_a_node_that_errs_answers_500_and_is_called_anomalous_among_enough_others() -> None:
    """About two minutes later, and only where three or more targets of the group are healthy."""
    entry = {"at": 1, "minutes": 9, "what": "node-errors", "pool": POOL, "nodes": 1, "share": 1}
    made = world(entry, rpm=600)
    past = live(made, 4)
    assert failed(past[0]) == 0
    assert failed(past[2]) > 1 / 6  # it answers at once and so draws more than its share
    erring, *others = made.nodes.ready(POOL)
    assert erring.anomalous(made.now, healthy_in_group=3)
    assert not erring.anomalous(made.now, healthy_in_group=2)
    assert not any(node.anomalous(made.now, healthy_in_group=6) for node in others)
    live(made, 8)
    assert not erring.anomalous(made.now, healthy_in_group=6)


def test_a_slow_node_that_refuses_far_more_than_others_stands_out() -> None:
    """What AWS sees of slowness is the node's own 503s."""
    entry = {"at": 1, "what": "node-slow", "pool": POOL, "nodes": 1, "factor": 5}
    made = world(entry, rpm=500)
    live(made, 5)
    slow, *others = made.nodes.ready(POOL)
    assert slow.anomalous(made.now, healthy_in_group=6)
    assert not any(node.anomalous(made.now, healthy_in_group=6) for node in others)


def test_servers_refuse_what_they_cannot_answer_in_time_unless_they_queue() -> None:
    """A refusal is a target's 5xx and no latency sample; a queue grows until clients give up."""
    refusing, queueing = world(rpm=600, nodes=2), world(rpm=600, nodes=2, servers="queue")
    refused, queued = live(refusing, 5)[-1], live(queueing, 5)[-1]
    answered = refused.latency[np.isfinite(refused.latency)]
    assert answered.max() < FLEET.objective.latency_seconds + 0.5
    assert np.mean(queued.latency <= FLEET.objective.latency_seconds) == 0
    counted = refusing.minutes_visible(UNIT)[-1]
    assert counted.errors
    assert (counted.requests or 0) == counted.errors + (counted.samples or 0)


def test_failed_requests_come_again_and_count_once_from_their_first_attempt() -> None:
    """The load balancer counts every attempt, the user only the last answer."""
    entry = {"at": 1, "what": "node-dead", "pool": POOL, "nodes": 1}
    once, again = world(entry), world(entry, retries=3)
    alone, retried = live(once, 4), live(again, 4)
    assert sum(past.failed for past in retried) < sum(past.failed for past in alone)
    requests = sum(len(past.latency) for past in alone)
    assert 0 <= requests - sum(len(past.latency) for past in retried) < 10
    assert max(past.latency[np.isfinite(past.latency)].max() for past in retried) > 1
    counted = sum(minute.requests or 0 for minute in again.minutes_visible(UNIT))
    assert counted > sum(minute.requests or 0 for minute in once.minutes_visible(UNIT))


def test_unit_and_start_factors_hold_while_the_entry_lasts() -> None:
    """A unit is slower than its profile; launches take longer than they should."""
    made = world(
        {"at": 1, "minutes": 1, "what": "unit-slow", "unit": UNIT, "factor": 1.5},
        {"at": 1, "minutes": 1, "what": "start-slow", "pool": POOL, "factor": 3},
        rpm=60,
    )
    usual, slow, after = live(made, 3)
    assert np.median(slow.latency) == pytest.approx(1.5 * np.median(usual.latency), rel=0.1)
    assert np.median(after.latency) == pytest.approx(np.median(usual.latency), rel=0.1)
    slowed = world({"at": 0, "minutes": 1, "what": "start-slow", "pool": POOL, "factor": 3})
    slowed.begin_minute()
    slowed.nodes.set_desired(POOL, 7, slowed.now)
    assert slowed.nodes.starting(POOL)[0].ready_at == slowed.now + 1800


def test_a_zone_refuses_and_the_group_tries_the_others_a_minute_later() -> None:
    """Launches are balanced over the zones; one event for each refused zone names it."""
    made = world({"at": 0, "what": "zone-refuses", "pool": POOL, "zones": [ZONES[0]], "kind": "unsupported"})
    assert [node.zone for node in made.nodes.members(POOL)] == [*ZONES, *ZONES]
    made.begin_minute()
    made.nodes.set_desired(POOL, 10, made.now)
    assert made.events() == [Refused(POOL, made.now, EvidenceKind.UNSUPPORTED, ZONES[0])]
    assert [node.zone for node in made.nodes.starting(POOL)] == [ZONES[1], ZONES[2]]
    made.nodes.advance(made.now + 60)
    assert made.events() == []
    assert [node.zone for node in made.nodes.starting(POOL)] == [ZONES[1], ZONES[2], ZONES[1], ZONES[2]]


def test_a_quota_counts_every_node_of_the_family_and_its_end_is_the_raise() -> None:
    """An inf2.xlarge has four vCPUs; what is beyond is refused whatever the zone, once a minute."""
    made = world({"at": 0, "minutes": 2, "what": "quota", "family": "Inf", "vcpus": 30})
    made.begin_minute()
    made.nodes.set_desired(POOL, 9, made.now)
    assert made.events() == [Refused(POOL, made.now, EvidenceKind.QUOTA)]
    assert len(made.nodes.members(POOL)) == 7
    made.end_minute()
    live(made, 1)
    assert {event.at - made.now for event in made.events()} == {-60.0, 0.0}
    live(made, 1)
    assert len(made.nodes.members(POOL)) == 9


@pytest.mark.parametrize(("suspended", "replaced"), [(True, 0), (False, 2)])
def test_zone_rebalancing_swaps_nodes_before_their_replacements_serve(
    *, suspended: bool, replaced: int
) -> None:
    """One by one, 120 s apart, each old node a minute after its replacement's launch."""
    made = world({"at": 0, "what": "nodes-swapped", "pool": POOL, "nodes": 2, "suspended": suspended})
    oldest = made.nodes.members(POOL)[:2]
    made.begin_minute()
    assert (len(made.nodes.members(POOL)), made.nodes.desired(POOL)) == (6 + bool(replaced), 6)
    made.nodes.advance(made.now + 59)
    assert all(node.is_member(made.nodes.now) for node in oldest)
    made.nodes.advance(made.now + 60)
    assert [node.is_member(made.nodes.now) for node in oldest] == [not replaced, True]
    made.nodes.advance(made.now + 240)
    assert len(made.nodes.starting(POOL)) == replaced
    assert len(made.nodes.members(POOL)) == 6


def test_a_suspended_rebalancing_stops_the_swaps_that_are_to_come() -> None:
    """Who suspends AZRebalance loses one node, not all of them."""
    made = world({"at": 0, "what": "nodes-swapped", "pool": POOL, "nodes": 3, "suspended": False})
    made.begin_minute()
    made.nodes.suspend(POOL, REBALANCE, "User suspended", made.now)
    made.nodes.advance(made.now + 600)
    assert len(made.nodes.ready(POOL)) + len(made.nodes.starting(POOL)) == 6
    assert made.nodes.launches == 1


def test_an_interruption_gives_notice_and_takes_the_market_away_meanwhile() -> None:
    """Two minutes for that share of the nodes, and no new ones until the entry ends."""
    pool = "inf2-neuron-spot"
    made = world(
        {"at": 0, "minutes": 10, "what": "interrupted", "pool": pool, "share": 0.5}, fleet=TWINS, pool=pool
    )
    made.begin_minute()
    assert [type(event) for event in made.events()] == [Interrupted] * 3
    made.nodes.advance(made.now + NOTICE_SECONDS)
    assert len(made.nodes.ready(pool)) == 3
    assert [event.zone for event in made.events() if isinstance(event, Refused)] == list(ZONES)
    made.nodes.advance(made.now + 11 * 60)
    assert len(made.nodes.members(pool)) == 6


def test_failing_checks_leave_a_unit_serving_by_failing_open() -> None:
    """Every target is unhealthy, nobody is hurt, and it ends with the entry."""
    made = world({"at": 1, "minutes": 2, "what": "checks-fail", "units": [UNIT]})
    live(made, 2)
    assert set(states(made)) == {"unhealthy"}
    unchecked, after = live(made, 2)
    assert failed(unchecked) == failed(after) == 0
    assert unchecked.ready[POOL] == 6
    assert set(states(made)) == {"healthy"}


def test_a_lowered_maximum_drains_the_surplus_and_refuses_more() -> None:
    """SetDesiredCapacity above it is a ValidationError, until the entry ends."""
    made = world({"at": 1, "minutes": 2, "what": "group-max", "pool": POOL, "nodes": 4})
    live(made, 2)
    assert made.nodes.maximum(POOL) == made.nodes.desired(POOL) == len(made.nodes.members(POOL)) == 4
    with pytest.raises(CallRefusedError, match="above max value 4"):
        made.nodes.set_desired(POOL, 5, made.now)
    live(made, 2)
    made.nodes.set_desired(POOL, 5, made.now)
    assert made.nodes.maximum(POOL) == 450


@pytest.mark.parametrize(("by", "begins"), [("person", "User suspended"), ("aws", "Administrative")])
def test_suspended_launches_say_who_suspended_them(by: str, begins: str) -> None:
    """And run again when the entry ends."""
    made = world({"at": 0, "minutes": 1, "what": "group-suspended", "pool": POOL, "by": by})
    made.begin_minute()
    assert (made.nodes.suspension(POOL, LAUNCH) or "").startswith(begins)
    assert made.nodes.suspension(POOL, REBALANCE) is None
    made.nodes.set_desired(POOL, 8, made.now)
    assert len(made.nodes.members(POOL)) == 6
    made.end_minute()
    made.begin_minute()
    assert made.nodes.suspension(POOL, LAUNCH) is None
    assert len(made.nodes.members(POOL)) == 8


def test_a_deleted_group_takes_its_nodes_along() -> None:
    """Nothing is left that could be sized."""
    made = world({"at": 1, "what": "group-deleted", "pool": POOL})
    live(made, 2)
    assert (made.nodes.exists(POOL), made.nodes.status(POOL)) == (False, "")
    assert made.nodes.existing(POOL) == []
    with pytest.raises(CallRefusedError):
        made.nodes.set_desired(POOL, 1, made.now)


def test_a_node_groups_status_is_only_said() -> None:
    """Its Auto Scaling group works all the same."""
    made = world({"at": 0, "minutes": 1, "what": "group-status", "pool": POOL, "status": "DEGRADED"})
    made.begin_minute()
    assert made.nodes.status(POOL) == "DEGRADED"
    made.nodes.set_desired(POOL, 7, made.now)
    assert len(made.nodes.members(POOL)) == 7
    made.end_minute()
    made.begin_minute()
    assert made.nodes.status(POOL) == "ACTIVE"


def test_late_counts_come_whole_and_hosts_on_time() -> None:
    """Those of these minutes alone, so much later than usual."""
    made = world({"at": 2, "minutes": 2, "what": "counts-late", "seconds": 120, "of": "requests"})
    live(made, 6)
    shown = made.minutes_visible(UNIT)
    assert len(shown) == 6 - LATE_SECONDS // MINUTE_SECONDS
    assert [minute.requests is None for minute in shown] == [False, False, True, True]
    assert all(minute.healthy_hosts == 6 and minute.samples for minute in shown)
    live(made, 2)
    assert all(minute.requests for minute in made.minutes_visible(UNIT))


def test_missing_counts_never_come_and_partial_ones_are_completed() -> None:
    """A sum first shows a part of itself; of one unit only where the entry says so."""
    made = world(
        {"at": 1, "minutes": 1, "what": "counts-missing", "of": "all", "unit": UNIT},
        {"at": 2, "minutes": 1, "what": "counts-partial", "share": 0.5},
    )
    live(made, 6)
    first, partial, whole = made.minutes_visible(UNIT)
    assert (first.requests, partial.requests, whole.requests) == (300, 150, 300)
    assert partial.samples == 300
    live(made, 5)
    assert [minute.requests for minute in made.minutes_visible(UNIT)][:2] == [300, 300]
    assert len(made.minutes_visible("g5-eager")) == len(made.minutes_visible(UNIT)) + 1


def test_calls_fail_by_seed_minute_action_and_number() -> None:
    """The same calls of an equal world meet the same fate, and about that share of them fails."""
    entry = {"at": 1, "what": "api-fails", "action": "DescribeInstances", "code": "X", "share": 0.5}
    fates = []
    for _ in range(2):
        made = world(entry)
        live(made, 1)
        made.begin_minute()
        fates.append([made.failing("DescribeInstances") for _ in range(200)])
        assert made.failing("DescribeTargetHealth", UNIT) is None
    assert fates[0] == fates[1]
    assert 70 < fates[0].count("X") < 130


def test_a_table_that_is_down_fails_every_call_of_it() -> None:
    """Until the entry ends."""
    made = world({"at": 0, "minutes": 1, "what": "table-down"})
    made.begin_minute()
    assert (made.table_down(), made.failing("UpdateItem")) == (True, "InternalServerError")
    made.end_minute()
    made.begin_minute()
    assert (made.table_down(), made.failing("UpdateItem")) == (False, None)


def test_ticks_go_missing_come_twice_and_carry_a_wrong_time() -> None:
    """The world's own time goes on."""
    made = world(
        {"at": 0, "minutes": 1, "what": "ticks-missing"},
        {"at": 1, "minutes": 1, "what": "ticks-doubled"},
        {"at": 2, "minutes": 1, "what": "clock", "seconds": -90},
    )
    seen = []
    for _ in range(4):
        made.begin_minute()
        seen.append((made.strikes.ticks(), made.tick_time - made.now))
        made.end_minute()
    assert seen == [(0, 0.0), (2, 0.0), (1, -90.0), (1, 0.0)]


def test_a_killed_tick_dies_after_its_nth_write() -> None:
    """In every tick of the window; the write itself is done."""
    made = world({"at": 0, "minutes": 1, "what": "killed", "after_write": 2})
    made.begin_minute()
    writes: list[int] = []
    answer = Skipped(Skip.LEASE_HELD.told())

    def tick() -> Answer:
        for number in range(5):
            writes.append(number)
            made.strikes.wrote()
        return answer

    for _ in range(2):
        assert made.strikes.run(tick) == Skipped("killed: the function died after write 2")
    assert writes == [0, 1, 0, 1]
    assert not issubclass(KilledError, Exception)
    made.end_minute()
    made.begin_minute()
    assert made.strikes.run(tick) is answer


def test_a_price_feed_may_say_anything_and_the_bill_stays() -> None:
    """The last good price stays; the feed's word is what AWS would show."""
    pool = "g5-inductor-on-demand"
    fed = world({"at": 0, "what": "price", "pool": pool, "usd_per_hour": 0})
    fed.begin_minute()
    assert (fed.fed_price(pool), fed.fed_price("g5-eager-on-demand"), fed.fed_price(POOL)) == (0, 0, 0.7582)
    assert fed.quoted_price(pool) is None
    text = world({"at": 0, "what": "price", "pool": pool, "usd_per_hour": "n/a"})
    assert live(text, 1)[0].cost_usd == live(world(), 1)[0].cost_usd
    assert text.fed_price(pool) == "n/a"


def test_somebody_else_writes_the_rule_once() -> None:
    """Units that are not named get nothing; whoever listens is told."""
    made = world({"at": 1, "what": "foreign-weights", "weights": {"g5-inductor": 10}})
    told: list[Mapping[str, int]] = []
    made.on_foreign_weights(lambda: told.append(made.weights))
    live(made, 3)
    assert told == [made.weights]
    assert {unit for unit, weight in made.weights.items() if weight} == {"g5-inductor"}


def test_a_node_of_a_test_needs_no_more_than_before() -> None:
    """What trouble adds to a node is nothing unless it strikes."""
    node = Node("i-1", POOL, 0.0, 10.0)
    assert [node.target_state(at) for at in (5.0, 10.0)] == ["initial", "healthy"]
    assert [node.lifecycle(at) for at in (5.0, 10.0)] == ["Pending", "InService"]
