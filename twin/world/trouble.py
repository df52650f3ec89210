"""A trouble file: what befalls a replay, and when; read and checked whole before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, Final

import yaml

from control_lambda.core.fleet import Fleet
from control_lambda.fleet_file import UniqueKeyLoader
from twin.errors import InputError
from twin.world.kinds import KINDS, InvalidFieldError, Kind

VALID_FILE: Final = "a YAML file with the list trouble, such as trouble: [{at: 60, what: note, text: hello}]"
BEFORE, BETWEEN, AFTER = "before", "between", "after"


@dataclass(frozen=True, slots=True)
class Entry:
    """One trouble of kind `what`, in minutes from the replay's first; `minutes` None: to the end.

    Indexed by the name of a field, it gives that field's value; None where the entry leaves it open.
    """

    what: str
    at: int
    minutes: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    @property
    def name(self) -> str:
        """How phases and the report call it."""
        return f"{self.what}@{self.at}"

    @property
    def end(self) -> float:
        """The first minute that it does not cover; inf: it lasts."""
        return inf if self.minutes is None else self.at + self.minutes

    @property
    def acts_until(self) -> float:
        """The first minute in which it does nothing any more."""
        return self.at + 1 if KINDS[self.what].once else self.end


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the replay, minutes [`begin`, `end`) from its first, under the same trouble throughout."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """The entries of a trouble file, in order of time."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def read(cls, path: Path, fleet: Fleet, minutes: int) -> "Trouble":
        """Read a trouble file for a replay of the fleet over so many minutes.

        Raises:
            InputError: the file cannot be used; one line names it, the entry, the key and what is valid.
        """
        try:
            return cls.parse(_document(path), fleet, minutes)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def parse(cls, document: object, fleet: Fleet, minutes: int) -> "Trouble":
        """Check a trouble file's document.

        Raises:
            InputError: naming the entry, the key and what is valid.
        """
        if not isinstance(document, dict) or list(document) != ["trouble"]:
            raise InputError(f"the file: {_shown_keys(document)}; valid: {VALID_FILE}")
        listed = document["trouble"]
        if not isinstance(listed, list):
            raise InputError(f"trouble: {listed!r}; valid: a list of entries")
        entries = [
            _entry(f"trouble[{number}]", raw, fleet, minutes) for number, raw in enumerate(listed, start=1)
        ]
        _refuse_contradictions(entries, fleet)
        return cls(tuple(sorted(entries, key=lambda entry: entry.at)))

    def phases(self, minutes: int) -> list[Phase]:
        """The replay's `minutes` cut wherever an entry begins or ends."""
        ends = {int(entry.end) for entry in self.entries if entry.end < minutes}
        cuts = sorted({0, minutes} | {entry.at for entry in self.entries} | ends)
        return [Phase(self._name(begin, end), begin, end) for begin, end in pairwise(cuts)]

    def _name(self, begin: int, end: int) -> str:
        under_way = [entry.name for entry in self.entries if entry.at <= begin < entry.end]
        if under_way:
            return "+".join(under_way)
        if all(entry.at >= end for entry in self.entries):
            return BEFORE
        return BETWEEN if any(entry.at >= end for entry in self.entries) else AFTER


NO_TROUBLE: Final = Trouble()


def example(what: str) -> str:
    """The kind's example as a line of a trouble file."""
    fields = {"at": 180, "minutes": 60, "what": what, **KINDS[what].example}
    if KINDS[what].once:
        del fields["minutes"]
    line = yaml.safe_dump(fields, default_flow_style=True, sort_keys=False, width=1000)
    return f"- {line.strip()}"


