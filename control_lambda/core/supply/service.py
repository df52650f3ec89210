"""How long each unit's requests really take, learned from what its nodes answered.

A profile is only the prior. In a minute the mean service time can be no more than the nodes' time over the
requests that they answered, which it equals while all of them are busy, and no more than the mean response
time, of which it is the part that is no wait. Servers that refuse what they cannot answer in time hardly show
a late response, so the first tells of a unit that is too slow for its load, the second of one that has room.
"""

import math
from collections.abc import Mapping
from statistics import median
from typing import Final

from control_lambda.core.fleet import Fleet, Unit
from control_lambda.core.model import Minute, ServiceMemory

# A mean of fewer responses than this strays by more than its steps: 5 % spread over the root of 20 is 1 %.
ENOUGH_SAMPLES: Final = 20
# The median of so many minutes outvotes minutes that inherit a queue, or lose nodes half way.
RECENT_MINUTES: Final = 7
# Service times are planned with in steps of a twentieth of the profile's, and kept while they lie within
# one step: plans are steady.
STEP: Final = 0.05
# Outside of this a profile is not wrong but another unit's.
LEAST_RATIO: Final = 0.25
MOST_RATIO: Final = 4.0
# The wait is not resolved above this load: the mean response then tells of the queue.
HIGHEST_LOAD: Final = 0.99
# Servers that refuse more than this, while what they answer waits, are busy all the time.
REFUSING: Final = 0.02


def learn(
    known: Mapping[str, ServiceMemory], minutes: Mapping[str, tuple[Minute, ...]], fleet: Fleet, since: int
) -> dict[str, ServiceMemory]:
    """What each unit's requests take, after the minutes that start after `since` (epoch seconds)."""
    learned = dict(known)
    for unit in fleet.units:
        memory = known.get(unit.name, ServiceMemory())
        for minute in minutes.get(unit.name, ()):
            if minute.at > since and (seen := service_seconds(minute)) is not None:
                memory = _after(memory, seen / unit.profile.service_seconds)
        learned[unit.name] = memory
    return learned


def service_seconds(minute: Minute) -> float | None:
    """The mean service time that a minute shows (seconds); None where it shows none."""
    answered, hosts = minute.samples or 0.0, int(minute.healthy_hosts or 0)
    if answered < ENOUGH_SAMPLES or minute.mean_seconds is None or not hosts:
        return None
    busy = 60.0 * hosts / answered
    refused = (minute.errors or 0.0) > REFUSING * answered
    if refused and minute.mean_seconds >= busy:
        return busy
    return min(busy, without_wait(minute.mean_seconds, answered, hosts))


def without_wait(response: float, answered: float, hosts: int) -> float:
    """The service time (seconds) of which a mean response time is the sum with its wait.

    The wait of one queue before `hosts` servers (Sakasegawa 1977), halved for service times that hardly
    vary: s · ρ^(√(2(c+1)) - 1) / (2c(1 - ρ)) with ρ = answered · s / 60c.
    """
    exponent = math.sqrt(2 * (hosts + 1)) - 1
    low, high = 0.0, response
    for _ in range(20):
        service = (low + high) / 2
        load = min(answered * service / (60.0 * hosts), HIGHEST_LOAD)
        if service * (1 + load**exponent / (2 * hosts * (1 - load))) < response:
            low = service
        else:
            high = service
    return high


def planned_seconds(unit: Unit, known: Mapping[str, ServiceMemory]) -> float:
    """The service time (seconds) that a unit is planned with."""
    return unit.profile.service_seconds * known.get(unit.name, ServiceMemory()).ratio


def is_learning(memory: ServiceMemory) -> bool:
    """Whether the last minute contradicts what the unit is planned with."""
    return bool(memory.recent) and abs(memory.recent[-1] - memory.ratio) > 2 * STEP


def _after(memory: ServiceMemory, ratio: float) -> ServiceMemory:
    # Rounded: a mean of the same responses may differ in its last digits.
    recent = (*memory.recent, round(min(max(ratio, LEAST_RATIO), MOST_RATIO), 4))[-RECENT_MINUTES:]
    if len(recent) < RECENT_MINUTES:
        return ServiceMemory(recent, memory.ratio)
    middle = median(recent)
    if abs(middle - memory.ratio) <= STEP:
        return ServiceMemory(recent, memory.ratio)
    return ServiceMemory(recent, round(middle / STEP) * STEP)
