"""The builds' state machine, run on a clock of its own against an account that limits its builds.

Of the Amazon States Language it knows what the run uses: Parallel, Choice, Pass, Task with Retry and Catch.
"""

import heapq
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

LIMITED: Final = "CodeBuild.AccountLimitExceededException"
FAILED: Final = "States.TaskFailed"

Branch = Generator[float, None, Mapping[str, str]]


@dataclass
class Account:
    """CodeBuild in an account: builds that run at once, how long each takes, and when the limit rises.

    `limits` are (seconds from which on, builds in the queue), the first one from 0 on.
    """

    limits: list[tuple[float, int]]
    build_seconds: float = 1200
    failing: frozenset[str] = frozenset()
    now: float = 0
    started: list[str] = field(default_factory=list)
    most_at_once: int = 0
    running: int = 0

    def start(self, project: str) -> str | None:
        """Start the build; the error's name where the limit refuses it."""
        limit = next(limit for since, limit in reversed(self.limits) if since <= self.now)
        if self.running >= limit:
            return LIMITED
        self.running += 1
        self.started.append(project)
        self.most_at_once = max(self.most_at_once, self.running)
        return None

    def end(self, project: str) -> str | None:
        """End the build; the error's name where it failed."""
        self.running -= 1
        return FAILED if project in self.failing else None


def execute(machine: Mapping[str, Any], account: Account, last: str) -> dict[str, Any]:
    """Run the machine up to the state `last`, which is not run; what it would be given."""
    state: dict[str, Any] = {}
    name = machine["StartAt"]
    while name != last:
        stage = machine["States"][name]
        state[name] = _parallel([_branch(branch, account, state) for branch in stage["Branches"]], account)
        name = stage["Next"]
    return state


def _parallel(branches: list[Branch], account: Account) -> list[Mapping[str, str]]:
    results: dict[int, Mapping[str, str]] = {}
    due = [(account.now, index) for index in range(len(branches))]
    while due:
        account.now, index = heapq.heappop(due)
        try:
            heapq.heappush(due, (account.now + next(branches[index]), index))
        except StopIteration as ended:
            results[index] = ended.value
    return [results[index] for index in range(len(branches))]


def _branch(branch: Mapping[str, Any], account: Account, given: Mapping[str, Any]) -> Branch:
    name = branch["StartAt"]
    while True:
        state = branch["States"][name]
        match state["Type"]:
            case "Choice":
                name = _chosen(state, given)
            case "Pass":
                return dict(state["Result"])
            case "Task":
                error = yield from _task(state, account)
                if error is None:
                    return dict(state["ResultSelector"])
                name = next(
                    caught["Next"] for caught in state["Catch"] if "States.ALL" in caught["ErrorEquals"]
                )


def _task(state: Mapping[str, Any], account: Account) -> Generator[float, None, str | None]:
    """Without the jitter, which only shortens a wait; without retries where none is declared."""
    project = state["Parameters"]["ProjectName"]
    error = account.start(project)
    for retry in state.get("Retry", ()):
        wait, tries = float(retry["IntervalSeconds"]), 0
        while error in retry["ErrorEquals"] and tries < retry["MaxAttempts"]:
            yield min(wait, retry["MaxDelaySeconds"])
            wait, tries = wait * retry["BackoffRate"], tries + 1
            error = account.start(project)
    if error:
        return error
    yield account.build_seconds
    return account.end(project)


def _chosen(state: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    for choice in state["Choices"]:
        if any(_holds(condition, given) for condition in choice.get("Or", [choice])):
            return str(choice["Next"])
    return str(state["Default"])


def _holds(condition: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    stage, _, rest = condition["Variable"].removeprefix("$.").partition("[")
    index, _, key = rest.partition("].")
    assert condition["IsPresent"] is True
    return key in given[stage][int(index)]
