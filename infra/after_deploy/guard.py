"""The note of a game day under way: whoever comes next ends what a killed one left behind."""

import json
from typing import Final

from botocore.exceptions import ClientError

from infra.after_deploy.deployed import Client, Deployed, is_error
from infra.after_deploy.troubles import SCENARIOS, Note, trouble_of

MISSING: Final = "ParameterNotFound"
TAKEN: Final = "ParameterAlreadyExists"


class UnderWayError(Exception):
    """Another game day is under way."""


class Guard:
    """Keeps the note, in an SSM parameter of the fleet's."""

    def __init__(self, client: Client, deployed: Deployed) -> None:
        self._client = client
        self._deployed = deployed
        self._ssm = client("ssm")
        self._name = deployed.game_day_parameter

    def take(self, scenario: str, note: Note, *, hard: bool) -> None:
        """Note what is about to begin.

        Raises:
            UnderWayError: somebody else noted something in the meantime.
        """
        value = json.dumps({"scenario": scenario, "hard": hard, "note": note})
        try:
            self._ssm.put_parameter(Name=self._name, Value=value, Type="String", Overwrite=False)
        except ClientError as error:
            if not is_error(error, TAKEN):
                raise
            raise UnderWayError(f"{self._name}: another game day is under way; valid: wait for it") from None

    def clear(self) -> None:
        """Forget the note: everything is undone."""
        try:
            self._ssm.delete_parameter(Name=self._name)
        except ClientError as error:
            if not is_error(error, MISSING):
                raise

    def end_leftover(self) -> str:
        """End what a game day left behind; which scenario that was, empty where there was none."""
        try:
            value = self._ssm.get_parameter(Name=self._name)["Parameter"]["Value"]
        except ClientError as error:
            if not is_error(error, MISSING):
                raise
            return ""
        left = json.loads(value)
        scenario = str(left["scenario"])
        if scenario in SCENARIOS:
            trouble_of(scenario, self._client, self._deployed, hard=left["hard"]).end(left["note"])
        self.clear()
        return scenario
