"""What refused launches teach: how long to stay away, who shares the lesson, and what ends it."""

import json
from dataclasses import replace

import pytest

from control_lambda.core.fleet import parse_fleet
from control_lambda.core.model import Evidence, EvidenceKind, PoolSignals, Refusal
from control_lambda.core.supply import refusals
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS
from tests.control_lambda.core.examples import NOON, START, fleet, group, unit

FLEET = fleet(
    unit("inductor", type="g5.xlarge", markets=("on-demand", "spot")),
    unit("eager", type="g5.xlarge"),
    unit("g6", type="g6.xlarge"),
    unit("inf2"),
)
A, A_SPOT, B, C, D = (pool.name for pool in FLEET.pools)
REFUSED = tuple(REFUSAL_KINDS)
Refusals = dict[str, Refusal]


def refused(
    pool: str = A, kind: EvidenceKind = EvidenceKind.SHORTAGE, at: float = NOON, zone: str = ""
) -> Evidence:
    """A launch of the pool was refused."""
    return Evidence(pool, kind, at, zone)


def remembered(*evidence: Evidence) -> Refusals:
    """What one piece of evidence after the other teaches."""
    known: Refusals = {}
    for item in evidence:
        known = refusals.remember(known, [item], FLEET)
    return known


def standing(known: Refusals) -> set[str]:
    """The pools that a refusal stands against."""
    return {
        pool.name
        for pool in FLEET.pools
        if refusals.refusal_of(known, pool, FLEET.unit_of[pool.name]) is not None
    }


def back_off(known: Refusals) -> float:
    """The only refusal's back-off in seconds."""
    (refusal,) = known.values()
    return refusal.until - refusal.at


def seen(**pools: PoolSignals) -> dict[str, PoolSignals]:
    """The groups, empty where not given."""
    named = {pool.name.replace("-", "_"): pool.name for pool in FLEET.pools}
    return dict.fromkeys(named.values(), PoolSignals(0)) | {named[word]: pools[word] for word in pools}


# --- Back-off ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REFUSED)
def test_every_kind_blocks_launches_until_its_back_off_is_over(kind: EvidenceKind) -> None:
    """No launch before, one probe after."""
    refusal = refusals.refusal_of(remembered(refused(kind=kind)), FLEET.pools[0], FLEET.units[0])

    assert refusal is not None
    assert refusal.until == NOON + REFUSAL_KINDS[kind].first_back_off
    assert refusals.launch_limit(refusal, 3, 10, refusal.until - 1, probing=False) == 3
    assert refusals.launch_limit(refusal, 3, 10, refusal.until, probing=False) == 4


@pytest.mark.parametrize("kind", REFUSED)
def test_every_refused_probe_doubles_the_back_off_up_to_its_longest(kind: EvidenceKind) -> None:
    """Exponential back-off."""
    known = remembered(refused(kind=kind))
    row, waits = REFUSAL_KINDS[kind], [back_off(known)]
    for _ in range(8):
        (refusal,) = known.values()
        known = refusals.remember(known, [refused(kind=kind, at=refusal.until)], FLEET)
        waits.append(back_off(known))

    assert waits[:2] == [row.first_back_off, min(2 * row.first_back_off, row.longest_back_off)]
    assert waits == sorted(waits)
    assert waits[-1] == row.longest_back_off


def test_refusals_within_the_back_off_belong_to_one_episode() -> None:
    """An Auto Scaling group retries every minute: that renews the back-off but does not double it."""
    known = remembered(refused(at=NOON), refused(at=NOON + 60), refused(at=NOON + 100))

    assert back_off(known) == REFUSAL_KINDS[EvidenceKind.SHORTAGE].first_back_off
    assert [refusal.count for refusal in known.values()] == [1]


def test_only_one_probe_runs_at_a_time() -> None:
    """While a node is starting nobody knows yet what the probe proves."""
    refusal = Refusal(EvidenceKind.SHORTAGE, A, NOON, NOON + 120, 1)

    assert refusals.launch_limit(refusal, 3, 10, NOON + 180, probing=True) == 3


