"""Whether a request can be answered in time: one rule for the server's admission and the twin's plant."""


def fits(backlog_seconds: float, service_seconds: float, allowed_seconds: float) -> bool:
    """Whether what waits, and then the request itself, are done within what the request may take."""
    return backlog_seconds + service_seconds <= allowed_seconds
