"""The state, the lease and the evidence in one DynamoDB item, so that one write settles all three.

Attributes: `version` (number of saves), `state` (JSON), `lease_token` and `lease_until` (epoch seconds),
`evidence` (id to observation), `builds` (CodeBuild project to how its latest build ended). Signals only adds
evidence, and only the holder of the lease empties it; only signals writes builds.
"""

import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from botocore.exceptions import ClientError

from control_lambda.core.model import (
    Evidence,
    State,
    evidence_from_plain,
    state_from_json,
    state_to_json,
)
from control_lambda.errors import NotSavedError, is_conflict, item_of
from control_lambda.ports import LeaseHeldError, LeaseLostError, NewEvidenceError, Remembered

LEASE_SECONDS: Final = 45.0  # longer than Lambda's timeout of 30 s, shorter than the minute to the next tick
# A lease that ends later than this was taken by a clock that had jumped ahead; nobody holds it.
LEASE_AHEAD_SECONDS: Final = 900.0
BUILT: Final = "SUCCEEDED"  # CodeBuild's word
MAX_EVIDENCE: Final = 500  # at most about 200 KB of the item's 400 KB
# The first write may know too little of the item; the second has been told.
ATTEMPTS: Final = 3

Item = Mapping[str, Any]


class DynamoMemory:
    """`ports.Memory` in one item of a DynamoDB table, and the way in for evidence and builds.

    `builds` maps each unit to the projects that have to succeed once before it can serve. Every lease has a
    token of its own, unless its holder has a name: who repeats what it did under a named lease finds it its
    own.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        fleet: str,
        builds: Mapping[str, Sequence[str]] = MappingProxyType({}),
        *,
        lease_seconds: float = LEASE_SECONDS,
        token: str = "",
    ) -> None:
        self._client = client
        self._builds = builds
        self._lease_seconds = lease_seconds
        self._name = token
        self._table = table
        self._key = {"fleet": {"S": fleet}}
        self._token = ""
        self._known = 0

    def acquire(self, at: float) -> Remembered:
        """Take the lease from `at` on; a lease from far in the future does not count."""
        token = self._name or uuid.uuid4().hex
        try:
            answer = self._update(
                "SET lease_token = :token, lease_until = :until",
                # Our own token: a retried call whose first answer was lost.
                "attribute_not_exists(lease_token) OR lease_token = :token "
                "OR lease_until <= :at OR lease_until > :ahead",
                {
                    ":token": {"S": token},
                    ":until": {"N": repr(at + self._lease_seconds)},
                    ":at": {"N": repr(at)},
                    ":ahead": {"N": repr(at + LEASE_AHEAD_SECONDS)},
                },
            )
        except ClientError as error:
            if is_conflict(error):
                raise LeaseHeldError(f"the lease is held at {at}") from error
            raise
        self._token = token
        return self._remembered(answer["Attributes"])

    def save(self, state: State, seen: Sequence[Evidence]) -> None:
        """Save the state, forget all evidence and release the lease, if all evidence was `seen`.

        Raises:
            LeaseLostError: another tick took the lease.
            NewEvidenceError: evidence beyond `seen` has arrived; the lease is still held.
            NotSavedError: neither of them, and yet the table refuses.
        """
        text = state_to_json(state)
        for _ in range(ATTEMPTS):
            try:
                self._update(
                    "SET #state = :state, version = if_not_exists(version, :zero) + :one, evidence = :none "
                    "REMOVE lease_token, lease_until",
                    # Evidence is only ever added under our lease: no more of it means nothing new.
                    "lease_token = :token AND (attribute_not_exists(evidence) OR size(evidence) <= :known)",
                    {
                        ":state": {"S": text},
                        ":zero": {"N": "0"},
                        ":one": {"N": "1"},
                        ":none": {"M": {}},
                        ":token": {"S": self._token},
                        ":known": {"N": str(self._known)},
                    },
                    {"#state": "state"},
                )
            except ClientError as error:
                if not is_conflict(error):
                    raise
                if self._is_saved(item_of(error), text, seen):
                    return
            else:
                return
        raise NotSavedError(
            f"the state was refused {ATTEMPTS} times, though the lease is ours and nothing is new"
        )

    def release(self) -> None:
        """Give the lease back unless another tick has taken it."""
        try:
            self._update(
                "REMOVE lease_token, lease_until", "lease_token = :token", {":token": {"S": self._token}}
            )
        except ClientError as error:
            if not is_conflict(error):  # a conflict: there is nothing of ours to give back
                raise

    def add_evidence(self, evidence: Evidence) -> bool:
        """Add one observation for the next tick; False when the item already holds too many.

        Adding the same observation twice is adding it once.
        """
        for _ in range(2):
            try:
                self._update(
                    "SET evidence.#id = :evidence",
                    "attribute_exists(evidence) AND size(evidence) < :most",
                    {":evidence": {"M": _to_item(evidence)}, ":most": {"N": str(MAX_EVIDENCE)}},
                    {"#id": _id(evidence)},
                )
            except ClientError as error:
                if not is_conflict(error):
                    raise
                if "evidence" in item_of(error):
                    return False
                self._update("SET evidence = if_not_exists(evidence, :none)", "", {":none": {"M": {}}})
            else:
                return True
        return False

    def put_build(self, project: str, status: str) -> None:
        """Remember how the project's latest build stands; one that has succeeded once stays built.

        Raises:
            NotSavedError: the table refuses it for no reason.
        """
        condition = "attribute_exists(builds)"
        values = {":status": {"S": status}}
        if status != BUILT:
            condition += " AND (attribute_not_exists(builds.#project) OR builds.#project <> :built)"
            values[":built"] = {"S": BUILT}
        for _ in range(ATTEMPTS):
            try:
                self._update("SET builds.#project = :status", condition, values, {"#project": project})
            except ClientError as error:
                if not is_conflict(error):
                    raise
                if "builds" in item_of(error):
                    return
                self._update("SET builds = if_not_exists(builds, :none)", "", {":none": {"M": {}}})
            else:
                return
        raise NotSavedError(f"the build was refused {ATTEMPTS} times, though nothing speaks against it")

    def _is_saved(self, item: Item, text: str, seen: Sequence[Evidence]) -> bool:
        """Whether the refused save had gone through before; False to try again, knowing the item better.

        Raises:
            LeaseLostError, NewEvidenceError: why it was refused.
        """
        token = item.get("lease_token", {}).get("S")
        if token != self._token:
            if token is None and item.get("state", {}).get("S") == text:
                return True  # this very save, whose answer was lost
            raise LeaseLostError
        remembered = self._remembered(item)
        arrived = [evidence for evidence in remembered.evidence if evidence not in seen]
        if arrived:
            raise NewEvidenceError(arrived)
        return False

    def _remembered(self, item: Item) -> Remembered:
        stored = item.get("evidence", {}).get("M", {})
        self._known = len(stored)
        problems: list[str] = []
        evidence = []
        for name, attributes in sorted(stored.items()):
            try:
                evidence.append(_from_item(attributes["M"]))
            except (KeyError, ValueError) as error:
                problems.append(f"evidence-unreadable: {name}: {error}")
        state = _state(item, problems)
        return Remembered(state, tuple(evidence), tuple(problems), self._unbuilt(item))

    def _unbuilt(self, item: Item) -> dict[str, str]:
        """The units of which some build has never succeeded, and how those builds stand."""
        known = {project: value["S"] for project, value in item.get("builds", {}).get("M", {}).items()}
        missing = {
            unit: [f"{name}: {known.get(name, 'not heard of')}" for name in names if known.get(name) != BUILT]
            for unit, names in self._builds.items()
        }
        return {unit: ", ".join(told) for unit, told in missing.items() if told}

    def _update(
        self, update: str, condition: str, values: Item, attribute_names: Mapping[str, str] | None = None
    ) -> Any:
        optional: dict[str, Any] = {}
        if condition:
            optional["ConditionExpression"] = condition
        if attribute_names:
            optional["ExpressionAttributeNames"] = attribute_names
        return self._client.update_item(
            TableName=self._table,
            Key=self._key,
            UpdateExpression=update,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **optional,
        )


def _state(item: Item, problems: list[str]) -> State | None:
    if "state" not in item:
        return None
    try:
        return state_from_json(item["state"]["S"])
    except ValueError as error:
        problems.append(f"state-unreadable: {error}")
        return None


def _id(evidence: Evidence) -> str:
    return f"{evidence.at!r} {evidence.pool} {evidence.kind} {evidence.zone} {evidence.node}"


def _to_item(evidence: Evidence) -> dict[str, Any]:
    return {
        "pool": {"S": evidence.pool},
        "kind": {"S": evidence.kind.value},
        "at": {"N": repr(evidence.at)},
        "zone": {"S": evidence.zone},
        "node": {"S": evidence.node},
        "text": {"S": evidence.text},
    }


def _from_item(attributes: Item) -> Evidence:
    text = {key: next(iter(value.values())) for key, value in attributes.items()}
    return evidence_from_plain({**text, "at": float(text["at"])})
