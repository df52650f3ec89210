"""Writing a decision in an order that never takes a node from traffic; every write is recorded."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from control_lambda.core.model import Cause, Decision, Snapshot, Termination
from control_lambda.core.reasons import Failure
from control_lambda.core.record import Write, rule_subject
from control_lambda.core.traffic.survival import VitalSigns, without_the_dead
from control_lambda.errors import FAILED_CALL, code_of, is_forbidden
from control_lambda.ports import Actuators

Remaining = Callable[[], float]


def unlimited() -> float:
    """The time budget of a tick that has all the time in the world (seconds)."""
    return math.inf


@dataclass(slots=True)
class Outcome:
    """What acting did: the writes and failures, and the weights and sizes that stand after it.

    `limits` are the sizes of the pools that may not have others, which a refused write has taught.
    """

    writes: list[Write] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    weights: Mapping[str, int] | None = None
    desired: dict[str, int] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)

    def absorb(self, later: "Outcome") -> None:
        """Append what a later round did; what stands is what stood after it."""
        self.writes.extend(later.writes)
        self.failures.extend(failure for failure in later.failures if failure not in self.failures)
        self.weights = later.weights
        self.desired = later.desired
        self.limits |= later.limits


def act(
    decision: Decision,
    snapshot: Snapshot,
    actuators: Actuators,
    remaining: Remaining = unlimited,
    *,
    observe: bool = False,
) -> Outcome:
    """Write the decision: weights, then terminations, then growth, then shrinking.

    Nodes that serve are only taken away while the weights are known to stand as decided: otherwise one that
    still receives traffic might go. A pool in which a termination failed is not shrunk, since its group would
    choose another node. With `observe` nothing is written.
    """
    outcome = Outcome(
        failures=list(snapshot.failures),
        weights=snapshot.weights,
        desired={pool: signals.desired for pool, signals in snapshot.pools.items()},
    )
    if observe:
        return outcome
    writer = _Writer(actuators, remaining, outcome)
    certain = writer.weights(decision, snapshot) & writer.class_weights(decision, snapshot)
    for pool in decision.resume:
        writer.resume(pool)
    for pool in decision.suspend_rebalancing:
        writer.suspend_rebalancing(pool)
    for pool in decision.resume_rebalancing:
        writer.resume_rebalancing(pool)
    stuck = {item.pool for item in decision.terminate if not writer.terminate(item, certain=certain)}
    keeping, taking = _by_harm(decision, snapshot)
    for pool, nodes in keeping:
        writer.size(pool, nodes)
    for pool, nodes in taking:
        if not certain:
            writer.leave(Failure.SIZE, "the weights are not certain", pool)
        elif pool in stuck:
            writer.leave(Failure.SIZE, "another node than the right one would leave", pool)
        else:
            writer.size(pool, nodes)
    return outcome


def keep_alive(signs: VitalSigns, actuators: Actuators) -> Outcome:
    """Take weight from units that have nothing healthy, in every row; see `core.traffic.survival`."""
    outcome = Outcome(failures=list(signs.failures))
    writer = _Writer(actuators, unlimited, outcome)
    for row, weights in (signs.rows or {}).items():
        moved = without_the_dead(weights, signs.healthy)
        if moved is not None:
            writer.row(row, moved, weights)
    return outcome


def _by_harm(decision: Decision, snapshot: Snapshot) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """The sizes that leave every node that the groups hold by then (growth first), and those that take some
    away.
    """
    terminated = Counter(item.pool for item in decision.terminate)
    ordered = sorted(decision.sizes.items(), key=lambda item: snapshot.pools[item[0]].desired - item[1])
    held = {pool: snapshot.pools[pool].in_service - terminated[pool] for pool in decision.sizes}
    keeping = [(pool, nodes) for pool, nodes in ordered if nodes >= held[pool]]
    taking = [(pool, nodes) for pool, nodes in ordered if nodes < held[pool]]
    return keeping, taking


@dataclass(frozen=True, slots=True)
class _Writer:
    """Makes single writes; each is recorded, or its failure is."""

    actuators: Actuators
    remaining: Remaining
    outcome: Outcome

    def weights(self, decision: Decision, snapshot: Snapshot) -> bool:
        """Write the weights where they change; say whether they now stand as decided."""
        if decision.weights is None:
            return snapshot.weights is not None
        if self._out_of_time(Failure.WEIGHTS):
            return False
        try:
            stands = self.actuators.set_weights(decision.weights)
        except FAILED_CALL as error:
            self._failed(Failure.WEIGHTS, error)
            return False
        self._wrote("weights", "rule", snapshot.weights, stands)
        self.outcome.weights = stands
        if dict(stands) != dict(decision.weights):
            self._overwritten(f"read back {stands}, wrote {decision.weights}")
            return False
        return True

    def class_weights(self, decision: Decision, snapshot: Snapshot) -> bool:
        """Write the rows of query classes that change; say whether they now stand as decided."""
        certain = [
            self._class_row(name, row, snapshot.class_weights.get(name))
            for name, row in decision.class_weights.items()
        ]
        return all(certain)

    def row(self, row: str, weights: Mapping[str, int], before: Mapping[str, int]) -> None:
        """Write one row that survival changes."""
        try:
            stands = self.actuators.set_row(row, weights)
        except FAILED_CALL as error:
            self._failed(Failure.WEIGHTS, error, f"of {rule_subject(row)}")
            return
        self._wrote("weights", rule_subject(row), before, stands)
        if dict(stands) != dict(weights):
            self._overwritten(f"{rule_subject(row)}: read back {stands}, wrote {weights}")

    def _class_row(self, name: str, row: Mapping[str, int], before: Mapping[str, int] | None) -> bool:
        subject = f"of class {name}"
        if self._out_of_time(Failure.WEIGHTS, subject):
            return False
        try:
            stands = self.actuators.set_class_weights(name, row)
        except FAILED_CALL as error:
            self._failed(Failure.WEIGHTS, error, subject)
            return False
        self._wrote("class weights", name, before, stands)
        if dict(stands) != dict(row):
            self._overwritten(f"class {name}: read back {stands}, wrote {row}")
            return False
        return True

    def resume(self, pool: str) -> None:
        """Resume the pool's suspended launches."""
        if self._out_of_time(Failure.RESUME, pool):
            return
        try:
            self.actuators.resume_launches(pool)
        except FAILED_CALL as error:
            self._failed(Failure.RESUME, error, pool)
            return
        self._wrote("resume", pool, "suspended", "resumed")

    def suspend_rebalancing(self, pool: str) -> None:
        """Have the pool's group swap no nodes."""
        if self._out_of_time(Failure.REBALANCING, pool):
            return
        try:
            self.actuators.suspend_rebalancing(pool)
        except FAILED_CALL as error:
            self._failed(Failure.REBALANCING, error, pool)
            return
        self._wrote("rebalancing", pool, "runs", "suspended")

    def resume_rebalancing(self, pool: str) -> None:
        """Let the pool's group swap nodes."""
        if self._out_of_time(Failure.REBALANCING, pool):
            return
        try:
            self.actuators.resume_rebalancing(pool)
        except FAILED_CALL as error:
            self._failed(Failure.REBALANCING, error, pool)
            return
        self._wrote("rebalancing", pool, "suspended", "runs")

    def terminate(self, item: Termination, *, certain: bool) -> bool:
        """Terminate a node, one that serves only where the weights are certain; say whether it was done."""
        subject = f"{item.node} in {item.pool}"
        if item.why not in (Cause.DEAD, Cause.HUNG) and not certain:
            self.leave(Failure.TERMINATION, "the weights are not certain", subject)
            return False
        if self._out_of_time(Failure.TERMINATION, subject):
            return False
        try:
            self.actuators.terminate(item.node, decrement=item.decrement)
        except FAILED_CALL as error:
            self._failed(Failure.TERMINATION, error, subject)
            return False
        self._wrote("terminate", subject, item.why.value, "given up" if item.decrement else "replaced")
        if item.decrement:
            self.outcome.desired[item.pool] -= 1
        return True

    def size(self, pool: str, nodes: int) -> None:
        """Set the pool's desired size; a lasting refusal limits the pool to what its group wants now."""
        if self._out_of_time(Failure.SIZE, pool):
            return
        try:
            self.actuators.set_desired(pool, nodes)
        except FAILED_CALL as error:
            self._failed(Failure.SIZE, error, pool)
            if is_forbidden(error):
                self.outcome.limits[pool] = self.outcome.desired[pool]
            return
        self._wrote("size", pool, self.outcome.desired[pool], nodes)
        self.outcome.desired[pool] = nodes

    def leave(self, what: Failure, cause: str, subject: str) -> None:
        """Leave a write to the next tick."""
        self.outcome.failures.append(Failure.SKIPPED.told(what.told(cause, subject)))

    def _out_of_time(self, what: Failure, subject: str = "") -> bool:
        if self.remaining() > 0:
            return False
        self.leave(what, "no time left in this tick", subject)
        return True

    def _failed(self, what: Failure, error: Exception, subject: str = "") -> None:
        self.outcome.failures.append(what.told(code_of(error), subject))

    def _overwritten(self, difference: str) -> None:
        self.outcome.failures.append(Failure.FOREIGN_WEIGHTS.told(difference))

    def _wrote(self, what: str, subject: str, before: object, after: object) -> None:
        self.outcome.writes.append(Write(what, subject, before, after))
