"""What reviewers ask of a SQLite file: counts, groups by signature, distinct values, and the reviews themselves."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from evalforge.core.ports import MAX_SIGNATURES, MAX_VALUES, SELECTED_BY, Brief, Facets, Position, Selection
from evalforge.core.review import Review, ReviewState
from evalforge.stores import lossless, records
from evalforge.stores.sqlite_file import Execute, SqliteFile
from evalforge.stores.sqlite_rows import column_text, time_text

ROWS_PER_PAGE = 200

_PATHS = {
    "fetched_at": f'$.fetched_at."{lossless.TIME}"',
    "service_name": "$.service_name",
    "status_code": "$.status_code",
    "span_name": "$.trace_payload.name",
    "place": "$.signals[0].place",
}
"""What rows in short need beside the columns. SQLite reads it out of the facts, faster than we read them whole."""
# S608: only the constants above are put in; values are bound.
_COLUMNS = (
    "trace_id", "signature", "started_at", "failure_type", "severity", "ml_app", "env", "model_name", "error_type",
    "user_hash", "version",
)  # fmt: skip
_BRIEF = ", ".join((*_COLUMNS, *(f"json_extract(facts, '{path}') AS {name}" for name, path in _PATHS.items())))


Conditions = list[tuple[str, tuple[str, ...]]]


def conditions_of(selection: Selection, now: datetime, beyond: Position | None = None) -> Conditions:
    """What rows must fulfil to match, as clauses with their values."""
    conditions: Conditions = [("expires_at > ?", (time_text(now),))]
    is_of_one = selection.signatures is not None and len(selection.signatures) == 1
    for column in SELECTED_BY:
        wanted = getattr(selection, column)
        if wanted is not None:
            # Of one signature there are few rows: with a plus, SQLite looks up no other index than its own.
            conditions.append((f"{'+' if is_of_one else ''}{column} = ?", (column_text(wanted),)))
    if selection.signatures is not None and is_of_one:
        conditions.append(("signature = ?", (column_text(selection.signatures[0]),)))
    elif selection.signatures is not None:
        # One value, so that any number of signatures fits into a statement.
        wanted = json.dumps([column_text(signature) for signature in selection.signatures])
        conditions.append(("signature IN (SELECT value FROM json_each(?))", (wanted,)))
    if selection.started_from is not None:
        conditions.append(("started_at >= ?", (time_text(selection.started_from),)))
    if selection.started_to is not None:
        conditions.append(("started_at < ?", (time_text(selection.started_to),)))
    if beyond is not None:
        place = (time_text(beyond.started_at), column_text(beyond.document_id))
        conditions.append(("(started_at, document_id) < (?, ?)", place))
    return conditions


def where(conditions: Conditions) -> tuple[str, list[str]]:
    """The clauses as one, and all their values."""
    return " AND ".join(clause for clause, _ in conditions), [value for _, values in conditions for value in values]


async def count_matching(file: SqliteFile, selection: Selection, now: datetime) -> int:
    """How many rows match, or the selection's limit if that is less."""
    clause, values = where(conditions_of(selection, now))
    limit = -1 if selection.limit is None else selection.limit
    statement = f"SELECT COUNT(*) FROM (SELECT 1 FROM {{raw_traces}} WHERE {clause} LIMIT {limit:d})"  # noqa: S608
    return int((await _fetched(file, statement, values))[0][0])


async def briefs(file: SqliteFile, selection: Selection, now: datetime) -> list[Brief]:
    """The rows that match in short, the latest start first."""
    clause, values = where(conditions_of(selection, now))
    statement = (
        f"SELECT {_BRIEF} FROM {{raw_traces}} WHERE {clause} AND json_valid(facts) "  # noqa: S608
        f"ORDER BY started_at DESC, document_id DESC LIMIT {selection.limit or 0:d}"
    )
    return [_brief_of(row) for row in await _fetched(file, statement, values)]


async def facets(file: SqliteFile, selection: Selection, now: datetime) -> list[Facets]:
    """What groups count of the rows that match, the latest start first."""
    clause, values = where(conditions_of(selection, now))
    statement = (
        f"SELECT started_at, severity, env, model_name, user_hash, version FROM {{raw_traces}} WHERE {clause} "  # noqa: S608
        f"ORDER BY started_at DESC, document_id DESC LIMIT {selection.limit or 0:d}"
    )
    return [
        records.facets_of({**row, "started_at": datetime.fromisoformat(row["started_at"])}, _version_in(row))
        for row in await _fetched(file, statement, values)
    ]


