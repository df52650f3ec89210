"""The twin's command line: arguments in, an exit code out; what does the work is imported when it runs."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from control_lambda.core.fleet import FleetError
from twin.cli.arguments import PROGRAM, make_parser
from twin.errors import InputError
from twin.world.trace import DemandOptions, TraceError

if TYPE_CHECKING:
    from twin.inputs import Inputs

# Each command imports what it needs when it runs: numba, scipy and moto take seconds, --help shall not.
# ruff: noqa: PLC0415

FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
LAST_PORT: Final = 65535


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    given = make_parser().parse_args(arguments)
    try:
        return _run(given)
    except (FleetError, TraceError, InputError) as error:
        print(f"{PROGRAM} {given.command}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{PROGRAM} {given.command}: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED


def _run(given: Namespace) -> int:
    match given.command:
        case "replay" | "compare":
            return _replays(given)
        case "explain" | "report" | "demo" | "trouble" | "demand":
            return _tells(given)
        case "plan":
            return _plan(given)
        case "bench":
            return _bench(given)
        case "aws":
            return _aws(given.port, given.fleet)
        case _:
            return _account(given)


def _replays(given: Namespace) -> int:
    from twin.cli import commands
    from twin.steering.oracle import OracleError

    inputs = _inputs(given)
    console = Console()
    try:
        if given.command == "replay":
            commands.replay_command(inputs, given.policy, given.through, given.out, console)
        else:
            policies = [name.strip() for name in given.policies.split(",") if name.strip()]
            commands.compare_command(inputs, policies, given.through, given.out, console)
    except OracleError as error:
        return _failed(given.command, error)
    return 0


def _inputs(given: Namespace) -> "Inputs":
    from twin.inputs import Inputs

    return Inputs(
        fleet=given.fleet,
        demand=given.demand,
        capacity=given.capacity,
        columns=tuple(given.map),
        prices=given.prices,
        options=DemandOptions(
            start=given.start, minutes=given.minutes, clip=given.clip, scale=given.scale, smooth=given.smooth
        ),
        start_seconds=given.start_seconds,
        seed=given.seed,
        trouble=given.trouble,
        servers=given.servers,
        retries=given.retries,
    )


def _tells(given: Namespace) -> int:
    from twin.cli import commands, demo

    console = Console()
    if given.command == "explain":
        commands.explain_command(given.file, given.tick, console)
    elif given.command == "report":
        commands.report_command(given.folder, console)
    elif given.command == "trouble":
        commands.trouble_command(console)
    elif given.command == "demand":
        commands.demand_command(given.rpm, given.minutes, given.out, console)
    else:
        choices = demo.Choices(given.trouble, given.servers, given.retries)
        demo.demo_command(given.out, console, choices)
    return 0


def _plan(given: Namespace) -> int:
    from twin.plan.command import Question, plan_command

    plan_command(
        Question(
            fleet=given.fleet,
            catalogue=given.catalogue,
            sizes=given.sizes,
            requests=given.requests,
            budget=given.budget,
            demand=given.demand,
            quiet=given.quiet,
            largest=given.largest,
            latency_seconds=given.latency_seconds,
            profile_size=given.profile_size,
            out=given.out,
        ),
        Console(),
    )
    return 0


def _bench(given: Namespace) -> int:
    from twin.bench import bench
    from twin.report import results

    results.check_out(given.out)
    full = bench.FULL
    choices = bench.Choices(
        scenarios=_listed(given.scenarios, full.scenarios),
        policies=_listed(given.policies, full.policies),
        seeds=given.seeds,
        histories=given.histories,
        worths=() if given.no_sweep else full.worths,
        trouble=not given.no_trouble,
    )
    return bench.run(given.out, choices)


def _listed(text: str | None, default: Sequence[str]) -> Sequence[str]:
    """The names in `text`; all of `default` where nothing is said, none for `none`."""
    if text is None:
        return default
    return () if text == "none" else text.split(",")


def _aws(port: int, fleet_file: Path) -> int:
    from control_lambda.fleet_file import load_fleet
    from twin.cloud.embedded import serve_forever

    if not 0 <= port <= LAST_PORT:
        raise InputError(f"port: {port}; valid: 0 to {LAST_PORT}")
    fleet = load_fleet(fleet_file)
    try:
        serve_forever(port, fleet)
    except OSError as error:
        raise InputError(f"port: {port}: {error.strerror}; valid: a free port, or 0 for any") from None
    return 0


def _account(given: Namespace) -> int:
    from twin.cli import account

    try:
        print(account.act(given.command, vars(given), os.environ))
    except account.AccountError as error:
        return _failed(given.command, error)
    return 0


def _failed(command: str, error: Exception) -> int:
    print(f"{PROGRAM} {command}: {error}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
