"""What the services around the instances cost: `infra/tables/services.csv`, whose README names the source."""

import csv
from collections.abc import Mapping
from functools import cache
from typing import Final

from infra.catalog import TABLES

# The regions that the table is true of; elsewhere the same things cost up to a half more.
REGIONS: Final = ("us-east-1", "us-east-2", "us-west-2")


@cache
def service_prices() -> Mapping[str, float]:
    """Item to USD per unit; the table names the unit."""
    with (TABLES / "services.csv").open(encoding="utf-8", newline="") as file:
        return {row["item"]: float(row["usd"]) for row in csv.DictReader(file)}
