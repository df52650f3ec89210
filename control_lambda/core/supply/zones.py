"""Which zones refuse launches, and when that makes the whole pool short.

A refusal that names a zone blocks that zone only: the Auto Scaling group tries its other zones by itself, a
minute later. A pool is short when all its zones refuse, when a refusal names no zone, or when the group has
wanted more than it got for three minutes.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from control_lambda.core.model import (
    Evidence,
    EvidenceKind,
    PoolSignals,
    Refusal,
    Snapshot,
    State,
    ZoneRefusal,
)
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS

RefusedZones = Mapping[str, Mapping[str, ZoneRefusal]]

# A zone's refusal is remembered as long as the metric that repeats it without its zone is read.
REMEMBERED_SECONDS: Final = 960.0
# The group retries within a minute: by then it has tried three zones.
UNMET_SECONDS: Final = 180.0
# What a group that got nothing tells of: all of its own zones, and none of another pool's.
EVERY_ZONE: Final = "*"


def note(before: RefusedZones, evidence: Iterable[Evidence], at: float) -> dict[str, dict[str, ZoneRefusal]]:
    """The zones that refused, with what the evidence adds."""
    noted = {
        pool: {zone: found for zone, found in zones.items() if at - REMEMBERED_SECONDS < found.at <= at}
        for pool, zones in before.items()
    }
    for item in evidence:
        if _is_zonal(item) and item.at > at - REMEMBERED_SECONDS:
            zones = noted.setdefault(item.pool, {})
            old = zones.get(item.zone)
            if old is None or item.at > old.at:
                zones[item.zone] = ZoneRefusal(item.kind, item.at)
    return {pool: zones for pool, zones in noted.items() if zones}


def is_known(item: Evidence, zones: RefusedZones) -> bool:
    """Whether a zone's refusal was taken before: itself, or its metric, which lacks the zone."""
    refused = zones.get(item.pool, {})
    if _is_zonal(item):
        return item.zone in refused and refused[item.zone].at >= item.at
    return not item.zone and any(
        found.kind is item.kind and found.at >= item.at for found in refused.values()
    )


def of_pools(
    evidence: Iterable[Evidence],
    noted: RefusedZones,
    pools: Mapping[str, PoolSignals],
    refusals: Mapping[str, Refusal],
) -> list[Evidence]:
    """The evidence that concerns whole pools: what names no zone, and what leaves a pool none.

    `noted` has this evidence in it. A probe that is refused in one zone renews the refusal of a pool that was
    short of the same already.
    """
    return [
        item
        for item in evidence
        if (_is_zonal(item) and (_none_left(item.pool, noted, pools) or _is_short(item, refusals)))
        or (not _is_zonal(item) and not is_known(item, noted))
    ]


def refusing(pool: str, noted: RefusedZones, signals: PoolSignals) -> frozenset[str]:
    """The pool's zones that have granted nothing since they refused."""
    return frozenset(
        zone
        for zone, found in noted.get(pool, {}).items()
        if not any(node.zone == zone and node.launched_at > found.at for node in signals.nodes.values())
    )


def unmet(before: State, snapshot: Snapshot) -> dict[str, float]:
    """Since when each group has wanted more nodes than it holds and got none."""
    since: dict[str, float] = {}
    for name, signals in snapshot.pools.items():
        if signals.desired <= signals.in_service or signals.launch_suspended or not signals.sizable:
            continue
        grown = signals.in_service > before.in_service.get(name, signals.in_service)
        since[name] = snapshot.at if grown else min(before.unmet.get(name, snapshot.at), snapshot.at)
    return since


def unmet_evidence(since: Mapping[str, float], noted: RefusedZones, at: float) -> list[Evidence]:
    """The pools whose groups have got nothing for too long, as refused for what their zones last said."""
    return [
        Evidence(pool, _latest_kind(noted.get(pool, {})), at, zone=EVERY_ZONE)
        for pool, began in since.items()
        if at - began >= UNMET_SECONDS
    ]


def _latest_kind(refused: Mapping[str, ZoneRefusal]) -> EvidenceKind:
    latest = max(refused.values(), key=lambda found: (found.at, found.kind), default=None)
    return EvidenceKind.UNKNOWN if latest is None else latest.kind


def _is_zonal(item: Evidence) -> bool:
    return bool(item.zone) and item.kind in REFUSAL_KINDS and REFUSAL_KINDS[item.kind].zonal


def _none_left(pool: str, noted: RefusedZones, pools: Mapping[str, PoolSignals]) -> bool:
    """Whether no zone is left to the pool; one whose zones are not known is taken to have no other."""
    signals = pools.get(pool)
    return signals is None or not set(signals.zones) - refusing(pool, noted, signals)


def _is_short(item: Evidence, refusals: Mapping[str, Refusal]) -> bool:
    return any(
        refusal.count and refusal.pool == item.pool and refusal.kind is item.kind and item.at > refusal.at
        for refusal in refusals.values()
    )
