"""Every reason is told when it applies, about whom it applies, and not otherwise."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from control_lambda.core.decide import decide
from control_lambda.core.model import Decision, Evidence, EvidenceKind, Minute, Refusal, State, Suspension
from control_lambda.core.reasons import Code
from tests.control_lambda.core.examples import NOON, fleet, group, minutes, nodes, snapshot, unit

FLEET = fleet(unit("aa", price=0.5), unit("bb", price=2.0, type="g5.xlarge"))
A, B = (pool.name for pool in FLEET.pools)
SERVING = State(tick=1, at=NOON - 60, weights={"aa": 999, "bb": 0}, desired={A: 3, B: 1})


def told(before: State = SERVING, rpm: float = 100.0, **seen: Any) -> Decision:
    """A decision on three ready nodes of the cheap unit and one of the dear one."""
    return decide(snapshot(FLEET, {A: 3, B: 1}, rpm, **{"weights": before.weights, **seen}), before, FLEET)[0]


def subjects(decision: Decision, code: Code) -> list[str]:
    """Whom the decision's reasons with this code are about."""
    return [reason.subject for reason in decision.reasons if reason.code == code]


def refusal(kind: EvidenceKind = EvidenceKind.SHORTAGE, until: float = NOON + 60) -> Mapping[str, Refusal]:
    """A refusal of the cheap pool, two minutes old."""
    return {"inf2.xlarge::on-demand": Refusal(kind, A, NOON - 120, until, 1)}


def test_a_quiet_tick_gives_no_reason_for_concern() -> None:
    """Nothing but what the sizes do."""
    calm = {Code.SHRINK, Code.WAITING, Code.GROW}

    assert {reason.code for reason in told().reasons} <= calm


def test_a_refused_launch_is_told_once_with_its_kind() -> None:
    """When it is new; not on every tick that it stands."""
    new = told(evidence=(Evidence(A, EvidenceKind.SHORTAGE, NOON - 10),))

    assert subjects(new, Code.REFUSED) == [A]
    assert "shortage" in next(reason.text for reason in new.reasons if reason.code == Code.REFUSED)
    assert subjects(told(replace(SERVING, refusals=refusal())), Code.REFUSED) == []


def test_a_refusal_that_nobody_can_read_is_told_in_the_words_of_aws() -> None:
    """Those of the refusal that counts, the latest; of another pool or kind they would mislead."""
    latest = Evidence(A, EvidenceKind.UNKNOWN, NOON - 10, text="Tea is out.")
    decision = told(
        evidence=(
            replace(latest, at=NOON - 20, text="Coffee is out."),
            latest,
            replace(latest, at=NOON - 5, pool=B, text="Milk is out."),
            Evidence(A, EvidenceKind.SHORTAGE, NOON - 10),
        )
    )
    texts = sorted(reason.text for reason in decision.reasons if reason.code == Code.REFUSED)

    assert texts == [
        f"{A}: launch refused (shortage); next probe in 110 s",
        f'{A}: launch refused (unknown: "Tea is out."); next probe in 110 s',
        f'{B}: launch refused (unknown: "Milk is out."); next probe in 115 s',
    ]


def test_capacity_that_is_back_is_told() -> None:
    """A node was launched since the refusal."""
    granted = {A: group(A, 3, starting=[NOON - 30]), B: group(B, 1)}

    assert subjects(told(replace(SERVING, refusals=refusal()), pools=granted), Code.PROVEN) == [A]


def test_a_probe_is_told_as_such() -> None:
    """It is one node, and no growth."""
    due = told(replace(SERVING, refusals=refusal(until=NOON - 1)), rpm=2000.0)

    assert subjects(due, Code.PROBE) == [A]
    assert A not in subjects(due, Code.GROW)


