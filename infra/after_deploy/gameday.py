"""A game day: trouble on purpose under steady load, watched and always ended, and the report of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

from infra.after_deploy import report, watch
from infra.after_deploy.clock import Clock
from infra.after_deploy.deployed import Client, Deployed, item
from infra.after_deploy.figures import USD_PER_ACTION_MINUTE, Times, by_minute, figures, shares, told
from infra.after_deploy.guard import Guard
from infra.after_deploy.load import Answer, Load
from infra.after_deploy.prediction import Hour, Predict
from infra.after_deploy.troubles import NODE_DEATH, SHORTAGE, SPOT_LOSS, Note, Trouble
from infra.scenarios import HARM_TO_USERS

MINUTE: Final = 60.0
# The templates' experiments end by themselves after an hour.
MOST_MINUTES: Final = 60
# A shortage refuses launches, so the loop has to need some: load comes in two steps, the second with it and
# beyond what serves. In every other scenario what serves carries it with ease.
LAUNCHING_LOAD: Final = 1.5
FIRST_STEP: Final = 0.4
EASY_LOAD: Final = 0.6
LEAST_RPM: Final = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be played: `rpm` requests a minute once trouble has begun, which lasts for `minutes`."""

    scenario: str
    rpm: float
    minutes: int
    before: int
    after: int
    hard: bool = False

    @property
    def rpm_before(self) -> float:
        """Requests a minute until trouble begins."""
        return self.rpm * (FIRST_STEP if self.scenario == SHORTAGE else 1.0)

    @property
    def total(self) -> int:
        """Minutes of load."""
        return self.before + self.minutes + self.after


@dataclass(slots=True)
class Played:
    """What a game day brought: its times, its answers, why it ended early (empty: it did not)."""

    times: Times
    answers: Sequence[Answer]
    note: Note
    ended_by: str = ""


def default_rpm(client: Client, deployed: Deployed, scenario: str) -> float:
    """A load that the scenario can show something with, by the nodes that serve now."""
    state = item(client, deployed).state
    health = {} if state is None else state.health
    units = {unit.name: unit for unit in deployed.fleet.units}
    carried = sum(
        60 / units[name].profile.service_seconds * known.nodes
        for name, known in health.items()
        if name in units
    )
    factor = LAUNCHING_LOAD if scenario == SHORTAGE else EASY_LOAD
    return max(LEAST_RPM, float(ceil(factor * carried)))


def statement(deployed: Deployed, plan: Plan, trouble: Trouble) -> list[str]:
    """What is about to happen and what it may cost, for whoever has to say yes."""
    hours = plan.total / 60
    most = deployed.fleet.budget_usd_per_hour * hours
    experiment = plan.scenario in (SHORTAGE, SPOT_LOSS) or (plan.scenario == NODE_DEATH and plan.hard)
    fis = USD_PER_ACTION_MINUTE * plan.minutes if experiment else 0.0
    alarms = ", ".join(f"{deployed.stack}-{key}" for key in HARM_TO_USERS)
    first = f"{plan.rpm_before:g}, then " if plan.rpm_before != plan.rpm else ""
    load = f"{first}{plan.rpm:g} requests a minute for {plan.total} minutes"
    trouble_minutes = f"from minute {plan.before} to {plan.before + plan.minutes}"
    nodes = f"at most {most:.2f} USD of nodes (the budget, {hours:.2g} hours)"
    return [
        f"Game day {plan.scenario} on {deployed.stack} ({deployed.fleet.fleet}): {trouble.says}.",
        f"Load: {load}; trouble {trouble_minutes}.",
        f"Cost: {nodes} and {fis:.2f} USD of Fault Injection; users share the fleet with the load.",
        f"It ends at once when an alarm rings that means harm to users ({alarms}), and with Ctrl-C.",
    ]


def ringing(client: Client, deployed: Deployed) -> list[str]:
    """The alarms that ring now and mean harm to users."""
    wanted = [f"{deployed.stack}-{key}" for key in HARM_TO_USERS]
    alarms = client("cloudwatch").describe_alarms(AlarmNames=wanted)["MetricAlarms"]
    return [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]


