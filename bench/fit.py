"""How a cost grows with a size: a straight line through the measured points, and the exponent of a power law."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fit:
    """`fixed + slope * size` by least squares; `exponent` of the power law through the same points.

    An exponent of 1 is linear; a fixed cost makes it less, and only what grows faster than the size makes it more.
    """

    slope: float
    fixed: float
    exponent: float


def fitted(points: Sequence[tuple[float, float]]) -> Fit | None:
    """The fit of (size, cost) points, all greater than 0; None for fewer than two sizes."""
    if len({size for size, _ in points}) < 2:
        return None
    sizes, costs = zip(*points, strict=True)
    slope, fixed = statistics.linear_regression(sizes, costs)
    exponent = statistics.linear_regression([math.log(size) for size in sizes], [math.log(cost) for cost in costs]).slope
    return Fit(slope, fixed, exponent)
