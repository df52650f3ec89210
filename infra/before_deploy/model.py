"""Whether the model can be had from where the builds will fetch it: the hub, or a copy of one's own."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

from infra.before_deploy.checks import Client, Finding, unless_missing
from infra.settings import Settings

SUBJECT: Final = "model"
HUB: Final = "https://huggingface.co"
TIMEOUT_SECONDS: Final = 10
MARK: Final = "model_index.json"  # every saved pipeline has it
NOT_FOUND: Final = 404
REDIRECTED: Final = range(300, 400)
UNAUTHORIZED: Final = (401, 403)  # what the hub says of gated models, and of models that are gone
ANOTHER: Final = (
    "another model or revision (fleet.yaml; model_revision in cdk.json), or a copy of your own (model_source)"
)


def model(ask: Client, settings: Settings) -> Iterator[Finding]:
    """The model's files are where the settings say, at the revision that they pin."""
    name = settings.fleet.model
    if settings.model_source:
        yield _in_bucket(ask, settings.model_source)
    elif "/" not in name:
        yield Finding(SUBJECT, f"{name} is the servers' own, nothing is fetched")
    else:
        yield _on_hub(name, settings.revision, gated=settings.hub_token_secret is not None)
        if settings.revision is None:
            text = (
                f"no revision of {name} is pinned: whatever the hub holds on the day of the build is served"
            )
            yield Finding(SUBJECT, text, mend="model_revision in cdk.json")
    if settings.hub_token_secret:
        yield _secret(ask, settings.hub_token_secret)


def _in_bucket(ask: Client, source: str) -> Finding:
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    if unless_missing(ask("s3").head_object, Bucket=bucket, Key=f"{prefix}/{MARK}") is None:
        mend = f"aws s3 cp --recursive PIPELINE {source}/, or model_source in cdk.json"
        return Finding(SUBJECT, f"{source}/{MARK} is not there", fails=True, mend=mend)
    return Finding(SUBJECT, f"{source} holds a pipeline")


def _secret(ask: Client, arn: str) -> Finding:
    """That the secret exists; what is in it is read by the build alone."""
    if unless_missing(ask("secretsmanager").describe_secret, SecretId=arn) is None:
        mend = "hub_token_secret in cdk.json; aws secretsmanager list-secrets"
        return Finding("hub token", f"{arn} does not exist", fails=True, mend=mend)
    return Finding("hub token", "the secret exists")


def _on_hub(name: str, revision: str | None, *, gated: bool) -> Finding:
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    what = f"{name} at {revision or 'main'}"
    request = urllib.request.Request(  # noqa: S310 - the hub's own address, or the one of its own variable
        f"{endpoint}/{name}/resolve/{revision or 'main'}/{MARK}", method="HEAD"
    )
    try:
        with urllib.request.build_opener(_Unfollowed).open(request, timeout=TIMEOUT_SECONDS):
            return Finding(SUBJECT, f"{what} is on the hub")
    except urllib.error.HTTPError as error:
        return _answered(what, error.code, gated=gated)
    except (OSError, ValueError) as error:
        return Finding(SUBJECT, f"the hub could not be asked for {what}: {error}", mend="try again")


class _Unfollowed(urllib.request.HTTPRedirectHandler):
    """Leaves a redirection alone: that the hub knows where the file lies is answer enough."""

    def redirect_request(self, *_: Any) -> None:
        """Nothing is asked in its place."""


def _answered(what: str, status: int, *, gated: bool) -> Finding:
    if status in REDIRECTED:
        return Finding(SUBJECT, f"{what} is on the hub")
    if status == NOT_FOUND:
        return Finding(SUBJECT, f"{what} is not on the hub, or holds no {MARK}", fails=True, mend=ANOTHER)
    if status in UNAUTHORIZED and gated:
        text = f"{what} is gated; whether the secret's token opens it, the build finds out"
        return Finding(SUBJECT, text)
    if status in UNAUTHORIZED:
        text = f"{what} is gone from the hub, private or gated"
        return Finding(
            SUBJECT, text, fails=True, mend=f"hub_token_secret in cdk.json if it is gated; else {ANOTHER}"
        )
    return Finding(SUBJECT, f"the hub answered {status} for {what}", mend="try again")
