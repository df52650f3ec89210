"""What a replay leaves in its folder, written after it has succeeded and read back by `report`.

`summary.json` has the figures, `decisions.jsonl` a decision record per tick, `minutes.json` what the
charts show minute by minute, `compare.json` the summaries of all policies where several ran.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from control_lambda.core.fleet import Fleet, fleet_from_json
from control_lambda.core.model import plain
from control_lambda.core.record import Answer, DecisionRecord, answer_from_plain
from control_lambda.core.traffic.weights import to_shares
from twin.errors import InputError
from twin.steering.replay import UNSCORED_MINUTES, Run
from twin.world.trouble import Trouble
from twin.world.world import Past

SUMMARY: Final = "summary.json"
DECISIONS: Final = "decisions.jsonl"
MINUTES: Final = "minutes.json"
COMPARE: Final = "compare.json"
REPORT: Final = "report.html"

Summary = dict[str, Any]


class Minutes(BaseModel):
    """A replay minute by minute; every list has a value per minute, from `first_minute` of the trace on.

    Latencies in seconds over the answered requests (None: there were none), cost in USD. `nodes` are billed,
    draining and terminating ones included, and `ready` would answer at the minute's end, by pool; `shares` of
    traffic by unit, 0 to 1.
    The first `unscored` minutes count in no summary.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    policy: str
    setting: dict[str, str]
    fleet_json: str
    first_minute: int
    unscored: int
    requests: list[int]
    failed: list[int]
    p50_seconds: list[float | None]
    p95_seconds: list[float | None]
    cost_usd: list[float]
    nodes: dict[str, list[int]]
    ready: dict[str, list[int]]
    shares: dict[str, list[float]]

    @property
    def fleet(self) -> Fleet:
        """The fleet that was replayed."""
        return fleet_from_json(self.fleet_json)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        fleet = self.fleet
        units = {unit.name for unit in fleet.units}
        if (
            not self.nodes.keys() == self.ready.keys() == fleet.pool_named.keys()
            or self.shares.keys() != units
        ):
            raise ValueError("nodes, ready and shares need one list for each pool or unit of the fleet")
        by_name = (self.nodes, self.ready, self.shares)
        series: list[Sequence[object]] = [self.failed, self.p50_seconds, self.p95_seconds, self.cost_usd]
        series += [values for named in by_name for values in named.values()]
        if not self.requests or any(len(values) != len(self.requests) for values in series):
            raise ValueError("every list needs one value per minute, and at least one")
        return self


@dataclass(frozen=True, slots=True)
class Result:
    """One replay to report on; `comparison` holds every policy's summary, this one's included."""

    summary: Summary
    minutes: Minutes
    records: Sequence[DecisionRecord]
    comparison: Sequence[Summary] = ()


def minutes_of(run: Run, setting: Mapping[str, str]) -> Minutes:
    """The minutes of a run; each trouble stands in their setting."""
    fleet, past = run.scenario.fleet, run.past
    shares = [to_shares(minute.weights) for minute in past]
    pools = [pool.name for pool in fleet.pools]
    return Minutes(
        policy=run.policy,
        setting={**setting, **_told_trouble(run.scenario.trouble)},
        fleet_json=fleet.to_json(),
        first_minute=past[0].minute,
        unscored=UNSCORED_MINUTES,
        requests=[len(minute.latency) for minute in past],
        failed=[minute.failed for minute in past],
        p50_seconds=[_percentile(minute, 50) for minute in past],
        p95_seconds=[_percentile(minute, 95) for minute in past],
        cost_usd=[round(minute.cost_usd, 6) for minute in past],
        nodes={pool: [minute.nodes[pool] for minute in past] for pool in pools},
        ready={pool: [minute.ready[pool] for minute in past] for pool in pools},
        shares={unit.name: [round(share.get(unit.name, 0.0), 4) for share in shares] for unit in fleet.units},
    )


