"""How instances, groups, node groups and targets join into pools, whichever of them is missing."""

from dataclasses import replace

from control_lambda.aws.joining import (
    Answers,
    Group,
    Instance,
    Member,
    NodeGroup,
    Target,
    best_of,
    join,
)
from control_lambda.core.model import DELETED, NodeSignal, PoolSignals, TargetHealth
from tests.control_lambda.fake_world import FLEET, NOON, A, B, C

HEALTHY, INITIAL = Target(TargetHealth.HEALTHY), Target(TargetHealth.INITIAL)
DRAINING, UNHEALTHY = Target(TargetHealth.DRAINING), Target(TargetHealth.UNHEALTHY)

ANSWERS = Answers(
    instances={
        "i-1": Instance(frozenset({"10.0.0.1", "10.0.1.1"}), NOON - 900),
        "i-2": Instance(frozenset({"10.0.0.2"}), NOON - 60),
    },
    groups={
        A: Group("eks-a", 3, 450, {"i-1": Member("a", True), "i-2": Member("b", False)}, terminating=1),
        B: Group("eks-b", 0, 7),
        C: Group("eks-c", 0, 450),
    },
    node_groups={A: NodeGroup("ACTIVE"), B: NodeGroup("DEGRADED"), C: NodeGroup("UPDATING")},
    targets={"aa": {"10.0.1.1": HEALTHY, "10.0.0.9": DRAINING}, "bb": {}, "cc": {}},
    prices={A: 0.76},
)


def joined(answers: Answers) -> dict[str, PoolSignals]:
    """The pools at noon."""
    return dict(join(answers, FLEET, NOON).pools)


def test_a_node_has_its_zone_its_state_and_the_health_of_its_target() -> None:
    """Any of its addresses may be the target's; what drains is no member, but billed."""
    pool = joined(ANSWERS)[A]
    assert pool.nodes == {
        "i-1": NodeSignal(NOON - 900, "a", in_service=True, target=TargetHealth.HEALTHY),
        "i-2": NodeSignal(NOON - 60, "b", in_service=False, target=TargetHealth.NONE),
    }
    assert (pool.desired, pool.maximum, pool.terminating, pool.price) == (3, 450, 1, 0.76)
    assert pool.health_known


def test_each_pool_has_the_status_of_its_node_group() -> None:
    """Only one that is being changed is left alone."""
    pools = joined(ANSWERS)
    assert [pools[pool].status for pool in (A, B, C)] == ["ACTIVE", "DEGRADED", "UPDATING"]
    assert [pools[pool].sizable for pool in (A, B, C)] == [True, True, False]


def test_without_groups_there_are_no_pools() -> None:
    """Nobody knows any size."""
    assert joined(replace(ANSWERS, groups=None)) == {}


def test_without_instances_a_group_still_holds_its_members() -> None:
    """They have no address to be joined by."""
    pool = joined(replace(ANSWERS, instances=None))[A]
    assert (pool.desired, pool.in_service, pool.terminating) == (3, 2, 1)
    assert (pool.health_known, pool.ready, pool.starting) == (False, frozenset(), {})


def test_without_the_targets_of_one_unit_only_its_pools_are_of_unknown_health() -> None:
    """The others are steered on."""
    pools = joined(replace(ANSWERS, targets={"bb": {}, "cc": {}}))
    assert [pools[pool].health_known for pool in (A, B, C)] == [False, True, True]


def test_without_a_node_group_its_status_is_not_known() -> None:
    """All else is."""
    pools = joined(replace(ANSWERS, node_groups={}))
    assert pools[A] == replace(joined(ANSWERS)[A], status="")


def test_a_node_group_that_is_gone_is_a_pool_of_nothing() -> None:
    """Its Auto Scaling group went with it: nothing stands there, and nothing can be had."""
    groups = {pool: group for pool, group in (ANSWERS.groups or {}).items() if pool != B}
    gone = replace(ANSWERS, groups=groups, node_groups={B: NodeGroup(DELETED)})
    assert joined(gone)[B] == PoolSignals(0, maximum=0, status=DELETED)
    assert not joined(gone)[B].sizable


def test_a_pool_without_a_group_whose_node_group_is_not_read_is_not_known() -> None:
    """It may be there all the same."""
    assert joined(replace(ANSWERS, groups={}, node_groups={})) == {}


def test_an_instance_that_ec2_does_not_show_yet_was_launched_just_now() -> None:
    """The group knows it before EC2 tells of it."""
    assert joined(replace(ANSWERS, instances={}))[A].starting == {"i-1": NOON, "i-2": NOON}


def test_the_best_of_a_nodes_targets_counts() -> None:
    """A pod that drains or starts beside one that serves takes nothing from the node."""
    assert best_of([DRAINING, HEALTHY, INITIAL]) == HEALTHY
    assert best_of([DRAINING, UNHEALTHY, INITIAL]) == INITIAL
    assert best_of([DRAINING, UNHEALTHY]) == UNHEALTHY
    assert best_of([]) == Target(TargetHealth.NONE)
    assert best_of([HEALTHY, UNHEALTHY._replace(anomalous=True)]) == HEALTHY._replace(anomalous=True)


def test_units_are_counted_by_their_targets_alone() -> None:
    """What drains is no longer registered; a unit that was not read is absent."""
    targets = {"aa": {"1": HEALTHY, "2": DRAINING, "3": UNHEALTHY}, "bb": {}}
    found = join(replace(ANSWERS, groups=None, targets=targets), FLEET, NOON)
    assert found.healthy == {"aa": 1, "bb": 0}
    assert found.registered == {"aa": 2, "bb": 0}
