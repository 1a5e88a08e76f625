"""Examples as records that Datadog can take: bounded in size, in batches, with ids that are the same in every push."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalforge.core.span import Json
from evalforge.exports.examples import Example
from evalforge.exports.formats import datadog
from evalforge.exports.jsonl import json_bytes

MOST_RECORDS = 100
MOST_BYTES = 500_000
"""How many records, and bytes of them, go in one request; a larger record goes alone.

Source: dd-trace-py sends at most 1,000 (`Dataset.BATCH_UPDATE_MAX_RECORDS`); its pull request 16766 met timeouts at 5 MB and
none at 500 KB. Datadog publishes no number, only that a batch may be refused with 413.
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One record ready to be sent: the example's id, the JSON document, and its size in bytes."""

    id: str
    document: Mapping[str, Json]
    size_bytes: int


def record_of(example: Example) -> Record:
    """The record of an example; half of a surrogate pair, which UTF-8 cannot spell, becomes a replacement character."""
    document = _spellable(datadog.record(example))
    return Record(example.id, document, len(json_bytes(document)))


def change_of(dataset_id: str, records: Sequence[Record], *, new_version: bool) -> Json:
    """The body that inserts records under their own ids.

    Nothing is left out for being equal to another record: two captures of one question are two. That the attribute
    `deduplicate` exists here is known from dd-trace-py alone, which sends it.
    """
    attributes = {
        "insert_records": [record.document for record in records],
        "update_records": [],
        "delete_records": [],
        "deduplicate": False,
        "create_new_version": new_version,
    }
    return {"data": {"type": "datasets", "id": dataset_id, "attributes": attributes}}


def _spellable(value: Json) -> Json:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, Mapping):
        return {_spellable(key): _spellable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_spellable(inner) for inner in value]
    return value
