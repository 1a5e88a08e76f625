"""Value rules for numbers and times."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from evalforge.core.span import Json

SMALL_NUMBER = 100_000
SCORE_LIMIT = 1_000_000
SETTING_LIMIT = 10_000_000
MAX_UNSIGNED_64 = (1 << 64) - 1
MIN_SIGNED_64 = -(1 << 63)


NUMBER_TEXT = re.compile(r"-?(?:0|[1-9][0-9]{0,4})(?:\.[0-9]{1,6})?(?:[eE]-[0-9]{1,2})?")
_DATE_DIGITS = r"20[0-9]{2}-[01][0-9]-[0-3][0-9]"
_CLOCK_DIGITS = r"[0-2][0-9]:[0-5][0-9](?::[0-6][0-9](?:[.,][0-9]{1,9})?)?"
_TIME = re.compile(rf"{_DATE_DIGITS}[Tt ]{_CLOCK_DIGITS}(?: ?(?:[Zz]|UTC|[+-][0-2][0-9]:?[0-5][0-9]))?")
_EPOCH_DIGITS = re.compile(r"1[0-9]{12}(?:[0-9]{3}(?:[0-9]{3})?)?")
_FIRST_SECOND, _LAST_SECOND = 1_420_070_400, 2_208_988_800  # 2015 and 2040
_DAY = re.compile(r"20(?:1[5-9]|[2-9][0-9])-[01][0-9]-[0-3][0-9]")


def number(value: Json) -> int | float | None:
    """Any finite number that fits 64 bits; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if MIN_SIGNED_64 <= value <= MAX_UNSIGNED_64 else None


def number_below(limit: int) -> Callable[[Json], int | float | str | None]:
    """A rule for numbers between -limit and limit, exclusive, and for texts that spell one of at most 5 digits."""

    def rule(value: Json) -> int | float | str | None:
        kind = type(value)
        if kind is int or kind is float:
            return value if -limit < value < limit else None
        if isinstance(value, str):
            return value if len(value) <= 20 and NUMBER_TEXT.fullmatch(value) else None
        found = number(value)
        return found if found is not None and -limit < found < limit else None

    return rule


small_number = number_below(SMALL_NUMBER)
score = number_below(SCORE_LIMIT)
setting = number_below(SETTING_LIMIT)


def any_number(value: Json) -> int | float | str | None:
    """Any number that fits 64 bits, or a text that spells a small one."""
    return small_number(value) if isinstance(value, str) else number(value)


def epoch(value: Json) -> int | float | str | None:
    """A time or a duration as a number, or an epoch time of this century spelled in digits: milliseconds to nanoseconds."""
    if isinstance(value, str):
        return value if len(value) <= 19 and _EPOCH_DIGITS.fullmatch(value) else None
    return number(value)


def epoch_of_this_time(value: Json) -> int | float | str | None:
    """An epoch time from 2015 to 2040 in seconds, or thousandths to billionths of one; a small number, as of an offset."""
    if isinstance(value, str):
        return epoch(value)
    found = number(value)
    if found is None or -SMALL_NUMBER < found < SMALL_NUMBER:
        return found
    return found if any(_FIRST_SECOND <= found / unit < _LAST_SECOND for unit in (1, 1e3, 1e6, 1e9)) else None


def boolean(value: Json) -> bool | str | None:
    """True, false, or the words for them."""
    if isinstance(value, bool):
        return value
    return value if isinstance(value, str) and value.strip().lower() in ("true", "false") else None


def time(value: Json) -> str | None:
    """An ISO 8601 time of this century, or a day from 2015 on: an older day without a time may be a date of birth."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    return value if _TIME.fullmatch(value) or _DAY.fullmatch(value) else None
