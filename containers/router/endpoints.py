"""The pods to route to, and the routers beside this one, as values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod that serves one query at a time: its unit, its pool, and its address without a final slash."""

    unit: str
    pool: str
    url: str


@dataclass(frozen=True, slots=True)
class Discovered:
    """All that is ready now: serving pods, and the addresses of routers, this one included."""

    endpoints: tuple[Endpoint, ...] = ()
    routers: tuple[str, ...] = ()
