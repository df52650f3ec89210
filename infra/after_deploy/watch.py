"""What the loop decided while a game day went on, read from the tick's log."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from infra.after_deploy.deployed import Client, Deployed

Record = Mapping[str, Any]
PATTERN: Final = '{ $.message = "tick" }'


def records(client: Client, deployed: Deployed, since: float, until: float) -> list[Record]:
    """The decision records of the ticks between two times (epoch seconds), each once, in their order."""
    found = {record["tick"]: record for record in _logged(client, deployed, since, until)}
    return [found[tick] for tick in sorted(found)]


def _logged(client: Client, deployed: Deployed, since: float, until: float) -> Iterator[Record]:
    pages = client("logs").get_paginator("filter_log_events")
    span = {"startTime": int(since * 1000), "endTime": int(until * 1000)}
    for page in pages.paginate(logGroupName=deployed.tick_logs, filterPattern=PATTERN, **span):
        for event in page["events"]:
            record = _record(event["message"])
            if record is not None:
                yield record


def _record(line: str) -> Record | None:
    """The record in a line of the log; None for another line, and for a tick that was skipped."""
    try:
        record = json.loads(line).get("record")
    except (ValueError, AttributeError):
        return None
    return record if isinstance(record, dict) and "tick" in record else None
