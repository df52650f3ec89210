"""What each unit's servers do under overload, refuse or queue: learned from their answers, not configured.

Servers that refuse answer errors for what they cannot do in time, and the rest in time. Servers that queue
answer everything, late.
"""

from collections.abc import Mapping, Sequence

from control_lambda.core.fleet import Fleet, Objective
from control_lambda.core.model import Minute
from control_lambda.core.supply.supply import Tables, rpm_of
from control_lambda.core.supply.trust import ENOUGH_SAMPLES


def learn(
    known: Mapping[str, bool],
    minutes: Mapping[str, Sequence[Minute]],
    tables: Tables,
    fleet: Fleet,
    since: int,
) -> dict[str, bool]:
    """Whether each unit queues, as far as an overloaded minute that starts after `since` has told."""
    learned = dict(known)
    for unit in fleet.units:
        for minute in minutes.get(unit.name, ()):
            if minute.at > since and _is_overloaded(minute, tables[unit.name]):
                queues = _queues(minute, fleet.objective)
                if queues is not None:
                    learned[unit.name] = queues
    return learned


def queueing(known: Mapping[str, bool], fleet: Fleet) -> frozenset[str]:
    """The units that are believed to queue: those that did, and if all that told did, the rest as well."""
    others = bool(known) and all(known.values())
    return frozenset(unit.name for unit in fleet.units if known.get(unit.name, others))


def _is_overloaded(minute: Minute, table: Sequence[float]) -> bool:
    return (minute.requests or 0.0) > rpm_of(table, int(minute.healthy_hosts or 0))


def _queues(minute: Minute, objective: Objective) -> bool | None:
    """Whether the overload of this minute was queued; None where it does not tell."""
    if (minute.samples or 0.0) < ENOUGH_SAMPLES or minute.latency_seconds is None:
        return None
    if minute.latency_seconds > objective.latency_seconds:
        return True
    return False if minute.errors else None