class GameDay:
    """Plays one plan, minute by minute."""

    def __init__(
        self, client: Client, deployed: Deployed, plan: Plan, trouble: Trouble, clock: Clock, say: Say
    ) -> None:
        self._client = client
        self._deployed = deployed
        self._plan = plan
        self._trouble = trouble
        self._clock = clock
        self._say = say
        self._guard = Guard(client, deployed)
        self._told_until = 0.0

    def play(self, load: Load) -> Played:
        """Load, trouble, load: what begins is ended, whatever happens in between.

        Raises:
            TroubleError: trouble could not be begun; the load has ended.
            UnderWayError: another game day is under way.
        """
        note = self._trouble.prepare()  # so that what cannot begin costs no load
        start = self._told_until = self._clock.now()
        answers: Sequence[Answer] = ()
        load.begin(self._plan.rpm_before)
        try:
            ended_by = self._minutes("before", self._plan.before)
            begin = end = self._clock.now()
            if not ended_by:
                note = self._trouble.prepare()  # the loop may have let that node go
                with self._troubled(note, begin + self._plan.minutes * MINUTE):
                    self._say(f"trouble begins: {self._trouble.says}")
                    load.change(self._plan.rpm)
                    ended_by = self._minutes("during", self._plan.minutes)
                end = self._clock.now()
                self._say("trouble ended")
            if not ended_by:
                ended_by = self._minutes("after", self._plan.after)
        finally:
            answers = load.end()
        return Played(Times(start, begin, end, self._clock.now()), answers, note, ended_by)

    @contextmanager
    def _troubled(self, note: Note, until: float) -> Iterator[None]:
        self._guard.take(self._plan.scenario, note, hard=self._plan.hard)
        try:
            self._trouble.begin(note, until)
            yield
        finally:
            self._trouble.end(note)
            self._guard.clear()

    def _minutes(self, phase: str, minutes: int) -> str:
        """Let minutes pass and tell of them; the alarm that ended them early, empty if none did."""
        for minute in range(1, minutes + 1):
            self._clock.sleep(MINUTE)
            self._say(f"{phase} {minute}/{minutes}: {self._news()}")
            if rung := ringing(self._client, self._deployed):
                self._say(f"{rung[0]} rings: this harms users, so it ends here")
                return rung[0]
        return ""

    def _news(self) -> str:
        """What the loop did since it was last looked at."""
        now = self._clock.now()
        found = watch.records(self._client, self._deployed, self._told_until, now)
        self._told_until = now
        if not found:
            return "no tick"
        last = found[-1]
        parts = [f"{unit} {share:.0%}" for unit, share in shares(last).items() if share]
        codes = dict.fromkeys(reason["code"] for record in found for reason in record["reasons"])
        return f"{last['mode']} mode, {', '.join(parts) or 'no weights'}" + (
            f"; {', '.join(codes)}" if codes else ""
        )


def write_report(
    client: Client,
    deployed: Deployed,
    plan: Plan,
    trouble: Trouble,
    played: Played,
    out: Path,
    predict: Predict,
) -> Mapping[str, Any]:
    """Write report.html and report.json into `out`; the report's figures."""
    out.mkdir(parents=True, exist_ok=True)
    times, objective = played.times, deployed.fleet.objective
    records = watch.records(client, deployed, times.start, times.stop)
    hour = Hour(
        fleet=deployed.fleet,
        rpm=plan.rpm,
        rpm_before=plan.rpm_before,
        before=plan.before,
        minutes=plan.minutes,
        after=plan.after,
        entry=trouble.entry(played.note),
    )
    whole = {
        "scenario": plan.scenario,
        "says": trouble.says,
        "stack": deployed.stack,
        "fleet": deployed.fleet.fleet,
        "started_at": times.start,
        "rpm": plan.rpm,
        "objective": {"latency_seconds": objective.latency_seconds, "attainment": objective.attainment},
        "ended_by": played.ended_by,
        "harmed": played.note,
        "measured": figures(played.answers, records, times, objective),
        "predicted": predict(hour, out / "twin"),
        "minutes": by_minute(played.answers, times, objective),
        "shares": [{"seconds": record["at"] - times.start, "of": dict(shares(record))} for record in records],
        "reasons": told(records, times),
    }
    report.write(whole, out)
    return whole
