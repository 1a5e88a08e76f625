"""The times a search accepts: ISO 8601, date math around now, or milliseconds since the Unix epoch, all as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_MATH = re.compile(r"now((?:[+-]\d{1,9}(?:ms|s|m|h|d|w))*)")
_STEP = re.compile(r"([+-]\d+)(ms|s|m|h|d|w)")
_MILLISECONDS = re.compile(r"\d{1,15}")


def parse_time(text: str, now_ms: int) -> int | None:
    """Return milliseconds since the Unix epoch, None if the text is no time. A time without a zone is UTC."""
    if found := _MATH.fullmatch(text):
        return now_ms + sum(int(amount) * _UNIT_MS[unit] for amount, unit in _STEP.findall(found[1]))
    if _MILLISECONDS.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def iso_ms(ns: int) -> str:
    """Return nanoseconds since the Unix epoch as Datadog writes a time: UTC, three decimals, `Z`."""
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns // 1_000_000 % 1000:03d}Z"


def iso_us(seconds: float) -> str:
    """Return seconds since the Unix epoch as the newer services write a time: UTC, six decimals, `Z`."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