async def newest_by_signature(file: SqliteFile, now: datetime) -> list[Brief]:
    """The newest row of each signature in short."""
    newest = (
        f"SELECT SUBSTR(MAX(started_at || document_id), -32) FROM {{raw_traces}} "  # noqa: S608
        f"WHERE signature IS NOT NULL AND expires_at > ? GROUP BY signature LIMIT {MAX_SIGNATURES}"
    )
    statement = f"SELECT {_BRIEF} FROM {{raw_traces}} WHERE document_id IN ({newest}) AND json_valid(facts)"  # noqa: S608
    return [_brief_of(row) for row in await _fetched(file, statement, (time_text(now),))]


async def first_started_at(file: SqliteFile, signature: str, now: datetime) -> datetime | None:
    """The earliest start of the signature's rows."""
    statement = "SELECT MIN(started_at) FROM {raw_traces} WHERE signature = ? AND expires_at > ?"
    found = (await _fetched(file, statement, (column_text(signature), time_text(now))))[0][0]
    return None if found is None else datetime.fromisoformat(found)


async def values_of(file: SqliteFile, field: str, now: datetime) -> list[str]:
    """The distinct values of a column that selects.

    Raises:
        ValueError: no such column selects.
    """
    if field not in SELECTED_BY:
        raise ValueError(field)
    statement = (
        f"SELECT DISTINCT {field} FROM {{raw_traces}} WHERE {field} IS NOT NULL AND expires_at > ? "  # noqa: S608
        f"ORDER BY {field} LIMIT {MAX_VALUES}"
    )
    return [str(row[0]) for row in await _fetched(file, statement, (time_text(now),))]


def _brief_of(row: sqlite3.Row) -> Brief:
    values = {name: row[name] for name in Brief.__slots__ if name != "evaluator"}
    values["started_at"] = datetime.fromisoformat(row["started_at"])
    values["fetched_at"] = datetime.fromisoformat(row["fetched_at"] or row["started_at"])
    return records.brief_of(values, _version_in(row), row["place"])


def _version_in(row: sqlite3.Row) -> Any:
    version = row["version"]
    return json.loads(version) if isinstance(version, str) and version.startswith("[") else version


# -- reviews


async def load_review(file: SqliteFile, signature: str) -> Review:
    """The review of a group, or a fresh one."""
    rows = await _fetched(file, "SELECT document FROM {groups} WHERE signature = ?", (records.record_id(signature),))
    return _review_of(rows[0]) if rows else Review(signature)


async def reviews(file: SqliteFile, state: ReviewState | None) -> AsyncIterator[Review]:
    """Every review, ascending by key."""
    last = ""
    while True:
        statement = f"SELECT * FROM {{groups}} WHERE signature > ? ORDER BY signature LIMIT {ROWS_PER_PAGE}"  # noqa: S608
        rows = await _fetched(file, statement, (last,))
        for row in rows:
            with suppress(TypeError, ValueError, LookupError, AttributeError):
                review = _review_of(row)
                if state is None or review.state is state:
                    yield review
        if len(rows) < ROWS_PER_PAGE:
            return
        last = rows[-1]["signature"]


async def save_review(file: SqliteFile, review: Review) -> bool:
    """Whether the review stands now: nobody had written it since `review.version`."""
    key = records.record_id(review.signature)
    document = lossless.dumps(records.review_document(review))

    def save(execute: Execute) -> bool:
        row = execute("SELECT document FROM {groups} WHERE signature = ?", (key,)).fetchone()
        if (_version_of(row) if row is not None else "") != review.version:
            return False
        execute("INSERT OR REPLACE INTO {groups} (signature, document) VALUES (?, ?)", (key, document))
        return True

    return await file.write(save)


def _review_of(row: sqlite3.Row) -> Review:
    document: Mapping[str, Any] = lossless.loads(row["document"])
    return replace(records.review_of(document), version=_version_of(row))


def _version_of(row: sqlite3.Row) -> str:
    return hashlib.sha256(row["document"].encode()).hexdigest()


async def _fetched(file: SqliteFile, statement: str, values: Sequence[Any]) -> list[sqlite3.Row]:
    return await file.read(partial(_fetch, statement=statement, values=values))


def _fetch(execute: Execute, *, statement: str, values: Sequence[Any]) -> list[sqlite3.Row]:
    return execute(statement, values).fetchall()
