"""Writing a decision in an order that never takes a node from traffic; every write is recorded."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from control_lambda.core.model import Decision, Snapshot
from control_lambda.core.reasons import Failure
from control_lambda.core.record import Write, rule_subject
from control_lambda.core.traffic.survival import VitalSigns, without_the_dead
from control_lambda.errors import FAILED_CALL, code_of
from control_lambda.ports import Actuators

Remaining = Callable[[], float]


def unlimited() -> float:
    """The time budget of a tick that has all the time in the world (seconds)."""
    return math.inf


@dataclass(slots=True)
class Outcome:
    """What acting did: the writes and failures, and the weights and sizes that stand after it."""

    writes: list[Write] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    weights: Mapping[str, int] | None = None
    desired: dict[str, int] = field(default_factory=dict)

    def absorb(self, later: "Outcome") -> None:
        """Append what a later round did; what stands is what stood after it."""
        self.writes.extend(later.writes)
        self.failures.extend(failure for failure in later.failures if failure not in self.failures)
        self.weights = later.weights
        self.desired = later.desired


def act(
    decision: Decision,
    snapshot: Snapshot,
    actuators: Actuators,
    remaining: Remaining = unlimited,
    *,
    observe: bool = False,
) -> Outcome:
    """Write the decision: weights, then growth, then shrinking.

    Nodes are only taken away while the weights are known to stand as decided: otherwise a node that
    still receives traffic might go. With `observe` nothing is written.
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
    keeping, taking = _by_harm(decision.sizes, snapshot)
    for pool, nodes in keeping:
        writer.size(pool, nodes)
    for pool, nodes in taking:
        if certain:
            writer.size(pool, nodes)
        else:
            left = Failure.SIZE.told("the weights are not certain", pool)
            outcome.failures.append(Failure.SKIPPED.told(left))
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


def _by_harm(
    sizes: Mapping[str, int], snapshot: Snapshot
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """The sizes that leave every node in service (growth first), and those that take some away."""
    ordered = sorted(sizes.items(), key=lambda item: snapshot.pools[item[0]].desired - item[1])
    keeping = [(pool, nodes) for pool, nodes in ordered if nodes >= snapshot.pools[pool].in_service]
    taking = [(pool, nodes) for pool, nodes in ordered if nodes < snapshot.pools[pool].in_service]
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

    def size(self, pool: str, nodes: int) -> None:
        """Set the pool's desired size."""
        if self._out_of_time(Failure.SIZE, pool):
            return
        try:
            self.actuators.set_desired(pool, nodes)
        except FAILED_CALL as error:
            self._failed(Failure.SIZE, error, pool)
            return
        self._wrote("size", pool, self.outcome.desired[pool], nodes)
        self.outcome.desired[pool] = nodes

    def _out_of_time(self, what: Failure, subject: str = "") -> bool:
        if self.remaining() > 0:
            return False
        left = what.told("no time left in this tick", subject)
        self.outcome.failures.append(Failure.SKIPPED.told(left))
        return True

    def _failed(self, what: Failure, error: Exception, subject: str = "") -> None:
        self.outcome.failures.append(what.told(code_of(error), subject))

    def _overwritten(self, difference: str) -> None:
        self.outcome.failures.append(Failure.FOREIGN_WEIGHTS.told(difference))

    def _wrote(self, what: str, subject: str, before: object, after: object) -> None:
        self.outcome.writes.append(Write(what, subject, before, after))