def test_an_interruption_is_told_once() -> None:
    """AWS repeats itself."""
    (node,) = nodes(B, 1)
    item = Evidence(B, EvidenceKind.INTERRUPTION, NOON, node=node)

    assert subjects(told(evidence=(item,)), Code.INTERRUPTED) == [B]
    assert (
        subjects(told(replace(SERVING, leaving={node: NOON + 200}), evidence=(item,)), Code.INTERRUPTED) == []
    )


def test_what_was_not_sensed_held_or_suspended_is_told() -> None:
    """Each is a different thing to do for whoever is paged."""
    found = told(pools={A: group(A, 3, status="UPDATING")})
    suspended = told(pools={A: group(A, 3, launch_suspended=Suspension.AWS), B: group(B, 1)})

    assert subjects(found, Code.HELD) == [A]
    assert subjects(found, Code.NOT_SENSED) == [B]
    assert subjects(suspended, Code.SUSPENDED) == [A]


def test_stale_demand_is_told() -> None:
    """And only then."""
    assert subjects(told(minutes={}), Code.STALE) == [""]
    assert subjects(told(), Code.STALE) == []


def test_growth_and_shrinking_are_told_by_pool() -> None:
    """With numbers, before and after."""
    grown = told(rpm=900.0)
    (text,) = (reason.text for reason in grown.reasons if reason.code == Code.GROW and reason.subject == A)

    assert "3 -> " in text
    assert subjects(told(replace(SERVING, desired={})), Code.SHRINK)


def test_a_shortfall_is_told_when_nothing_more_can_be_had() -> None:
    """Both pools at their maximum carry less than the forecast."""
    assert subjects(told(rpm=9000.0), Code.SHORTFALL) == [""]
    assert subjects(told(), Code.SHORTFALL) == []


def test_lowered_trust_is_told_by_unit() -> None:
    """The profile flatters it."""
    late: dict[str, tuple[Minute, ...]] = {"aa": minutes(NOON, 30.0, hosts=3, latency=5.0)}

    assert subjects(told(minutes=late), Code.TRUST_LOWERED) == ["aa"]


def test_that_nothing_is_ready_is_told() -> None:
    """There is no one left to fail over to."""
    empty = told(pools={A: group(A), B: group(B)})

    assert subjects(empty, Code.NO_READY_UNIT) == [""]
    assert subjects(empty, Code.FAILOVER) == []


def test_a_jump_of_the_shares_is_told() -> None:
    """Survival preceded the ramp."""
    dear = replace(SERVING, weights={"aa": 0, "bb": 999})

    assert subjects(told(dear, rpm=150.0), Code.JUMP) == [""]
    assert subjects(told(dear, rpm=10.0), Code.JUMP) == []


def test_foreign_weights_are_told_only_when_they_are_foreign() -> None:
    """An unreadable rule is no foreign one."""
    assert subjects(told(weights={"aa": 1, "bb": 998}), Code.FOREIGN_WEIGHTS) == [""]
    assert subjects(told(weights=None), Code.FOREIGN_WEIGHTS) == []
    assert subjects(told(), Code.FOREIGN_WEIGHTS) == []


def test_what_it_costs_that_any_pool_may_be_lost_whole_is_told() -> None:
    """One spot pool would do; a second one is kept for a quarter of the forecast."""
    spot = fleet(
        unit("cheap", price=0.5, markets=("spot",)),
        unit("dear", price=2.0, markets=("spot",)),
        reserve={"spot": 0.5},
    )
    pools = [pool.name for pool in spot.pools]
    decision, _ = decide(snapshot(spot, {pools[0]: 8, pools[1]: 2}, 400.0), State(), spot)
    alone = fleet(unit("cheap", price=0.5, markets=("spot",)), reserve={"spot": 0.5})
    exposed, _ = decide(snapshot(alone, {"cheap-spot": 8}, 400.0), State(), alone)

    assert ["USD per hour" in reason.text for reason in decision.reasons if reason.code == Code.OUTLIVED] == [
        True
    ]
    assert ["no other pool" in reason.text for reason in exposed.reasons if reason.code == Code.OUTLIVED] == [
        True
    ]
