"""The second net: what it finds whatever its spelling, what it must leave alone, and where it says that something stands."""

from __future__ import annotations

import base64
import gzip
import json
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import re2

from evalforge.core.links import span_url, trace_url
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.privacy.gate import GATE_ROWS, GateRow, gate
from evalforge.core.privacy.modes import TextPolicy
from evalforge.core.privacy.neighbours import TraceContext
from evalforge.core.privacy.net import Leak, kind_in, leaks_in, second_net
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.sites import SITES
from evalforge.core.span import Span
from evalforge.sources.datadog.spans import parse_apm, parse_llm_obs

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
RING = KeyRing((b"k" * 32,))

# One row a kind: the kind, and what it looks like.
PERSONAL = [
    ("email", "jane.doe@example.com"),
    ("email", "jane.doe (at) example (dot) com"),
    ("phone", "+44 20 7946 0958"),
    ("phone", "(212) 555-0147"),
    ("card", "4111 1111 1111 1111"),
    ("card", "4111111111111111"),
    ("iban", "GB29 NWBK 6016 1331 9268 19"),
    ("iban", "DE89370400440532013000"),
    ("national_id", "my SSN is 536-22-8145"),
    ("ip", "203.0.113.77"),
    ("ip", "2001:db8:85a3::8a2e:370:7334"),
    ("mac", "00:1A:2B:3C:4D:5E"),
    ("url", "https://jane:secret@shop.example.com/orders?user=jane"),
    ("wallet", "0x52908400098527886E0F7030069857D2E4169EE7"),
    ("secret", "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"),
    ("secret", "AKIAIOSFODNN7EXAMPLE"),
    ("secret", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    ("secret", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"),
    ("secret", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq\n-----END RSA PRIVATE KEY-----"),
    ("secret", "password: hunter2"),
    ("secret", "Authorization: Bearer abcdef0123456789abcdef"),
    ("path", "/home/jane.doe/app/main.py"),
    ("coordinates", "52.520008, 13.404954"),
    ("birth_date", "she was born on 4 May 1985"),
    ("licence_plate", "the licence plate is B-AB 1234"),
]


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": in_base64,
    "base64url": lambda text: base64.urlsafe_b64encode(f"contact: {text}".encode()).decode().rstrip("="),
    "base64 twice": lambda text: in_base64(in_base64(text)),
    "hexadecimal": lambda text: text.encode().hex(),
    "percent": percent,
    "percent quoted": urllib.parse.quote,
    "base64 of percent": lambda text: in_base64(percent(text)),
    "JSON": lambda text: json.dumps({"reply": {"note": text}}),
    "JSON in JSON": lambda text: json.dumps({"body": json.dumps({"note": text})}),
    "gzip": lambda text: in_base64("") + base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode(),
    "escapes": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "entities": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "fullwidth": lambda text: "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text),
}


@pytest.mark.parametrize(("kind", "text"), PERSONAL)
def test_what_is_found(kind: str, text: str) -> None:
    for encoding, encode in ENCODINGS.items():
        spelled = encode(text)
        document = {"name": "answer", "metadata": {"region": ["eu", spelled], "n": 1}}
        cleaned, hits = second_net(document)
        assert sum(hits.values()) == 1, encoding
        assert cleaned == {"name": "answer", "metadata": {"region": ["eu", f"[redacted:text {len(spelled)}]"], "n": 1}}
        assert [leak.path for leak in leaks_in(document)] == ["metadata.region"], encoding
        assert second_net(cleaned) == (cleaned, {}), encoding
        if encoding == "plain":
            assert kind in hits or kind == "national_id"  # some ids are told as the number or the secret that they also are


@pytest.mark.parametrize(("kind", "text"), [row for row in PERSONAL if "\n" not in row[1]])
def test_keys_are_looked_at_too(kind: str, text: str) -> None:
    cleaned, hits = second_net({"metadata": {"[key 1]": 0, text: 3}})
    assert cleaned == {"metadata": {"[key 1]": 0, "[key 2]": 3}}
    assert sum(hits.values()) == 1
    assert leaks_in({"metadata": {text: 3}})[0].path == "metadata.[key]"


def test_numbers_that_are_cards() -> None:
    cleaned, hits = second_net({"metrics": {"total": 4111111111111111, "tokens": 4111111111111112, "at": 1795415160838}})
    assert cleaned == {"metrics": {"total": "[redacted:number]", "tokens": 4111111111111112, "at": 1795415160838}}
    assert hits == {"card": 1}


def test_a_clean_document_comes_back_as_it_is() -> None:
    document = {"name": "answer", "tags": {"env": "prod"}, "metrics": {"total_tokens": 120}, "list": [1, None, True, 0.5]}
    cleaned, hits = second_net(document)
    assert cleaned is document
    assert not hits


def test_the_document_is_not_changed() -> None:
    document = {"metadata": {"a": ["jane@example.com"], "jane@example.com": 1}}
    before = json.dumps(document)
    second_net(document)
    assert json.dumps(document) == before


def test_a_leak_never_tells_the_value() -> None:
    found = leaks_in({"metadata": {"jane@example.com": {"maria_lopez": "+44 20 7946 0958"}}})
    assert found == [Leak("metadata.[key].[key]", "phone"), Leak("metadata.[key]", "email")]


def test_open_texts_are_left_alone() -> None:
    payload = {"input": {"value": "jane@example.com"}, "metadata": {"user notes": "a@b.org", "x": "c@d.org"}}
    assert len(leaks_in(payload)) == 3
    named = {**payload, "open_text": ["input", "metadata.user_notes"]}
    assert [leak.path for leak in leaks_in(named)] == ["metadata.x"]
    assert [leak.path for leak in leaks_in({"trace_payload": named})] == ["trace_payload.metadata.x"]
    assert [leak.path for leak in leaks_in(payload, open_paths={"input"})] == ["metadata.[key]", "metadata.x"]
    # Only the sanitizer writes that list: one that a sender nested says nothing.
    assert len(leaks_in({"metadata": {"open_text": ["metadata"], "x": "c@d.org"}})) == 1


KEPT: list[dict[str, Any]] = [
    {"trace_id": "18446744073709551615", "span_id": "4111111111111111", "parent_id": "undefined"},
    {"trace_id": "6b03dc78000000003d53c950006270ff", "trace_payload": {"span_id": "5500005555555559"}},
    {"occurrences": [{"span_id": "4012888888881881", "digest": "4e6172652061736465662061736465666a"[:32]}]},
    {"trace_id": "t_" + "0" * 32, "span_id": "s_" + "1" * 32, "user_hashes": ["u1234_" + "0" * 32]},
    {"start_ns": 1795415160838728626, "duration": 5951845, "metadata": {"created_at": "2026-11-23T06:26:00.813Z"}},
    {"metadata": {"created": 1795415160, "timestamp": 1795415160838}},
    {"metadata": {"started_at": "2026-11-23 06:26:00", "date": "2026-11-23"}},
    {"model_name": "gpt-4o-2024-08-06", "model_provider": "openai"},
    {"model_name": "claude-3-5-sonnet@20240620", "metadata": {"model": "us.anthropic.claude-sonnet-4-20250514-v1:0"}},
    {"metadata": {"request_id": "req_01J8Z3K4M5N6P7Q8R9S0T1U2V3", "tool_call_id": "call_9aBcD3fGhIjKlMnOpQrStUvW"}},
    {"metadata": {"request_id": "3f1c2b7a-9d84-4e21-8c55-0a1b2c3d4e5f", "system_fingerprint": "fp_44709d6fcb"}},
    {"tags": {"git.commit.sha": "d6cd1e2bd19e03a81132a23b2025920577f84e37"}},
    {"tags": {"version": "4.16.0", "ddtrace.version": "2.14.1"}},
    {"metadata": {"otel_trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "dd.trace_id": "12345678901234567890"}},
    {"metrics": {"total_tokens": 1048576, "input_tokens": 8192, "time_to_first_token": 0.3512, "cost": 0.00042}},
    {"evaluation": {"check": {"value": "no hallucination", "reasoning": "[PERSON_1] wrote to [EMAIL_1]; 3 of 5 hold."}}},
    {"input": {"messages": [{"role": "user", "content": "[redacted:text 214]"}]}, "[key 1]": "[redacted:number]"},
    {"error": {"type": "openai.RateLimitError", "message": "429: limit of 10000 tokens per min reached, retry in 20s"}},
    {"tags": {"kube_namespace": "prod-eu-west-1", "region": "us-east-2"}},
    {"tags": {"service": "support-bot", "http.status_code": "503"}},
    {"span_ids": bytes(range(8)) * 400, "signature": "s1_" + "a" * 32, "fingerprint": "6" * 32},
    *({"datadog_url": trace_url(site, "6b03dc78000000003d53c950006270ff", "llm_obs")} for site in SITES),
    *({"span_url": span_url(site, "41111111111111110000", "llm_obs", "4111111111111111")} for site in SITES),
    *({"span_url": span_url(site, "41111111111111110000", "apm", "4111111111111111")} for site in SITES),
]  # fmt: skip


@pytest.mark.parametrize("document", KEPT, ids=lambda document: json.dumps(document, default=len)[:60])
def test_what_a_payload_keeps_is_no_leak(document: dict[str, Any]) -> None:
    assert leaks_in(document) == []


def test_the_shape_of_an_id_is_trusted_in_its_own_field_only() -> None:
    assert leaks_in({"metadata": {"label": "4111111111111111"}}) == [Leak("metadata.label", "card")]
    assert leaks_in({"metadata": {"span_id": "4111111111111111"}}) == [Leak("metadata.span_id", "card")]
    assert leaks_in({"signature": "jane@example.com"}) == [Leak("signature", "email")]


def test_a_code_that_says_something_is_a_leak() -> None:
    assert leaks_in({"tags": {"git.commit.sha": b"jane@example.com".hex()}}) == [Leak("tags.git.commit.sha", "email")]


@pytest.mark.parametrize("row", GATE_ROWS, ids=lambda row: row.name)
def test_every_row_of_the_gate_hits_its_examples(row: GateRow) -> None:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    for example in row.examples:
        assert re2.compile(row.pattern.encode("ascii"), options).search(example.encode()), example
        assert gate().search(example.encode())


def recorded_spans() -> list[Span]:
    found: list[Span] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("attributes"), dict):
                for parse in (parse_llm_obs, parse_apm):
                    try:
                        parsed = parse(node)
                    except Exception:  # noqa: BLE001 - the other source's, or no span at all
                        continue
                    if isinstance(parsed, Span):
                        found.append(parsed)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    for path in sorted(RECORDED.glob("*.json")):
        walk(json.loads(path.read_text()))
    return [span for span in found if span.trace_id and span.span_id]


@pytest.mark.parametrize("fields", [(), ("input", "output", "prompt", "response")])
def test_the_recordings_give_no_hit(fields: tuple[str, ...]) -> None:
    sanitizer = Sanitizer(RING, TextPolicy.of(fields))
    spans = recorded_spans()
    assert len(spans) > 100
    for span in spans:
        made = sanitizer.sanitize(span, find_signals(span, Thresholds()), TraceContext(has_user=True))
        assert made.redactions.get("second_net", 0) == 0
        assert leaks_in(made.payload) == []


@pytest.mark.parametrize(
    "text",
    [
        "1." * 50_000,
        "eyJ" * 50_000,
        "a@a.a." * 20_000,
        "%25" * 30_000,
        "." * 100_000,
        "9" * 100_000,
        base64.b64encode(gzip.compress(b"a" * 50_000_000)).decode(),
        "\ud800" * 1_000,
        "\x00" * 1_000,
        "aGFo" * 30_000,
    ],
    ids=range(10),
)
def test_hostile_texts_end_and_do_not_raise(text: str) -> None:
    found = kind_in(text)
    cleaned, hits = second_net({"metadata": {"label": text, text: 1}})
    assert (found is not None) == bool(hits)
    assert second_net(cleaned) == (cleaned, {})


def test_a_deep_document_is_closed_below_a_depth() -> None:
    deep: Any = "jane@example.com"
    for _ in range(5_000):
        deep = {"a": deep}
    cleaned, hits = second_net({"metadata": deep})
    assert hits
    assert "jane" not in repr_of(cleaned)


def repr_of(node: Any) -> str:
    parts = []
    nodes = [node]
    while nodes:
        one = nodes.pop()
        if isinstance(one, dict):
            nodes.extend([*one, *one.values()])
        else:
            parts.append(str(one))
    return " ".join(parts)
