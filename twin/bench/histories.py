"""Random histories: a random fleet under random demand and faults, to hold the loop's rules against.

One seed makes one history. The groups are those of `nodes`, so that sizes lead to launches, refusals,
interruptions and drains as they would on AWS; what the loop sees of them is late, partial and sometimes
wrong. Histories are made for breadth: their faults come far more often than real ones.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import inf, sqrt
from typing import Final

from control_lambda.core.decide import decide as decide_by_mode
from control_lambda.core.fleet import Unit
from control_lambda.core.model import (
    Evidence,
    EvidenceKind,
    Minute,
    NodeSignal,
    PoolSignals,
    Snapshot,
    State,
    Suspension,
    TargetHealth,
)
from control_lambda.core.supply import refusals
from control_lambda.core.supply.refusal_kinds import LAUNCH_REFUSALS
from control_lambda.trigger import CLOCK_JUMP_SECONDS
from twin.bench.random_fleets import edited, most_rpm, random_fleet
from twin.bench.rules import Decide, Tick, violations
from twin.world.nodes import Interrupted, Node, Nodes, Refused

TICKS: Final = 60
EPOCH: Final = 1767225600
MINUTE_SECONDS: Final = 60
VISIBLE_AFTER_SECONDS: Final = 120
WINDOW_MINUTES: Final = 15
# From nothing to all by 20 points a minute.
RAMP_SECONDS: Final = 300

# Chance per tick and subject at full intensity, and the most ticks that the fault lasts.
POOL_FAULTS: Final = {
    "short": (0.04, 30),
    "never-ready": (0.01, 40),
    "suspended": (0.01, 10),
    "dying": (0.02, 1),
    "updating": (0.01, 15),
    "not-sensed": (0.02, 5),
    "no-price": (0.02, 10),
}
UNIT_FAULTS: Final = {
    "slow": (0.02, 20),
    "failing": (0.02, 10),
    "uncounted": (0.02, 10),
    "health-unread": (0.02, 20),
}
FLEET_FAULTS: Final = {
    "blackout": (0.02, 15),
    "rule-unreadable": (0.02, 3),
    "late-evidence": (0.03, 5),
    "write-refused": (0.03, 3),
    "foreign-weights": (0.02, 1),
    "fleet-edited": (0.02, 40),
    "crash": (0.03, 1),
    "clock-wrong": (0.01, 1),
    "checks-fail": (0.01, 10),
}
# Chance per tick: a short pool's capacity changes; evidence comes twice; a unit's minute is lost; at full
# intensity, a pool's price changes.
STARVED_AGAIN: Final = 0.2
DOUBLED_EVIDENCE: Final = 0.1
LOST_MINUTE: Final = 0.05
NEW_PRICE: Final = 0.02


def run_histories(count: int, seed: int, progress: Callable[[int, int], None]) -> list[str]:
    """Run `count` histories of `TICKS` ticks; return the violations, each naming its history and tick.

    `progress` is told how many histories are done, of how many.
    """
    broken: list[str] = []
    for number in range(count):
        broken.extend(broken_rules(History(seed + number)))
        progress(number + 1, count)
    return broken


def broken_rules(history: "History", ticks: int = TICKS) -> list[str]:
    """The violations of one history, each naming its seed and tick."""
    broken: list[str] = []
    try:
        for tick in history.run(ticks):
            broken.extend(f"{history}: {wrong}" for wrong in violations(tick))
    except Exception as error:
        error.add_note(f"in {history}")
        raise
    return broken


class History:
    """A fleet's life, tick by tick; `decide` steers it."""

    def __init__(self, seed: int, decide: Decide = decide_by_mode) -> None:
        self.seed = seed
        self._number = 0
        self._random = random.Random(seed)
        self._decide = decide
        self._whole = random_fleet(self._random)
        self._fleet = self._whole
        self._now = float(EPOCH + self._random.randrange(86400) // MINUTE_SECONDS * MINUTE_SECONDS)
        self._counted = int(self._now)
        self._nodes = Nodes(self._whole, self._now)
        self._until: dict[tuple[str, str], float] = {}
        self._intensity = self._random.choice((0.0, 0.2, 1.0, 1.0, 2.0))
        self._rate = self._random.uniform(0.05, 1.3) * most_rpm(self._whole)
        self._prices = {pool.name: pool.price_usd_per_hour for pool in self._whole.pools}
        self._minutes: dict[str, deque[Minute]] = {
            unit.name: deque(maxlen=WINDOW_MINUTES) for unit in self._whole.units
        }
        self._untargeted: dict[int, float] = {}
        self._undelivered: list[Evidence] = []
        self._unsaved: list[Evidence] = []
        self._refused: dict[str, float] = {}
        self._unready_at: dict[str, float] = {}
        self._dead: set[str] = set()
        self._state = State()
        self._rule: dict[str, int] = {}
        for pool in self._whole.pools:
            self._nodes.start(pool.name, self._random.randint(0, pool.nodes.max), self._now)

    def __str__(self) -> str:
        return f"history {self.seed}, tick {self._number}"

    def run(self, ticks: int) -> Iterator[Tick]:
        """Live through that many ticks."""
        for _ in range(ticks):
            self._number += 1
            yield self._tick()

    def _tick(self) -> Tick:
        self._pass_time()
        self._strike()
        snapshot = self._sense()
        self._remember_refusals(snapshot)
        decision, after = self._decide(snapshot, self._state, self._fleet)
        tick = Tick(
            fleet=self._fleet,
            snapshot=snapshot,
            before=self._state,
            decision=decision,
            after=after,
            refused=frozenset(self._refused),
            returning=self._returning(),
            decide=self._decide,
        )
        self._act(tick)
        return tick

    # --- The world -------------------------------------------------------------------------------------

    def _pass_time(self) -> None:
        """To the next tick: mostly a minute, at times the seconds to an event or the hours of a gap."""
        gap = self._random.choices((60.0, 7.0, 3600.0), (0.9, 0.08, 0.02))[0]
        self._now += gap
        self._nodes.advance(self._now)
        self._rate *= self._random.choices((self._random.uniform(0.9, 1.1), 3.0, 0.3, 0.0), (95, 2, 2, 0.2))[
            0
        ]
        self._rate = min(max(self._rate, 1.0), 2.0 * most_rpm(self._whole))
        self._counted = max(self._counted, int(self._now) - WINDOW_MINUTES * MINUTE_SECONDS)
        self._counted -= self._counted % MINUTE_SECONDS
        while self._counted + MINUTE_SECONDS <= self._now:
            self._count_minute(self._counted)
            self._counted += MINUTE_SECONDS

    def _count_minute(self, start: int) -> None:
        """Requests go where the rule sends them; without a rule or a node they find no target."""
        total = max(0.0, round(self._random.gauss(self._rate, sqrt(self._rate))))
        weighed = sum(self._rule.values())
        for unit in self._whole.units:
            share = self._rule.get(unit.name, 0) / weighed if weighed else 0.0
            hosts = sum(len(self._nodes.ready(pool.name)) for pool in unit.pools)
            if not hosts or self._random.random() < LOST_MINUTE:
                continue
            self._minutes[unit.name].append(self._minute(unit, start, round(share * total), hosts))
        if not weighed:
            self._untargeted[start] = total

    def _minute(self, unit: Unit, start: int, requests: int, hosts: int) -> Minute:
        if not requests:
            return Minute(start, healthy_hosts=hosts)
        full = hosts * 60.0 / unit.profile.service_seconds
        latency = unit.profile.service_seconds * (1.2 if requests < full else 5.0)
        latency *= 3.0 if self._struck("slow", unit.name) else 1.0
        errors = requests * self._random.random() if self._struck("failing", unit.name) else 0.0
        return Minute(start, requests, errors, latency, requests, hosts)

    # --- Faults ----------------------------------------------------------------------------------------

    def _strike(self) -> None:
        """Let faults begin, and do what begins or ends with them."""
        for pool in self._whole.pools:
            self._begin(POOL_FAULTS, pool.name)
            self._starve(pool.name)
            if self._random.random() < NEW_PRICE * self._intensity:
                self._prices[pool.name] = pool.price_usd_per_hour * self._random.uniform(0.3, 3.0)
        for unit in self._whole.units:
            self._begin(UNIT_FAULTS, unit.name)
        self._begin(FLEET_FAULTS, "")
        self._fleet = edited(self._whole) if self._struck("fleet-edited") else self._whole
        if self._struck("foreign-weights"):
            self._rule = {unit.name: self._random.randint(0, 999) for unit in self._fleet.units}

    def _begin(self, faults: Mapping[str, tuple[float, int]], subject: str) -> None:
        for fault, (chance, longest) in faults.items():
            if self._random.random() < chance * self._intensity:
                ticks = self._random.randint(1, longest)
                self._until[fault, subject] = self._now + (ticks - 0.5) * MINUTE_SECONDS

    def _struck(self, fault: str, subject: str = "") -> bool:
        return self._until.get((fault, subject), 0.0) > self._now

    def _starve(self, pool: str) -> None:
        held = len(self._nodes.members(pool))
        if not self._struck("short", pool):
            self._nodes.set_capacity(pool, None, self._now)
        elif self._random.random() < STARVED_AGAIN:
            self._nodes.set_refusal(pool, self._random.choice(LAUNCH_REFUSALS))
            self._nodes.set_capacity(pool, self._random.randint(0, held), self._now)
        start = self._fleet.unit_of[pool].profile.start_seconds if pool in self._fleet.unit_of else inf
        self._nodes.set_start_seconds(pool, inf if self._struck("never-ready", pool) else start)
        if self._struck("dying", pool):
            serving = [node.id for node in self._nodes.ready(pool)]
            self._dead.update(self._random.sample(serving, self._random.randint(0, len(serving))))
        if self._struck("suspended", pool) and not self._nodes.suspended(pool):
            self._nodes.suspend(pool)

    # --- The loop's view and hand ----------------------------------------------------------------------

    def _sense(self) -> Snapshot:
        at = self._clock()
        evidence = self._evidence()
        return Snapshot(
            at=at,
            minutes={unit.name: self._visible(unit.name, at) for unit in self._fleet.units},
            untargeted={} if self._struck("blackout") else self._untargeted_visible(at),
            pools={
                pool.name: self._signals(pool.name)
                for pool in self._fleet.pools
                if not self._struck("not-sensed", pool.name)
            },
            healthy={
                unit.name: sum(len(self._nodes.ready(pool.name)) for pool in unit.pools)
                for unit in self._fleet.units
                if not self._struck("health-unread", unit.name)
            },
            weights=None if self._struck("rule-unreadable") else dict(self._rule),
            evidence=evidence,
        )

    def _clock(self) -> float:
        """Now, or for a tick with a wrong clock anything that the loop does not skip as a duplicate."""
        if not self._struck("clock-wrong"):
            return self._now
        return self._now + self._random.choice((-1, 1)) * self._random.uniform(2 * CLOCK_JUMP_SECONDS, 86400)

    def _visible(self, unit: str, at: float) -> tuple[Minute, ...]:
        if self._struck("blackout") or self._struck("uncounted", unit):
            return ()
        latest = at - VISIBLE_AFTER_SECONDS - MINUTE_SECONDS
        earliest = latest - WINDOW_MINUTES * MINUTE_SECONDS
        return tuple(minute for minute in self._minutes[unit] if earliest <= minute.at <= latest)

    def _untargeted_visible(self, at: float) -> dict[int, float]:
        latest = at - VISIBLE_AFTER_SECONDS - MINUTE_SECONDS
        return {
            start: count
            for start, count in self._untargeted.items()
            if latest - WINDOW_MINUTES * MINUTE_SECONDS <= start <= latest
        }

    def _signals(self, pool: str) -> PoolSignals:
        return PoolSignals(
            desired=self._nodes.desired(pool),
            nodes={node.id: self._node(node) for node in self._nodes.members(pool)},
            status="UPDATING" if self._struck("updating", pool) else "ACTIVE",
            launch_suspended=Suspension.AWS if self._nodes.suspended(pool) else Suspension.NONE,
            health_known=not self._struck("health-unread", self._fleet.unit_of[pool].name),
            price=None if self._struck("no-price", pool) else self._prices[pool],
        )

    def _node(self, node: Node) -> NodeSignal:
        health = TargetHealth.HEALTHY if node.is_ready(self._now) else TargetHealth.INITIAL
        if node.is_ready(self._now) and (node.id in self._dead or self._struck("checks-fail")):
            health = TargetHealth.UNHEALTHY
        return NodeSignal(node.launched_at, target=health)

    def _evidence(self) -> tuple[Evidence, ...]:
        """What was announced since the last tick; late, in part or twice when a fault has it so."""
        for event in self._nodes.drain_events():
            self._undelivered.append(self._announced(event))
        delivered, self._unsaved = self._unsaved, []
        if not self._struck("late-evidence"):
            delivered += self._undelivered
            self._undelivered = [item for item in delivered if self._random.random() < DOUBLED_EVIDENCE]
        return tuple(item for item in delivered if item.pool in self._fleet.unit_of)

    def _announced(self, event: Refused | Interrupted) -> Evidence:
        if isinstance(event, Interrupted):
            return Evidence(event.pool, EvidenceKind.INTERRUPTION, event.at, node=event.node)
        return Evidence(event.pool, event.kind, event.at, zone=self._random.choice(("", "a", "b")))

    def _remember_refusals(self, snapshot: Snapshot) -> None:
        """Note what was refused since the last tick, and forget it once a node is granted.

        Late reports are left out: nobody can tell whether they still hold. A wrong clock makes all
        reports early or late.
        """
        if self._struck("clock-wrong") or self._state.at > self._now:
            self._refused.clear()
            return
        for item in snapshot.evidence:
            if item.kind is not EvidenceKind.INTERRUPTION and item.at > self._state.at:
                self._refused[item.pool] = item.at
        self._refused = {
            pool: at
            for pool, at in self._refused.items()
            if pool in self._fleet.unit_of and not self._granted(pool, at)
        }

    def _granted(self, pool: str, since: float) -> bool:
        """Whether a node was launched since in the pool's family and market."""
        return any(
            node.launched_at > since
            for other in self._whole.pools
            if self._sharing(other.name) == self._sharing(pool)
            for node in self._nodes.existing(other.name)
        )

    def _sharing(self, pool: str) -> tuple[str, str]:
        kind = self._whole.unit_of[pool].instance_type
        return refusals.family(kind), self._whole.pool_named[pool].market

    def _returning(self) -> frozenset[str]:
        """The units that had no ready node within the time that a share takes from nothing to all."""
        for unit in self._whole.units:
            if not any(self._nodes.ready(pool.name) for pool in unit.pools):
                self._unready_at[unit.name] = self._now
        return frozenset(unit for unit, at in self._unready_at.items() if at >= self._now - RAMP_SECONDS)

    def _act(self, tick: Tick) -> None:
        """Write the decision as the shell does; a crash or a refused write leaves part of it undone."""
        decision = tick.decision
        weights: Mapping[str, int] | None = tick.snapshot.weights
        if decision.weights is not None and not self._struck("write-refused"):
            self._rule = dict(decision.weights)
            weights = self._rule
        crashed = self._struck("crash")
        for pool in decision.resume:
            self._nodes.resume(pool)
        if not crashed and not self._struck("write-refused"):
            for item in decision.terminate:
                self._nodes.terminate(item.node, item.decrement, self._now)
        written = {} if crashed or self._struck("write-refused") else decision.sizes
        for pool, nodes in written.items():
            self._nodes.set_desired(pool, nodes, self._now)
        if crashed:
            self._unsaved.extend(tick.snapshot.evidence)  # memory keeps evidence until a state is saved
        else:
            self._state = _kept(tick, weights, written)


def _kept(tick: Tick, weights: Mapping[str, int] | None, written: Mapping[str, int]) -> State:
    """The state as the shell saves it: with the weights and sizes that really stand."""
    sensed = {name: signals.desired for name, signals in tick.snapshot.pools.items()}
    return replace(
        tick.after,
        weights=dict(tick.before.weights if weights is None else weights),
        desired={**tick.before.desired, **sensed, **written},
    )
