"""What stands for a removed value, and the memory of what passed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from evalforge.core.span import Json

MASK = "[redacted]"

_MARK = re.compile(r"\[redacted(?::(?:number|value|error|(?:text|object|list) [0-9]{1,9}))?\]")


def placeholder(value: Json) -> str:
    """The mark that stands for a removed value; a mark stands for itself."""
    if isinstance(value, str):
        return value if is_mark(value) else f"[redacted:text {len(value)}]"
    if isinstance(value, (int, float)):
        return "[redacted:number]"
    if isinstance(value, Mapping):
        return f"[redacted:object {len(value)}]"
    if isinstance(value, (list, tuple)):
        return f"[redacted:list {len(value)}]"
    return "[redacted:value]"


def is_mark(text: str) -> bool:
    """Whether a text is a placeholder already."""
    return len(text) <= 30 and _MARK.fullmatch(text) is not None


TextRule = Callable[[Json], str | None]
_MAX_REMEMBERED = 4096


def remembering(rule: TextRule) -> TextRule:
    """The rule, with a bounded memory of texts that it kept as they are: telemetry repeats itself.

    What a rule refused or masked may be personal and is not remembered.
    """
    passed: set[str] = set()

    def remembered(value: Json) -> str | None:
        if type(value) is str and value in passed:
            return value
        found = rule(value)
        if found == value and type(value) is str:
            if len(passed) >= _MAX_REMEMBERED:
                passed.clear()
            passed.add(value)
        return found

    remembered.__doc__ = rule.__doc__
    return remembered
