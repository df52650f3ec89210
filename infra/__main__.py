"""Around a deploy: what it will cost, whether the account is ready for it, what has aged. All only read."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from control_lambda.core.fleet import FleetError
from infra.after_deploy.troubles import SCENARIOS
from infra.settings import Settings, SettingsError

if TYPE_CHECKING:
    from infra.before_deploy.estimate import Estimate, Line

# Each command imports what it needs when it runs: the constructs take seconds, --help shall not.
# ruff: noqa: PLC0415

ROOT: Final = Path(__file__).parents[1]
PROGRAM: Final = "python -m infra"
FAILED: Final = 1
BAD_INPUT: Final = 2
NO_SETTING: Final = ("//", "@")  # comments, and the CDK's feature flags
# Node.js is started for the constructs' constants alone; `make synth` tells of its age.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "18,20")


class InputError(ValueError):
    """An argument that cannot be used; the message says what would be valid."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code. It ends quietly when nobody reads its output any more."""
    given = _parser().parse_args(arguments)
    try:
        code = _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would otherwise fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _run(given: argparse.Namespace) -> int:
    try:
        if given.command == "pins":
            return _pins(given.on)
        if given.command in ("smoke", "gameday"):
            from infra.after_deploy import command

            return command.run(given, _raw_setting, _say)
        settings = Settings.from_context(_context(given).get)
        if given.command == "estimate":
            return _estimate(settings, given.requests_per_minute)
        return _preflight(settings)
    except (FleetError, SettingsError, InputError) as error:
        sys.stderr.write(f"{PROGRAM} {given.command}: {error}\n")
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    estimate = _command(commands, "estimate", "USD per month at the least, typically and at the most")
    estimate.add_argument(
        "--requests-per-minute",
        metavar="N",
        type=float,
        help="what the typical month carries around the clock (default: 500)",
    )
    ageing = commands.add_parser(
        "pins",
        help="what of everything pinned has expired (then it exits with 1), or will within 90 days",
    )
    ageing.add_argument("--on", metavar="YYYY-MM-DD", help="as of that day (default: today)")
    _command(commands, "preflight", "whether a deploy to the account of the credentials would succeed")
    _after_deploy(commands)
    return parser


def _after_deploy(commands: Any) -> None:
    smoke = _on_a_stack(
        commands, "smoke", "wait for the first picture of a deployed stack, then compare units"
    )
    smoke.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=3600.0,
        help="for the first picture (default: 3600)",
    )
    smoke.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("out/smoke"), help="for the comparison"
    )
    day = _on_a_stack(commands, "gameday", "trouble on purpose under load, watched, ended and reported")
    day.add_argument("--scenario", metavar="NAME", required=True, help=", ".join(SCENARIOS))
    day.add_argument(
        "--load", metavar="RPM", type=float, help="requests a minute (default: by what serves now)"
    )
    day.add_argument("--minutes", metavar="N", type=int, default=10, help="of trouble, 1 to 60 (default: 10)")
    day.add_argument("--yes", action="store_true", help="begin without asking")
    day.add_argument("--hard", action="store_true", help="node-death: terminate the instance")
    day.add_argument("--out", metavar="DIR", type=Path, default=Path("out/gameday"), help="for the report")


def _on_a_stack(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what}.")
    parser.add_argument("--stack", metavar="NAME", help="instead of cdk.json's stack_name")
    parser.add_argument("--region", metavar="R", help="instead of cdk.json's region")
    parser.add_argument("--endpoint", metavar="URL", help="instead of the load balancer's own address")
    return parser


def _raw_setting(key: str) -> str:
    return str(_cdk_context(ROOT / "cdk.json")[key])


def _command(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what}.")
    parser.add_argument("--region", metavar="R", help="instead of cdk.json's region")
    parser.add_argument("--fleet", metavar="FILE", help="instead of cdk.json's fleet_file")
    parser.add_argument(
        "-c",
        "--context",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="any other setting of cdk.json, as `cdk deploy -c` takes it",
    )
    return parser


def _context(given: argparse.Namespace) -> dict[str, object]:
    """cdk.json's settings with those of the command line over them."""
    context = _cdk_context(ROOT / "cdk.json")
    known = [key for key in context if not key.startswith(NO_SETTING)]
    for setting in given.context:
        key, equals, value = setting.partition("=")
        if not equals or key not in known:
            valid = f"KEY=VALUE with a key of cdk.json: {', '.join(known)}"
            raise InputError(f"--context: {setting!r}; valid: {valid}")
        context[key] = value
    flags = {"region": given.region, "fleet_file": given.fleet}
    return context | {key: value for key, value in flags.items() if value is not None}


def _cdk_context(path: Path) -> dict[str, object]:
    try:
        context: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))["context"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path.name}: {error}; valid: a JSON object with a context") from None
    return dict(context)


def _estimate(settings: Settings, requests_per_minute: float | None) -> int:
    from infra.before_deploy.estimate import DEFAULT_RPM, estimate

    rpm = DEFAULT_RPM if requests_per_minute is None else requests_per_minute
    if not 0 <= rpm < float("inf"):
        raise InputError(f"--requests-per-minute: {rpm:g}; valid: a number from 0 on")
    month = estimate(settings, rpm)
    console = Console()
    if console.is_terminal:
        console.print(_table(month))
    else:
        _say(*_plain_lines(month))
    _say(*(f"- {assumption}" for assumption in month.assumptions))
    return 0


def _table(month: "Estimate") -> Table:
    table = Table(title=f"USD per month in {month.region}")
    table.add_column("part")
    table.add_column("nodes", justify="right")
    for column in ("minimum", "typical", "maximum"):
        table.add_column(column, justify="right")
    for line in month.pools:
        table.add_row(*_cells(line))
    table.add_section()
    for line in month.fixed:
        table.add_row(*_cells(line))
    table.add_section()
    table.add_row(*_cells(month.total), style="bold")
    return table


def _cells(line: "Line") -> tuple[str, ...]:
    nodes = " / ".join(map(str, line.nodes)) if line.nodes else ""
    return (line.name, nodes, *(f"{usd:,.2f}" for usd in (line.minimum, line.typical, line.maximum)))


def _plain_lines(month: "Estimate") -> list[str]:
    """Tab-separated: part, minimum, typical, maximum."""
    lines = (*month.pools, *month.fixed, month.total)
    return [f"{line.name}\t{line.minimum:.2f}\t{line.typical:.2f}\t{line.maximum:.2f}" for line in lines]


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _pins(on: str | None) -> int:
    from infra.before_deploy.pins import SOON, ageing
    from infra.pins import pins

    today = _day(on)
    found = list(ageing(pins(), today))
    expired = sum(each.expired for each in found)
    _say(*(each.line for each in found))
    _say(f"{len(pins())} pins on {today}: {expired} expired, {len(found) - expired} within {SOON.days} days")
    return FAILED if expired else 0


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(tz=UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"--on: {text!r}; valid: a day such as 2026-11-27") from None


def _preflight(settings: Settings) -> int:
    from infra.before_deploy.preflight import NoAccessError, findings

    try:
        told = findings(settings)
    except NoAccessError as error:
        raise InputError(str(error)) from None
    _say(*(finding.line for finding in told))
    failures = sum(finding.fails for finding in told)
    what = f"{failures} of these" if failures else "nothing found that"
    _say(f"{settings.stack_name} in {settings.region}: {what} would fail the deploy")
    return FAILED if failures else 0


if __name__ == "__main__":
    sys.exit(main())
