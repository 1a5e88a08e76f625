"""Explanations: what errors and failed tools said. Their texts are kept scrubbed, unless the policy closes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from evalforge.core.privacy.measures import small_number
from evalforge.core.privacy.modes import TextMode, path_of
from evalforge.core.privacy.values import error_type
from evalforge.core.privacy.walk import Tally
from evalforge.core.span import Json

MAX_ERROR_JSON = 64 * 1024

_ERROR_TEXTS = frozenset(
    {"message", "msg", "stack", "details", "detail", "stacktrace", "traceback", "recommended_resolution"}
)


def keep_error(container: dict[str, Any], at: str, value: Json, tally: Tally) -> None:
    """Puts an error into `container[at]`: its type stays, message and stack are explanations, the rest is counted."""
    if isinstance(value, (bool, int)) and small_number(int(value)) is not None:
        container[at] = value
        return
    if not isinstance(value, Mapping):
        tally.explained(container, at, value)
        return
    document: dict[str, Any] = {}
    container[at] = document
    for key, part in tally.entered(value.items(), document):
        if key in ("type", "kind", "class") and part is not None:
            document[key] = error_type(part) or tally.redacted(part, "text")
        elif key in _ERROR_TEXTS and part is not None:
            mode = tally.policy.mode_of(path_of("error", key)) if tally.policy.names_fields else TextMode.CLOSED
            if mode is TextMode.CLOSED:
                tally.explained(document, key, part)
            else:
                tally.allowed(document, key, part, mode, path_of("error", key))
        elif key in ("code", "status", "status_code") and (found := small_number(part)) is not None:
            document[key] = found
        else:
            tally.counts["unknown_key"] += 1


def tells_failure(value: Json) -> bool:
    """Whether this is what a tool answered when it failed: an object, or one as JSON, with a true `isError`.

    Source: https://modelcontextprotocol.io/specification (CallToolResult)
    """
    if type(value) is str:
        if value[:1] != "{" or "rror" not in value or len(value) > MAX_ERROR_JSON:
            return False
        try:
            value = orjson.loads(value)
        except ValueError:
            return False
    if type(value) is not dict and not isinstance(value, Mapping):
        return False
    return value.get("isError") is True or value.get("is_error") is True
