"""`python -m containers.router.bench`: every figure about the router that needs no accelerator."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from containers.router.bench import failures, overhead
from containers.serving.command_line import BAD_INPUT, FAILED, Parser, count, folder, positive
from containers.serving.server_process import ServerError

PROGRAM: Final = "python -m containers.router.bench"
DESCRIPTION: Final = """\
Measure the router over stand-ins for pods on this machine: what it adds to a query, side by side with
haproxy (a Debian package); and what becomes of queries while pods are killed and come back."""
EPILOG: Final = """\
example:
  python -m containers.router.bench --out out/bench-router --only overhead

exit codes: 0 done, 1 a measurement failed, 2 bad input."""
SECTIONS: Final = ("overhead", "failures")
RESULTS: Final = "results.json"


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--out", type=folder, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    parser.add_argument("--rate", type=positive, default=300.0, help="queries per second (default: 300)")
    parser.add_argument("--queries", type=count, default=1000, help="per route and round (default: 1000)")
    parser.add_argument("--rounds", type=count, default=10, help="turns of each route (default: 10)")
    parser.add_argument(
        "--answer-bytes", type=count, default=1000, help="length of an answer (default: 1000)"
    )
    parser.add_argument("--kill-seconds", type=positive, default=1.0, help="between two kills (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="of arrivals and kills (default: 1)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    given = make_parser().parse_args(arguments)
    if "overhead" in given.only and shutil.which("haproxy") is None:
        print(f"{PROGRAM}: haproxy is not installed; valid: its Debian package", file=sys.stderr)
        return BAD_INPUT
    measured = {
        "overhead": lambda: overhead.measure(
            overhead.Setting(
                rate=given.rate,
                queries=given.queries,
                rounds=given.rounds,
                answer_bytes=given.answer_bytes,
                seed=given.seed,
            )
        ),
        "failures": lambda: failures.measure(
            failures.Setting(kill_seconds=given.kill_seconds, seed=given.seed)
        ),
    }
    results: dict[str, Any] = {"cores": os.cpu_count()}
    try:
        for name in given.only:
            load_before = os.getloadavg()[0]
            results[name] = {**measured[name](), "load_average": [load_before, os.getloadavg()[0]]}
    except ServerError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return FAILED
    _write(given.out, results)
    return 0


def _write(out: Path, results: dict[str, Any]) -> None:
    text = json.dumps(results, indent=1)
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULTS).write_text(f"{text}\n", "utf-8")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
