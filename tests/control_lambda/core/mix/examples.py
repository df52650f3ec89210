"""Small planning problems that several tests share."""

import random

from control_lambda.core.mix.model import InstanceType, Problem, Sizes

SIZES = Sizes((10.0, 20.0, 40.0), (0.5, 0.3, 0.2))


def linear(
    name: str, price: float, fixed: float, per_size: float, *, spread: float = 0.02, most: int = 450
) -> InstanceType:
    """A type whose service time is linear in the size, for the three sizes of `SIZES`."""
    seconds = tuple(fixed + per_size * size for size in SIZES.values)
    return InstanceType(name, price, seconds, spread=spread, most=most)


def base_and_cheap(latency_seconds: float = 1.0) -> Problem:
    """A dear base that serves every size within 1 s, and a cheap type that serves the two smaller ones."""
    return Problem(
        SIZES,
        (linear("base", 1.0, 0.05, 0.01), linear("cheap", 0.3, 0.05, 0.03)),
        latency_seconds=latency_seconds,
    )


def random_problem(seed: int, count: int) -> Problem:
    """A catalogue of `count` types, of which at least one is a good base; prices go roughly with speed."""
    source = random.Random(seed)
    while True:
        sizes = Sizes.counted([(10.0 * step, 0.01 + source.random() ** 2) for step in range(1, 60)])
        types = []
        for number in range(count):
            speed = 2 ** source.uniform(-3, 1)
            price = round(0.5 * speed ** source.uniform(0.7, 1.2) * source.uniform(0.8, 1.25), 4)
            fixed, per_size = 0.05 * source.uniform(0.2, 2), 0.0012 / speed
            seconds = tuple(fixed + per_size * size for size in sizes.values)
            types.append(InstanceType(f"type-{number}", price, seconds, source.choice((0.02, 0.05, 0.2))))
        if any(kind.seconds[-1] * (1 + 3 * kind.spread) < 1.0 for kind in types):
            return Problem(sizes, tuple(types), latency_seconds=1.0)
