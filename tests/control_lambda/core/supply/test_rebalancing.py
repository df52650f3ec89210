"""When Auto Scaling may swap nodes by itself, and whose suspension is whose."""

import pytest

from control_lambda.core.model import PoolSignals, Suspension
from control_lambda.core.supply.rebalancing import Rebalancing, choose, missing_for_update

A = "aa-on-demand"
RUNS, SUSPENDED = Suspension.NONE, Suspension.LOOP_OR_PERSON


def chosen(status: str, suspended: Suspension, before: tuple[str, ...] = ()) -> Rebalancing:
    """What is chosen for one pool."""
    return choose({A: PoolSignals(1, status=status, rebalance_suspended=suspended)}, before)


@pytest.mark.parametrize("status", ["ACTIVE", "DEGRADED", ""])
def test_it_is_suspended_in_every_steady_status_a_tick_after_that_was_remembered(status: str) -> None:
    """Killed in between, the loop would take its own suspension for a person's."""
    assert chosen(status, RUNS) == Rebalancing(remembered=(A,))
    assert chosen(status, RUNS, (A,)) == Rebalancing(suspend=(A,), remembered=(A,))


def test_it_is_resumed_while_eks_updates_the_group() -> None:
    """The update needs it; afterwards it is suspended again."""
    assert chosen("UPDATING", SUSPENDED, (A,)) == Rebalancing(resume=(A,), remembered=(A,))
    assert chosen("UPDATING", RUNS, (A,)) == Rebalancing(remembered=(A,))
    assert chosen("ACTIVE", RUNS, (A,)).suspend == (A,)


def test_what_a_person_suspended_is_left_so_and_told() -> None:
    """Even while EKS needs it."""
    pools = {A: PoolSignals(1, status="UPDATING", rebalance_suspended=SUSPENDED)}

    assert chosen("ACTIVE", SUSPENDED) == chosen("UPDATING", SUSPENDED) == Rebalancing()
    assert missing_for_update(pools, ()) == (A,)
    assert missing_for_update(pools, (A,)) == ()


def test_what_stands_is_left_alone() -> None:
    """It is read at every tick and written when it differs."""
    assert chosen("ACTIVE", SUSPENDED, (A,)) == Rebalancing(remembered=(A,))


@pytest.mark.parametrize("status", ["CREATING", "DELETING", "CREATE_FAILED"])
def test_a_group_that_comes_or_goes_is_none_of_the_loops_business(status: str) -> None:
    """Neither way."""
    assert chosen(status, RUNS) == Rebalancing()


def test_a_group_that_is_gone_is_forgotten() -> None:
    """Another of its name starts afresh."""
    assert chosen("DELETED", RUNS, (A,)) == Rebalancing()
