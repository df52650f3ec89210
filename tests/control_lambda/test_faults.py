"""The loop over the boto3 ports on a starved, throttled, contradicted embedded AWS.

The decision is a simple one here (reach given weights and sizes), so that every test says what the shell
does about a fault; what the core decides under faults is its own tests' matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from control_lambda.core.decide import decide
from control_lambda.core.model import Decision, Mode, Snapshot, State
from control_lambda.core.reasons import Code, Failure, Skip
from control_lambda.loop import Decide, tick
from control_lambda.trigger import iso_time
from tests.control_lambda.conftest import NOON
from tests.control_lambda.fake_world import as_json

if TYPE_CHECKING:
    from control_lambda.core.fleet import Fleet
    from control_lambda.ports import Actuators, Memory
    from tests.control_lambda.conftest import Shell
    from tests.control_lambda.fake_world import Record

FAST, FAST_SPOT, SLOW = "fast-on-demand", "fast-spot", "slow-on-demand"
WEIGHTS = {"fast": 700, "slow": 299}
SIZES = {FAST: 5, FAST_SPOT: 3, SLOW: 1}
MINUTE = 60.0


@dataclass
class Goal:
    """Decides to reach `weights` and `sizes`, and keeps every snapshot that it saw."""

    weights: Mapping[str, int] = field(default_factory=lambda: WEIGHTS)
    sizes: Mapping[str, int] = field(default_factory=lambda: SIZES)
    snapshots: list[Snapshot] = field(default_factory=list)

    def decide(self, snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[Decision, State]:
        """Write what differs from what stands."""
        self.snapshots.append(snapshot)
        decision = Decision(
            tick=state.tick + 1,
            at=snapshot.at,
            mode=Mode.COST,
            reasons=(),
            demand_rpm=0.0,
            forecast_rpm=0.0,
            cost_usd_per_hour=0.0,
            savings_usd_per_hour=0.0,
            budget_usd_per_hour=fleet.budget_usd_per_hour,
            signal_age_seconds=None,
            units={},
            pools={},
            weights=None if snapshot.weights == self.weights else self.weights,
            sizes={
                pool: nodes
                for pool, nodes in self.sizes.items()
                if pool in snapshot.pools and snapshot.pools[pool].desired != nodes
            },
            resume=tuple(pool for pool, signals in snapshot.pools.items() if signals.launch_suspended),
        )
        return decision, replace(state, tick=state.tick + 1, at=snapshot.at)


def run(
    shell: Shell,
    decide: Decide,
    at: float = NOON,
    *,
    actuators: Actuators | None = None,
    memory: Memory | None = None,
) -> Record:
    """One scheduled tick at `at` over the boto3 ports."""
    shell.cloud.advance(max(at, shell.cloud.time))
    event = {"time": iso_time(at), "cause": "schedule"}
    return as_json(tick(event, shell.sensors, actuators or shell.actuators, memory or shell.memory, decide))


def standing(shell: Shell) -> tuple[dict[str, int] | None, dict[str, int]]:
    """The weights and the desired sizes as AWS holds them."""
    snapshot = shell.sensors.sense(shell.fleet, shell.cloud.time, ())
    weights = None if snapshot.weights is None else dict(snapshot.weights)
    return weights, {pool: signals.desired for pool, signals in snapshot.pools.items()}


@pytest.fixture
def running(shell: Shell) -> Shell:
    """Ten nodes serve: sizes shrink and grow towards the goal."""
    for pool, nodes in {FAST: 2, FAST_SPOT: 4, SLOW: 4}.items():
        shell.cloud.set_ready(pool, nodes)
    return shell


def test_a_tick_reaches_its_goal_and_the_next_one_is_quiet(running: Shell) -> None:
    """Without a fault: everything is written once, and the calls of a quiet tick are these."""
    first = run(running, Goal().decide)
    assert first["failures"] == []
    assert standing(running) == (WEIGHTS, SIZES)
    for pool, nodes in SIZES.items():
        running.cloud.set_ready(pool, nodes)
    running.cloud.calls.clear()
    second = run(running, Goal().decide, NOON + MINUTE)
    assert (second["writes"], second["failures"]) == ([], [])
    assert running.cloud.calls == {
        "UpdateItem": 2,
        "GetParameter": 2,
        "GetMetricData": 1,
        "DescribeInstances": 1,
        "DescribeAutoScalingGroups": 1,
        "DescribeRules": 1,
        "DescribeTargetHealth": len(running.fleet.units),
        "DescribeNodegroup": len(running.fleet.pools),
    }


def test_ten_minutes_without_metrics_are_reported_and_end(running: Shell) -> None:
    """Every tick says so and still writes what it decides; then all is as before."""
    goal = Goal()
    running.cloud.throttle("GetMetricData", -1)
    for minute in range(10):
        record = run(running, goal.decide, NOON + minute * MINUTE)
        due = ["prices: Throttling"] if minute == 0 else []
        assert record["failures"] == [*due, "metrics: Throttling"]
    assert all(snapshot.minutes == {} for snapshot in goal.snapshots)
    assert standing(running)[1] == SIZES
    running.cloud.throttle("GetMetricData", 0)
    running.cloud.put_minute("fast", NOON + 5 * MINUTE, [0.5] * 7)
    assert run(running, goal.decide, NOON + 10 * MINUTE)["failures"] == []
    assert 7 in [minute.requests for minute in goal.snapshots[-1].minutes["fast"]]


def test_metrics_that_are_empty_are_known_to_be_empty(shell: Shell) -> None:
    """No datum is no failure of the call: the units are there, without minutes."""
    goal = Goal()
    assert run(shell, goal.decide)["failures"] == []
    assert goal.snapshots[0].minutes == {"fast": (), "slow": ()}


def test_a_node_group_that_is_busy_for_an_hour_does_not_keep_its_pool_from_being_sized(
    running: Shell,
) -> None:
    """The Auto Scaling group takes what the node group would refuse."""
    running.cloud.busy(FAST, NOON + 3600)
    goal = Goal()
    record = run(running, goal.decide)
    assert goal.snapshots[0].pools[FAST].updating
    assert record["failures"] == []
    assert standing(running)[1][FAST] == SIZES[FAST]


def test_a_rule_that_cannot_be_modified_keeps_nodes_from_being_taken(running: Shell) -> None:
    """Growth happens at once, shrinking once the weights stand."""
    run(running, Goal(weights={"fast": 1, "slow": 998}, sizes={}).decide)
    running.cloud.fail("ModifyRule", "InternalFailure", -1)
    record = run(running, Goal().decide, NOON + MINUTE)
    assert "weights: InternalFailure" in record["failures"]
    assert standing(running) == ({"fast": 1, "slow": 998}, {FAST: 5, FAST_SPOT: 4, SLOW: 4})
    running.cloud.fail("ModifyRule", "InternalFailure", 0)
    assert run(running, Goal().decide, NOON + 2 * MINUTE)["failures"] == []
    assert standing(running) == (WEIGHTS, SIZES)


def test_sizes_that_cannot_be_set_are_set_by_the_next_tick(running: Shell) -> None:
    """The weights stand meanwhile."""
    running.cloud.fail("SetDesiredCapacity", "ScalingActivityInProgress", -1)
    record = run(running, Goal().decide)
    assert len(record["failures"]) == len(SIZES)
    assert standing(running)[0] == WEIGHTS
    running.cloud.fail("SetDesiredCapacity", "ScalingActivityInProgress", 0)
    run(running, Goal().decide, NOON + MINUTE)
    assert standing(running) == (WEIGHTS, SIZES)


class Killed(BaseException):
    """The process ends here, as when Lambda kills it."""


@dataclass
class Mortal:
    """Actuators whose process dies after `writes` writes."""

    actuators: Actuators
    writes: int

    def _write(self) -> None:
        if not self.writes:
            raise Killed
        self.writes -= 1

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights while alive."""
        self._write()
        return self.actuators.set_weights(weights)

    def set_row(self, row: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write one row's weights while alive."""
        self._write()
        return self.actuators.set_row(row, weights)

    def set_class_weights(self, name: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write a query class's weights while alive."""
        self._write()
        return self.actuators.set_class_weights(name, weights)

    def set_desired(self, pool: str, nodes: int) -> None:
        """Set a size while alive."""
        self._write()
        self.actuators.set_desired(pool, nodes)

    def resume_launches(self, pool: str) -> None:
        """Resume launches while alive."""
        self._write()
        self.actuators.resume_launches(pool)

    def terminate(self, node: str, *, decrement: bool) -> None:
        """Terminate a node while alive."""
        self._write()
        self.actuators.terminate(node, decrement=decrement)

    def suspend_rebalancing(self, pool: str) -> None:
        """Suspend rebalancing while alive."""
        self._write()
        self.actuators.suspend_rebalancing(pool)

    def resume_rebalancing(self, pool: str) -> None:
        """Resume rebalancing while alive."""
        self._write()
        self.actuators.resume_rebalancing(pool)


@pytest.mark.parametrize("writes", range(4))
def test_after_a_crash_between_any_two_writes_the_next_tick_repairs(running: Shell, writes: int) -> None:
    """The dead tick's lease expires before the next minute; what is missing is written then."""
    with pytest.raises(Killed):
        run(running, Goal().decide, actuators=Mortal(running.actuators, writes))
    assert run(running, Goal().decide, NOON + 30)["skipped"].startswith(Skip.LEASE_HELD)
    record = run(running, Goal().decide, NOON + MINUTE)
    assert record["failures"] == []
    assert len(record["writes"]) == 4 - writes
    assert standing(running) == (WEIGHTS, SIZES)


def test_of_two_ticks_at_once_one_acts(running: Shell) -> None:
    """The second finds the lease held and touches nothing."""
    second: list[Record] = []

    def decide_while_another_starts(snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[Decision, State]:
        event: dict[str, Any] = {"time": iso_time(NOON + 1)}
        memory = running.another_memory()
        second.append(as_json(tick(event, running.sensors, running.actuators, memory, Goal().decide)))
        return Goal().decide(snapshot, state, fleet)

    first = run(running, decide_while_another_starts)
    assert [list(record) for record in second] == [["skipped"]]
    assert first["failures"] == []
    assert running.cloud.calls["CreateRule"] == 1


def test_weights_that_a_foreign_hand_changed_are_seen_and_corrected(running: Shell) -> None:
    """The rule is read in every tick, never believed."""
    run(running, Goal().decide)
    running.actuators.set_weights({"fast": 1, "slow": 1})
    goal = Goal()
    record = run(running, goal.decide, NOON + MINUTE)
    assert goal.snapshots[0].weights == {"fast": 1, "slow": 1}
    assert record["writes"][0]["before"] == {"fast": 1, "slow": 1}
    assert standing(running)[0] == WEIGHTS


def test_a_rule_that_a_foreign_hand_deleted_is_made_again(running: Shell) -> None:
    """As on the first tick."""
    run(running, Goal().decide)
    rules = running.clients.elbv2.describe_rules(ListenerArn=running.environment.listener_arn)["Rules"]
    running.clients.elbv2.delete_rule(
        RuleArn=next(rule["RuleArn"] for rule in rules if rule["Priority"] == "1")
    )
    run(running, Goal().decide, NOON + MINUTE)
    assert standing(running)[0] == WEIGHTS


def test_a_conditional_failure_on_saving_is_a_lost_lease(running: Shell) -> None:
    """What was written stands; the next tick finds it and repairs the state."""

    def decide_and_lose_the_lease(snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[Decision, State]:
        running.cloud.fail("UpdateItem", "ConditionalCheckFailedException", 1)
        return Goal().decide(snapshot, state, fleet)

    record = run(running, decide_and_lose_the_lease)
    assert [failure.split(":")[0] for failure in record["failures"]] == [Failure.LEASE_LOST]
    assert standing(running) == (WEIGHTS, SIZES)
    assert run(running, Goal().decide, NOON + MINUTE)["tick"] == 1


def test_a_clock_that_jumps_a_day_ahead_and_back_stops_nothing(running: Shell) -> None:
    """The jump is reported, and the loop goes on at the time that it is given."""
    goal = Goal()
    run(running, goal.decide, NOON)
    run(running, goal.decide, NOON + 86_400)
    record = run(running, goal.decide, NOON + MINUTE)
    assert record["failures"][0].startswith(Failure.CLOCK_JUMPED)
    assert record["at"] == NOON + MINUTE
    assert run(running, goal.decide, NOON + 2 * MINUTE)["failures"] == []


def test_a_clock_that_jumped_ahead_in_a_tick_that_crashed_locks_nobody_out(running: Shell) -> None:
    """A lease from the far future is nobody's."""
    with pytest.raises(Killed):
        run(running, Goal().decide, NOON + 86_400, actuators=Mortal(running.actuators, 0))
    assert "skipped" not in run(running, Goal().decide, NOON)


def test_every_pool_short_at_once_is_evidence_for_every_pool(shell: Shell) -> None:
    """Polling alone finds it, in one tick."""
    for pool in SIZES:
        shell.cloud.set_capacity(pool, 0)
    goal = Goal()
    run(shell, goal.decide)
    assert run(shell, goal.decide, NOON + MINUTE)["failures"] == []
    assert {item.pool for item in goal.snapshots[1].evidence} == set(SIZES)


def test_without_a_price_feed_no_price_is_known_and_nothing_fails(running: Shell) -> None:
    """The core then takes the dated price of the fleet's file."""
    goal = Goal()
    assert run(running, goal.decide)["failures"] == []
    assert [signals.price for signals in goal.snapshots[0].pools.values()] == [None, None, None]


def test_garbage_in_the_fleet_parameter_leaves_the_last_good_fleet_in_force(running: Shell) -> None:
    """Reported in every tick, and steered on."""
    run(running, Goal(sizes={}).decide)
    running.put_fleet_parameter("garbage")
    record = run(running, Goal().decide, NOON + MINUTE)
    assert [failure.split(":")[0] for failure in record["failures"]] == [Failure.FLEET_INVALID]
    assert standing(running) == (WEIGHTS, SIZES)


def test_parameters_that_cannot_be_read_leave_survival_alone(running: Shell) -> None:
    """Nobody can tell whether it was paused; the last good fleet is still observed. All is healthy."""
    run(running, Goal(sizes={}).decide)
    running.cloud.fail("GetParameter", "AccessDeniedException", -1)
    record = run(running, Goal().decide, NOON + MINUTE)
    assert [reason["code"] for reason in record["reasons"]] == [Code.PAUSE_UNREADABLE, Code.FLEET_UNREADABLE]
    assert record["writes"] == []
    assert record["failures"][:2] == [
        Failure.FLEET_PARAMETER.told("AccessDeniedException"),
        Failure.PAUSE_PARAMETER.told("AccessDeniedException"),
    ]


def test_a_paused_loop_writes_nothing_and_takes_up_where_things_stand(running: Shell) -> None:
    """The first tick after the pause finds what stands, not what was decided in the meantime."""
    running.put_pause_parameter("observe")
    assert run(running, Goal().decide)["writes"] == []
    assert standing(running) == ({}, {FAST: 2, FAST_SPOT: 4, SLOW: 4})
    running.clients.ssm.delete_parameter(Name=running.environment.pause_parameter)
    run(running, Goal().decide, NOON + MINUTE)
    assert standing(running) == (WEIGHTS, SIZES)


DEAD = {"fast": 999, "slow": 0}
MOVED = {"fast": 0, "slow": 999}


@pytest.fixture
def dying(running: Shell) -> Shell:
    """The unit with all weight has lost its nodes."""
    run(running, Goal(weights=DEAD, sizes={}).decide)
    for pool in (FAST, FAST_SPOT):
        running.cloud.set_ready(pool, 0)
    return running


@pytest.mark.parametrize(
    ("action", "code"), [("UpdateItem", Code.NO_MEMORY), ("GetParameter", Code.PAUSE_UNREADABLE)]
)
def test_weight_leaves_the_dead_without_the_table_and_without_the_parameters(
    dying: Shell, action: str, code: Code
) -> None:
    """Nothing else is written, and the second such tick has nothing to do."""
    sizes = standing(dying)[1]
    dying.cloud.fail(action, "InternalServerError", -1)
    first = run(dying, Goal().decide, NOON + MINUTE)
    second = run(dying, Goal().decide, NOON + 2 * MINUTE)
    assert code in {reason["code"] for reason in first["reasons"]}
    assert [write["subject"] for write in first["writes"]] == ["rule 1"]
    assert second["writes"] == []
    assert standing(dying) == (MOVED, sizes)


def test_without_parameters_or_memory_of_a_fleet_weight_still_leaves_the_dead(dying: Shell) -> None:
    """A table that was lost, and SSM that is down."""
    key = {"fleet": {"S": dying.environment.cluster_name}}
    dying.clients.dynamodb.delete_item(TableName=dying.environment.state_table, Key=key)
    dying.cloud.fail("GetParameter", "InternalServerError", -1)
    record = run(dying, Goal().decide, NOON + MINUTE)
    assert Code.NO_FLEET in {reason["code"] for reason in record["reasons"]}
    assert standing(dying)[0] == MOVED


def test_a_paused_loop_writes_nothing_without_its_table_either(dying: Shell) -> None:
    """Explicit is explicit."""
    dying.put_pause_parameter("observe")
    dying.cloud.fail("UpdateItem", "InternalServerError", -1)
    assert run(dying, Goal().decide, NOON + MINUTE)["writes"] == []
    assert standing(dying)[0] == DEAD


@pytest.mark.parametrize("action", ["DescribeTargetHealth", "DescribeRules"])
def test_survival_without_its_own_senses_writes_nothing(dying: Shell, action: str) -> None:
    """What is not known is told, and nothing is guessed."""
    dying.cloud.fail("UpdateItem", "InternalServerError", -1)
    dying.cloud.fail(action, "Throttling", -1)
    record = run(dying, Goal().decide, NOON + MINUTE)
    assert record["writes"] == []
    assert any("Throttling" in failure for failure in record["failures"])


@pytest.mark.parametrize(
    "action", ["DescribeInstances", "DescribeAutoScalingGroups", "DescribeNodegroup", "GetMetricData"]
)
def test_the_core_moves_weight_whichever_sense_fails(dying: Shell, action: str) -> None:
    """Target health alone is enough."""
    dying.cloud.fail(action, "Throttling", -1)
    run(dying, decide, NOON + MINUTE)
    assert standing(dying)[0] == MOVED