def _told_trouble(trouble: Trouble) -> dict[str, str]:
    """Each entry's fields in words, by its name."""
    told: dict[str, str] = {}
    for entry in trouble.entries:
        parts = [f"{name} {_told(value)}" for name, value in entry.fields.items() if value is not None]
        lasting = "to the end" if entry.minutes is None else f"for {entry.minutes} min"
        before = f"{told[entry.name]}; " if entry.name in told else ""
        told[entry.name] = before + ", ".join([*parts, lasting])
    return told


def _told(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={part}" for name, part in value.items())
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def save(result: Result, report: str, out: Path) -> None:
    """Write the result and its report into the folder `out`, which is made where it is missing.

    Raises:
        InputError: the folder cannot be written.
    """
    files = {
        SUMMARY: json.dumps(result.summary, indent=2) + "\n",
        DECISIONS: "".join(json.dumps(plain(record)) + "\n" for record in result.records),
        MINUTES: result.minutes.model_dump_json() + "\n",
        REPORT: report,
    }
    if result.comparison:
        files[COMPARE] = json.dumps(list(result.comparison), indent=2) + "\n"
    write_files(out, files)


def write_files(out: Path, files: Mapping[str, str]) -> None:
    """Write texts by name into the folder `out`.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"out: {out}: {error.strerror}; valid: a folder that can be written") from None


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be written, before a replay is run for it.

    Raises:
        InputError: `out` or a folder above it is a file.
    """
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"out: {existing} is a file; valid: a folder, or the name of a new one")


def load(folder: Path) -> Result:
    """Read what `save` wrote.

    Raises:
        InputError: a file is missing or is not what a replay writes.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no folder; valid: one that replay or compare has written")
    return Result(
        summary=_object(folder / SUMMARY),
        minutes=_minutes(folder / MINUTES),
        records=[answer for answer in read_answers(folder / DECISIONS) if isinstance(answer, DecisionRecord)],
        comparison=_comparison(folder / COMPARE),
    )


def read_answers(path: Path) -> list[Answer]:
    """What ticks answered, from a file: a line each, or one JSON object.

    A line that a Lambda logged counts as the answer within it.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    text = read_text(path, "decisions.jsonl, or a decision record as JSON")
    try:
        return [_as_answer(path, "the file", json.loads(text))]
    except json.JSONDecodeError:
        lines = enumerate(text.splitlines(), start=1)
        return [
            _as_answer(path, f"line {number}", _parsed_line(path, number, line)) for number, line in lines
        ]


def read_text(path: Path, valid: str) -> str:
    """The text of a file.

    Raises:
        InputError: it cannot be read; `valid` says what would be.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; valid: {valid}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text; valid: {valid}") from None


def _percentile(past: Past, percent: float) -> float | None:
    answered = past.latency[np.isfinite(past.latency)]
    return round(float(np.percentile(answered, percent)), 4) if len(answered) else None


def _parsed_line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {number}: {error.msg}; valid: a decision record as JSON") from None


def _as_answer(path: Path, where: str, raw: object) -> Answer:
    told = raw["record"] if isinstance(raw, dict) and "record" in raw else raw
    try:
        return answer_from_plain(told)
    except ValueError as error:
        raise InputError(f"{path}: {where}: {error}; valid: a decision record as JSON") from None


def _object(path: Path) -> Summary:
    raw = _json(path)
    if not isinstance(raw, dict) or not raw.keys() >= {"policy", "slo_attainment", "cost_usd"}:
        raise InputError(f"{path}: policy, slo_attainment or cost_usd missing; valid: what replay writes")
    return raw


def _comparison(path: Path) -> list[Summary]:
    if not path.exists():
        return []
    raw = _json(path)
    if not isinstance(raw, list) or not all(isinstance(item, dict) and "policy" in item for item in raw):
        raise InputError(f"{path}: no list of summaries; valid: what compare writes")
    return raw


def _json(path: Path) -> object:
    try:
        return json.loads(read_text(path, "what replay writes"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}: {error.msg}; valid: what replay writes") from None


def _minutes(path: Path) -> Minutes:
    try:
        return Minutes.model_validate_json(read_text(path, "what replay writes"))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"])) or "the file"
        raise InputError(f"{path}: {key}: {fault['msg']}; valid: what replay writes") from None
