"""One tick: sense, decide, act, and what happens when each of them fails.

The loop reads no clock, no environment and no AWS: the ports do. What stands in the world is always
read, never believed: the next tick finds the weights in `Snapshot.weights` and each group's size in
`PoolSignals.desired`, and the state keeps what stood when the tick ended. So a paused tick, a refused
write or a crash anywhere leaves nothing that the next tick cannot repair.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from control_lambda.act import Outcome, Remaining, act, unlimited
from control_lambda.core.decide import decide as decide_by_mode
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Decision, Evidence, Limit, Reason, Snapshot, State
from control_lambda.core.outlook import LIMIT_SECONDS
from control_lambda.core.reasons import Code, Failure, Skip
from control_lambda.core.record import (
    Answer,
    DecisionRecord,
    Skipped,
    record_of,
    record_without_decision,
)
from control_lambda.core.traffic.survival import NO_SIGNS
from control_lambda.errors import FAILED_CALL, code_of
from control_lambda.orders import Orders, orders_of
from control_lambda.ports import (
    Actuators,
    LeaseHeldError,
    LeaseLostError,
    Memory,
    NewEvidenceError,
    Sensors,
)
from control_lambda.survive import Survival, survive
from control_lambda.trigger import Trigger, trigger_from

Decide = Callable[[Snapshot, State, Fleet], tuple[Decision, State]]

ROUNDS: Final = 3  # evidence that arrives during a tick is acted on at once, but not for ever


def tick(
    event: Mapping[str, Any],
    sensors: Sensors,
    actuators: Actuators,
    memory: Memory,
    decide: Decide = decide_by_mode,
    remaining: Remaining = unlimited,
) -> Answer:
    """Run the loop once and return the decision record, or why nothing was done.

    `event` holds `time` (ISO-8601 with its offset, the tick's only clock), `cause` and `evidence`.
    `remaining` gives the seconds in which writes may still begin; those that do not fit are skipped and
    named in the record's failures.

    Raises:
        ValueError: the event is malformed; the message names the key and what would be valid.
    """
    trigger = trigger_from(event)
    try:
        remembered = memory.acquire(trigger.at)
    except LeaseHeldError:
        return Skipped(Skip.LEASE_HELD.told())
    except FAILED_CALL as error:
        return _without_memory(sensors, actuators, trigger, error)
    with _lease_given_back_on_error(memory):
        state = remembered.state or State()
        trigger = trigger.with_evidence(remembered.evidence)
        if late := trigger.late(state):
            memory.release()
            return Skipped(late)
        problems = remembered.problems + trigger.clock_problems(state)
        orders = orders_of(sensors.settings(), state, problems)
        trigger = trigger.timed_after(state)
        survival = survive(sensors, actuators) if orders.survive else None
        if orders.fleet is None:
            record = _record_of(survival, state, trigger, orders.reasons, orders.failures)
            memory.release()
            return record
        ports = _Ports(sensors, actuators, memory, decide, remaining)
        return _steer(ports, orders, orders.fleet, trigger, remembered.unbuilt, state, survival)


def _without_memory(
    sensors: Sensors, actuators: Actuators, trigger: Trigger, error: Exception
) -> DecisionRecord:
    """A tick whose memory does not answer: it does what needs none, unless somebody asked not to act."""
    orders = orders_of(sensors.settings(), State(), (Failure.MEMORY.told(code_of(error)),))
    survival = None if orders.observe and not orders.survive else survive(sensors, actuators)
    reasons = (Code.NO_MEMORY.reason(), *orders.reasons)
    return _record_of(survival, State(), trigger, reasons, orders.failures)


def _record_of(
    survival: Survival | None,
    state: State,
    trigger: Trigger,
    reasons: tuple[Reason, ...],
    failures: tuple[str, ...],
) -> DecisionRecord:
    """The record of a tick that decided nothing; without `survival` it did not even look."""
    if survival is None:
        return record_without_decision(state, trigger.at, NO_SIGNS, reasons, (), failures)
    return record_without_decision(
        state,
        trigger.at,
        survival.signs,
        (*reasons, *survival.reasons),
        survival.outcome.writes,
        (*failures, *survival.outcome.failures),
    )


@dataclass(frozen=True, slots=True)
class _Ports:
    """The world and the policy of one tick."""

    sensors: Sensors
    actuators: Actuators
    memory: Memory
    decide: Decide
    remaining: Remaining


def _steer(
    ports: _Ports,
    orders: Orders,
    fleet: Fleet,
    trigger: Trigger,
    unbuilt: Mapping[str, str],
    state: State,
    survival: Survival | None,
) -> DecisionRecord:
    """Sense, decide, act; and again at once while new evidence arrives. `survival` came before."""
    total, reasons = Outcome(failures=list(orders.failures)), orders.reasons
    if survival is not None:
        total.absorb(survival.outcome)
        reasons += survival.reasons
        if survival.outcome.writes:
            state = replace(state, weights={})  # what it wrote is ours, and stands in the rule
    evidence = seen = trigger.evidence
    for _ in range(ROUNDS):
        known = _of_fleet(evidence, fleet, total.failures)
        sensed = ports.sensors.sense(fleet, trigger.at, known)
        snapshot = replace(sensed, cause=trigger.cause, unbuilt=unbuilt)
        decision, decided = ports.decide(snapshot, state, fleet)
        total.absorb(act(decision, snapshot, ports.actuators, ports.remaining, observe=orders.observe))
        state = _standing(decided, state, total, orders)
        evidence = _save(ports.memory, state, seen, total.failures)
        if not evidence:
            break
        seen += evidence
    else:
        cause = f"new evidence arrived in each of {ROUNDS} rounds"
        total.failures.append(Failure.STATE_NOT_SAVED.told(cause))
        _give_back(ports.memory, total.failures)
    return record_of(decision, reasons, total.writes, total.failures)


def _save(
    memory: Memory, state: State, seen: tuple[Evidence, ...], failures: list[str]
) -> tuple[Evidence, ...]:
    """Save the state; return the evidence that has arrived in the meantime and stopped that."""
    try:
        memory.save(state, seen)
    except NewEvidenceError as arrived:
        return arrived.evidence
    except LeaseLostError:
        failures.append(Failure.LEASE_LOST.told("another tick took over and repairs what this one left"))
    except FAILED_CALL as error:
        failures.append(Failure.STATE_NOT_SAVED.told(code_of(error)))
        _give_back(memory, failures)
    return ()


def _give_back(memory: Memory, failures: list[str]) -> None:
    try:
        memory.release()
    except FAILED_CALL as error:
        failures.append(Failure.LEASE_NOT_RELEASED.told(code_of(error)))


@contextmanager
def _lease_given_back_on_error(memory: Memory) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        failures: list[str] = []
        _give_back(memory, failures)
        for failure in failures:
            error.add_note(failure)
        raise


def _standing(decided: State, before: State, total: Outcome, orders: Orders) -> State:
    """The decided state with the weights and sizes that really stand, whatever was decided."""
    return replace(
        decided,
        weights=before.weights if total.weights is None else total.weights,
        desired={**before.desired, **total.desired},
        limits={**decided.limits, **_learned_limits(total, decided.at)},
        last_good_fleet=orders.fleet_json,
    )


def _learned_limits(total: Outcome, at: float) -> dict[str, Limit]:
    return {pool: Limit(nodes, at + LIMIT_SECONDS) for pool, nodes in total.limits.items()}


def _of_fleet(evidence: tuple[Evidence, ...], fleet: Fleet, failures: list[str]) -> tuple[Evidence, ...]:
    """The evidence about this fleet's pools; the rest is named as a failure."""
    strangers = sorted({item.pool for item in evidence if item.pool not in fleet.unit_of})
    failures.extend(
        Failure.EVIDENCE_WITHOUT_POOL.told("the fleet has no such pool", pool) for pool in strangers
    )
    return tuple(item for item in evidence if item.pool in fleet.unit_of)
