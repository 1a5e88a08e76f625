"""Rate limits as Datadog counts them: so many requests in each period of the calendar, told in headers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from evalforge.sandbox.replies import Reply, too_many
from evalforge.sandbox.spans import Area


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`limit` requests in every `period_s` seconds; periods begin at whole multiples, not at the first request."""

    limit: int
    period_s: int


DEFAULT_LIMITS: dict[Area, RateLimit] = {
    # Only the limit of the spans search is documented; the others only have to be out of the way.
    "llm_obs": RateLimit(6000, 60),
    "datasets": RateLimit(6000, 60),
    # Source: https://docs.datadoghq.com/api/latest/spans/ ("Search spans … rate limit of 300 requests per hour").
    "apm": RateLimit(300, 3600),
}

_NAMES: dict[Area, str] = {
    "llm_obs": "llm_obs_public_search_api",
    "apm": "spans_public_search_api",
    "datasets": "llm_obs_public_experiments_api",
}


_SPELLED = re.compile(r"(llm_obs|apm|datasets)=(\d{1,9})(?:/([1-9]\d{0,8}))?")


def spelled_limit(text: str) -> tuple[Area, RateLimit]:
    """Return what is limited and the limit that a word spells: `apm=300/3600` is 300 requests in 3600 seconds.

    The period may be left out, which keeps the usual one.

    Raises: ValueError that says what may be spelled.
    """
    found = _SPELLED.fullmatch(text)
    if found is None:
        raise ValueError("wants llm_obs=LIMIT/SECONDS, apm=LIMIT/SECONDS or datasets=LIMIT/SECONDS")
    area = cast(Area, found[1])
    return area, RateLimit(int(found[2]), int(found[3] or DEFAULT_LIMITS[area].period_s))


class Meter:
    """Counts the requests of one area against its limit. `now` gives seconds since the Unix epoch."""

    def __init__(self, area: Area, limit: RateLimit, now: Callable[[], float]) -> None:
        self.limit = limit
        self._name = _NAMES[area]
        self._now = now
        self._period = -1
        self._used = 0

    def take(self) -> tuple[bool, dict[str, str]]:
        """Count one request; tell whether it is within the limit, and the headers that say so."""
        period = int(self._now() // self.limit.period_s)
        if period != self._period:
            self._period, self._used = period, 0
        allowed = self._used < self.limit.limit
        self._used += allowed
        return allowed, self.headers(self.limit.limit - self._used)

    def refusal(self) -> Reply:
        """Return the answer to a request that is over the limit."""
        return too_many(self.limit.limit, self.limit.period_s)

    def headers(self, remaining: int, reset_s: int | None = None) -> dict[str, str]:
        """Return the headers for a number of requests left; `reset_s` overrules the seconds to the period's end."""
        period_s = self.limit.period_s
        to_the_end = max(1, period_s - int(self._now() % period_s))
        return {
            "x-ratelimit-limit": str(self.limit.limit),
            "x-ratelimit-period": str(period_s),
            "x-ratelimit-remaining": str(remaining),
            "x-ratelimit-reset": str(to_the_end if reset_s is None else reset_s),
            "x-ratelimit-name": self._name,
        }
