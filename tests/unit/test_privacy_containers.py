"""Personal values in other spellings and containers: none stays, and what a payload keeps is not touched."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.privacy.pairs import after_names, is_personal_table, pair_name
from tests.spans import span

SANITIZER = Sanitizer(KeyRing((b"k" * 32,)))

VALUES: dict[str, tuple[Any, str]] = {
    "e-mail": (
        "jane.doe@acme.example",
        "email e-mail eMail userEmail contact_email email2 primary.email recipientEmail emailAddress",
    ),
    "name": ("Jane Doe", "name full_name customerName contact displayName recipient patient_name account_holder attendee"),
    "first name": ("Grace", "first_name firstName fname1_first_name given-name forename FIRST_NAME firstname"),
    "phone": ("+44 20 7946 0958", "phone phoneNumber mobile_no tel contact_number msisdn homePhone callback_number"),
    "phone as a number": (4155550132, "phone mobile tel phone_number order reference thing"),
    "address": ("12 Elm Street", "address street addressLine1 shippingAddress home_address location residence ship_to"),
    "word as a city": ("Reading", "city town hometown homeTown shipping_city cityName location birthplace suburb"),
    "IP": ("203.0.113.9", "ip client_ip remote_addr X-Forwarded-For source_ip peer_ip origin thing"),
    "session": ("sess_8f3a9c", "session_id sessionId sid conversation_id threadId chat_session"),
    "token": ("sk-live-abcdef123456", "token api_key X-Api-Key Authorization clientSecret refreshToken passwd credentials"),
    "birth date": ("1984-02-11", "dob date_of_birth birthDate birthday born thing"),
    "national id": ("078-05-1120", "ssn socialSecurityNumber national_id tax_id passport_no license_number"),
    "card": (4111111111111111, "card cardNumber pan credit_card cc_number thing"),
    "IBAN": ("DE89370400440532013000", "iban account_number bankAccount acct thing"),
    "postal code": ("94107", "zip zipCode postal_code postalcode POSTALCODE plz zips"),
    "word as a password": (
        "green",
        "password passwd secret security_answer mother_maiden_name user.email userName nickname",
    ),
}
KEYED = [(kind, key) for kind, (_, keys) in VALUES.items() for key in keys.split()]


def containers(key: str, value: Any) -> dict[str, Any]:
    """`{key: value}` in every container that a sender may choose."""
    return {
        "flat": {key: value},
        "nested": {"details": {"inner": {key: value}}},
        "in a list": {"items": [{key: value}]},
        "list": {key: [value]},
        "mapping": {key: {"value": value}},
        "pair": {"fields": [{"name": key, "value": value}]},
        "short pair": {"attrs": [{"k": key, "v": value}]},
        "column": {"columns": [{"id": key, "type": "text", "value": value}]},
        "form": {"form": [{"question": key, "answer": value}]},
        "OTLP": {"attrs": [{"key": key, "value": {"stringValue": value}}]},
        "pairs": {"pairs": [[key, value], ["shard", 1]]},
        "row": {"row": [key, value, "shard", 1]},
        "table": {"columns": ["shard", key], "rows": [[1, value]]},
        "JSON": {"blob": json.dumps({key: value})},
        "JSON in JSON": {"blob": json.dumps({"body": json.dumps({key: value})})},
        "base64": {"blob": base64.b64encode(json.dumps({key: value}).encode()).decode()},
        "logfmt": {"line": f'level=info {key}="{value}"'},
        "header": {"line": f"{key}: {value}"},
        "query": {"line": f"page=2&{key}={value}"},
        "XML": {"line": f"<{key}>{value}</{key}>"},
        "CSV": {"line": f"shard,{key}\n1,{value}"},
        "prefix": {f"x_{key}": value},
        "numbered": {f"{key}_2": value},
    }


def assert_gone(value: Any, stored: Any) -> None:
    text = json.dumps(stored)
    assert str(value).lower() not in text.lower()
    for part in str(value).replace("@", " ").replace(".", " ").replace("-", " ").split():
        if len(part) > 3 and part.lower() not in ("acme", "example", "street", "live"):
            assert part.lower() not in text.lower()


@pytest.mark.parametrize(("kind", "key"), KEYED, ids=[f"{kind}: {key}" for kind, key in KEYED])
def test_no_spelling_and_no_container_lets_it_pass(kind: str, key: str) -> None:
    value = VALUES[kind][0]
    for name, shape in containers(key, value).items():
        if key == "thing" and isinstance(value, str) and name in ("base64",):
            continue
        for place in ("metadata", "attributes"):
            stored = SANITIZER.sanitize(span(**{place: shape}), ()).payload.get(place)
            assert_gone(value, stored)


@pytest.mark.parametrize("kind", VALUES)
def test_keys_are_data(kind: str) -> None:
    value = VALUES[kind][0]
    if kind in ("word as a city", "word as a password"):
        return  # an ordinary word as a key says nothing
    for shape in ({str(value): 1}, {"by": {str(value): 3}}, {"items": [{str(value): True}]}):
        assert_gone(value, SANITIZER.sanitize(span(metadata=shape), ()).payload["metadata"])


@pytest.mark.parametrize(
    "point", [[52.520008, 13.404954], [-33.8688, 151.2093], {"coordinates": [2.352222, 48.856613]}, [[52.520008, 13.404954]]]
)
def test_a_place_on_earth_is_no_pair_of_scores(point: Any) -> None:
    text = json.dumps(SANITIZER.sanitize(span(metadata={"spot": point}), ()).payload["metadata"])
    for number in ("52.520008", "-33.8688", "48.856613"):
        assert number not in text


@pytest.mark.parametrize(
    "kept",
    [
        {"bounds": [0.25, 0.75]},
        {"scores": [0.912345, 0.812345]},
        {"weights": [1.5, 2.25]},
        {"steps": ["search", "answer"]},
        {"columns": ["shard", "region"], "rows": [[1, "east"]]},
        {"fields": [{"key": "color", "value": "blue"}]},
        {"tool": {"name": "search", "version": "1.2"}},
        {"type": "session", "count": 3},
        {"result": {"type": "user", "count": 3}},
        {"pairs": [["color", "blue"]]},
        {"languages": ["en", "de"]},
    ],
)
def test_harmless_containers_stay(kept: dict[str, Any]) -> None:
    assert SANITIZER.sanitize(span(metadata=kept), ()).payload["metadata"] == kept


TELEMETRY: list[dict[str, Any]] = [
    {"_dd.measured": 1, "_dd.top_level": 1, "_sampling_priority_v1": 1, "process_id": 31937, "component": "fastapi"},
    {"http.method": "POST", "http.status_code": 200, "http.route": "/api/v1/orders/{order_id}", "net.peer.port": 443},
    {
        "http.target": "/api/v1/orders",
        "url.path": "/v1/chat",
        "url.scheme": "https",
        "server.port": 443,
        "client.port": 5000,
    },
    {"db.system": "postgresql", "db.operation": "SELECT", "db.sql.table": "line_items", "db.row_count": 12},
    {"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.batch.message_count": 20},
    {"messaging.consumer.group.name": "order-workers", "thread.name": "MainThread", "code.lineno": 88},
    {"telemetry.sdk.name": "opentelemetry", "telemetry.sdk.version": "1.27.0", "host.arch": "amd64", "os.type": "linux"},
    {"cloud.provider": "aws", "cloud.region": "us-east-1", "cloud.location": "us-central1", "faas.coldstart": True},
    {"gen_ai.system": "openai", "gen_ai.usage.input_tokens": 812, "gen_ai.response.finish_reasons": ["stop"]},
    {"langgraph_step": 3, "langgraph_node": "agent", "ls_provider": "anthropic", "ls_model_type": "chat"},
    {"retrieval_k": 5, "rerank_top_n": 3, "score_threshold": 0.75, "cache": "miss", "intent": "refund_request"},
]


@pytest.mark.parametrize("attributes", TELEMETRY)
def test_ordinary_telemetry_stays(attributes: dict[str, Any]) -> None:
    assert SANITIZER.sanitize(span(attributes=attributes), ()).payload["attributes"] == attributes


def test_the_shapes_of_pairs() -> None:
    assert pair_name({"name": "email", "value": 1}) is not None
    assert pair_name({"name": "[redacted:text 5]", "value": 1}) is None
    assert pair_name({"name": "email"}) is None
    assert pair_name({"name": "color", "value": 1}) is None
    assert after_names(["email", "x", "color", 1]) == {1}
    assert after_names(["email", "phone"]) == frozenset()
    assert after_names(["an email of yours", "x"]) == frozenset()
    assert is_personal_table({"headers": ["shard", "Email"], "rows": []})
    assert not is_personal_table({"headers": ["shard", "region"], "rows": []})


@pytest.mark.parametrize(
    ("shape", "stored"),
    [
        (
            {"table": {"names": ["step", "session_id"], "parts": ["plan", "session"]}},
            {"table": {"names": ["step", "session_id"], "parts": "[redacted:list 2]"}},
        ),
        (
            {"t": {"wanted": ["step", "user.plan"], "found": [["plan", "gold"]], "shards": [1, 2, 3]}},
            {"t": {"wanted": ["step", "user.plan"], "found": "[redacted:list 1]", "shards": [1, 2, 3]}},
        ),
        ({"a": [{"param": "x-auth-token", "argument": "open sesame"}]}, {"a": ["[redacted:object 2]"]}),
        ({"a": [{"column": "user.plan", "cell": "gold"}]}, {"a": ["[redacted:object 2]"]}),
        ({"a": {"header": "user.age", "worth": 34}}, {"a": "[redacted:object 2]"}),
        (
            {"argv": ["run", "--session-id", "session"]},
            {"argv": ["run", "[redacted:text 12]", "[redacted:text 7]"]},
        ),
    ],
)
def test_tables_and_pairs_whatever_their_parts_are_called(shape: dict[str, Any], stored: dict[str, Any]) -> None:
    assert SANITIZER.sanitize(span(metadata=shape), ()).payload["metadata"] == stored


@pytest.mark.parametrize(
    "kept",
    [
        {"t": {"wanted": ["step", "shard"], "parts": ["plan", "east"]}},
        {"tool": {"name": "email", "status": "ok", "latency_ms": 12, "cached": True}},
        {"t": {"tools": ["search", "email"], "scores": [0.5, 0.25, 0.125]}},
    ],
)
def test_tables_and_pairs_that_name_nothing_personal(kept: dict[str, Any]) -> None:
    assert SANITIZER.sanitize(span(metadata=kept), ()).payload["metadata"] == kept


def test_where_keys_are_data_an_unknown_word_is_data_too() -> None:
    people, mark = {"ann@example.com": 1, "Bob Stone": 2, "niloufar": 3, "count": 4}, "[redacted:number]"
    kept = (
        Sanitizer(KeyRing((b"k" * 32,))).sanitize(span(metadata={"seats": people, "lora_rank": 8}), ()).payload["metadata"]
    )
    assert kept == {"seats": {"[key 1]": mark, "[key 2]": mark, "[key 3]": mark, "count": 4}, "lora_rank": 8}


def test_a_tool_called_after_something_personal_keeps_its_measures() -> None:
    for tool in ({"name": "lookup_customer", "k": 4}, {"name": "send_email", "retries": 2}):
        sanitized = Sanitizer(KeyRing((b"k" * 32,))).sanitize(span(metadata={"tool": tool}), ())
        assert set(tool) - {"name"} <= set(sanitized.payload["metadata"]["tool"])
