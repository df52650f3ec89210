"""One tick: sense, decide, act, and what happens when each of them fails.

The loop reads no clock, no environment and no AWS: the ports do. What stands in the world is always
read, never believed: the next tick finds the weights in `Snapshot.weights` and each group's size in
`PoolSignals.desired`, and the state keeps what stood when the tick ended. So a paused tick, a refused
write or a crash anywhere leaves nothing that the next tick cannot repair.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from control_lambda.act import Outcome, Remaining, act, unlimited
from control_lambda.core.decide import decide as decide_by_mode
from control_lambda.core.fleet import Fleet, FleetError, fleet_from_json
from control_lambda.core.model import (
    Decision,
    Evidence,
    EvidenceKind,
    PoolReport,
    Reason,
    Snapshot,
    State,
    UnitReport,
    evidence_from_plain,
)
from control_lambda.core.supply.refusals import remember
from control_lambda.errors import FAILED_CALL, code_of
from control_lambda.ports import (
    Actuators,
    LeaseHeldError,
    LeaseLostError,
    Memory,
    NewEvidenceError,
    Sensors,
    Settings,
)

Record = dict[str, Any]
Decide = Callable[[Snapshot, State, Fleet], tuple[Decision, State]]

CAUSES: Final = ("schedule", "event")
ROUNDS: Final = 3  # evidence that arrives during a tick is acted on at once, but not for ever
# Scheduler and EventBridge drop what is older than 60 s, so a tick this far behind the last one was not
# delivered late: the last one's time was wrong, and waiting for it to pass would stop all control.
CLOCK_JUMP_SECONDS: Final = 900.0
LEASE_HELD: Final = "lease-held"

_PAUSED: Final = Reason("paused", "The loop is paused: it decides and reports, and writes nothing.")
_UNIT_KEYS: Final = tuple(UnitReport.__dataclass_fields__)
_POOL_KEYS: Final = tuple(PoolReport.__dataclass_fields__)


def tick(
    event: Mapping[str, Any],
    sensors: Sensors,
    actuators: Actuators,
    memory: Memory,
    decide: Decide = decide_by_mode,
    remaining: Remaining = unlimited,
) -> Record:
    """Run the loop once and return the decision record, or `{"skipped": reason}`.

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
        return {"skipped": f"{LEASE_HELD}: another tick is running"}
    with _lease_given_back_on_error(memory):
        state = remembered.state or State()
        trigger = replace(trigger, evidence=_merged(remembered.evidence, trigger.evidence))
        if late := _late(trigger, state):
            memory.release()
            return {"skipped": late}
        problems = remembered.problems + _clock_problems(trigger, state)
        orders = _orders(sensors.settings(), state, problems)
        trigger = replace(trigger, at=_time_of(trigger, state))
        if orders.fleet is None:
            memory.release()
            return _record_without_fleet(trigger.at, state, orders)
        ports = _Ports(sensors, actuators, memory, decide, remaining)
        return _steer(ports, orders, orders.fleet, trigger, remembered.unbuilt, state)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A tick event, read: its time (epoch seconds), its cause and the evidence it brings."""

    at: float
    cause: str
    evidence: tuple[Evidence, ...]


def trigger_from(event: Mapping[str, Any]) -> Trigger:
    """Read a tick event.

    Raises:
        ValueError: naming the key and what would be valid.
    """
    cause = event.get("cause", "schedule")
    if cause not in CAUSES:
        raise ValueError(f"event: cause: {cause!r} is not one of {', '.join(CAUSES)}")
    raw = event.get("evidence", ())
    if not isinstance(raw, list | tuple):
        valid = "valid: a list of objects with pool, kind and at"
        raise ValueError(f"event: evidence: {raw!r} is no list; {valid}")  # noqa: TRY004 - a value of the event
    return Trigger(_seconds(event.get("time")), cause, tuple(evidence_from_plain(item) for item in raw))


def _seconds(text: object) -> float:
    valid = "valid: ISO-8601 with an offset, such as 2026-01-31T12:00:00Z"
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError(f"event: time: {text!r} is no time; {valid}") from None
    if moment.tzinfo is None:
        raise ValueError(f"event: time: {text!r} has no offset; {valid}")
    return moment.timestamp()


def iso_time(at: float) -> str:
    """Epoch seconds as the ISO-8601 UTC that an event's `time` holds."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class _Orders:
    """What the account asks for: the fleet in force (None: there is none), and whether to act."""

    fleet: Fleet | None
    fleet_json: str
    observe: bool
    reasons: tuple[Reason, ...]
    failures: tuple[str, ...]


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
    orders: _Orders,
    fleet: Fleet,
    trigger: Trigger,
    unbuilt: Mapping[str, str],
    state: State,
) -> Record:
    """Sense, decide, act; and again at once while new evidence arrives."""
    total = Outcome(failures=list(orders.failures))
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
        total.failures.append(f"state-not-saved: new evidence arrived in each of {ROUNDS} rounds")
        _give_back(ports.memory, total.failures)
    return _record(decision, orders.reasons, total)


def _save(
    memory: Memory, state: State, seen: tuple[Evidence, ...], failures: list[str]
) -> tuple[Evidence, ...]:
    """Save the state; return the evidence that has arrived in the meantime and stopped that."""
    try:
        memory.save(state, seen)
    except NewEvidenceError as arrived:
        return arrived.evidence
    except LeaseLostError:
        failures.append("lease-lost: another tick took over and repairs what this one left")
    except FAILED_CALL as error:
        failures.append(f"state-not-saved: {code_of(error)}")
        _give_back(memory, failures)
    return ()


