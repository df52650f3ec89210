"""What is pinned, at which version, and until when somebody supports it: `infra/tables/pins.csv`.

Every version that the stack names is read from here. Dockerfiles and requirements files cannot read a table:
the former are held against it by a test, the latter hold the only copy of their versions.
"""

import csv
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Final

TABLE: Final = Path(__file__).parent / "tables" / "pins.csv"


class UnknownPinError(LookupError):
    """The table pins no such thing; the message names it and the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One pinned thing. `kubernetes`: the Kubernetes version that it is for, empty where it is for any.

    `end_of_support` is the last day of support, None where nobody has announced one.
    """

    kind: str
    what: str
    kubernetes: str
    version: str
    end_of_support: date | None
    read_on: date
    source: str

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.kind} {self.what}" + (f" for Kubernetes {self.kubernetes}" if self.kubernetes else "")


@cache
def pins() -> tuple[Pin, ...]:
    """Every row of the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(
            Pin(
                kind=row["kind"],
                what=row["what"],
                kubernetes=row["kubernetes"],
                version=row["version"],
                end_of_support=_day(row["end_of_support"]),
                read_on=date.fromisoformat(row["read_on"]),
                source=row["source"],
            )
            for row in csv.DictReader(file)
        )


def version(kind: str, what: str, kubernetes: str = "") -> str:
    """The pinned version of the thing, for that version of Kubernetes where the table tells them apart.

    Raises:
        UnknownPinError: the table does not hold it.
    """
    for pin in pins():
        if (pin.kind, pin.what, pin.kubernetes) == (kind, what, kubernetes):
            return pin.version
    asked = f"{kind} {what}" + (f" for Kubernetes {kubernetes}" if kubernetes else "")
    raise UnknownPinError(f"infra/tables/{TABLE.name}: no row for {asked}")


def kubernetes_versions() -> tuple[str, ...]:
    """The Kubernetes versions that a cluster may have, the newest one last."""
    found = (pin.version for pin in pins() if pin.kind == "kubernetes")
    return tuple(sorted(found, key=lambda version: [int(part) for part in version.split(".")]))


def standard_support_ends(kubernetes: str) -> date | None:
    """The last day on which EKS supports the version at its ordinary price."""
    found = (pin for pin in pins() if (pin.kind, pin.version) == ("kubernetes", kubernetes))
    return next((pin.end_of_support for pin in found), None)


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None
