"""What of everything pinned nobody supports any more, or will not for long."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from infra.pins import Pin

SOON: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Ageing:
    """A pin whose support has ended by the day of the question, or ends within `SOON` of it."""

    pin: Pin
    expired: bool

    @property
    def line(self) -> str:
        """One line: what has expired or expires, and when."""
        mark, verb = ("EXPIRED", "ended") if self.expired else ("soon", "ends")
        pin = self.pin
        return f"{mark:7} {pin.name} {pin.version}: support {verb} on {pin.end_of_support} ({pin.source})"


def ageing(pins: Sequence[Pin], today: date) -> Iterator[Ageing]:
    """What has expired on `today`, then what will within `SOON`; the earliest first."""
    dated = [(pin.end_of_support, pin) for pin in pins if pin.end_of_support is not None]
    for end, pin in sorted(dated, key=lambda found: found[0]):
        if end - today <= SOON:
            yield Ageing(pin, expired=end < today)
