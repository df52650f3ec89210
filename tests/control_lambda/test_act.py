"""Writing a decision: in which order, and what a failed write keeps from being written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Cause, Decision, Evidence, PoolSignals, Snapshot, State, Termination
from control_lambda.core.reasons import Failure
from control_lambda.loop import Decide
from tests.control_lambda.core.examples import serving
from tests.control_lambda.fake_world import SIZES, WEIGHTS, A, B, C, World, deciding, refused, run


def test_weights_are_written_first_then_growth_then_shrinking() -> None:
    """A node is taken away only after traffic has left and others were asked for."""
    world = World()
    run(world, deciding(WEIGHTS, SIZES, resume=(B,)))
    assert world.calls[2:] == [
        "weights",
        "read back",
        f"resume {B}",
        f"size {B}",
        f"size {C}",
        f"size {A}",
        "save",
    ]


def test_the_record_tells_every_write_with_what_stood_before() -> None:
    """writes[] holds what, subject, before and after."""
    record = run(World(), deciding(WEIGHTS, {B: 7}, resume=(C,)))
    assert record["writes"] == [
        {"what": "weights", "subject": "rule", "before": {"aa": 100, "bb": 0, "cc": 0}, "after": WEIGHTS},
        {"what": "resume", "subject": C, "before": "suspended", "after": "resumed"},
        {"what": "size", "subject": B, "before": 4, "after": 7},
    ]
    assert record["failures"] == []


@pytest.mark.parametrize("call", ["weights", "read back"])
def test_shrinking_waits_when_the_weights_are_not_certain(call: str) -> None:
    """A node that may still receive traffic stays; growth goes on."""
    world = World(fails={call: refused("InternalFailure")})
    record = run(world, deciding(WEIGHTS, SIZES))
    assert world.desired == {A: 4, B: 7, C: 5}
    assert "weights: InternalFailure" in record["failures"]
    assert f"skipped: size of {A}: the weights are not certain" in record["failures"]


def test_shrinking_waits_when_the_standing_weights_could_not_be_read() -> None:
    """Unchanged weights are only certain when they were read."""
    world = World(weights=None)
    run(world, deciding(None, SIZES))
    assert world.desired == {A: 4, B: 7, C: 5}


def test_lowering_a_size_to_what_is_in_service_needs_no_certain_weights() -> None:
    """It takes no node away, only a launch that AWS refuses."""
    world = World(weights=None)
    real_sense = world.sense

    def sense_refused_launches(fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        snapshot = real_sense(fleet, at, evidence)
        pools = {**snapshot.pools, A: PoolSignals(desired=9, nodes=serving(["i-1"]))}
        return replace(snapshot, pools=pools)

    world.sense = sense_refused_launches  # type: ignore[method-assign]
    run(world, deciding(None, {A: 1}))
    assert world.desired[A] == 1


def test_a_foreign_hand_between_write_and_read_back_is_reported() -> None:
    """What is read back differs from what was written."""
    world = World(foreign_hand={"aa": 1, "bb": 1, "cc": 1})
    record = run(world, deciding(WEIGHTS, {A: 2}))
    assert record["failures"][0].startswith(Failure.FOREIGN_WEIGHTS)
    assert world.desired[A] == 4
    assert world.state is not None
    assert world.state.weights == {"aa": 1, "bb": 1, "cc": 1}


def test_one_pool_that_cannot_be_resized_does_not_keep_another_from_it() -> None:
    """Each failure is recorded with its AWS code and the next write goes on."""
    world = World(fails={f"size {B}": refused("ScalingActivityInProgress")})
    record = run(world, deciding(None, SIZES))
    assert world.desired == {A: 2, B: 4, C: 5}
    assert record["failures"] == [Failure.SIZE.told("ScalingActivityInProgress", B)]
    assert [write["subject"] for write in record["writes"]] == [C, A]


def test_writes_that_do_not_fit_into_the_tick_are_skipped_and_named() -> None:
    """A tick that runs out of time says what it left out."""
    world = World()
    left = iter([5.0, 1.0, 0.0, -1.0])
    record = run(world, deciding(WEIGHTS, SIZES), remaining=lambda: next(left))
    assert world.desired == {A: 4, B: 7, C: 4}
    assert record["failures"] == [
        f"skipped: size of {C}: no time left in this tick",
        f"skipped: size of {A}: no time left in this tick",
    ]


# --- Nodes that leave by their id, and what a refused write teaches -----------------------------------------

DEAD = Termination(A, f"i-{A}-0", decrement=False, why=Cause.DEAD)
SPARE = Termination(A, f"i-{A}-1", decrement=True, why=Cause.SURPLUS)


def leaving(*items: Termination, sizes: Mapping[str, int] = SIZES) -> Decide:
    """A decision made in advance that terminates nodes."""

    def decide(snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[Decision, State]:
        decision, after = deciding(WEIGHTS, sizes)(snapshot, state, fleet)
        return replace(decision, terminate=items), after

    return decide


def test_nodes_are_terminated_after_the_weights_and_before_any_size() -> None:
    """What grows beside them is counted with their replacements."""
    world = World()
    record = run(world, leaving(DEAD, SPARE))
    assert world.calls[2:] == [
        "weights",
        "read back",
        f"terminate i-{A}-0",
        f"terminate i-{A}-1 with its place",
        f"size {B}",
        f"size {C}",
        f"size {A}",
        "save",
    ]
    assert record["writes"][1] == {
        "what": "terminate",
        "subject": f"i-{A}-0 in {A}",
        "before": "dead",
        "after": "replaced",
    }


def test_a_node_of_use_stays_while_the_weights_are_not_certain() -> None:
    """A dead one gets no traffic that it could lose."""
    world = World(fails={"weights": refused("InternalFailure")})
    run(world, leaving(DEAD, SPARE, sizes={}))
    assert f"terminate i-{A}-0" in world.calls
    assert f"terminate i-{A}-1 with its place" not in world.calls


def test_a_pool_in_which_a_termination_failed_is_not_shrunk() -> None:
    """Its group would choose another node: its oldest, which serves."""
    world = World(fails={f"terminate i-{A}-0": refused("Throttling")})
    record = run(world, leaving(DEAD))
    assert world.desired == {A: 4, B: 7, C: 5}
    assert Failure.TERMINATION.told("Throttling", f"i-{A}-0 in {A}") in record["failures"]


@pytest.mark.parametrize(("code", "limits"), [("ValidationError", {B: 4}), ("Throttling", {})])
def test_a_lasting_refusal_of_a_size_limits_the_pool(code: str, limits: dict[str, int]) -> None:
    """Above the group's maximum, or without a group: the next tick buys elsewhere. Throttling passes."""
    world = World(fails={f"size {B}": refused(code)})
    run(world, deciding(None, {B: 7}))
    assert world.state is not None
    assert {pool: limit.nodes for pool, limit in world.state.limits.items()} == limits


def test_zone_rebalancing_is_suspended_and_resumed_as_decided() -> None:
    """Both are told; a failure hurts nothing else."""

    def decide(snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[Decision, State]:
        decision, after = deciding(None, {B: 7})(snapshot, state, fleet)
        return replace(decision, suspend_rebalancing=(A,), resume_rebalancing=(B,)), after

    world = World(fails={f"resume rebalancing {B}": refused("AccessDenied")})
    record = run(world, decide)
    assert record["writes"][0] == {
        "what": "rebalancing",
        "subject": A,
        "before": "runs",
        "after": "suspended",
    }
    assert record["failures"] == [Failure.REBALANCING.told("AccessDenied", B)]
    assert world.desired[B] == 7
