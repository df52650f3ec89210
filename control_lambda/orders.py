"""What the account asks of a tick: the fleet in force, and whether to act."""

from dataclasses import dataclass
from functools import lru_cache

from control_lambda.core.fleet import Fleet, FleetError, fleet_from_json
from control_lambda.core.model import Reason, State
from control_lambda.core.reasons import Code
from control_lambda.ports import Settings


@dataclass(frozen=True, slots=True)
class Orders:
    """The fleet in force (None: there is none) and its JSON, whether to observe only, and what to tell.

    `survive`: too little is known to act on a decision, but nobody asked not to act.
    """

    fleet: Fleet | None
    fleet_json: str
    observe: bool
    survive: bool
    reasons: tuple[Reason, ...]
    failures: tuple[str, ...]


def orders_of(settings: Settings, state: State, problems: tuple[str, ...]) -> Orders:
    """The parameter's fleet, or the last good one when that cannot be used; `problems` are told first."""
    unknown = settings.observe is None
    observe = settings.observe is not False
    reasons = _of_pause(settings)
    failures = problems + settings.problems
    if settings.fleet_json is None:
        fault = Code.FLEET_UNREADABLE.reason()
    else:
        try:
            given = _parsed(settings.fleet_json)
            return Orders(given, settings.fleet_json, observe, unknown, reasons, failures)
        except FleetError as error:
            fault = Code.FLEET_INVALID.reason(error=error)
    failures += (f"{fault.code}: {fault.text}",)
    last_good = last_good_fleet(state)
    if last_good is None:
        survive = unknown or not observe
        return Orders(None, "", observe, survive, (*reasons, fault, Code.NO_FLEET.reason()), failures)
    return Orders(last_good, state.last_good_fleet, observe, unknown, (*reasons, fault), failures)


def _of_pause(settings: Settings) -> tuple[Reason, ...]:
    if settings.observe is None:
        return (Code.PAUSE_UNREADABLE.reason(),)
    return (Code.PAUSED.reason(),) if settings.observe else ()


def last_good_fleet(state: State) -> Fleet | None:
    """The fleet that the last tick with a valid one followed; None when there was none."""
    if not state.last_good_fleet:
        return None
    try:
        return _parsed(state.last_good_fleet)
    except FleetError:
        return None


@lru_cache(maxsize=4)
def _parsed(fleet_json: str) -> Fleet:
    return fleet_from_json(fleet_json)
