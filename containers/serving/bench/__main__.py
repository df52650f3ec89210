"""`python -m containers.serving.bench`: every figure about serving that needs no accelerator."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from containers.serving.bench import tables
from containers.serving.bench.saturation import BenchError, batching, overhead
from containers.serving.bench.setting import Setting
from containers.serving.bench.side_by_side import side_by_side
from containers.serving.bench.soak import soak
from containers.serving.command_line import BAD_INPUT, FAILED, Parser, count, folder, positive
from containers.serving.server_process import ServerError

PROGRAM: Final = "python -m containers.serving.bench"
DESCRIPTION: Final = """\
Measure the server on the CPU with the tiny pipeline: its overhead over the bare pipeline (from prompts to
images, nothing encoded, on the same thread), what batching gains, a thousand requests with malformed and
cancelled ones, and peers at the same load. One core is the device (torch has one thread); run it on a
machine with at least one more that is idle."""
EPILOG: Final = """\
example:
  python -m containers.serving.bench --out out/bench-serving --only overhead soak

exit codes: 0 done, 1 a measurement failed or found a problem, 2 bad input."""
SECTIONS: Final = ("overhead", "batching", "soak", "peers")
RESULTS: Final = "results.json"


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--out", type=folder, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    parser.add_argument("--steps", type=count, default=20, help="of every picture (default: 20)")
    parser.add_argument("--max-batch", type=count, default=4, help="of the server (default: 4)")
    parser.add_argument(
        "--seconds", type=positive, default=20.0, help="per peer, load and round (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and cancellations (default: 0)")
    parser.add_argument(
        "--ray-python",
        type=Path,
        metavar="FILE",
        help="a Python with Ray Serve; without it that peer is left out",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    given = make_parser().parse_args(arguments)
    if given.ray_python is not None and not given.ray_python.exists():
        print(f"{PROGRAM}: --ray-python: {given.ray_python}: no such file; valid: a Python", file=sys.stderr)
        return BAD_INPUT
    setting = Setting(given.out, given.steps, given.max_batch, given.seed)
    measurements: dict[str, Callable[[], Any]] = {
        "overhead": lambda: [overhead(setting, batch) for batch in sorted({1, given.max_batch})],
        "batching": lambda: batching(setting),
        "soak": lambda: soak(setting),
        "peers": lambda: side_by_side(setting, given.seconds, given.ray_python),
    }
    results: dict[str, Any] = {"steps": given.steps, "max_batch": given.max_batch, "seed": given.seed}
    console = Console()
    try:
        for name in given.only:
            results[name] = _measured(measurements[name])
            console.print(tables.table(name, results[name]["result"]))
    except (BenchError, ServerError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return FAILED
    finally:
        _write(given.out, results)
    return FAILED if _problems(results) else 0


def _measured(measure: Callable[[], Any]) -> dict[str, Any]:
    """The result, and how busy the machine was before and after: others' load makes figures worse."""
    before = os.getloadavg()[0]
    result = measure()
    return {"result": result, "load_average_before": before, "load_average_after": os.getloadavg()[0]}


def _write(out: Path, results: dict[str, Any]) -> None:
    """Keep what was measured, also when a later measurement failed."""
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _problems(results: dict[str, Any]) -> bool:
    return bool("soak" in results and results["soak"]["result"]["problems"])


if __name__ == "__main__":
    sys.exit(main())