def test_a_pool_never_gets_more_than_its_most_nodes() -> None:
    """Neither with a probe nor without a refusal."""
    due = Refusal(EvidenceKind.SHORTAGE, A, NOON, NOON, 1)

    assert refusals.launch_limit(due, 10, 10, NOON, probing=False) == 10
    assert refusals.launch_limit(None, 2, 10, NOON, probing=False) == 10


# --- Who shares a refusal ------------------------------------------------------------------------------


def test_a_quota_is_shared_by_the_family_within_its_market() -> None:
    """G5 and G6 draw on one vCPU quota; Inf has its own, spot has its own."""
    assert standing(remembered(refused(kind=EvidenceKind.QUOTA))) == {A, B, C}


def test_a_shortage_of_unknown_zone_is_shared_by_the_type_within_its_market() -> None:
    """Both units on g5.xlarge ask for the same machines."""
    assert standing(remembered(refused())) == {A, B}


def test_a_shortage_in_one_zone_says_nothing_about_another_pool_of_the_type() -> None:
    """It may still launch in the zones that are its own."""
    assert standing(remembered(refused(zone="us-east-1a"))) == {A}


def test_two_pools_of_one_type_that_are_refused_in_one_zone_are_both_remembered() -> None:
    """The later refusal does not make the earlier one forgotten."""
    assert standing(remembered(refused(A, zone="a"), refused(B, at=NOON + 5, zone="a"))) == {A, B}


@pytest.mark.parametrize(
    "kind",
    [EvidenceKind.UNKNOWN, EvidenceKind.PERMISSION, EvidenceKind.NO_ADDRESSES, EvidenceKind.NEVER_READY],
)
def test_other_kinds_concern_the_pool_alone(kind: EvidenceKind) -> None:
    """Its subnet, its role, its image."""
    assert standing(remembered(refused(kind=kind))) == {A}


def test_of_several_refusals_the_longest_counts() -> None:
    """A pool is probed when the last of them allows it."""
    known = remembered(refused(kind=EvidenceKind.PERMISSION), refused(at=NOON + 1))
    found = refusals.refusal_of(known, FLEET.pools[0], FLEET.units[0])

    assert found is not None
    assert found.kind is EvidenceKind.PERMISSION


@pytest.mark.parametrize(
    ("instance_type", "expected"),
    [
        ("g5.xlarge", "G and VT"),
        ("g6e.12xlarge", "G and VT"),
        ("vt1.3xlarge", "G and VT"),
        ("inf2.xlarge", "Inf"),
        ("trn1.2xlarge", "Trn"),
        ("p4d.24xlarge", "P"),
        ("c7i.large", "Standard"),
    ],
)
def test_instance_types_belong_to_the_families_that_aws_counts_by(instance_type: str, expected: str) -> None:
    """https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html."""
    assert refusals.family(instance_type) == expected


# --- What evidence counts ------------------------------------------------------------------------------


def test_evidence_that_was_taken_before_is_ignored() -> None:
    """Events and polling report the same refusal; it counts once, in whatever order it comes."""
    known = remembered(refused(at=NOON))

    assert refusals.remember(known, [refused(at=NOON), refused(at=NOON - 500)], FLEET) == known


def test_evidence_with_its_text_and_without_it_is_one_refusal() -> None:
    """The metric has no text, the event and the activity have: in any order it counts once."""
    bare = refused(kind=EvidenceKind.UNKNOWN)
    told = replace(bare, text="Tea is out.")

    assert told == bare
    assert len({told, bare}) == 1
    assert remembered(told, bare) == remembered(bare, told) == remembered(bare)


def test_late_evidence_of_a_refusal_that_was_disproved_is_ignored() -> None:
    """A node has been granted since."""
    known = remembered(refused(at=NOON))
    proven = refusals.forget_proven(
        known, seen(inductor_on_demand=group(A, 1, starting=[NOON + 130])), FLEET, NOON + 180
    )

    assert standing(refusals.remember(proven, [refused(at=NOON + 20)], FLEET)) == set()


