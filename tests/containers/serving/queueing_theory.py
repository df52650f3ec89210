"""What queueing theory says about M/D/1: Poisson arrivals, a constant service time, one server."""

from math import exp, factorial, floor

from scipy.optimize import brentq


def mean_sojourn(rate: float, service: float) -> float:
    """Mean seconds in the system, by Pollaczek and Khinchine."""
    load = rate * service
    return service + load * service / (2 * (1 - load))


def share_within(seconds: float, rate: float, service: float) -> float:
    """The share of requests that leave within so many seconds (Crommelin 1932).

    P(W ≤ t) = (1 - ρ) Σ_{k=0}^{⌊t/s⌋} (λ(ks - t))^k / k! · e^{-λ(ks - t)}, for a wait W before service s.
    """
    wait = seconds - service
    if wait < 0:
        return 0.0
    terms = (
        (rate * (k * service - wait)) ** k / factorial(k) * exp(-rate * (k * service - wait))
        for k in range(floor(wait / service) + 1)
    )
    return (1 - rate * service) * sum(terms)


def rate_within(share: float, seconds: float, service: float) -> float:
    """The highest rate at which so large a share of requests leaves within so many seconds."""
    return float(brentq(lambda rate: share_within(seconds, rate, service) - share, 1e-6, 0.999 / service))
