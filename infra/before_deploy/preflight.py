"""Whether a deploy would succeed, asked of the account itself. Nothing is written, by any check."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from infra.before_deploy import checks
from infra.before_deploy import model as model_check
from infra.before_deploy.checks import Client, Finding
from infra.settings import Settings

CONFIG: Final = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}
)
DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
CHECKS: Final[Mapping[str, Callable[[Client, Settings], Iterator[Finding]]]] = {
    "account": checks.account,
    "bootstrap": checks.bootstrap,
    "stack": checks.stack,
    "network": checks.network,
    "zones": checks.zones,
    "quotas": checks.quotas,
    "service-linked roles": checks.service_roles,
    "certificate": checks.certificate,
    "model": model_check.model,
    "loop": checks.loop,
}


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
    except BotoCoreError as error:
        raise NoAccessError(f"AWS: {error}; valid: a network that reaches AWS") from None
    return [found for name in CHECKS for found in _run(name, ask, settings)]


def _run(name: str, ask: Client, settings: Settings) -> Iterator[Finding]:
    """One check; where it may not or cannot look, that is its finding."""
    try:
        yield from CHECKS[name](ask, settings)
    except ClientError as error:
        code, operation = error.response["Error"]["Code"], error.operation_name
        mend = f"allow {operation}" if code in DENIED else "try again"
        yield Finding(name, f"could not be looked at: {operation} answered {code}", mend=mend)
    except BotoCoreError as error:
        yield Finding(name, f"could not be looked at: {error}", mend="try again")


def _default_client(region: str) -> Client:
    session: Any = boto3.Session(region_name=region)

    def make(service: str) -> Any:
        return session.client(service, config=CONFIG)

    return make
