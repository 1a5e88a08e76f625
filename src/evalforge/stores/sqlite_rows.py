"""Captures as rows of SQLite, and back: the facts as JSON text, beside the few columns that are selected by."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from evalforge.core.ports import StoredCapture
from evalforge.errors import SkippableError
from evalforge.stores import lossless, merging
from evalforge.stores.sqlite_file import DERIVED_COLUMNS

CAPTURE_COLUMNS = (
    "document_id", "trace_id", "fingerprint", "started_at", "failure_type", "severity", "ml_app", "env", "expires_at",
    "updated_at", "facts",
)  # fmt: skip
"""The columns that ingestion writes; `processed` and any further ones are downstream's."""

_COLUMNS = ", ".join(CAPTURE_COLUMNS)
_MARKS = ", ".join("?" for _ in CAPTURE_COLUMNS)
# S608: only the constants above are put in; values are bound.
INSERT_CAPTURE = f"INSERT INTO {{raw_traces}} ({_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608
UPDATE_CAPTURE = f"UPDATE {{raw_traces}} SET ({_COLUMNS}) = ({_MARKS}) WHERE document_id = ?"  # noqa: S608


def time_text(instant: datetime) -> str:
    """An aware datetime as text that sorts by time, such as `2026-11-23T06:26:00.813000Z`."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def column_text(value: Any) -> Any:
    """A value for a column that captures are selected by; the exact one is in `facts`."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def row_of(key: str, document: Mapping[str, Any], now: datetime) -> tuple[Any, ...]:
    """The values of `CAPTURE_COLUMNS` for a capture's document.

    Raises:
        SkippableError: when it has no stored form, with the code `not_representable`.
    """
    try:
        return (
            key,
            column_text(document["trace_id"]),
            document["fingerprint"],
            time_text(document["started_at"]),
            document["failure_type"],
            document["severity"],
            column_text(document["ml_app"]),
            column_text(document["env"]),
            time_text(document["expires_at"]),
            time_text(now),
            lossless.dumps(document),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise SkippableError(
            f"a capture has no stored form: {type(error).__name__}", code=merging.NOT_REPRESENTABLE
        ) from error


def facts_in(row: sqlite3.Row) -> dict[str, Any]:
    """The facts of a row of captures.

    Raises:
        SkippableError: when it holds none, with the code `stored_document_unreadable`.
    """
    try:
        facts = lossless.loads(row["facts"])
    except (TypeError, ValueError, LookupError) as error:
        raise merging.unreadable(error) from error
    if not isinstance(facts, dict):
        raise merging.unreadable(TypeError("facts"))
    return facts


def stored_capture(row: sqlite3.Row) -> StoredCapture:
    """The capture in a whole row.

    Raises:
        NewerVersionError: a later program wrote it.
        SkippableError: when it holds none, with the code `stored_document_unreadable`.
    """
    capture, facts = merging.capture_in(facts_in(row))
    updated_at = datetime.fromisoformat(row["updated_at"])
    processed = bool(row["processed"])
    document = {**foreign_columns(row), **facts, "updated_at": updated_at, "processed": processed}
    return StoredCapture(capture=capture, document=document, updated_at=updated_at, processed=processed)


def foreign_columns(row: sqlite3.Row) -> dict[str, Any]:
    """What others keep in a row of captures: every column that ingestion does not write, where it is set."""
    ours = {*CAPTURE_COLUMNS, *DERIVED_COLUMNS}
    return {name: row[name] for name in row.keys() if name not in ours and row[name] is not None}  # noqa: SIM118
