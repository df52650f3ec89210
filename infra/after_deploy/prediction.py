"""What the twin says of the same hour: a replay in a process of its own, read from what it leaves."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from control_lambda.core.fleet import Fleet
from infra.after_deploy.figures import Times, served_again, shared_again

ROOT: Final = Path(__file__).parents[2]
# The twin's first minutes, in which its loop finds its feet, count in no figure.
LEAD_IN: Final = 15
TIMEOUT_SECONDS: Final = 600
MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Hour:
    """What was played: requests a minute, and trouble (as the twin's file has it) in the middle.

    `rpm_before` until trouble begins, `rpm` from then on.
    """

    fleet: Fleet
    rpm: float
    rpm_before: float
    before: int
    minutes: int
    after: int
    entry: Mapping[str, Any]


Predict = Callable[[Hour, Path], Mapping[str, Any]]


def predict(hour: Hour, folder: Path) -> Mapping[str, Any]:
    """The twin's figures for the hour; `error` says why there are none. Its replay stays in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.yaml").write_text(hour.fleet.to_json(), encoding="utf-8")
    begin = LEAD_IN + hour.before
    load = [round(hour.rpm_before)] * begin + [round(hour.rpm)] * (hour.minutes + hour.after)
    rows = "".join(f"{minute},{requests}\n" for minute, requests in enumerate(load))
    (folder / "demand.csv").write_text(f"minute,requests\n{rows}", encoding="utf-8")
    entry = {"at": begin, "minutes": hour.minutes, **hour.entry}
    (folder / "trouble.yaml").write_text(json.dumps({"trouble": [entry]}), encoding="utf-8")
    return _replayed(folder, begin, begin + hour.minutes, hour.fleet.objective.attainment)


def _replayed(folder: Path, begin: int, end: int, attainment: float) -> Mapping[str, Any]:
    files = ("--fleet", "fleet.yaml", "--demand", "demand.csv", "--trouble", "trouble.yaml")
    named = [str(folder.resolve() / each) if "." in each else each for each in files]
    command = [sys.executable, "-m", "twin", "replay", *named, "--out", str(folder.resolve() / "replay")]
    try:
        run = subprocess.run(  # noqa: S603 - the project's own twin
            command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"the twin took more than {TIMEOUT_SECONDS} s"}
    if run.returncode:
        return {"error": (run.stderr.strip().splitlines() or ["the twin failed"])[-1]}
    summary, minutes = (
        json.loads((folder / "replay" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("summary", "minutes")
    )
    return {**_read(summary, begin, end), **_moved(minutes, begin, end, attainment)}


def _moved(minutes: Mapping[str, Any], begin: int, end: int, attainment: float) -> Mapping[str, Any]:
    """Failover and failback by the rules of a game day, by the minute; what failed stands for what missed."""
    count = len(minutes["requests"])
    times = Times(0.0, begin * MINUTE, end * MINUTE, count * MINUTE)
    missed = [
        index * MINUTE
        for index in range(begin, count)
        if minutes["failed"][index] > (1 - attainment) * minutes["requests"][index]
    ]
    points = [
        (index * MINUTE, {unit: of[index] for unit, of in minutes["shares"].items()})
        for index in range(count)
    ]
    return {
        "failover_seconds": served_again(missed, MINUTE, times),
        "failback_seconds": shared_again(points, times),
    }


def _read(summary: Mapping[str, Any], begin: int, end: int) -> Mapping[str, Any]:
    """Attainment before, during and after, what was lost since trouble began, and the nodes' cost."""
    phases = {"before": 0, "during": begin, "after": end}
    found = {
        name: [phase for phase in summary["phases"] if _phase_at(phase["from"], begin, end) == name]
        for name in phases
    }
    return {
        "phases": [{"name": name, **_together(parts)} for name, parts in found.items()],
        "lost": sum(phase["failed"] for phase in summary["phases"] if phase["from"] >= begin),
        "cost_usd": summary["cost_usd"],
    }


def _phase_at(minute: int, begin: int, end: int) -> str:
    return "before" if minute < begin else "during" if minute < end else "after"


def _together(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    requests = sum(part["requests"] for part in parts)
    attained = sum(part["requests"] * (part["slo_attainment"] or 0.0) for part in parts)
    return {
        "requests": requests,
        "lost": sum(part["failed"] for part in parts),
        "attainment": attained / requests if requests else None,
    }
