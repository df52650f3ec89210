"""`smoke` and `gameday` as they are called: arguments checked, AWS asked, exit codes given."""

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from control_lambda.core.fleet import FleetError
from infra.after_deploy import gameday, smoke
from infra.after_deploy.clock import Clock, WallClock
from infra.after_deploy.deployed import Client, Deployed, NotDeployedError, endpoint, find
from infra.after_deploy.gameday import MOST_MINUTES, GameDay, Plan
from infra.after_deploy.guard import Guard, UnderWayError
from infra.after_deploy.load import MOST_IN_FLIGHT, Load, PoissonLoad, request_picture
from infra.after_deploy.prediction import Predict, predict
from infra.after_deploy.troubles import NODE_DEATH, SCENARIOS, TroubleError, trouble_of

PROGRAM: Final = "python -m infra"
SERVED: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
MOST_RPM: Final = 60.0 * MOST_IN_FLIGHT
CONFIG: Final = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 5}
)

Say = Callable[[str], None]
Setting = Callable[[str], str]


class BadInputError(ValueError):
    """An argument that cannot be used; the message says what would be valid."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What reaches the world: AWS, time, load, the twin, and who says yes.

    `before_minutes` and `after_minutes` are those of load without trouble.
    """

    client: Client
    clock: Clock = field(default_factory=WallClock)
    load: Callable[[str], Load] = lambda url: PoissonLoad(lambda: request_picture(url).status)
    predict: Predict = predict
    ask: Callable[[str], str] = input
    before_minutes: int = 5
    after_minutes: int = 15


def run(
    given: Namespace, setting: Setting, say_lines: Callable[..., None], hands: Hands | None = None
) -> int:
    """Run the command; its exit code: 0 served, 1 not (in time), 2 bad input, 130 interrupted."""

    def say(line: str) -> None:
        say_lines(line)
        sys.stdout.flush()

    act = _smoke if given.command == "smoke" else _gameday
    try:
        _check(given)
        used = hands or Hands(_client(given.region or setting("region")))
        deployed = find(used.client, given.stack or setting("stack_name"))
        if left := Guard(used.client, deployed).end_leftover():
            say(f"ended what an earlier game day left behind: {left}")
        return act(given, deployed, used, say)
    except (BadInputError, NotDeployedError, FleetError) as error:
        return _refused(given, error, BAD_INPUT)
    except (TroubleError, UnderWayError, ClientError) as error:
        return _refused(given, error, FAILED)
    except BotoCoreError as error:
        valid = "credentials (AWS_PROFILE, or aws configure) and a network that reaches AWS"
        return _refused(given, BadInputError(f"AWS: {error}; valid: {valid}"), BAD_INPUT)
    except KeyboardInterrupt:
        say("interrupted; whatever was begun has been ended")
        return INTERRUPTED


def _smoke(given: Namespace, deployed: Deployed, hands: Hands, say: Say) -> int:
    url = given.endpoint or endpoint(hands.client, deployed)
    test = smoke.Smoke(hands.client, deployed, lambda: request_picture(url, steps=1), hands.clock, say)
    if not test.serves(given.timeout):
        return FAILED
    units = test.serving_units()
    if len(units) == 1:
        say(f"{units[0]} alone serves: there is nothing to compare")
    elif len(units) > 1 and smoke.compare(units, url, given.out):
        say(f"FAILS comparison: units make different pictures -> look at {given.out}/consistency.html")
        return FAILED
    say(f"{deployed.stack} serves at {url}")
    return SERVED


def _gameday(given: Namespace, deployed: Deployed, hands: Hands, say: Say) -> int:
    rpm = given.load or gameday.default_rpm(hands.client, deployed, given.scenario)
    plan = Plan(
        scenario=given.scenario,
        rpm=rpm,
        minutes=given.minutes,
        before=hands.before_minutes,
        after=hands.after_minutes,
        hard=given.hard,
    )
    trouble = trouble_of(given.scenario, hands.client, deployed, hard=given.hard)
    if rung := gameday.ringing(hands.client, deployed):
        raise TroubleError(f"{', '.join(rung)} rings already; valid: a fleet that serves its users")
    for line in gameday.statement(deployed, plan, trouble):
        say(line)
    if not given.yes and not _agreed(hands):
        say("nothing was begun")
        return FAILED
    url = given.endpoint or endpoint(hands.client, deployed)
    day = GameDay(hands.client, deployed, plan, trouble, hands.clock, say)
    played = day.play(hands.load(url))
    say("asking the twin for its prediction")
    whole = gameday.write_report(hands.client, deployed, plan, trouble, played, given.out, hands.predict)
    for phase in whole["measured"]["phases"]:
        kept = "no requests" if phase["attainment"] is None else f"{phase['attainment']:.2%} in time"
        say(f"{phase['name']}: {kept}, {phase['lost']} of {phase['requests']} lost")
    say(f"report: {given.out / 'report.html'}")
    return FAILED if played.ended_by else SERVED


def _agreed(hands: Hands) -> bool:
    try:
        return hands.ask("Begin? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _check(given: Namespace) -> None:
    """Refuse what argparse can't see is wrong."""
    if given.endpoint is not None:
        parts = urlsplit(given.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInputError(f"--endpoint: {given.endpoint!r}; valid: http://HOST or https://HOST")
    if given.command == "smoke":
        if not 0 < given.timeout < float("inf"):
            raise BadInputError(f"--timeout: {given.timeout:g}; valid: seconds above 0")
        return
    if given.scenario not in SCENARIOS:
        raise BadInputError(f"--scenario: {given.scenario!r}; valid: {', '.join(SCENARIOS)}")
    if not 1 <= given.minutes <= MOST_MINUTES:
        raise BadInputError(f"--minutes: {given.minutes}; valid: 1 to {MOST_MINUTES}")
    if given.load is not None and not 0 < given.load <= MOST_RPM:
        raise BadInputError(f"--load: {given.load:g}; valid: above 0, at most {MOST_RPM:g} requests a minute")
    if given.hard and given.scenario != NODE_DEATH:
        raise BadInputError(f"--hard with {given.scenario}; valid: with {NODE_DEATH} alone")
    if given.out.exists() and not given.out.is_dir():
        raise BadInputError(f"--out: {given.out} is a file; valid: a folder, which is made if need be")


def _refused(given: Namespace, error: Exception, code: int) -> int:
    sys.stderr.write(f"{PROGRAM} {given.command}: {error}\n")
    return code


def _client(region: str) -> Client:
    session: Any = boto3.Session(region_name=region)

    def make(service: str) -> Any:
        return session.client(service, config=CONFIG)

    return make
