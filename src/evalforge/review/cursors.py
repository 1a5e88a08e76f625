"""Cursors: where a list goes on, as text that stays good while captures come and go."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any

from evalforge.errors import RequestError

MAX_CURSOR = 400


def cursor_text(kind: str, started_at: datetime, *more: str | bool) -> str:
    """A cursor of a kind of list, behind a row of that time and whatever else orders rows."""
    parts = [kind, started_at.astimezone(UTC).isoformat(), *more]
    return base64.urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode().rstrip("=")


def cursor_parts(kind: str, text: str, types: tuple[type, ...]) -> tuple[datetime, list[Any]]:
    """What `cursor_text` was given, of the same kind and with parts of these types.

    Raises:
        RequestError: it is none of ours, or of another kind of list.
    """
    try:
        if len(text) > MAX_CURSOR or not text.isascii():
            raise ValueError
        parts = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        found, time, *more = parts
        started_at = datetime.fromisoformat(time)
        if found != kind or started_at.tzinfo is None or [type(part) for part in more] != list(types):
            raise ValueError
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise RequestError(
            "cursor: this is none of this list; take `next` of the page before, or leave it out", field="cursor"
        ) from error
    return started_at, more
