"""What users got and what the loop did: the figures of a game day, from its answers and its records."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from control_lambda.core.fleet import Objective
from infra.after_deploy.load import Answer
from infra.after_deploy.watch import Record

BUCKET_SECONDS: Final = 10
# Users are served again once as many requests as promised are answered in time for this long.
STEADY_SECONDS: Final = 60
# Traffic is back where it was when every unit has its share to this difference.
SAME_SHARE: Final = 0.05
USD_PER_ACTION_MINUTE: Final = 0.10  # of a Fault Injection experiment (aws.amazon.com/fis/pricing)


@dataclass(frozen=True, slots=True)
class Times:
    """When load began, trouble began, trouble ended and load ended, in epoch seconds."""

    start: float
    begin: float
    end: float
    stop: float

    def phases(self) -> Iterator[tuple[str, float, float]]:
        """Name, beginning and end of each phase."""
        yield "before", self.start, self.begin
        yield "during", self.begin, self.end
        yield "after", self.end, self.stop


def figures(
    answers: Sequence[Answer], records: Sequence[Record], times: Times, objective: Objective
) -> dict[str, Any]:
    """Everything that the report tells, as JSON."""
    return {
        "phases": [
            {"name": name, "from": since - times.start, "to": until - times.start}
            | _served(_due(answers, since, until), objective)
            | {"cost_usd": cost(records, since, until)}
            for name, since, until in times.phases()
        ],
        "requests": len(answers),
        "lost": sum(answer.lost for answer in answers if answer.at >= times.begin),
        "failover_seconds": failover(answers, times, objective),
        "failback_seconds": failback(records, times),
        "cost_usd": cost(records, times.start, times.stop),
    }


def attainment(answers: Sequence[Answer], objective: Objective) -> float | None:
    """The share of the requests that were answered in time; None without any."""
    if not answers:
        return None
    return sum(answer.within(objective.latency_seconds) for answer in answers) / len(answers)


def failover(answers: Sequence[Answer], times: Times, objective: Objective) -> float | None:
    """Seconds from the beginning of trouble until users were served for good: 0 if they always were.

    None: not before the load ended.
    """
    missed = [
        since
        for since in _steps(times.begin, times.stop, BUCKET_SECONDS)
        if _misses(_due(answers, since, since + BUCKET_SECONDS), objective)
    ]
    return served_again(missed, BUCKET_SECONDS, times)


def served_again(missed: Sequence[float], step: float, times: Times) -> float | None:
    """`failover`, from the beginnings of the steps (seconds each) in which the promise was broken."""
    if not missed:
        return 0.0
    at = times.begin
    for index, since in enumerate(missed):
        # A later miss, after users were served steadily, is another episode.
        if index and since >= at + STEADY_SECONDS:
            break
        at = since + step
    return None if at + STEADY_SECONDS > times.stop else at - times.begin


def failback(records: Sequence[Record], times: Times) -> float | None:
    """Seconds from the end of trouble until every unit had its share of before again; 0 if it always had.

    None: not before the load ended, or there is no record to tell by.
    """
    return shared_again([(record["at"], shares(record)) for record in records], times)


def shared_again(points: Sequence[tuple[float, Mapping[str, float]]], times: Times) -> float | None:
    """`failback`, from each unit's share at some times."""
    before = [of for at, of in points if at <= times.begin]
    after = [(at, of) for at, of in points if at >= times.begin]
    if not before or not after:
        return None
    moved = [at for at, of in after if not _same(of, before[-1])]
    if not moved:
        return 0.0
    back = [at for at, _ in after if at > moved[-1]]
    return max(0.0, back[0] - times.end) if back else None


def shares(record: Record) -> Mapping[str, float]:
    """Each unit's share of traffic after the tick."""
    weights = {unit: each["weight"] for unit, each in record["units"].items()}
    total = sum(weights.values())
    return {unit: weight / total if total else 0.0 for unit, weight in weights.items()}


def cost(records: Sequence[Record], since: float, until: float) -> float | None:
    """USD for the nodes between two times, as the records priced them; None without a record."""
    known = [(record["at"], record["cost_usd_per_hour"]) for record in records]
    known = [(at, usd) for at, usd in known if usd is not None]
    if not known:
        return None
    paid = 0.0
    for index, (at, usd) in enumerate(known):
        begins = since if index == 0 else max(at, since)
        ends = until if index + 1 == len(known) else min(known[index + 1][0], until)
        paid += max(0.0, ends - begins) / 3600 * usd
    return paid


def by_minute(answers: Sequence[Answer], times: Times, objective: Objective) -> list[dict[str, Any]]:
    """What users got in each minute since the load began."""
    return [
        {"minute": index} | _served(_due(answers, since, since + 60), objective)
        for index, since in enumerate(_steps(times.start, times.stop, 60))
    ]


def told(records: Sequence[Record], times: Times) -> list[dict[str, Any]]:
    """The loop's reasons, each with its seconds since the load began."""
    return [
        {
            "seconds": record["at"] - times.start,
            "code": reason["code"],
            "subject": reason.get("subject", ""),
            "text": reason["text"],
        }
        for record in records
        if times.start <= record["at"] <= times.stop
        for reason in record["reasons"]
    ]


def _served(answers: Sequence[Answer], objective: Objective) -> dict[str, Any]:
    return {
        "requests": len(answers),
        "lost": sum(answer.lost for answer in answers),
        "attainment": attainment(answers, objective),
    }


def _due(answers: Sequence[Answer], since: float, until: float) -> list[Answer]:
    return [answer for answer in answers if since <= answer.at < until]


def _misses(answers: Sequence[Answer], objective: Objective) -> bool:
    share = attainment(answers, objective)
    return share is not None and share < objective.attainment


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(abs(share - other.get(unit, 0.0)) <= SAME_SHARE for unit, share in one.items())


def _steps(since: float, until: float, seconds: int) -> Iterator[float]:
    for index in range(int((until - since) // seconds)):
        yield since + index * seconds
