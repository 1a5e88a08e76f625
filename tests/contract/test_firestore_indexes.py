"""Every query that the Firestore store sends has its index declared, and no index is declared in vain.

The emulator answers any query, so the queries are taken off the wire and held against Firestore's own rules.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.base_query import FieldFilter

import evalforge
from evalforge.core.ports import (
    COLLECTIONS,
    LOOKBACK,
    SELECTED_BY,
    Checkpoint,
    Coverage,
    DeadLetter,
    Erasure,
    ExportPackage,
    Lease,
    Position,
    RunRecord,
    Selection,
    Store,
    StoredDocument,
    Told,
)
from evalforge.core.review import Review
from evalforge.core.window import Window
from evalforge.stores.firestore import FirestoreStore
from evalforge.stores.firestore_indexes import INDEXES, Mode
from tests.captures import NOW, capture, captures
from tests.contract.flaky_firestore import FlakyFirestore
from tests.contract.index_rules import lacking, query_of
from tests.contract.stores import PREFIX, FirestorePlace

SOURCE = Path(evalforge.__file__).parent
RULES = Path(__file__).parents[2] / "deploy" / "firestore" / "firestore.rules"
LATER = NOW + timedelta(days=30)


def selections() -> list[Selection]:
    """A selection for every set of equalities; their times, and how many signatures, vary with them."""
    values = {"datetime": NOW, "str": "x", "tuple[str,": ("s1_x",)}
    conditions = [
        (field.name, values[str(field.type).partition(" ")[0]])
        for field in dataclasses.fields(Selection)
        if field.name not in ("limit", "started_from", "started_to")
    ]
    times = itertools.cycle([{}, {"started_from": NOW}, {"started_to": NOW}, {"started_from": NOW, "started_to": NOW}])
    chosen = itertools.product([False, True], repeat=len(conditions))
    return [Selection(**dict(itertools.compress(conditions, one)), **next(times), limit=3) for one in chosen]  # type: ignore[arg-type]


TOMBSTONE = Erasure("e1", NOW, "trace", "cli", trace_keys=tuple(f"{number:032x}" for number in range(40_001)))
VALUES: dict[str, list[Any]] = {
    "now": [NOW],
    "captures": [captures(3)],
    "capture": [capture(1)],
    "origins": [{capture(1).trace_id: b"1" * 16}],
    "absent": [()],
    "stored": [StoredDocument("raw_traces", capture(1).document_id, {}, "1.000000000")],
    "old": [StoredDocument("runs", "r9", {}, "1.000000000")],
    "document": [{}],
    "selection": selections(),
    "trace_id": [capture(1).trace_id],
    "trace_ids": [[capture(1).trace_id]],
    "user_hashes": [frozenset({f"u1a2b_{number:032x}" for number in range(31)}), frozenset({capture(1).user_hash})],
    "source": ["llm_obs"],
    "tiers": [[LOOKBACK]],
    "checkpoint": [Checkpoint("llm_obs", Window(0, 1))],
    "fence": [1],
    "coverage": [Coverage("llm_obs", "digest", NOW)],
    "told": [Told("0a", frozenset({"s1_x"}), {"s1_y": NOW})],
    "lease": [Lease("run", "holder", "token", NOW, LATER)],
    "name": ["run"],
    "key_ids": [frozenset({"u1a2b"})],
    "letters": [[DeadLetter("one", "llm_obs", "parse", "no_trace_id", {}, NOW, LATER, trace_id=capture(1).trace_id)]],
    "ids": [["two"]],
    "beyond": [None, Position(NOW, "a")],
    "signature": ["s1_x"],
    "field": list(SELECTED_BY),
    "state": [None],
    "review": [Review("s1_x")],
    "record": [RunRecord("r1", "running", "window", "holder", "cli", NOW, LATER)],
    "run_id": ["r1"],
    "limit": [3],
    "package_id": ["p1"],
    "package": [ExportPackage("p1", NOW, "jsonl", "file", {}, 0, "0" * 64, 0, "delivered")],
    "erasure": [TOMBSTONE],
    "collection": list(COLLECTIONS),
    "after": [None, "a"],
    "on_deleted": [None],
}
"""What each parameter of a store's methods is given, by its name; every combination is called."""

LATEST = Mode.DESCENDING

METHODS = [name for name, member in vars(FirestoreStore).items() if not name.startswith("_") and inspect.isfunction(member)]


@pytest.fixture
def place(firestore_emulator: str) -> FirestorePlace:
    return FirestorePlace(firestore_emulator)


@pytest.fixture
async def door(firestore_emulator: str) -> AsyncIterator[FlakyFirestore]:
    async with FlakyFirestore(firestore_emulator) as server:
        yield server


