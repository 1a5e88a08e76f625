"""Filters that live in the URL: the same names as the API's, and a window of time in place of two times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from evalforge.core.ports import Selection
from evalforge.core.review import ReviewState
from evalforge.errors import RequestError
from evalforge.service.requests import parsed_fields
from evalforge.service.review_requests import CAPTURES_FIELDS, GROUPS_FIELDS

WINDOWS: Mapping[str, int | None] = {
    "24 hours": 24, "3 days": 72, "7 days": 168, "14 days": 336, "30 days": 720, "90 days": 2160, "all time": None,
}  # fmt: skip
DEFAULT_WINDOW = "14 days"
CHOICES = ("severity", "failure_type", "ml_app", "env", "model_name", "error_type")
"""What a page offers a choice of, in order."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a page was asked for: the conditions as they stand in its URL, and what they mean."""

    given: Mapping[str, str]
    window: str
    selection: Selection
    state: ReviewState | None
    regressed: bool | None
    cursor: str | None

    def url(self, path: str, **changes: str | None) -> str:
        """The page of `path` under the same filters but for these; the next page's cursor is never kept."""
        values = {name: value for name, value in {**self.given, **changes}.items() if value and name != "cursor"}
        if changes.get("cursor"):
            values["cursor"] = str(changes["cursor"])
        return f"{path}?{urlencode(values)}" if values else path


def filters_of(fields: Iterable[tuple[str, str]], now: datetime) -> Filters:
    """The filters of a page's URL; empty ones are none.

    Raises:
        RequestError: names the field that is unknown or wrong.
    """
    given = {name: value for name, value in fields if value and name != "saved"}
    parsers = {**CAPTURES_FIELDS, **GROUPS_FIELDS, "window": lambda name, value: _window(value)}
    values: dict[str, Any] = parsed_fields(given.items(), parsers)
    window = values.pop("window", DEFAULT_WINDOW)
    hours = WINDOWS[window]
    signature = values.pop("signature", None)
    values.pop("limit", None)
    own = {name: values.pop(name, None) for name in ("state", "regressed", "cursor")}
    if hours is not None:
        values.setdefault("started_from", now - timedelta(hours=hours))
    selection = Selection(**values, signatures=None if signature is None else (signature,))
    return Filters(given, window, selection, **own)


def _window(value: Any) -> str:
    if value not in WINDOWS:
        raise RequestError(f"window: wants one of {', '.join(WINDOWS)}", field="window")
    return str(value)