def _give_back(memory: Memory, failures: list[str]) -> None:
    try:
        memory.release()
    except FAILED_CALL as error:
        failures.append(f"lease-not-released: {code_of(error)}")


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


def _standing(decided: State, before: State, total: Outcome, orders: _Orders) -> State:
    """The decided state with the weights and sizes that really stand, whatever was decided."""
    return replace(
        decided,
        weights=before.weights if total.weights is None else total.weights,
        desired={**before.desired, **total.desired},
        last_good_fleet=orders.fleet_json,
    )


def _merged(remembered: tuple[Evidence, ...], brought: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """All evidence, each piece once, in an order that does not depend on how it came."""
    return tuple(sorted({*remembered, *brought}, key=astuple))


def _of_fleet(evidence: tuple[Evidence, ...], fleet: Fleet, failures: list[str]) -> tuple[Evidence, ...]:
    """The evidence about this fleet's pools; the rest is named as a failure."""
    strangers = sorted({item.pool for item in evidence if item.pool not in fleet.unit_of})
    failures.extend(f"evidence for {pool}: the fleet has no such pool" for pool in strangers)
    return tuple(item for item in evidence if item.pool in fleet.unit_of)


def _late(trigger: Trigger, state: State) -> str:
    """Why this tick comes too late to be run; empty when it does not."""
    if trigger.at > state.at or _jumped(trigger, state):
        return ""
    if trigger.cause == "event" and _is_news(trigger.evidence, state):
        return ""
    return f"not-later: a tick for {iso_time(state.at)} has already run"


def _is_news(evidence: tuple[Evidence, ...], state: State) -> bool:
    """Whether the last tick has not taken all of it: of events that come together one tick takes all."""
    fleet, _ = _last_good(state)
    if fleet is None:
        return bool(evidence)
    announced = {item.node for item in evidence if item.kind is EvidenceKind.INTERRUPTION}
    refusals = remember(state.refusals, evidence, fleet)
    return refusals != dict(state.refusals) or not announced <= state.leaving.keys()


def _jumped(trigger: Trigger, state: State) -> bool:
    return trigger.at < state.at - CLOCK_JUMP_SECONDS


def _clock_problems(trigger: Trigger, state: State) -> tuple[str, ...]:
    if not _jumped(trigger, state):
        return ()
    return (
        f"clock-jumped: the last tick was for {iso_time(state.at)}, this one is for {iso_time(trigger.at)}",
    )


def _time_of(trigger: Trigger, state: State) -> float:
    """The tick's time: an event that was overtaken by a tick is handled at that tick's time."""
    return trigger.at if _jumped(trigger, state) else max(trigger.at, state.at)


@lru_cache(maxsize=4)
def _parsed(fleet_json: str) -> Fleet:
    return fleet_from_json(fleet_json)


def _orders(settings: Settings, state: State, problems: tuple[str, ...]) -> _Orders:
    """The fleet in force: the parameter's, or the last good one when that cannot be used."""
    reasons = (_PAUSED,) if settings.observe else ()
    failures = problems + settings.problems
    if settings.fleet_json is None:
        fault = Reason("fleet-unreadable", "The fleet parameter cannot be read; the last good fleet stays.")
    else:
        try:
            given = _parsed(settings.fleet_json)
            return _Orders(given, settings.fleet_json, settings.observe, reasons, failures)
        except FleetError as error:
            fault = Reason(
                "fleet-invalid", f"The fleet parameter is invalid ({error}); the last good one stays."
            )
    failures += (f"{fault.code}: {fault.text}",)
    last_good, text = _last_good(state)
    return _Orders(last_good, text, settings.observe, (*reasons, fault), failures)


def _last_good(state: State) -> tuple[Fleet | None, str]:
    if not state.last_good_fleet:
        return None, ""
    try:
        return _parsed(state.last_good_fleet), state.last_good_fleet
    except FleetError:
        return None, ""


def _record(decision: Decision, reasons: tuple[Reason, ...], total: Outcome) -> Record:
    """The decision record, ready for JSON."""
    return {
        "tick": decision.tick,
        "at": decision.at,
        "mode": decision.mode.value,
        "reasons": _plain_reasons(reasons + decision.reasons),
        "demand_rpm": decision.demand_rpm,
        "forecast_rpm": decision.forecast_rpm,
        "cost_usd_per_hour": decision.cost_usd_per_hour,
        "savings_usd_per_hour": decision.savings_usd_per_hour,
        "budget_usd_per_hour": decision.budget_usd_per_hour,
        "signal_age_seconds": decision.signal_age_seconds,
        "units": {
            name: {key: getattr(unit, key) for key in _UNIT_KEYS} for name, unit in decision.units.items()
        },
        "pools": {
            name: {key: getattr(pool, key) for key in _POOL_KEYS} for name, pool in decision.pools.items()
        },
        "writes": total.writes,
        "failures": total.failures,
    }


def _record_without_fleet(at: float, state: State, orders: _Orders) -> Record:
    """The record of a tick that knows no fleet: nothing is sensed, decided or changed."""
    return {
        "tick": state.tick,
        "at": at,
        "mode": state.mode.value,
        "reasons": _plain_reasons(orders.reasons),
        "demand_rpm": None,
        "forecast_rpm": None,
        "cost_usd_per_hour": None,
        "savings_usd_per_hour": None,
        "budget_usd_per_hour": None,
        "signal_age_seconds": None,
        "units": {},
        "pools": {},
        "writes": [],
        "failures": list(orders.failures),
    }


def _plain_reasons(reasons: tuple[Reason, ...]) -> list[Record]:
    return [{"code": reason.code, "text": reason.text, "subject": reason.subject} for reason in reasons]
