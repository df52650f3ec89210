"""Evidence as fine as the fact: a zone's refusal is the zone's until none is left."""

from typing import Any

import pytest

from control_lambda.core.model import (
    Evidence,
    EvidenceKind,
    NodeSignal,
    PoolSignals,
    Refusal,
    Snapshot,
    State,
    Suspension,
    ZoneRefusal,
)
from control_lambda.core.supply import zones
from control_lambda.core.supply.zones import REMEMBERED_SECONDS, UNMET_SECONDS
from tests.control_lambda.core.examples import NOON, group, serving

A = "aa-on-demand"
SHORTAGE = EvidenceKind.SHORTAGE
POOLS = {A: group(A, 1, zones=("a", "b", "c"))}


def refused(zone: str = "", kind: EvidenceKind = SHORTAGE, at: float = NOON) -> Evidence:
    """A launch was refused."""
    return Evidence(A, kind, at, zone)


def concerning_pools(
    *evidence: Evidence, pools: dict[str, PoolSignals] = POOLS, known: dict[str, Refusal] | None = None
) -> list[Evidence]:
    """What the evidence, all of it noted, says about whole pools."""
    return zones.of_pools(evidence, zones.note({}, evidence, NOON + 60), pools, known or {})


def test_one_zone_of_three_does_not_make_the_pool_short() -> None:
    """The group tries the others by itself."""
    assert concerning_pools(refused("a"), refused("b")) == []


def test_a_pool_is_short_when_all_its_zones_refuse() -> None:
    """Nowhere is left to try."""
    evidence = (refused("a"), refused("b"), refused("c"))

    assert concerning_pools(*evidence) == list(evidence)


def test_a_refusal_without_a_zone_is_the_pools() -> None:
    """Nothing says that another zone would grant."""
    assert concerning_pools(refused()) == [refused()]


@pytest.mark.parametrize("kind", [EvidenceKind.QUOTA, EvidenceKind.PERMISSION, EvidenceKind.UNKNOWN])
def test_what_is_the_same_in_every_zone_is_the_pools_although_a_zone_is_named(kind: EvidenceKind) -> None:
    """A quota holds for the region, a role for the account."""
    assert concerning_pools(refused("a", kind)) == [refused("a", kind)]


def test_the_metric_of_a_zones_refusal_does_not_make_it_the_pools() -> None:
    """CapacityErrors has whole minutes and no zone."""
    assert concerning_pools(refused("a", at=NOON + 7), refused(at=NOON)) == []


def test_a_zone_that_granted_a_node_since_no_longer_refuses() -> None:
    """Two refuse now and one did before."""
    granted = {"i-9": NodeSignal(NOON + 30, zone="a")}
    pools = {A: PoolSignals(2, {**serving(["i-1"]), **granted}, zones=("a", "b", "c"))}

    assert concerning_pools(refused("a"), refused("b"), refused("c"), pools=pools) == []


def test_where_the_zones_are_not_known_a_refusal_is_the_pools() -> None:
    """No other can be counted on."""
    assert concerning_pools(refused("a"), pools={A: group(A, 1)}) == [refused("a")]


def test_a_probe_that_is_refused_in_one_zone_renews_the_refusal_of_a_short_pool() -> None:
    """Desired falls back before the group has tried the others."""
    short = {"x": Refusal(SHORTAGE, A, NOON - 200, NOON - 80, 1)}

    assert concerning_pools(refused("a"), known=short) == [refused("a")]
    assert concerning_pools(refused("a", at=NOON - 300), known=short) == []


def test_zones_are_forgotten_when_nothing_repeats_them_any_more() -> None:
    """Not before: the metric that repeats them would count as the pool's."""
    noted = zones.note({}, [refused("a")], NOON)

    assert zones.note(noted, [], NOON + REMEMBERED_SECONDS - 1) == {A: {"a": ZoneRefusal(SHORTAGE, NOON)}}
    assert zones.note(noted, [], NOON + REMEMBERED_SECONDS) == {}


def waiting(at: float, state: State, held: int = 1, **told: Any) -> dict[str, float]:
    """Since when the pool, which wants three nodes, has waited."""
    pools = {A: group(A, held, desired=3, **told)}
    return zones.unmet(state, Snapshot(at, pools=pools))


def test_a_group_that_gets_nothing_for_three_minutes_makes_its_pool_short() -> None:
    """For what its zones last said."""
    since = waiting(NOON, State())
    later = waiting(NOON + UNMET_SECONDS, State(unmet=since, in_service={A: 1}))
    noted = zones.note({}, [refused("a")], NOON)

    assert zones.unmet_evidence(since, noted, NOON + UNMET_SECONDS - 1) == []
    (found,) = zones.unmet_evidence(later, noted, NOON + UNMET_SECONDS)
    assert (found.pool, found.kind) == (A, SHORTAGE)
    (unread,) = zones.unmet_evidence(later, {}, NOON + UNMET_SECONDS)
    assert unread.kind is EvidenceKind.UNKNOWN


def test_a_group_that_gets_on_is_not_short() -> None:
    """It got one node: the wait begins anew."""
    assert waiting(NOON + 120, State(unmet={A: NOON}, in_service={A: 1}), held=2) == {A: NOON + 120}


def test_a_group_that_may_not_launch_waits_for_nobody() -> None:
    """Its launches are suspended: that is no shortage."""
    assert waiting(NOON + 120, State(unmet={A: NOON}), launch_suspended=Suspension.PERSON) == {}
