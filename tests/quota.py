"""A quota as Datadog counts it, by whatever clock the test has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

Rounding = Callable[[float], float]

ROUNDINGS: dict[str, Rounding] = {
    "up": math.ceil,
    "down": math.floor,
    "sandbox": lambda seconds: max(1, math.ceil(seconds)),
    "not": lambda seconds: seconds,
}
"""How a server may round the seconds to the reset."""


@dataclass
class Quota:
    """`limit` requests in each period; the first period began at `-phase_s`. `used` and `refused` count them."""

    limit: int
    period_s: float
    phase_s: float = 0.0
    rounding: Rounding = math.ceil
    used: Counter[int] = field(default_factory=Counter)
    refused: int = 0

    def take(self, now: float) -> tuple[bool, dict[str, float | str]]:
        """Counts a request; whether it is allowed, and what the headers tell."""
        position = now + self.phase_s
        period = math.floor(position / self.period_s)
        allowed = self.used[period] < self.limit
        self.used[period] += allowed
        self.refused += not allowed
        return allowed, {
            "limit": float(self.limit),
            "remaining": float(self.limit - self.used[period]),
            "period_s": self.period_s,
            "reset_s": float(self.rounding((period + 1) * self.period_s - position)),
            "name": "q",
        }

    def whole_periods(self, until: float) -> range:
        """The periods that lay wholly between 0 and `until`."""
        return range(math.ceil(self.phase_s / self.period_s), math.floor((until + self.phase_s) / self.period_s))


def headers_of(told: dict[str, float | str]) -> dict[str, str]:
    """What is told, as Datadog's headers."""
    return {f"x-ratelimit-{name.removesuffix('_s')}": str(value) for name, value in told.items()}
