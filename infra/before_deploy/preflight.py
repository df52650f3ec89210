"""Whether a deploy would succeed, asked of the account itself. Nothing is written, by any check."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from botocore.parsers import ResponseParserError

from infra.before_deploy import checks, new_accounts, versions
from infra.before_deploy import model as model_check
from infra.before_deploy.checks import Client, Finding
from infra.settings import Settings

CONFIG: Final = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}
)
# The one region that a service answers in, whichever the stack's.
HOME_REGIONS: Final = {"freetier": "us-east-1"}
DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
# An endpoint that is not AWS (a proxy's page, a stand-in that lacks the operation) answers something that
# botocore cannot parse, or that lacks what AWS's answer has.
NO_ANSWER: Final = (BotoCoreError, ResponseParserError, LookupError, TypeError, ValueError)
CHECKS: Final[Mapping[str, Callable[[Client, Settings], Iterator[Finding]]]] = {
    "account": checks.account,
    "plan": new_accounts.plan,
    "launches": new_accounts.verification,
    "bootstrap": checks.bootstrap,
    "stack": checks.stack,
    "network": checks.network,
    "zones": checks.zones,
    "quotas": checks.quotas,
    "fleet requests": new_accounts.fleet_requests,
    "builds": new_accounts.builds,
    "kubernetes": versions.kubernetes,
    "add-ons": versions.addon_versions,
    "support": versions.support,
    "service-linked roles": checks.service_roles,
    "certificate": checks.certificate,
    "model": model_check.model,
    "loop": checks.loop,
}


LONGEST_TEXT: Final = 200  # of an answer that is no AWS answer: a page of HTML may be in it


class NoAccessError(Exception):
    """The account cannot be asked at all; the message says what is missing and what would be valid."""


def findings(settings: Settings, client: Client | None = None) -> list[Finding]:
    """What every check found, in the order in which a deploy would meet it.

    `client` makes a client of a service; boto3's, with the default credentials, unless given.

    Raises:
        NoAccessError: there are no valid credentials.
    """
    ask = client or _default_client(settings.region)
    try:
        ask("sts").get_caller_identity()
    except (NoCredentialsError, PartialCredentialsError, ClientError) as error:
        valid = "AWS_PROFILE, AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or aws configure"
        raise NoAccessError(f"AWS credentials: {error}; valid: {valid}") from None
    except NO_ANSWER as error:
        raise NoAccessError(f"AWS: {_first_line(error)}; valid: a network that reaches AWS") from None
    return [found for name in CHECKS for found in _run(name, ask, settings)]


def _run(name: str, ask: Client, settings: Settings) -> Iterator[Finding]:
    """One check; where it may not or cannot look, that is its finding."""
    try:
        yield from CHECKS[name](ask, settings)
    except ClientError as error:
        code, operation = error.response["Error"]["Code"], error.operation_name
        mend = f"allow {operation}" if code in DENIED else "try again"
        yield Finding(name, f"could not be looked at: {operation} answered {code}", mend=mend)
    except NO_ANSWER as error:
        yield Finding(name, f"could not be looked at: {_first_line(error)}", mend="try again")


def _first_line(error: Exception) -> str:
    """What went wrong, in one line that names the kind of error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:LONGEST_TEXT]


def _default_client(region: str) -> Client:
    session: Any = boto3.Session(region_name=region)

    def make(service: str) -> Any:
        return session.client(service, region_name=HOME_REGIONS.get(service), config=CONFIG)

    return make
