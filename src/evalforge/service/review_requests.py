"""What reviewers may ask for: fields of a request become filters, pages and changes, or a 422 that names the field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from evalforge.core.ports import Selection
from evalforge.core.review import UNSET, Patch, ReviewState
from evalforge.errors import RequestError
from evalforge.service.requests import SELECTION_PARSERS, parsed_fields

DEFAULT_PAGE, MAX_PAGE = 50, 100
DEFAULT_GROUPS, MAX_GROUPS_PAGE = 25, 50
"""How many rows a page has. A row of groups costs Firestore up to 500 reads."""
MAX_PARTS = 60
"""Into how many parts of time figures are split at most."""

NOTHING_ELSE = ". Nothing else is filterable: a store as large as Firestore's has no search in texts"


def _state(name: str, value: Any) -> ReviewState:
    try:
        return ReviewState(value)
    except ValueError:
        raise RequestError(f"{name}: wants one of {', '.join(ReviewState)}", field=name) from None


def _truth(name: str, value: Any) -> bool:
    if value not in (True, False, "true", "false"):
        raise RequestError(f"{name}: wants true or false", field=name)
    return value in (True, "true")


def _number(lowest: int, highest: int) -> Callable[[str, Any], int]:
    def parse(name: str, value: Any) -> int:
        text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
        if not (text.isascii() and text.isdecimal() and len(text) < 6 and lowest <= int(text) <= highest):
            raise RequestError(f"{name}: wants a whole number from {lowest} to {highest}", field=name)
        return int(text)

    return parse


def _cursor(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{name}: wants a text", field=name)
    return value


_FILTERS: dict[str, Callable[[str, Any], Any]] = SELECTION_PARSERS
_STATES: dict[str, Callable[[str, Any], Any]] = {"state": _state, "cursor": _cursor}
CAPTURES_FIELDS = {**_FILTERS, **_STATES, "limit": _number(1, MAX_PAGE)}
GROUPS_FIELDS = {**_FILTERS, **_STATES, "regressed": _truth, "limit": _number(1, MAX_GROUPS_PAGE)}
STATS_FIELDS = {**_FILTERS, "parts": _number(1, MAX_PARTS)}
PATCH_FIELDS = ("state", "assignee", "note", "expected_output", "trace_id")


@dataclass(frozen=True, slots=True)
class ListRequest:
    """What a caller wants listed."""

    selection: Selection
    limit: int
    state: ReviewState | None = None
    regressed: bool | None = None
    cursor: str | None = None


def captures_request(fields: Iterable[tuple[str, Any]]) -> ListRequest:
    """The page of captures that the fields ask for.

    Raises:
        RequestError: names the field that is unknown, wrong, or given twice.
    """
    return _list_request(parsed_fields(fields, CAPTURES_FIELDS, more=NOTHING_ELSE), DEFAULT_PAGE)


def groups_request(fields: Iterable[tuple[str, Any]]) -> ListRequest:
    """The page of groups that the fields ask for.

    Raises:
        RequestError: names the field that is unknown, wrong, or given twice.
    """
    return _list_request(parsed_fields(fields, GROUPS_FIELDS, more=NOTHING_ELSE), DEFAULT_GROUPS)


def _list_request(values: dict[str, Any], limit: int) -> ListRequest:
    own = {name: values.pop(name) for name in ("state", "regressed", "cursor") if name in values}
    limit = values.pop("limit", limit)
    return ListRequest(_selection(values), limit, **own)


def stats_request(fields: Iterable[tuple[str, Any]]) -> tuple[Selection, int | None]:
    """The selection that figures are wanted of, and into how many parts of time.

    Raises:
        RequestError: names the field that is unknown, wrong, or given twice.
    """
    values = parsed_fields(fields, STATS_FIELDS, more=NOTHING_ELSE)
    parts: int | None = values.pop("parts", None)
    return _selection(values), parts


def _selection(values: dict[str, Any]) -> Selection:
    signature = values.pop("signature", None)
    selection = Selection(**values, signatures=None if signature is None else (signature,))
    start, end = selection.started_from, selection.started_to
    if start is not None and end is not None and start >= end:
        raise RequestError("started_from is not before started_to", field="started_from")
    return selection


def patch_request(fields: Iterable[tuple[str, Any]]) -> Patch:
    """The change that the fields ask for: null takes away, what is not given stays.

    Raises:
        RequestError: names the field that is unknown, wrong, or given twice; or nothing is to be changed.
    """
    found: dict[str, Any] = {}
    for name, value in fields:
        if name not in PATCH_FIELDS:
            raise RequestError(f"a field is unknown; known are {', '.join(PATCH_FIELDS)}")
        if name in found:
            raise RequestError(f"{name} is given twice; send it once", field=name)
        if name == "state":
            value = _state(name, value)
        elif value is not None and not isinstance(value, str):
            raise RequestError(f"{name}: wants a text, or null to take it away", field=name)
        found[name] = value
    trace_id = found.pop("trace_id", None)
    if not found:
        raise RequestError("nothing is to be changed; send state, assignee, note or expected_output", field="state")
    return Patch(**{**dict.fromkeys(("state", "assignee", "note", "expected_output"), UNSET), **found}, trace_id=trace_id)