def _document(path: Path) -> object:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise InputError(f"{error.strerror}; valid: {VALID_FILE}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start} is not UTF-8; valid: {VALID_FILE}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(f"{where}{error.problem}; valid: {error.note or VALID_FILE}") from None
    except (yaml.YAMLError, ValueError) as error:
        told = " ".join(str(error).split())
        raise InputError(f"{told}; valid: {VALID_FILE}") from None


def _shown_keys(document: object) -> str:
    if isinstance(document, dict):
        return f"keys {', '.join(map(str, document))}" if document else "no key"
    return "empty" if document is None else f"a {type(document).__name__}"


def _entry(where: str, raw: object, fleet: Fleet, minutes: int) -> Entry:
    if not isinstance(raw, dict):
        raise InputError(f"{where}: {raw!r}; valid: a mapping with at and what")
    what = raw.get("what")
    if not isinstance(what, str) or what not in KINDS:
        given = "missing" if "what" not in raw else repr(what)
        raise InputError(f"{where}: what: {given}; valid: {', '.join(KINDS)}")
    kind = KINDS[what]
    where = f"{where} ({what})"
    known = ("at", "minutes", "what", *kind.fields)
    for key in raw:
        if key not in known:
            raise InputError(f"{where}: {key}: no such field; valid: {', '.join(known)}")
    at, lasting = _minute(where, raw, minutes), _lasting(where, raw)
    _require_one(where, kind, raw)
    fields = {name: _checked(where, name, kind, raw, fleet) for name in kind.fields}
    return Entry(what, at, lasting, fields)


def _minute(where: str, raw: Mapping[str, Any], minutes: int) -> int:
    at: object = raw.get("at")
    if isinstance(at, int) and not isinstance(at, bool) and 0 <= at < minutes:
        return at
    given = "missing" if at is None else repr(at)
    raise InputError(f"{where}: at: {given}; valid: a minute of the replay, 0 to {minutes - 1}")


def _lasting(where: str, raw: Mapping[str, Any]) -> int | None:
    """For how many minutes; None: to the end."""
    if "minutes" not in raw:
        return None
    lasting: object = raw["minutes"]
    if isinstance(lasting, int) and not isinstance(lasting, bool) and lasting >= 1:
        return lasting
    raise InputError(f"{where}: minutes: {lasting!r}; valid: a whole number of 1 or more")


def _require_one(where: str, kind: Kind, raw: Mapping[str, Any]) -> None:
    given = [name for name in kind.any_of if name in raw]
    if kind.any_of and len(given) != 1:
        told = "missing" if not given else "given together"
        raise InputError(f"{where}: {' and '.join(kind.any_of)}: {told}; valid: exactly one of them")


def _checked(where: str, name: str, kind: Kind, raw: Mapping[str, Any], fleet: Fleet) -> Any:
    wanted = kind.fields[name]
    if name not in raw:
        if wanted.required:
            raise InputError(f"{where}: {name}: missing; valid: {_valid(wanted.check, fleet)}")
        return wanted.default
    try:
        return wanted.check(raw[name], fleet)
    except InvalidFieldError as error:
        raise InputError(f"{where}: {name}: {raw[name]!r}; valid: {error}") from None


def _valid(check: Any, fleet: Fleet) -> str:
    try:
        check(None, fleet)
    except InvalidFieldError as error:
        return str(error)
    return "anything"


def _refuse_contradictions(entries: Sequence[Entry], fleet: Fleet) -> None:
    """Refuse two entries of one kind that say different things of one subject at one time."""
    for number, later in enumerate(entries, start=1):
        for earlier_number, earlier in enumerate(entries[: number - 1], start=1):
            if earlier.what != later.what or not _overlap(earlier, later):
                continue
            if shared := _shared(earlier, later, fleet):
                raise InputError(
                    f"trouble[{number}] ({later.what}): at: {later.at} falls into trouble[{earlier_number}], "
                    f"{earlier.name} of {shared}; valid: one {later.what} of a subject at a time"
                )


def _overlap(one: Entry, other: Entry) -> bool:
    return one.at < other.acts_until and other.at < one.acts_until


def _shared(one: Entry, other: Entry, fleet: Fleet) -> str:
    """The subject that both entries speak of; empty: there is none."""
    subject = KINDS[one.what].subject
    if subject is None:
        return ""
    common = [_common(name, one[name], other[name], one.what, fleet) for name in subject]
    return ", ".join(common) or one.what if all(common) else ""


def _common(name: str, one: Any, other: Any, what: str, fleet: Fleet) -> str:
    """What two values of a field have in common, in words; empty: nothing."""
    if name == "units":
        return ", ".join(unit for unit in one if unit in other)
    if name == "of":  # all metrics include those of requests
        return "requests"
    if name == "unit" and None in (one, other):
        return str(one or other or "every unit")
    if what == "price":
        return str(one) if _product(one, fleet) == _product(other, fleet) else ""
    return str(one) if one == other else ""


def _product(pool: str, fleet: Fleet) -> tuple[str, str]:
    return fleet.unit_of[pool].instance_type, fleet.pool_named[pool].market
