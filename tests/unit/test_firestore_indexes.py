"""What is declared for Firestore: the file, the command that prints it, and the rules that it is held against."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore_v1 import types

from evalforge.cli import main
from evalforge.core.ports import COLLECTIONS, DeadLetter, Erasure, ExportPackage, RunRecord
from evalforge.core.review import Review
from evalforge.inventory import CAPTURE, LEASE, LETTER, PLACES, RUN
from evalforge.stores import merging, records
from evalforge.stores.firestore_indexes import EXPIRING, EXPIRY, INDEXES, Index, Mode, deployment, deployment_text
from tests.captures import NOW, START_NS, capture, merged
from tests.contract.index_rules import default_entry_count, entry_count, lacking, query_of

DEPLOY = Path(__file__).parents[2] / "deploy" / "firestore"
LATER = NOW + timedelta(days=30)
UP, DOWN, ANY = Mode


# -- the file


def test_the_file_in_deploy_is_the_one_of_the_table() -> None:
    again = "evalforge firestore indexes > deploy/firestore/firestore.indexes.json"
    assert (DEPLOY / "firestore.indexes.json").read_text() == deployment_text("evalforge_"), f"run {again}"
    [database] = json.loads((DEPLOY / "firebase.json").read_text())["firestore"]
    assert all((DEPLOY / database[name]).is_file() for name in ("rules", "indexes"))


def test_every_field_of_every_collection_is_exempt_unless_it_is_named() -> None:
    overrides = deployment("p_")["fieldOverrides"]
    assert [one["collectionGroup"] for one in overrides if one["fieldPath"] == "*" and not one["indexes"]] == [
        f"p_{name}" for name in COLLECTIONS
    ]
    assert {(one["collectionGroup"], one["fieldPath"]) for one in overrides if one["indexes"]} == {
        (f"p_{index.collection}", index.fields[0][0]) for index in INDEXES if len(index.fields) == 1
    }
    places = [(one["collectionGroup"], one["fieldPath"]) for one in overrides]
    assert len(places) == len(set(places)), "a field has one row, whatever it is there for"


def test_what_expires_is_deleted_and_nothing_else() -> None:
    overrides = deployment("")["fieldOverrides"]
    assert [(one["collectionGroup"], one["fieldPath"]) for one in overrides if one["ttl"]] == [
        (name, EXPIRY) for name in COLLECTIONS if name in EXPIRING
    ]
    assert [place for place in PLACES if EXPIRY in place.names and "prefix" in place.title] == [CAPTURE, LETTER, RUN, LEASE]


# -- the command


def test_the_command_prints_the_file_for_the_prefix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIRESTORE_COLLECTION_PREFIX", "team-a_")
    monkeypatch.setenv("DATADOG_SITE", "nowhere")  # another setting's mistake is not in the way
    assert main(["firestore", "indexes"]) == 0
    assert capsys.readouterr().out == deployment_text("team-a_")
    monkeypatch.delenv("FIRESTORE_COLLECTION_PREFIX")
    assert main(["firestore", "indexes"]) == 0
    assert capsys.readouterr().out == deployment_text("evalforge_")
    monkeypatch.setenv("FIRESTORE_COLLECTION_PREFIX", "no prefix")
    assert main(["firestore", "indexes"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, "FIRESTORE_COLLECTION_PREFIX" in shown.err) == ("", True)


def test_the_gcloud_commands_do_what_the_file_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIRESTORE_COLLECTION_PREFIX", "p_")
    assert main(["firestore", "indexes", "--gcloud"]) == 0
    words = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert {tuple(one[:2]) for one in words} == {("gcloud", "firestore")}
    assert all("--database=(default)" in one for one in words)
    kinds = [tuple(one[2:4]) for one in words]
    document = deployment("p_")
    assert kinds.count(("indexes", "composite")) == len(document["indexes"])
    assert kinds.count(("indexes", "fields")) == len(document["fieldOverrides"])
    assert kinds.count(("fields", "ttls")) == len(EXPIRING)
    assert [one[5] for one in words[-len(COLLECTIONS) :]] == ["*"] * len(COLLECTIONS), "exempted last"
    for wanted in (
        "indexes composite create --collection-group=p_raw_traces --field-config=field-path=severity,order=ascending "
        "--field-config=field-path=started_at,order=descending",
        "indexes fields update user_hashes --collection-group=p_raw_traces --index=array-config=contains",
        "indexes fields update expires_at --collection-group=p_runs --disable-indexes",
        "indexes fields update * --collection-group=p_checkpoints --disable-indexes",
        "fields ttls update expires_at --collection-group=p_dead_letters --enable-ttl",
    ):
        assert wanted.split() in [one[2:-2] for one in words]


def test_the_command_needs_nothing_of_googles() -> None:
    code = "import sys; from evalforge.cli import main; main(['firestore', 'indexes']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.rsplit("\n", 2)[-2]
    assert "'evalforge.stores.firestore_indexes'" in modules
    assert "'google" not in modules
    assert "'grpc" not in modules


# -- the rules


def condition(field: str, operator: str = "EQUAL") -> dict[str, Any]:
    number = getattr(types.StructuredQuery.FieldFilter.Operator, operator)
    return {"field_filter": {"field": {"field_path": field}, "op": number, "value": {"string_value": "x"}}}


def structured(*conditions: dict[str, Any], order: str = "", **others: Any) -> types.StructuredQuery:
    """A query of `p_c` ordered by the fields in `order`, those with a minus descending."""
    orders = [
        {"field": {"field_path": field.lstrip("-")}, "direction": 2 if field.startswith("-") else 1}
        for field in order.split()
    ]
    where = {"composite_filter": {"op": 1, "filters": list(conditions)}} if conditions else None
    return types.StructuredQuery(from_=[{"collection_id": "p_c"}], where=where, order_by=orders, **others)


A, B, T, S = (Index("c", ((field, mode),), "") for field, mode in (("a", UP), ("b", UP), ("t", DOWN), ("s", ANY)))
AT, BT = (Index("c", ((field, UP), ("t", DOWN)), "") for field in "ab")
ABT = Index("c", (("a", DOWN), ("b", UP), ("t", DOWN)), "")

CASES: list[tuple[types.StructuredQuery, list[Index], list[str]]] = [
    (structured(), [], []),
    (structured(order="__name__"), [], []),
    (structured(order="-__name__"), [], ["c: __name__ DESCENDING"]),
    (structured(order="-t"), [T], []),
    (structured(order="-t -__name__"), [T], []),
    (structured(order="t"), [T], ["c: t ASCENDING, __name__ ASCENDING"]),
    (structured(order="-t __name__"), [T], ["c: t DESCENDING, __name__ ASCENDING"]),
    (structured(order="-t"), [AT], ["c: t DESCENDING, __name__ DESCENDING"]),
    (structured(order="-t"), [Index("d", T.fields, "")], ["c: t DESCENDING, __name__ DESCENDING"]),
    (structured(condition("t", "GREATER_THAN")), [T], ["c: t ASCENDING, __name__ ASCENDING"]),
    (structured(condition("t", "GREATER_THAN"), condition("t", "LESS_THAN"), order="-t"), [T], []),
    (structured(condition("a")), [A], []),
    (structured(condition("a")), [Index("c", (("a", DOWN),), "")], ["c: a, __name__ ASCENDING"]),
    (structured(condition("a"), condition("b")), [A, B], []),
    (structured(condition("a"), condition("b", "IN")), [A], ["c: b, __name__ ASCENDING"]),
    (structured(condition("a"), order="-t"), [A, T], ["c: a, t DESCENDING, __name__ DESCENDING"]),
    (structured(condition("a"), order="-t"), [AT], []),
    (structured(condition("a"), order="-t"), [ABT], ["c: a, t DESCENDING, __name__ DESCENDING"]),
    (structured(condition("a"), condition("t", "LESS_THAN")), [AT], ["c: a, t ASCENDING, __name__ ASCENDING"]),
    (structured(condition("a"), condition("b"), order="-t"), [AT], ["c: b, t DESCENDING, __name__ DESCENDING"]),
    (structured(condition("a"), condition("b"), order="-t"), [ABT], []),
    (structured(condition("a"), condition("b"), condition("t", "LESS_THAN"), order="-t"), [AT, BT], []),
    (structured(condition("s", "ARRAY_CONTAINS")), [S], []),
    (structured(condition("s", "ARRAY_CONTAINS_ANY")), [Index("c", (("s", UP),), "")], ["c: s, __name__ ASCENDING"]),
    (structured(condition("s")), [S], ["c: s, __name__ ASCENDING"]),
]


@pytest.mark.parametrize(("query", "indexes", "lacks"), CASES)
def test_the_rules_say_what_is_lacking(query: types.StructuredQuery, indexes: list[Index], lacks: list[str]) -> None:
    assert lacking(query_of(query, "p_"), indexes) == lacks


@pytest.mark.parametrize(
    "query",
    [
        structured(condition("a", "NOT_EQUAL")),
        structured(find_nearest={"limit": 1}),
        structured(order="__name__ t"),
        structured(condition("a"), order="a"),
        types.StructuredQuery(from_=[{"collection_id": "p_c", "all_descendants": True}]),
        types.StructuredQuery(from_=[{"collection_id": "other_c"}]),
        types.StructuredQuery(from_=[{"collection_id": "p_c"}], where={"composite_filter": {"op": 2}}),
        types.StructuredQuery(from_=[{"collection_id": "p_c"}], where={"unary_filter": {"op": 2}}),
    ],
)
def test_what_the_rules_do_not_know_is_no_query_in_order(query: types.StructuredQuery) -> None:
    with pytest.raises(NotImplementedError):
        query_of(query, "p_")


# -- how many entries


def fullest_capture() -> dict[str, Any]:
    """A long trace of several users that lacks no field."""
    about: dict[str, Any] = {"error_type": "Timeout", "status_code": 500, "apm_trace_id": "a1"}
    body = {"name": "answer", "error": {"message": "timed out"}, "metrics": {f"m{number}": number for number in range(50)}}
    spans = [
        capture(1, str(number), user_hash=f"u1a2b_{number % 5:032x}", start_ns=START_NS + number, payload=body, **about)
        for number in range(150)
    ]
    _, document = merging.fitted_document(merged(*spans))
    return {**document, **merging.created_fields(NOW)}


DOCUMENTS: dict[str, tuple[dict[str, Any], int]] = {
    "raw_traces": (fullest_capture(), 16),
    "groups": (records.review_document(Review("s1_a")), 0),
    "dead_letters": (records.letter_document(DeadLetter("i", "apm", "parse", "r", {"a": {}}, NOW, LATER, "t", "s")), 2),
    "runs": (records.run_document(RunRecord("r", "complete", "window", "h", "cli", NOW, LATER, NOW, {"items": {}})), 1),
    "exports": (records.package_document(ExportPackage("p", NOW, "jsonl", "file", {}, 0, "0", 0, "delivered")), 1),
    "tombstones": (records.erasure_document(Erasure("e", NOW, "user", "cli", ("u",), ("0" * 32,))), 1),
    "checkpoints": ({"fence": 1, EXPIRY: NOW}, 0),
}


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_document_has_few_index_entries(collection: str) -> None:
    document, count = DOCUMENTS[collection]
    others = len(document.get("user_hashes", ["one"])) - 1
    assert entry_count(collection, document, INDEXES) == count <= 12 + others, "12, and one for each further user"
    assert default_entry_count(document) >= max(2 * len(document), 4 * count)


def test_the_fullest_capture_lacks_nothing() -> None:
    document, _ = DOCUMENTS["raw_traces"]
    assert set(CAPTURE.names) - {"document_id"} <= {name for name, value in document.items() if value is not None}
    assert len(document["user_hashes"]) == 5


def test_arrays_count_by_their_elements() -> None:
    assert entry_count("c", {"a": 1, "s": ["x", "y", "x"]}, [A, B, S, Index("c", (("s", ANY), ("a", UP)), "")]) == 1 + 2 + 2
    assert default_entry_count({"a": 1, "m": {"b": 1, "c": 2}, "s": ["x", "y"]}) == 2 + (2 + 4) + (2 + 2)