def test_interruptions_are_no_refusals() -> None:
    """A node is taken away; whether another can be had is not said."""
    assert remembered(Evidence(A_SPOT, EvidenceKind.INTERRUPTION, NOON, node="i-1")) == {}


def test_evidence_about_pools_of_another_fleet_is_ignored() -> None:
    """The fleet may have changed since."""
    assert remembered(refused("long-gone-on-demand")) == {}


# --- Proof ---------------------------------------------------------------------------------------------


def test_a_node_launched_since_proves_capacity() -> None:
    """AWS has granted one: the pool may grow again."""
    known = remembered(refused())
    granted = seen(inductor_on_demand=group(A, 2, starting=[NOON + 130]))

    assert standing(refusals.forget_proven(known, granted, FLEET, NOON + 180)) == set()


def test_nodes_launched_before_prove_nothing() -> None:
    """Nor do those that were ready all along."""
    known = remembered(refused())
    before = seen(inductor_on_demand=group(A, 5, starting=[NOON - 60]))

    assert refusals.forget_proven(known, before, FLEET, NOON + 180) == known


def test_after_proof_the_next_refusal_starts_a_new_series() -> None:
    """Its back-off is the first again."""
    known = remembered(refused(at=NOON), refused(at=NOON + 300), refused(at=NOON + 900))
    granted = seen(inductor_on_demand=group(A, 0, starting=[NOON + 1300]))
    proven = refusals.forget_proven(known, granted, FLEET, NOON + 1320)
    again = refusals.remember(proven, [refused(at=NOON + 2000)], FLEET)

    assert back_off(again) == REFUSAL_KINDS[EvidenceKind.SHORTAGE].first_back_off


def test_a_launch_proves_nothing_about_nodes_that_never_get_ready() -> None:
    """Launching was never the problem."""
    known = remembered(refused(kind=EvidenceKind.NEVER_READY))
    launched = seen(inductor_on_demand=group(A, 0, starting=[NOON + 130]))

    assert refusals.forget_proven(known, launched, FLEET, NOON + 180) == known


def test_never_ready_is_forgiven_when_twice_the_start_time_passes_after_its_back_off() -> None:
    """Without another node that is overdue."""
    known = remembered(refused(kind=EvidenceKind.NEVER_READY))
    forgiven_at = NOON + REFUSAL_KINDS[EvidenceKind.NEVER_READY].first_back_off + 2 * START + 1

    assert standing(refusals.forget_proven(known, seen(), FLEET, forgiven_at)) == set()
    assert standing(refusals.forget_proven(known, seen(), FLEET, forgiven_at, hanging=[A])) == {A}


def test_a_probe_that_is_ready_at_the_next_tick_proves_the_pool() -> None:
    """A node that starts within a minute is never seen starting: one more ready node is the proof."""
    raw = json.loads(FLEET.to_json())
    for described in raw["units"]:
        described["profile"]["start_seconds"] = 20
    fast = parse_fleet(raw)
    known = refusals.remember({}, [Evidence(A, EvidenceKind.SHORTAGE, NOON)], fast)
    grown = {A: group(A, 2)}

    assert refusals.forget_proven(known, grown, fast, NOON + 180, {A: 2}) == known
    assert refusals.forget_proven(known, grown, fast, NOON + 60, {A: 1}) == known
    assert standing(refusals.forget_proven(known, grown, fast, NOON + 180, {A: 1})) == set()


def test_the_metric_of_a_refusal_does_not_repeat_it_without_its_zone() -> None:
    """CapacityErrors has no zone and whole minutes; the refusal that it records is known already."""
    told = Evidence(A, EvidenceKind.SHORTAGE, NOON + 7, zone="us-east-1a")
    known = refusals.remember({}, [told], FLEET)

    assert refusals.remember(known, [Evidence(A, EvidenceKind.SHORTAGE, NOON)], FLEET) == known
