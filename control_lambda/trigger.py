"""The event that starts a tick: read, and judged by the time of the last one."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from control_lambda.core.model import Evidence, EvidenceKind, State, evidence_from_plain
from control_lambda.core.reasons import Failure, Skip
from control_lambda.core.supply import zones
from control_lambda.core.supply.refusals import remember
from control_lambda.orders import last_good_fleet

CAUSES: Final = ("schedule", "event")
# Scheduler and EventBridge drop what is older than 60 s, so a tick this far behind the last one was not
# delivered late: the last one's time was wrong, and waiting for it to pass would stop all control.
CLOCK_JUMP_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """A tick event, read: its time (epoch seconds), its cause and the evidence it brings."""

    at: float
    cause: str
    evidence: tuple[Evidence, ...]

    def with_evidence(self, remembered: tuple[Evidence, ...]) -> "Trigger":
        """With what memory holds too: each piece once, in an order that does not depend on how it came."""
        return replace(self, evidence=tuple(sorted({*remembered, *self.evidence}, key=astuple)))

    def late(self, state: State) -> str:
        """Why this tick comes too late to be run; empty when it does not."""
        if self.at > state.at or self._jumped(state):
            return ""
        if self.cause == "event" and self._brings_news(state):
            return ""
        return Skip.NOT_LATER.told(time=iso_time(state.at))

    def clock_problems(self, state: State) -> tuple[str, ...]:
        """That the last tick's clock was wrong, where it was."""
        if not self._jumped(state):
            return ()
        cause = f"the last tick was for {iso_time(state.at)}, this one is for {iso_time(self.at)}"
        return (Failure.CLOCK_JUMPED.told(cause),)

    def timed_after(self, state: State) -> "Trigger":
        """An event that was overtaken by a tick is handled at that tick's time."""
        return self if self._jumped(state) else replace(self, at=max(self.at, state.at))

    def _jumped(self, state: State) -> bool:
        return self.at < state.at - CLOCK_JUMP_SECONDS

    def _brings_news(self, state: State) -> bool:
        """Whether the last tick has not taken all of it: of events that come together one tick takes all."""
        fleet = last_good_fleet(state)
        if fleet is None:
            return bool(self.evidence)
        announced = {item.node for item in self.evidence if item.kind is EvidenceKind.INTERRUPTION}
        fresh = [item for item in self.evidence if not zones.is_known(item, state.refused_zones)]
        refusals = remember(state.refusals, fresh, fleet)
        return refusals != dict(state.refusals) or not announced <= state.leaving.keys()


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


def iso_time(at: float) -> str:
    """Epoch seconds as the ISO-8601 UTC that an event's `time` holds."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _seconds(text: object) -> float:
    valid = "valid: ISO-8601 with an offset, such as 2026-01-31T12:00:00Z"
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError(f"event: time: {text!r} is no time; {valid}") from None
    if moment.tzinfo is None:
        raise ValueError(f"event: time: {text!r} has no offset; {valid}")
    return moment.timestamp()
