"""What /openapi.json says of the reviewers' routes. `review_requests` decides; a test holds the two together."""

from __future__ import annotations

from typing import Any

from evalforge.core.review import MAX_EXPECTED, MAX_NOTE, ReviewState
from evalforge.service.review_requests import (
    DEFAULT_GROUPS,
    DEFAULT_PAGE,
    MAX_GROUPS_PAGE,
    MAX_PAGE,
    MAX_PARTS,
    NOTHING_ELSE,
)
from evalforge.service.schema import SELECTION_PROPERTIES, UNREADABLE, problem_answers

_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
_SIGNATURE = {"type": "string", "pattern": "^s[0-9]{1,3}_[0-9a-f]{32}$"}
_FILTERS = SELECTION_PROPERTIES
_STATE = {"type": "string", "enum": [state.value for state in ReviewState]}
_PAGED: dict[str, dict[str, Any]] = {
    "state": {**_STATE, "description": "the state of the group"},
    "cursor": {"type": "string", "maxLength": 400, "description": "`next` of the page before"},
}


def _limit(default: int, highest: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": highest, "default": default, "description": "rows of a page"}


CAPTURES_PROPERTIES = {**_FILTERS, **_PAGED, "limit": _limit(DEFAULT_PAGE, MAX_PAGE)}
GROUPS_PROPERTIES = {
    **_FILTERS,
    **_PAGED,
    "regressed": {"type": "boolean", "description": "resolved, and a capture started after that"},
    "limit": _limit(DEFAULT_GROUPS, MAX_GROUPS_PAGE),
}
STATS_PROPERTIES = {
    **_FILTERS,
    "parts": {"type": "integer", "minimum": 1, "maximum": MAX_PARTS, "default": 14, "description": "parts of the time"},
}
PATCH_PROPERTIES: dict[str, dict[str, Any]] = {
    "state": _STATE,
    "assignee": {"type": "string", "nullable": True, "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"},
    "note": {"type": "string", "nullable": True, "maxLength": MAX_NOTE},
    "expected_output": {
        "type": "string", "nullable": True, "maxLength": MAX_EXPECTED, "description": "the right answer of trace_id",
    },
    "trace_id": {**_TEXT, "nullable": True},
}  # fmt: skip


def _query(properties: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "schema": {key: value for key, value in entry.items() if key != "description"},
                "description": entry.get("description", ""),
            }
            for name, entry in properties.items()
        ]
    }


def _path(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": schema}]}


_WRONG_FILTER = f"a filter is unknown or wrong{NOTHING_ELSE}"
_NO_GROUP = "no capture has that signature, or it is none"

CAPTURES = _query(CAPTURES_PROPERTIES)
CAPTURES_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "a page of captures in short; next is the cursor of the next page, or null"},
    **problem_answers({422: _WRONG_FILTER, 503: UNREADABLE}),
}
CAPTURE = _path("trace_id", {"type": "string", "maxLength": 200})
CAPTURE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the capture, every field of it"},
    **problem_answers({404: "there is no capture of that trace", 503: UNREADABLE}),
}
GROUPS = _query(GROUPS_PROPERTIES)
GROUPS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a page of groups; users, models and versions are of the newest 500 captures where sampled is true"
    },
    **problem_answers({422: _WRONG_FILTER, 503: UNREADABLE}),
}
GROUP = _path("signature", _SIGNATURE)
GROUP_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the group, and its review with its history"},
    **problem_answers({404: _NO_GROUP, 422: "that is no signature", 503: UNREADABLE}),
}
PATCH = {
    **_path("signature", _SIGNATURE),
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "minProperties": 1,
                    "properties": PATCH_PROPERTIES,
                }
            }
        },
    },
}
PATCH_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the review as it is now, with its history"},
    **problem_answers(
        {
            404: _NO_GROUP + "; or the group has no such trace",
            422: "a field is unknown, out of bounds or given twice, or there is nothing to change",
            503: UNREADABLE + ", or others change the same group all the time",
        }
    ),
}
STATS = _query(STATS_PROPERTIES)
STATS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "counts by part of time, type, severity, application and model, and groups by state"},
    **problem_answers({422: _WRONG_FILTER, 503: UNREADABLE}),
}
