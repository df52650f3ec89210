"""`python -m containers.serving.consistency`: do all units make the same pictures?"""

import os
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import boto3
import httpx2

from containers.serving.command_line import (
    BAD_INPUT,
    FAILED,
    InputError,
    Parser,
    address,
    count,
    folder,
    not_negative,
    positive,
)
from containers.serving.consistency import metric, report
from containers.serving.consistency.compare import Tolerance, UnitResult, compared
from containers.serving.consistency.golden import (
    PROMPTS,
    Golden,
    NoPictureError,
    Unit,
    pictures,
    read_golden,
)

PROGRAM: Final = "python -m containers.serving.consistency"
DESCRIPTION: Final = """\
Send the golden prompts to every unit and compare the pictures with those of the first unit, the reference,
by SSIM and by a perceptual hash. Writes a page with the pictures side by side, and the figures."""
EPILOG: Final = """\
example:
  python -m containers.serving.consistency --unit inf2-neuron=http://inf2-neuron:8000 \\
    --unit g5-eager=http://g5-eager:8000 --out out/consistency

--put-metric puts OutputAgreement for every unit into METRIC_NAMESPACE, for FLEET, both from the environment.

exit codes: 0 all agree, 1 a unit's agreement is too low or it made no pictures, 2 bad input."""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--unit",
        action="append",
        type=_unit,
        required=True,
        metavar="NAME=URL",
        help="the first: the reference",
    )
    parser.add_argument("--out", type=folder, required=True, metavar="DIR")
    parser.add_argument(
        "--prompts", type=Path, default=PROMPTS, metavar="FILE", help="YAML list of {prompt, seed}"
    )
    parser.add_argument("--size", metavar="WIDTHxHEIGHT", help="default: each server's")
    parser.add_argument("--steps", type=count, help="default: each server's")
    parser.add_argument(
        "--least-ssim", type=_share, default=0.8, help="of pictures that agree (default: 0.8)"
    )
    parser.add_argument("--most-hash-distance", type=int, default=10, help="of 64 bits (default: 10)")
    parser.add_argument(
        "--least-agreement", type=_share, default=1.0, help="share of pictures that must agree (default: 1)"
    )
    parser.add_argument("--timeout", type=positive, default=120.0, metavar="SECONDS", help="of one picture")
    parser.add_argument(
        "--through-load-balancer",
        action="store_true",
        help="the URLs are a load balancer's: ask until the named unit answers",
    )
    parser.add_argument("--put-metric", action="store_true", help="put OutputAgreement into CloudWatch")
    return parser


def _unit(text: str) -> Unit:
    name, equals, url = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text}; valid: NAME=URL, such as g5-eager=http://g5-eager:8000")
    return Unit(name, address(url))


def _share(text: str) -> float:
    number = not_negative(text)
    if number > 1:
        raise ArgumentTypeError(f"{text}; valid: a number from 0 to 1")
    return number


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run the command; its exit code."""
    given = make_parser().parse_args(arguments)
    try:
        _check(given, environment)
        prompts = read_golden(given.prompts)
    except InputError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BAD_INPUT
    tolerance = Tolerance(given.least_ssim, given.most_hash_distance)
    units = [replace(unit, shared=given.through_load_balancer) for unit in given.unit]
    results = collect(units, prompts, _options(given), tolerance, given.timeout)
    report.write(prompts, results, tolerance, given.out)
    print("\n".join(report.lines(results)))
    if given.put_metric:
        _put(results, environment)
    return 0 if all(_keeps(result, given.least_agreement) for result in results) else FAILED


def _check(given: Namespace, environment: Mapping[str, str]) -> None:
    """Refuse what argparse can't see is wrong.

    Raises:
        InputError: naming it and what would be valid.
    """
    names = [unit.name for unit in given.unit]
    if len(set(names)) < len(names) or len(names) == 1:
        raise InputError(f"--unit: {', '.join(names)}; valid: two units or more, each with a name of its own")
    absent = [name for name in ("METRIC_NAMESPACE", "FLEET") if not environment.get(name)]
    if given.put_metric and absent:
        raise InputError(f"environment: {absent[0]} is not set; valid with --put-metric: its name")


def _options(given: Namespace) -> dict[str, Any]:
    """What every request asks for beyond prompt and seed; what is not given is the server's default."""
    options = {"size": given.size, "steps": given.steps}
    return {name: value for name, value in options.items() if value is not None}


def collect(
    units: Sequence[Unit],
    prompts: Sequence[Golden],
    options: Mapping[str, Any],
    tolerance: Tolerance,
    timeout_seconds: float,
) -> list[UnitResult]:
    """Every unit's pictures against those of the first unit that makes them, which comes first."""
    results: list[UnitResult] = []
    failed: list[UnitResult] = []
    with httpx2.Client(
        timeout=timeout_seconds, headers={"X-Request-Timeout": f"{timeout_seconds:g}"}
    ) as client:
        for unit in units:
            try:
                made = pictures(client, unit, prompts, options)
            except NoPictureError as error:
                failed.append(UnitResult(unit.name, (), (), failure=str(error)))
                continue
            reference = results[0].pictures if results else made
            results.append(compared(unit.name, reference, made, tolerance))
    return results + failed


def _keeps(result: UnitResult, least_agreement: float) -> bool:
    return result.agreement is not None and result.agreement >= least_agreement


def _put(results: Sequence[UnitResult], environment: Mapping[str, str]) -> None:
    metric.put(boto3.client("cloudwatch"), results, environment)


if __name__ == "__main__":
    sys.exit(main())
