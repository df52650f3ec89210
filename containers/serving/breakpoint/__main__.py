"""`python -m containers.serving.breakpoint`: find a server's break point and write its profile."""

import asyncio
import logging
import shlex
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from containers.serving.breakpoint import report
from containers.serving.breakpoint.search import MeasurementError, Method, alone_seconds, find_break_point
from containers.serving.command_line import FAILED, Parser, address, count, folder, not_negative, positive
from containers.serving.load import ImageClient
from containers.serving.server_process import ServerError, running

PROGRAM: Final = "python -m containers.serving.breakpoint"
DESCRIPTION: Final = """\
Find the break point of a server: the highest load at which it keeps its promise. Requests come at random
moments (Poisson) whether or not earlier ones were answered. Writes the profile for fleet.yaml, the figures,
and a page with a plot."""
EPILOG: Final = """\
example:
  python -m containers.serving.breakpoint --url http://127.0.0.1:8000 --objective 2 \\
    --start-command "python -m containers.serving --port 8000" --node-seconds 300 --out out/breakpoint

exit codes: 0 done, 1 nothing could be measured, 2 bad input. Nothing is written unless all went well."""
# How much longer than the objective a client waits before it gives a request up.
PATIENCE: Final = 10.0
WHOLE: Final = 100.0


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--url", type=address, required=True, help="the server's address")
    parser.add_argument("--objective", type=positive, required=True, metavar="SECONDS")
    parser.add_argument("--percentile", type=_percentile, default=95.0, help="share to keep (default: 95)")
    parser.add_argument("--out", type=folder, required=True, metavar="DIR")
    _add_start(parser)
    _add_request(parser)
    load = parser.add_argument_group("load")
    load.add_argument("--seconds", type=positive, default=120.0, help="measured per repeat (default: 120)")
    load.add_argument("--warm-up-seconds", type=not_negative, default=20.0, help="not counted (default: 20)")
    load.add_argument("--repeats", type=count, default=3, help="of every rate (default: 3)")
    load.add_argument("--growth", type=_growth, default=1.25, help="factor between rates (default: 1.25)")
    load.add_argument("--halvings", type=count, default=3, help="of the last gap (default: 3)")
    load.add_argument("--seed", type=int, default=0, help="of the arrivals (default: 0)")
    return parser


def _add_start(parser: Parser) -> None:
    start = parser.add_argument_group("start seconds, from a node's launch until it serves")
    how = start.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--start-command", metavar="COMMAND", help="start the server and measure until it is ready"
    )
    how.add_argument("--start-seconds", type=positive, metavar="SECONDS", help="measured elsewhere")
    start.add_argument(
        "--node-seconds",
        type=not_negative,
        default=0.0,
        metavar="SECONDS",
        help="added to what --start-command measures: boot, joining the cluster, pulling (default: 0)",
    )
    start.add_argument("--start-timeout", type=positive, default=1800.0, metavar="SECONDS")


def _add_request(parser: Parser) -> None:
    request = parser.add_argument_group("every request")
    request.add_argument("--prompt", default="a lighthouse at dusk, oil painting")
    request.add_argument("--size", metavar="WIDTHxHEIGHT", help="default: the server's")
    request.add_argument("--steps", type=count, help="default: the server's")
    request.add_argument(
        "--batches",
        type=_sizes,
        default=(),
        metavar="N,N",
        help="also time one request for so many pictures on the idle server: the profile's batch",
    )


def _percentile(text: str) -> float:
    number = positive(text)
    if number >= WHOLE:
        raise ArgumentTypeError(f"{text}; valid: a number above 0 and below 100")
    return number


def _sizes(text: str) -> tuple[int, ...]:
    sizes = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if len(sizes) != len(text.split(",")) or sizes != sorted(set(sizes)) or sizes[0] <= 1:
        raise ArgumentTypeError(f"{text}; valid: ascending numbers above 1, such as 2,4,8")
    return tuple(sizes)


def _growth(text: str) -> float:
    number = positive(text)
    if number <= 1:
        raise ArgumentTypeError(f"{text}; valid: a factor above 1, such as 1.25")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    given = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # One line per request would drown the rates.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        with _start_seconds(given) as start_seconds:
            asyncio.run(_measure_and_write(given, start_seconds))
    except (MeasurementError, ServerError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return FAILED
    return 0


@contextmanager
def _start_seconds(given: Namespace) -> Iterator[float]:
    """The seconds from launch to ready; the server runs while the context is open if it is ours."""
    if given.start_command is None:
        yield given.start_seconds
        return
    command = shlex.split(given.start_command)
    with running(command, given.url, timeout_seconds=given.start_timeout) as server:
        yield given.node_seconds + server.start_seconds


async def _measure_and_write(given: Namespace, start_seconds: float) -> None:
    method = Method(
        objective_seconds=given.objective,
        percentile=given.percentile,
        seconds=given.seconds,
        warm_up_seconds=given.warm_up_seconds,
        repeats=given.repeats,
        growth=given.growth,
        halvings=given.halvings,
        seed=given.seed,
    )
    async with ImageClient(given.url, _body(given), PATIENCE * given.objective) as client:
        batch = {size: await _batch_seconds(given, size) for size in given.batches}
        reached = await find_break_point(client, method)
    report.write(reached, method, start_seconds, _measured(given, method), given.out, batch)
    print(report.headline(reached, method))
    print(report.profile(reached, start_seconds, _measured(given, method), batch), end="")


async def _batch_seconds(given: Namespace, size: int) -> float:
    """How long the idle server takes for so many pictures of one request."""
    patience = PATIENCE * given.objective * size
    async with ImageClient(given.url, _body(given, size), patience) as client:
        return await alone_seconds(client)


def _body(given: Namespace, pictures: int | None = None) -> Any:
    fixed = {
        "prompt": given.prompt,
        "n": pictures,
        "size": given.size,
        "steps": given.steps,
        "response_format": "b64_json",
    }
    named = {name: value for name, value in fixed.items() if value is not None}
    return lambda index: {**named, "seed": index}


def _measured(given: Namespace, method: Method) -> str:
    """What was measured, in words."""
    size = given.size or "the default size"
    steps = f"{given.steps} steps" if given.steps else "the default steps"
    started = f"start measured plus {given.node_seconds:g} s" if given.start_command else "start as given"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {size}, {steps}, p{method.percentile:g} within "
        f"{method.objective_seconds:g} s, {method.repeats} repeats of {method.seconds:g} s at each rate, "
        f"{started}"
    )


if __name__ == "__main__":
    sys.exit(main())