async def call_everything(store: FirestoreStore) -> None:
    """Every method of the store, with every combination of `VALUES`, in the order in which they stand there."""
    for name in METHODS:
        method = getattr(store, name)
        parameters = list(inspect.signature(method).parameters)
        for values in itertools.product(*(VALUES[parameter] for parameter in parameters)):
            called = method(**dict(zip(parameters, values, strict=True)))
            if inspect.isasyncgen(called):
                async for _ in called:
                    pass
            else:
                await called


def downstream(place: FirestorePlace) -> types.StructuredQuery:
    """What somebody asks who works through captures, as the official client sends it."""
    unprocessed = FieldFilter("processed", "==", False)
    query: types.StructuredQuery = place.client.collection(f"{PREFIX}raw_traces").where(filter=unprocessed)._to_protobuf()
    return query


async def test_every_query_has_its_index_and_every_index_its_query(door: FlakyFirestore, place: FirestorePlace) -> None:
    assert set(METHODS) == {name for name in dir(Store) if not name.startswith("_")}
    await call_everything(FirestoreStore(place.project, prefix=PREFIX, emulator_host=door.address))
    assert set(door.methods) == {"BatchGetDocuments", "BatchWrite", "RunQuery", "RunAggregationQuery"}
    queries = {query_of(query, PREFIX) for query in [*door.queries, downstream(place)]}
    listings = [query for query in queries if query.collection == "raw_traces" and query.order[0] == ("started_at", LATEST)]
    assert len(listings) == 2 ** (len(SELECTED_BY) + 1)
    assert [line for query in queries for line in lacking(query, INDEXES)] == []
    for index in INDEXES:
        rest = [one for one in INDEXES if one is not index]
        assert any(lacking(query, rest) for query in queries), f"nothing needs {index}"


# -- no query escapes

MAKERS = {
    "query_captures",
    "next_value",
    "earliest_captures",
    "documents_by_name",
    "documents_by_time",
    "newest_documents",
    "count_live",
    "count_matching",
}
CALLERS = {
    "__init__.py: select",
    "__init__.py: count",
    "__init__.py: count_matching",
    "reviewing.py: _read",
    "reviewing.py: newest_by_signature",
    "reviewing.py: walk",
    "reviewing.py: first_started_at",
    "reviewing.py: values_of",
    "reviewing.py: reviews",
    "__init__.py: dead_letter_count",
    "__init__.py: dead_letters",
    "__init__.py: recent_runs",
    "__init__.py: packages",
    "erasing.py: erasures",
    "erasing.py: captures_of_users",
    "erasing.py: _delete_matching",
    "upkeep.py: documents",
    "upkeep.py: purge",
}
"""Where queries are asked for. Whoever adds one sees to it that the test above sends it, in each of its forms."""


def functions_that_call(path: Path, names: set[str]) -> Iterator[str]:
    """The functions of a file that call one of these, whatever module it comes from."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names:
                    yield f"{path.name}: {function.name}"


def test_queries_are_made_in_one_place_and_asked_for_where_we_know() -> None:
    naming = {path.name: path for path in SOURCE.rglob("*.py") if "StructuredQuery" in path.read_text()}
    # live.py asks for one name by each index that is declared, and so for no others.
    assert set(naming) == {"live.py", "reader.py"}
    reader = naming["reader.py"]
    made = set(functions_that_call(reader, {"StructuredQuery"}))
    assert made - {"reader.py: attempt"} == {f"reader.py: {name}" for name in MAKERS}
    asked = {line for path in reader.parent.glob("*.py") for line in functions_that_call(path, MAKERS)}
    assert asked == CALLERS


# -- rules


def status_of(place: FirestorePlace, method: str, *, owner: bool) -> int:
    """How the emulator answers somebody who reads, or writes, a capture over HTTP."""
    url = f"http://{place.address}/v1/projects/{place.project}/databases/(default)/documents/{PREFIX}raw_traces/a"
    request = urllib.request.Request(url, method=method, data=b"{}" if method == "PATCH" else None)
    if owner:
        request.add_header("Authorization", "Bearer owner")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_rules_let_nobody_in_but_service_accounts(place: FirestorePlace) -> None:
    assert status_of(place, "PATCH", owner=False) == 200, "without rules the emulator lets everybody in"
    order = {"rules": {"files": [{"name": RULES.name, "content": RULES.read_text()}]}}
    url = f"http://{place.address}/emulator/v1/projects/{place.project}:securityRules"
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(order).encode(), headers, method="PUT"), timeout=30):
        pass
    for method in ("GET", "PATCH", "DELETE"):
        assert status_of(place, method, owner=False) == 403
        assert status_of(place, method, owner=True) == 200
