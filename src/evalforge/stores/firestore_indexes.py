"""Which indexes the Firestore store's queries need, as one table, and what deploys them.

Nothing of Google's is imported here. Every field that the table does not name is exempt from indexing, so a stored document
costs a handful of index entries and not two for each of its leaves. A contract test holds the table complete against the
queries that are sent, because the emulator answers any query without an index.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from evalforge.core.ports import COLLECTIONS, SELECTED_BY


class Mode(StrEnum):
    """How a field stands in an index.

    Source: https://cloud.google.com/firestore/docs/reference/rest/v1/projects.databases.collectionGroups.indexes
    """

    ASCENDING = "ASCENDING"
    DESCENDING = "DESCENDING"
    CONTAINS = "CONTAINS"


@dataclass(frozen=True, slots=True)
class Index:
    """One index of one of `ports.COLLECTIONS`: of a single field, or composite, and what it is there for.

    After its fields an index is sorted by document name, in the direction of the last field (ascending after an array).
    """

    collection: str
    fields: tuple[tuple[str, Mode], ...]
    serves: str


EXPIRING = ("raw_traces", "dead_letters", "runs")
"""The collections with a TTL policy on `EXPIRY`. Tombstones must stay, and a lease that has expired is still remembered."""
EXPIRY = "expires_at"

_ASCENDING, _DESCENDING, _CONTAINS = Mode

INDEXES = (
    Index("raw_traces", (("started_at", _DESCENDING),), "listing and exporting captures"),
    # Whatever fields a selection names, Firestore merges the indexes of each: they end in the same order.
    # Source: https://firebase.google.com/docs/firestore/query-data/index-overview (index merging)
    *(
        Index("raw_traces", ((field, _ASCENDING), ("started_at", _DESCENDING)), f"the same, selected by `{field}`")
        for field in (*SELECTED_BY, "signature")
    ),
    Index("raw_traces", (("signature", _ASCENDING), ("started_at", _ASCENDING)), "when a group was first seen"),
    Index("raw_traces", ((EXPIRY, _ASCENDING),), "counting the captures that have not expired"),
    Index("raw_traces", (("processed", _ASCENDING),), "downstream: what it has not processed"),
    Index("raw_traces", (("user_hashes", _CONTAINS),), "erasure and access by user"),
    Index("dead_letters", ((EXPIRY, _ASCENDING),), "counting the dead letters that have not expired"),
    Index("dead_letters", (("trace_id", _ASCENDING),), "erasure"),
    Index("runs", (("started_at", _DESCENDING),), "listing runs"),
    Index("exports", (("created_at", _DESCENDING),), "listing packages"),
    Index("tombstones", (("erased_at", _ASCENDING),), "loading tombstones, at the start of every run"),
)
"""Every index that the store's queries need, and that of whoever works through captures. Reading by name needs none."""


def deployment(prefix: str) -> dict[str, Any]:
    """What `firestore.indexes.json` says for the collections whose names begin with `prefix`.

    Source: https://firebase.google.com/docs/reference/firestore/indexes
    """
    overrides = [override for collection in COLLECTIONS for override in _overrides(prefix, collection)]
    composites = [
        {
            "collectionGroup": f"{prefix}{index.collection}",
            "queryScope": "COLLECTION",
            "fields": [{"fieldPath": field, **_mode(mode)} for field, mode in index.fields],
        }
        for index in INDEXES
        if len(index.fields) > 1
    ]
    return {"indexes": composites, "fieldOverrides": overrides}


def deployment_text(prefix: str) -> str:
    """The same as the text of the file."""
    return json.dumps(deployment(prefix), indent=2) + "\n"


def gcloud_commands(prefix: str, database: str) -> list[str]:
    """The same as shell commands, each of which returns when its work is done.

    Everything else is exempted last, so that a database in use keeps the indexes that its queries need.
    Source: https://cloud.google.com/sdk/gcloud/reference/firestore
    """
    document = deployment(prefix)
    rows = []
    for index in document["indexes"]:
        parts = [f"field-path={one['fieldPath']},{_flag(one)}" for one in index["fields"]]
        configs = [f"--field-config={part}" for part in parts]
        rows.append(["indexes", "composite", "create", f"--collection-group={index['collectionGroup']}", *configs])
    for row in sorted(document["fieldOverrides"], key=lambda row: row["fieldPath"] == "*"):
        place = [row["fieldPath"], f"--collection-group={row['collectionGroup']}"]
        modes = [f"--index={_flag(one)}" for one in row["indexes"]] or ["--disable-indexes"]
        rows.append(["indexes", "fields", "update", *place, *modes])
        if row["ttl"]:
            rows.append(["fields", "ttls", "update", *place, "--enable-ttl"])
    return [shlex.join(["gcloud", "firestore", *row, f"--database={database}", "--quiet"]) for row in rows]


def _overrides(prefix: str, collection: str) -> Iterator[dict[str, Any]]:
    group = f"{prefix}{collection}"
    modes: dict[str, list[Mode]] = {EXPIRY: []} if collection in EXPIRING else {}
    for index in INDEXES:
        if index.collection == collection and len(index.fields) == 1:
            [(field, mode)] = index.fields
            modes.setdefault(field, []).append(mode)
    yield {"collectionGroup": group, "fieldPath": "*", "ttl": False, "indexes": []}
    for field in sorted(modes):
        yield {
            "collectionGroup": group,
            "fieldPath": field,
            "ttl": field == EXPIRY and collection in EXPIRING,
            "indexes": [{**_mode(mode), "queryScope": "COLLECTION"} for mode in modes[field]],
        }


def _flag(field: Mapping[str, Any]) -> str:
    return "array-config=contains" if "arrayConfig" in field else f"order={field['order'].lower()}"


def _mode(mode: Mode) -> dict[str, str]:
    return {"arrayConfig": mode.value} if mode is Mode.CONTAINS else {"order": mode.value}
