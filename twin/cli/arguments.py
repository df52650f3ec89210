"""The commands, their flags and their help: every command shows an example."""

import argparse
from pathlib import Path
from typing import Any, Final, NoReturn

from control_lambda.core.traffic.policies import POLICIES

PROGRAM: Final = "python -m twin"
DESCRIPTION: Final = """\
The fleet on one machine: replay demand against simulated accelerators under the loop that runs in
Lambda, compare policies, explain decisions, serve an embedded AWS, and look after a live account."""
EPILOG: Final = """\
start here:
  python -m twin demo --out out/demo
  python -m twin replay --fleet fleet.yaml --demand twin/traces/demand.csv --out out/day
  python -m twin COMMAND --help

exit codes: 0 done, 1 AWS or the solver failed, 2 bad input (one line says what would be valid),
130 interrupted. Nothing is written unless all went well."""

POLICIES_TOLD: Final = "\n".join(
    ["the loop's policies:"]
    + [f"  {name:<14} {rules.words}" for name, rules in POLICIES.items()]
    + ["baselines to compare them with: docs/evaluation.md#other-policies"]
)


class Parser(argparse.ArgumentParser):
    """Tells bad input in one line."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _add_replay(commands)
    _add_compare(commands)
    _add_plan(commands)
    _add_explain(commands)
    _add_report(commands)
    _add_demo(commands)
    _add_kinds(commands)
    _add_demand(commands)
    _add_bench(commands)
    _add_aws(commands)
    _add_account(commands)
    return parser


def _command(commands: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=f"example:\n{example}"
    )
    return added


def _add_replay(commands: Any) -> None:
    parser = _command(
        commands,
        "replay",
        "run a demand trace under one policy; writes figures, decisions and a report",
        "  python -m twin replay --fleet fleet.yaml --demand twin/traces/demand.csv \\\n"
        "    --capacity twin/traces/capacity.csv --map inf2-neuron-on-demand=inf2 --out out/day\n\n"
        f"{POLICIES_TOLD}",
    )
    parser.add_argument(
        "--policy", metavar="P", help="a loop policy or a baseline (default: the fleet's policy)"
    )
    _add_scenario(parser)


def _add_compare(commands: Any) -> None:
    parser = _command(
        commands,
        "compare",
        "run several policies on the same requests, against the least possible cost; adds compare.json",
        "  python -m twin compare --policies merit-order,sample-loop,gpu-only --fleet fleet.yaml \\\n"
        "    --demand twin/traces/demand.csv --minutes 360 --out out/compare\n\n"
        f"{POLICIES_TOLD}",
    )
    parser.add_argument(
        "--policies", metavar="A,B,…", required=True, help="policies; the report shows the first in full"
    )
    _add_scenario(parser)


def _add_scenario(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--fleet", metavar="FILE", type=Path, required=True, help="a fleet file, such as fleet.yaml"
    )
    inputs.add_argument("--demand", metavar="CSV", type=Path, required=True, help="columns minute,requests")
    inputs.add_argument("--capacity", metavar="CSV", type=Path, help="minute,<column>…: how much can be had")
    inputs.add_argument(
        "--map",
        metavar="POOL=COLUMN[@ROLL_MINUTES]",
        nargs="+",
        action="extend",
        default=[],
        help="which capacity column a pool follows, shifted later by so many minutes; others are never short",
    )
    inputs.add_argument("--prices", metavar="CSV", type=Path, help="minute,<pool>…: USD per node and hour")
    _add_trouble(inputs)
    inputs.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the results go")
    choices = parser.add_argument_group("choices")
    choices.add_argument(
        "--through",
        choices=("core", "aws"),
        default="core",
        help="the loop in memory, or the Lambda's handlers on an embedded AWS (default: core)",
    )
    _add_servers(choices)
    choices.add_argument("--start", metavar="MINUTE", type=int, default=0, help="first minute (default: 0)")
    choices.add_argument("--minutes", metavar="N", type=int, help="how many minutes (default: to the end)")
    choices.add_argument(
        "--scale", metavar="K", type=float, default=1.0, help="every request K times (default: 1)"
    )
    choices.add_argument(
        "--smooth",
        metavar="W",
        type=int,
        default=0,
        help="Poisson arrivals at K times the triangular mean over ±W minutes instead (default: 0, off)",
    )
    choices.add_argument("--clip", metavar="N", type=int, help="at most N requests per minute before scaling")
    choices.add_argument("--start-seconds", metavar="S", type=float, help="launch to ready, for every unit")
    choices.add_argument(
        "--seed", metavar="S", type=int, default=0, help="equal seeds, equal replays (default: 0)"
    )


def _add_trouble(parser: Any) -> None:
    parser.add_argument(
        "--trouble",
        metavar="FILE",
        type=Path,
        help="what befalls the fleet and when; its kinds: trouble",
    )


def _add_servers(parser: Any) -> None:
    parser.add_argument(
        "--servers",
        choices=("refuse", "queue"),
        default="refuse",
        help="what cannot be answered within the objective is refused at once, or queued (default: refuse)",
    )
    parser.add_argument(
        "--retries",
        metavar="N",
        type=int,
        default=0,
        help="a failed request comes up to N times again (default: 0)",
    )


def _add_kinds(commands: Any) -> None:
    _command(
        commands,
        "trouble",
        "list what a trouble file may say, with an example of each kind",
        "  python -m twin trouble > kinds.txt",
    )


def _add_demand(commands: Any) -> None:
    parser = _command(
        commands,
        "demand",
        "write a steady demand trace: levels with the jitter of counts",
        "  python -m twin demand --rpm 500 900@180 --minutes 360 --out out/demand.csv\n\n"
        "500 requests per minute, 900 from minute 180 on, each minute times gauss(1, 0.05), always the same.",
    )
    parser.add_argument(
        "--rpm",
        metavar="RPM[@MINUTE]",
        nargs="+",
        required=True,
        help="requests per minute, each from its minute on (the first from minute 0)",
    )
    parser.add_argument("--minutes", metavar="N", type=int, required=True, help="how many minutes")
    parser.add_argument("--out", metavar="CSV", type=Path, required=True, help="where the trace goes")


def _add_plan(commands: Any) -> None:
    parser = _command(
        commands,
        "plan",
        "choose which mix of instance types to have, without trying any",
        "  python -m twin plan --catalogue twin/catalogues/mtwnd.yaml --sizes kairos --budget 2.5\n"
        "  python -m twin plan --fleet fleet.yaml --requests requests.csv --latency-seconds 6 \\\n"
        "    --out out/plan\n\n"
        "A catalogue is YAML: latency_seconds, optionally percentile (99) and base, and a list of types,\n"
        "each with name, price_usd_per_hour, seconds ({fixed: 0.01, per_size: 0.0002}, or a list of\n"
        "[size, seconds]) and optionally spread (coefficient of variation, 0) and most (450). At least one\n"
        "type, the base, has to serve every size in time. A fleet's units are its types: service_seconds\n"
        "stand for a query of --profile-size (images x steps) and grow in proportion to the size.",
    )
    offers = parser.add_mutually_exclusive_group(required=True)
    offers.add_argument(
        "--catalogue", metavar="FILE", type=Path, help="instance types, prices and service times"
    )
    offers.add_argument("--fleet", metavar="FILE", type=Path, help="a fleet file; its units are the types")
    queries = parser.add_mutually_exclusive_group(required=True)
    queries.add_argument(
        "--sizes", metavar="S", help="query sizes: kairos (the paper's), or a CSV with columns size,share"
    )
    queries.add_argument(
        "--requests",
        metavar="CSV",
        type=Path,
        help="recorded requests: the column size, or n_images and steps",
    )
    _add_plan_choices(parser)


def _add_plan_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget", metavar="USD", type=float, help="the best mix for so much per hour (default: the fleet's)"
    )
    parser.add_argument("--demand", metavar="RPM", type=float, help="the cheapest mix for so many per minute")
    parser.add_argument(
        "--quiet",
        metavar="RPM",
        type=float,
        help="the least demand: what nodes.min shall carry (with --fleet)",
    )
    parser.add_argument(
        "--largest", metavar="N", type=float, help="leave out larger queries: the service refuses them"
    )
    parser.add_argument(
        "--latency-seconds", metavar="S", type=float, help="instead of the promise in the file"
    )
    parser.add_argument(
        "--profile-size",
        metavar="N",
        type=float,
        default=30.0,
        help="the query that a fleet's service_seconds stand for (default: 30, one image of 30 steps)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="write plan.json, the picture and, with --fleet, a proposed fleet",
    )


def _add_explain(commands: Any) -> None:
    parser = _command(
        commands,
        "explain",
        "tell a decision record in plain words",
        "  python -m twin explain out/demo/decisions.jsonl --tick 42",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="decisions.jsonl, or one record as JSON")
    parser.add_argument("--tick", metavar="N", type=int, help="which tick (default: the last in the file)")


def _add_report(commands: Any) -> None:
    parser = _command(
        commands,
        "report",
        "write report.html anew from what a replay left",
        "  python -m twin report out/demo",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="what replay or compare wrote")


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        "six simulated hours with a shortage, against three baselines",
        "  python -m twin demo --out out/demo",
    )
    _add_trouble(parser)
    _add_servers(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the results go")


def _add_bench(commands: Any) -> None:
    parser = _command(
        commands,
        "bench",
        "every figure of docs/evaluation.md (long)",
        "  python -m twin bench --out out/bench\n"
        "  python -m twin bench --scenarios D2s,D4 --policies none --seeds 2 --histories 500 --out out/short",
    )
    parser.add_argument(
        "--scenarios", metavar="A,B,…", help="D2m, D2L, D2s, D3c, D4, D2X, or none (default: all)"
    )
    parser.add_argument(
        "--policies", metavar="A,B,…", help="baselines beside the loop, or none (default: all)"
    )
    parser.add_argument(
        "--seeds", metavar="N", type=int, default=5, help="of the loop's replays (default: 5)"
    )
    parser.add_argument(
        "--histories",
        metavar="N",
        type=int,
        default=10_000,
        help="random ones, rule by rule (default: 10000)",
    )
    parser.add_argument(
        "--no-trouble", action="store_true", help="leave out the cases of trouble and every kind of it"
    )
    parser.add_argument(
        "--no-sweep", action="store_true", help="leave out the sweep of what a late request is worth"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the results go")


def _add_aws(commands: Any) -> None:
    parser = _command(
        commands,
        "aws",
        "serve an embedded AWS with a provisioned fleet on localhost, until interrupted",
        "  python -m twin aws --port 5000 > environment.sh",
    )
    parser.add_argument(
        "--port", metavar="P", type=int, required=True, help="0 to 65535; 0 takes any free one"
    )
    parser.add_argument(
        "--fleet", metavar="FILE", type=Path, default=Path("fleet.yaml"), help="default: fleet.yaml"
    )


def _add_account(commands: Any) -> None:
    pause_example = "--pause-parameter /fulcrum/Fulcrum/pause"
    status = _command(
        commands,
        "status",
        "show what a deployed loop is told and what it last did",
        f"  python -m twin status {pause_example} --fleet-parameter /fulcrum/Fulcrum/fleet \\\n"
        "    --state-table fulcrum-state --cluster fulcrum-sd21",
    )
    status.add_argument("--fleet-parameter", metavar="NAME", help="SSM (default: $FLEET_PARAMETER)")
    status.add_argument("--state-table", metavar="NAME", help="DynamoDB (default: $STATE_TABLE)")
    status.add_argument("--cluster", metavar="NAME", help="EKS (default: $CLUSTER_NAME)")
    pause = _command(
        commands,
        "pause",
        "let a deployed loop decide and report only",
        f"  python -m twin pause {pause_example}",
    )
    resume = _command(
        commands, "resume", "let a paused loop act again", f"  python -m twin resume {pause_example}"
    )
    for parser in (status, pause, resume):
        parser.add_argument("--pause-parameter", metavar="NAME", help="SSM (default: $PAUSE_PARAMETER)")
