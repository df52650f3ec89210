"""What refused launches teach: how long to stay away from a pool, and when to try one node again.

A refusal is remembered per instance type and market, for the pool alone where it names its zones (`zones`
says when those of a pool make it short); a quota refusal for every type of the family, since they share it.
It ends only by proof: after the back-off one probe node may be launched, and only when AWS grants it may the
pool grow further. Times are seconds.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from control_lambda.core.fleet import Fleet, Pool, Unit
from control_lambda.core.model import NOTHING, Evidence, EvidenceKind, PoolSignals, Refusal
from control_lambda.core.supply.nodes import NEVER_READY_STARTS
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS, Scope

Refusals = Mapping[str, Refusal]

# How long an interrupted node is left out: AWS takes it after two minutes, the group drops it soon after.
INTERRUPTION_SECONDS: Final = 300.0

# Nodes that start faster than this may never be seen starting, with a tick a minute.
FAST_START_SECONDS: Final = 120.0

# AWS counts vCPUs per family of instance types; the families that carry accelerators.
_FAMILIES: Final = (("vt", "G and VT"), ("g", "G and VT"), ("inf", "Inf"), ("trn", "Trn"), ("p", "P"))


@lru_cache(maxsize=64)
def family(instance_type: str) -> str:
    """The quota family of an instance type: `g5.xlarge` -> `G and VT`, `inf2.xlarge` -> `Inf`."""
    letters = re.match(r"[a-z]+", instance_type)
    prefix = letters.group() if letters else instance_type
    return next((name for start, name in _FAMILIES if prefix == start), "Standard")


def remember(refusals: Refusals, evidence: Iterable[Evidence], fleet: Fleet) -> dict[str, Refusal]:
    """The refusals with new evidence in them; evidence that is not newer than what was taken is ignored.

    Refusals that come before the back-off is over belong to the same episode: they renew it, but do
    not double it.
    """
    known = dict(refusals)
    for item in sorted(evidence, key=lambda found: (found.at, found.pool, found.kind)):
        pool = fleet.pool_named.get(item.pool)
        if pool is None or item.kind is EvidenceKind.INTERRUPTION or _is_echo(item, known):
            continue
        key = _key(item, pool, fleet.unit_of[item.pool])
        old = known.get(key)
        if old is None or item.at > old.at:
            known[key] = _episode(old, item)
    return known


def forget_proven(
    refusals: Refusals,
    pools: Mapping[str, PoolSignals],
    fleet: Fleet,
    at: float,
    in_service_before: Mapping[str, int] = NOTHING,
    hanging: Collection[str] = (),
) -> dict[str, Refusal]:
    """The refusals less those that a node launched since has disproved.

    A node that starts faster than two ticks follow each other is seen only as one more in service than
    `in_service_before`. A disproved refusal stays, with count 0, so that late reports of it are recognised.
    That a node launches proves nothing about nodes that never get ready: those are forgiven once twice
    the start time has passed after the back-off without another one in the pool; `hanging` pools have one.
    """
    kept = {}
    for key, refusal in refusals.items():
        covered = [
            _Covered(pools[pool.name], in_service_before.get(pool.name, 0), unit, pool.name in hanging)
            for unit in fleet.units
            for pool in unit.pools
            if pool.name in pools and _covers(key, refusal, pool, unit)
        ]
        proven = refusal.count and _is_disproved(refusal, covered, at)
        kept[key] = _proven(refusal, at) if proven else refusal
    return kept


def refusal_of(refusals: Refusals, pool: Pool, unit: Unit) -> Refusal | None:
    """The refusal that stands against a pool; of several the one with the longest back-off."""
    open_refusals = [
        refusal for key, refusal in refusals.items() if refusal.count and _covers(key, refusal, pool, unit)
    ]
    return max(open_refusals, key=lambda refusal: (refusal.until, refusal.kind), default=None)


def launch_limit(refusal: Refusal | None, in_service: int, most: int, at: float, *, probing: bool) -> int:
    """How many nodes a pool may have: `most`, or while a refusal stands what is in service and a probe.

    The probe may be launched once the back-off is over, and while no other is `probing`.
    """
    if refusal is None:
        return most
    probe = 1 if at >= refusal.until and not probing else 0
    return min(most, in_service + probe)


def hanging_pools(refusals: Refusals) -> frozenset[str]:
    """The pools whose nodes never got ready, and none has proved otherwise."""
    return frozenset(
        refusal.pool
        for refusal in refusals.values()
        if refusal.count and not REFUSAL_KINDS[refusal.kind].refuses_launch
    )


def _is_echo(evidence: Evidence, refusals: Refusals) -> bool:
    """Whether it is the metric's record of a refusal that is known with its zone, which the metric lacks."""
    return not evidence.zone and any(
        refusal.pool == evidence.pool and refusal.kind is evidence.kind and refusal.at >= evidence.at
        for refusal in refusals.values()
    )


def _key(evidence: Evidence, pool: Pool, unit: Unit) -> str:
    match REFUSAL_KINDS[evidence.kind].scope:
        case Scope.FAMILY:
            return f"{evidence.kind}:{family(unit.instance_type)}:{pool.market}"
        case Scope.TYPE:
            own = f":{pool.name}" if evidence.zone else ""
            return f"{unit.instance_type}::{pool.market}{own}"
        case Scope.POOL:
            return f"pool:{pool.name}"


def _covers(key: str, refusal: Refusal, pool: Pool, unit: Unit) -> bool:
    """Whether a refusal stands against a pool: its own, or one that its type or family shares.

    Where its zones are known, another pool of the type may still launch in the zones that are its own.
    """
    shared = (
        f"{refusal.kind}:{family(unit.instance_type)}:{pool.market}",
        f"{unit.instance_type}::{pool.market}",
    )
    return refusal.pool == pool.name or key in shared


def _episode(old: Refusal | None, evidence: Evidence) -> Refusal:
    count = old.count if old else 0
    if old is None or evidence.at >= old.until:
        count += 1
    row = REFUSAL_KINDS[evidence.kind]
    back_off = (
        min(row.longest_back_off, row.first_back_off * 2.0 ** (count - 1)) if count else row.first_back_off
    )
    return Refusal(evidence.kind, evidence.pool, evidence.at, evidence.at + back_off, max(count, 1))


class _Covered(NamedTuple):
    """A pool that a refusal stands against, and how many nodes it had at the last tick."""

    signals: PoolSignals
    before: int
    unit: Unit
    hangs: bool


def _is_disproved(refusal: Refusal, covered: Sequence[_Covered], at: float) -> bool:
    if not REFUSAL_KINDS[refusal.kind].refuses_launch:
        return all(
            at > refusal.until + NEVER_READY_STARTS * pool.unit.profile.start_seconds and not pool.hangs
            for pool in covered
        )
    return any(_has_launched(refusal, pool, at) for pool in covered)


def _has_launched(refusal: Refusal, pool: _Covered, at: float) -> bool:
    if any(launched > refusal.at for launched in pool.signals.starting.values()):
        return True
    # Before the back-off is over the one more may have been granted just before the rest was refused.
    probed = at >= refusal.until and pool.signals.in_service > pool.before
    return probed and pool.unit.profile.start_seconds <= FAST_START_SECONDS


def _proven(refusal: Refusal, at: float) -> Refusal:
    return Refusal(refusal.kind, refusal.pool, max(refusal.at, at), at, 0)
