"""What a payload keeps, and what it does not: one test per row of the design's table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalforge.core.canonical import canonical_json
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.privacy.fields import FIELD_ROWS
from evalforge.core.privacy.finishing import MAX_PAYLOAD_BYTES
from evalforge.core.privacy.rules import Kind
from evalforge.core.privacy.walk import MAX_ITEMS, MAX_KEYS
from evalforge.core.signals import SPELLINGS, Thresholds, find_signals
from evalforge.core.span import Evaluation
from tests.spans import span

SANITIZER = Sanitizer(KeyRing((b"k" * 32,)))
EMAIL = "maria.lopez@example.com"


def payload_of(**fields: Any) -> dict[str, Any]:
    return dict(SANITIZER.sanitize(span(**fields), ()).payload)


def redactions_of(**fields: Any) -> dict[str, int]:
    return dict(SANITIZER.sanitize(span(**fields), ()).redactions)


# -- the head -------------------------------------------------------------------------------------------------------------


def test_the_head() -> None:
    payload = payload_of(
        parent_id="2622305684663452077",
        application="support-bot",
        service="support-api",
        env="staging",
        model_name="gpt-4o-mini-2024-07-18",
        model_provider="openai",
        received_start=1795415160838728626,
        received_duration=5951845.0,
    )
    assert payload == {
        "trace_id": "6b03dc78000000003d53c950006270ff",
        "span_id": "2622305684663452078",
        "parent_id": "2622305684663452077",
        "name": "handle_ticket",
        "span_kind": "workflow",
        "status": "ok",
        "ml_app": "support-bot",
        "service": "support-api",
        "env": "staging",
        "model_name": "gpt-4o-mini-2024-07-18",
        "model_provider": "openai",
        "start_ns": 1795415160838728626,
        "duration": 5951845.0,
    }


@pytest.mark.parametrize("kind", "agent workflow llm tool task embedding retrieval experiment web server client".split())
def test_span_kinds(kind: str) -> None:
    assert payload_of(kind=kind)["span_kind"] == kind


@pytest.mark.parametrize(
    ("received", "kept"),
    [
        ("2026-11-23T06:26:00.813Z", "2026-11-23T06:26:00.813Z"),
        ("1795415160838728626", "1795415160838728626"),
        (0.5, 0.5),
        (EMAIL, None),
        ({}, None),
        (float("nan"), None),
        (True, None),
        ("9" * 21, None),
    ],
)
def test_times_as_received(received: Any, kept: Any) -> None:
    assert payload_of(received_start=received).get("start_ns") == kept
    assert payload_of(received_duration=received).get("duration") == kept


@pytest.mark.parametrize(
    "field", ["name", "kind", "status", "application", "service", "env", "model_name", "model_provider"]
)
@pytest.mark.parametrize(
    "raw", [EMAIL, "Maria Lopez", "+1 415-555-0132", "4111 1111 1111 1111", "sk-proj-abc123DEF456", "\ud800"]
)
def test_personal_values_in_the_head(field: str, raw: str) -> None:
    text = json.dumps(payload_of(**{field: raw}))
    assert raw not in text
    assert "[redacted" in text


def test_a_span_name_that_holds_its_own_users_id_is_redacted() -> None:
    assert payload_of(name="inbox penguin", metadata={"user_id": "penguin"})["name"] == "[redacted:text 13]"


# -- metrics and evaluations ----------------------------------------------------------------------------------------------


def test_all_numeric_metrics() -> None:
    metrics = {
        "input_tokens": 312,
        "output_tokens": 27,
        "total_tokens": 339,
        "time_to_first_token": 0.42,
        "estimated_total_cost": 1_500_000_000,
        "quality_score": 0.31,
        "cache_read_input_tokens": 128,
        "user_satisfaction": 4,
        "session_count": 3,
        "feedback": 1,
        "llm_obs.quality_score": "0.31",
        "negative": -2.5e9,
    }
    assert payload_of(metrics=metrics)["metrics"] == metrics


def test_metrics_keep_no_text_and_no_personal_number() -> None:
    metrics = {"note": EMAIL, "phone_number": 4155550132, "user_id": 8841, "bad": float("nan"), "maria": 1, "ok": 1}
    stored = payload_of(metrics=metrics)["metrics"]
    assert stored == {"note": "[redacted:text 23]", "[key 2]": 1, "ok": 1}
    assert redactions_of(metrics=metrics)["nonfinite"] == 1


def test_evaluations() -> None:
    bodies: dict[str, dict[str, Any]] = {
        "quality_score": {"eval_metric_type": "score", "value": 0.31, "assessment": "fail", "status": "OK"},
        "hallucination": {
            "eval_metric_type": "categorical",
            "value": "hallucination found",
            "assessment": "fail",
            "status": "OK",
        },
        "is_helpful": {"eval_metric_type": "boolean", "value": False, "assessment": "fail", "status": "WARN"},
        "rubric": {
            "eval_metric_type": "json",
            "value": {"facts": 0, "tone": 3, "grade": "B+", "safe": True},
            "status": "OK",
        },
        "helpfulness-check": {"eval_metric_type": "score", "value": 2},
        "language_mismatch": {"eval_metric_type": "categorical", "value": "mismatched", "status": "ERROR"},
    }
    evaluations = tuple(
        Evaluation(name, body["value"], body["eval_metric_type"], body.get("assessment"), body.get("status"), body)
        for name, body in bodies.items()
    )
    assert payload_of(evaluations=evaluations)["evaluation"] == bodies


def test_what_evaluators_wrote_is_scrubbed_or_left_out() -> None:
    body = {
        "reasoning": f"Answer invents a refund for {EMAIL}",
        "llm_output": EMAIL,
        "tags": [f"user:{EMAIL}"],
        "error": {"type": "openai.RateLimitError", "message": EMAIL, "stack": EMAIL},
        "metadata": {"rubric": EMAIL},
    }
    evaluations = (Evaluation("check", f"the user {EMAIL} was refused", "categorical", "fail", "OK", body),)
    result = SANITIZER.sanitize(span(evaluations=evaluations), ())
    assert result.payload["evaluation"]["check"] == {
        "value": "[redacted:text 44]",
        "eval_metric_type": "categorical",
        "assessment": "fail",
        "status": "OK",
        "reasoning": "Answer invents a refund for [EMAIL_1]",
        "error": {"type": "openai.RateLimitError", "message": "[EMAIL_1]", "stack": "[EMAIL_1]"},
    }
    assert result.redactions["unknown_key"] == 3


@pytest.mark.parametrize(
    "value", [4155550132, EMAIL, "Maria Lopez", ["maria", EMAIL], {"who": EMAIL, EMAIL: 1, "n": 4155550132}]
)
def test_personal_evaluation_values(value: Any) -> None:
    text = json.dumps(payload_of(evaluations=(Evaluation("check", value, "json", None, None, {}),)))
    for secret in (EMAIL, "maria", "Maria", "4155550132"):
        assert secret not in text


METRICS_KEPT: dict[str, Any] = {
    "user_satisfaction": 4,
    "ip_lookups": 4,
    "pii_hits": 2,
    "password_resets": 1,
    "session_quality": 0.82,
    "user_count": 3,
    "my metric": 3,
    "accuracy@5": 0.6,
    "user_tokens": 2_000_000,
}
METRICS_LOST: dict[str, Any] = {
    "user.ip": 3_232_235_777,
    "client_ip": 4,
    "session_id": 36_772,
    "user.age": 34,
    "user_phone": 4,
    "zendesk_requester_id": 516_944_217,
    "user.plan": 3,
    "user_total": 516_944_217,
    "pii": 5,
    "pin_count": 1234,
}


def test_metrics_of_users_sessions_and_the_network() -> None:
    assert payload_of(metrics={**METRICS_KEPT, **METRICS_LOST})["metrics"] == METRICS_KEPT
    assert payload_of(metrics={"extra": {**METRICS_KEPT, **METRICS_LOST}})["metrics"] == {"extra": METRICS_KEPT}


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("user.plan", "premium", "[redacted:text 7]"),
        ("user.x", "female", "[redacted:text 6]"),
        ("session_id", 12345, "[redacted:number]"),
        ("x-auth-token", 5588, "[redacted:number]"),
        ("user.age", 34, "[redacted:number]"),
        ("user.locale", {"value": "english"}, "[redacted:object 1]"),
        ("user_frustration", "frustrated", "frustrated"),
        ("email_tone", "too formal", "too formal"),
        ("user_satisfaction", 87.5, 87.5),
        ("user.verdict", "no hallucination", "no hallucination"),
        ("user.verified", True, True),
        ("rubric", {"user.age": 34, "patientId": 24, "tone": 3}, {"tone": 3}),
        ("check", 2_000_000, "[redacted:number]"),
    ],
)
def test_evaluations_that_are_named_after_something_personal(name: str, value: Any, stored: Any) -> None:
    evaluation = Evaluation(name, value, "categorical", "fail", "OK", {"value": value})
    found = find_signals(span(evaluations=(evaluation,)), Thresholds())
    result = SANITIZER.sanitize(span(evaluations=(evaluation,)), found)
    assert result.payload["evaluation"][name]["value"] == stored
    assert all(signal.observed == stored for signal in result.signals if not isinstance(value, dict))


# -- errors ---------------------------------------------------------------------------------------------------------------

ERROR = {"type": "openai.BadRequestError", "message": f"declined for {EMAIL}", "stack": f"Traceback {EMAIL}"}
SCRUBBED = {"type": "openai.BadRequestError", "message": "declined for [EMAIL_1]", "stack": "Traceback [EMAIL_1]"}


@pytest.mark.parametrize(
    ("fields", "path", "kept"),
    [
        ({"error": ERROR}, ["error"], SCRUBBED),
        ({"attributes": {"error": ERROR}}, ["attributes", "error"], SCRUBBED),
        ({"metadata": {"error": ERROR}}, ["metadata", "error"], SCRUBBED),
        ({"metadata": {"error.type": "ValueError"}}, ["metadata", "error.type"], "ValueError"),
        ({"attributes": {"error.type": "ValueError"}}, ["attributes", "error.type"], "ValueError"),
        ({"metadata": {"step": {"error": ERROR}}}, ["metadata", "step", "error"], SCRUBBED),
        ({"tags": (("error.type", "builtins.ValueError"),)}, ["tags", "error.type"], "builtins.ValueError"),
        ({"tags": (("error_type", "builtins.ValueError"),)}, ["tags", "error_type"], "builtins.ValueError"),
        ({"attributes": {"error.message": EMAIL}}, ["attributes", "error.message"], "[EMAIL_1]"),
        ({"error": EMAIL}, ["error"], "[EMAIL_1]"),
        ({"error": 1}, ["error"], 1),
    ],
)
def test_error_types_wherever_an_error_appears(fields: dict[str, Any], path: list[str], kept: Any) -> None:
    found: Any = payload_of(**fields)
    for key in path:
        found = found[key]
    assert found == kept


@pytest.mark.parametrize("kind", ["error of maria", EMAIL, "maria.lopez", "Error 4155550132", ["ValueError"], 5])
def test_error_types_that_are_none(kind: Any) -> None:
    result = SANITIZER.sanitize(span(error={"type": kind}), ())
    assert "[redacted" in result.payload["error"]["type"]
    assert result.error_type is None


# -- input, output, tools -------------------------------------------------------------------------------------------------


def test_a_conversation_in_outline() -> None:
    received = {
        "messages": [
            {"role": "system", "content": "You are a support agent."},
            {"role": "user", "content": f"Where is my refund? {EMAIL}", "name": "Maria", "id": "m-1"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"name": "lookup_order", "tool_id": "call_1", "type": "function", "arguments": {"email": EMAIL}}
                ],
            },
            {
                "role": "tool",
                "content": None,
                "tool_results": [{"name": "", "tool_id": "call_1", "type": "tool_result", "result": EMAIL}],
            },
            {"role": "maria", "content": [{"image": "…"}]},
            EMAIL,
        ],
        "value": EMAIL,
        "prompt": {"variables": {"name": "Maria"}},
        "somewhere": EMAIL,
    }
    result = SANITIZER.sanitize(span(input=received), ())
    assert result.payload["input"] == {
        "messages": [
            {"role": "system", "content": "[redacted:text 24]"},
            {"role": "user", "content": "[redacted:text 43]"},
            {
                "role": "assistant",
                "content": "[redacted:text 0]",
                "tool_calls": [
                    {"name": "lookup_order", "tool_id": "call_1", "type": "function", "arguments": "[redacted:object 1]"}
                ],
            },
            {
                "role": "tool",
                "content": None,
                "tool_results": [{"name": "", "tool_id": "call_1", "type": "tool_result", "result": "[redacted:text 23]"}],
            },
            {"role": "[redacted:text 5]", "content": "[redacted:list 1]"},
            "[redacted:text 23]",
        ],
        "value": "[redacted:text 23]",
        "prompt": "[redacted:object 1]",
    }
    assert result.redactions == {"text": 7, "tool_arguments": 1, "tool_result": 1, "unknown_key": 3, "unknown_value": 1}


def test_documents_keep_their_scores_and_count() -> None:
    documents = [{"id": "kb-17", "name": "maria.md", "score": 0.91, "text": EMAIL}, {"score": EMAIL, "text": ""}, EMAIL]
    assert payload_of(output={"documents": documents})["output"]["documents"] == [
        {"id": "[redacted:text 5]", "name": "[redacted:text 8]", "score": 0.91, "text": "[redacted:text 23]"},
        {"text": "[redacted:text 0]"},
        "[redacted:text 23]",
    ]


@pytest.mark.parametrize("raw", [EMAIL, 4155550132, [EMAIL], True])
def test_inputs_that_are_no_objects(raw: Any) -> None:
    assert payload_of(input=raw)["input"].startswith("[redacted:")


def test_tool_definitions_are_names() -> None:
    tools = [
        {"name": "lookup_order", "description": f"asks {EMAIL}", "schema": {"properties": {"email": {}}}},
        {"type": "function", "function": {"name": "charge_card", "parameters": {}}},
        {"name": EMAIL},
        EMAIL,
    ]
    assert payload_of(tool_definitions=tools)["tool_definitions"] == [
        {"name": "lookup_order"},
        {"name": "charge_card"},
        {"name": "[redacted:text 23]"},
        "[redacted:text 23]",
    ]


def test_long_conversations_are_cut_with_a_mark() -> None:
    messages = [{"role": "user", "content": "x"}] * (MAX_ITEMS + 5)
    stored = payload_of(input={"messages": messages})["input"]["messages"]
    assert len(stored) == MAX_ITEMS + 1
    assert stored[-1] == f"[redacted:list {MAX_ITEMS + 5}]"


# -- tags -----------------------------------------------------------------------------------------------------------------

TAGS = (
    "env:staging|service:support-api|version:1.2.3|ddtrace.version:4.16.0|ddtrace_version:4.16.0|language:python|"
    "source:integration|integration:openai|ml_app:support-bot|error:0|error.type:builtins.ValueError|"
    "error_type:openai.BadRequestError|http.status_code:429|http_status_code:429|region:us-east-1|"
    "availability-zone:us-east-1a|availability_zone:us-east-1a|git.commit.sha:9fceb02d0ae598e95dc970b74767f19372d61af8|"
    "git_commit_sha:9fceb02d0ae598e95dc970b74767f19372d61af8|kube_namespace:support|kube_deployment:support-api|"
    "team:payments|release:2026.11.1|agent_service:support-bot|version:|agent_version:2026.1|decorator:1|"
    "feature:refunds|failure_type:hallucination|retriever:bm25|prompt_version:v2|"
    "prompt_tracking_instrumentation_method:annotated|quality_score:0.31|llm_obs.quality_score:0.31|toxicity_score:0.9|"
    "hallucination:hallucination found|llm_obs.guardrails.failed:true|llm_obs_guardrails_failed:true|tier:premium|"
    "canary:true|channel:voice|shard:12"
).split("|")


@pytest.mark.parametrize("tag", TAGS)
def test_tags_that_are_kept(tag: str) -> None:
    key, _, value = tag.partition(":")
    assert payload_of(tags=((key, value),))["tags"] == {key: value}


DROPPED_TAGS = (
    "user.email:maria.lopez@example.com|user.name:maria|user.phone:4155550132|user.address:12 elm st|user.ip:10.0.0.1|"
    "client.ip:10.0.0.1|client_ip:10.0.0.1|user.premium:true|user_email:maria@x|usr.email:maria@x|usr.name:maria|"
    "usr_name:green|user.id:u-8841|user_id:1234|usr.id:17|usr_id:17|user_handle:maria@x|session_id:s-1|sessionid:green|"
    "pii:green|pii.kind:green|PII:green| user.name:green|customer_tier:gold|authorization:bearer abc|"
    "http.request.headers.cookie:a=b|conversation_id:c-1|gen_ai.conversation.id:chat|note:green|ticket:T-77|"
    "unicode:naïve|host:web-1|some_key:maria|maria:true|http.url:http://x/?session=1|http.useragent:Mozilla|"
    "org:4155550132|account_id:42|compute:"
).split("|")


@pytest.mark.parametrize("tag", DROPPED_TAGS)
def test_tags_that_are_dropped(tag: str) -> None:
    key, _, value = tag.partition(":")
    result = SANITIZER.sanitize(span(tags=((key, value), ("env", "prod"))), ())
    assert result.payload["tags"] == {"env": "prod"}
    assert sum(result.redactions.values()) == 1


def test_a_tag_key_that_came_twice() -> None:
    tags = (("source", "python"), ("source", "integration"), ("source", "python"), ("env", "prod"))
    assert payload_of(tags=tags)["tags"] == {"source": ["integration", "python"], "env": "prod"}


# -- metadata and attributes ----------------------------------------------------------------------------------------------

SAMPLE_OF: dict[Kind, Any] = {
    Kind.NUMBER: 7,
    Kind.AMOUNT: 1_795_415_160_838,
    Kind.BOOLEAN: True,
    Kind.NAME: "kb-v3",
    Kind.MODEL: "gpt-4o-mini",
    Kind.ERROR_TYPE: "openai.RateLimitError",
    Kind.LABEL: "hallucination found",
    Kind.WORDS: "tool_calls",
    Kind.VERSION: "4.16.0",
    Kind.CODE: "9fceb02d0ae598e95dc970b74767f19372d61af8",
    Kind.MACHINE_ID: "req_011CSHoEeqs5C35K2UUqR7Fy",
    Kind.TRACE_CODE: "6b03dc78000000003d53c950006270ff",
    Kind.TIME: "2026-11-23T06:26:00Z",
    Kind.LOCALE: "en-US",
    Kind.EPOCH: 1_795_415_160,
    Kind.SCORE: 0.31,
    Kind.RELEASE: "build-7",
    Kind.POD: "checkout-7d9f8b6c5-x2x9z",
    Kind.IMAGE: "ghcr.io/acme/rag:1.4.2",
    Kind.PACKAGE: "langchain-core==0.3.1",
    Kind.ERROR_CODE: "ERR-1042",
    Kind.IDENTIFIER: "support_v12",
    Kind.ZONE: "Europe/Paris",
}


@pytest.mark.parametrize(("kinds", "keys"), FIELD_ROWS, ids=["-".join(kinds) for kinds, _ in FIELD_ROWS])
def test_each_known_field_in_metadata_and_attributes(kinds: tuple[Kind, ...], keys: str) -> None:
    value = SAMPLE_OF[kinds[0]]
    for key in keys.split():
        dotted = key.replace("_", ".")
        words = key.split("_")
        camel = words[0] + "".join(word.title() for word in words[1:])
        for spelling in {key, dotted, camel}:
            assert payload_of(metadata={spelling: value})["metadata"] == {spelling: value}
            assert payload_of(attributes={spelling: value})["attributes"] == {spelling: value}


@pytest.mark.parametrize("keys", [keys for _, keys in FIELD_ROWS], ids=["-".join(kinds) for kinds, _ in FIELD_ROWS])
def test_a_known_field_with_a_personal_value(keys: str) -> None:
    for key in keys.split():
        for raw in (EMAIL, "Maria Lopez", "4111 1111 1111 1111", [EMAIL], {"x": EMAIL}):
            text = json.dumps(payload_of(metadata={key: raw}))
            for secret in (EMAIL, "Maria", "4111"):
                assert secret not in text, (key, raw)


@pytest.mark.parametrize("value", [0.31, "0.9", True, "true", "hallucination found"])
def test_signals_survive_in_metadata_nested_or_not(value: Any) -> None:
    for path in sorted(SPELLINGS):
        assert payload_of(metadata={path: value})["metadata"] == {path: value}
        nested: Any = value
        for key in reversed(path.split(".")):
            nested = {key: nested}
        assert payload_of(attributes=nested)["attributes"] == nested


KEPT_UNKNOWN: list[tuple[str, Any]] = [
    ("flag", True),
    ("beta_features", False),
    ("retrieval_k", 12),
    ("rerank_score", 0.123456),
    ("order", 99_999),
    ("queue_time_ms", 4_155_550_132),
    ("started_ns", 1_795_415_160_838_728_626),
    ("byte_count", 10**12),
    ("cached_tokens", 250_000),
    ("when", "2026-11-23T06:26:00Z"),
    ("mood", "neutral"),
    ("plan", "premium"),
    ("steps", ["search", "answer"]),
    ("nothing", None),
    ("nested", {"ab_test": "B", "deeper": [{"cache_hit": True}]}),
    ("tool", {"name": "search"}),
    ("email_sent", True),
    ("session_count", 3),
    ("auth_method", "oauth"),
    ("ip_version", 4),
]


@pytest.mark.parametrize(("key", "value"), KEPT_UNKNOWN)
def test_unknown_keys_with_harmless_values(key: str, value: Any) -> None:
    assert payload_of(metadata={key: value})["metadata"] == {key: value}


CLOSED_UNKNOWN: list[tuple[str, Any, Any]] = [
    ("thing", EMAIL, "[redacted:text 23]"),
    ("thing", "maria", "[redacted:text 5]"),
    ("thing", "Elm Street", "[redacted:text 10]"),
    ("thing", 4155550132, "[redacted:number]"),
    ("thing", 4155550132.5, "[redacted:number]"),
    ("thing", "u-8841", "[redacted:text 6]"),
    ("thing", "where is my refund now", "[redacted:text 22]"),
    ("prompt", "green", "[redacted:text 5]"),
    ("system_prompt", "be kind", "[redacted:text 7]"),
    ("question", {"en": "green"}, {"en": "[redacted:text 5]"}),
    ("variables", ["green"], "[redacted:list 1]"),
    ("thing", {"name": "password", "value": "green"}, "[redacted:object 2]"),
    ("thing", ["password", "green"], "[redacted:list 2]"),
]


@pytest.mark.parametrize(("key", "value", "stored"), CLOSED_UNKNOWN)
def test_unknown_keys_with_closed_values(key: str, value: Any, stored: Any) -> None:
    assert payload_of(metadata={key: value})["metadata"] == {key: stored}


@pytest.mark.parametrize(
    ("metadata", "stored"),
    [
        ({"context": {"cold_start": True, "k": 4, "at": "2026-11-23T06:26:00Z", "latency_ms": 12, "q": "green"}}, {"q": 5}),
        ({"summary": {"k": 4, "of": "green tea", "deep": {"n": 3, "said": "blue"}}}, {"of": 9, "deep": {"said": 4}}),
        ({"history": [{"enabled": True, "title": "green"}]}, None),
        ({"variables": {"k": 4, "name": "green"}}, "[redacted:object 2]"),
        ({"messages": [{"k": 4}]}, "[redacted:list 1]"),
        ({"context": {"user": {"plan": 4}, "age": 34, "k": 4}}, {}),
    ],
)
def test_below_the_key_of_a_text_no_text_stays(metadata: dict[str, Any], stored: Any) -> None:
    key = next(iter(metadata))
    found = payload_of(metadata=metadata)["metadata"][key]
    if isinstance(stored, str):
        assert found == stored
    elif stored is None:
        assert found == [{"enabled": True, "title": "[redacted:text 5]"}]
    else:
        text = json.dumps(found)
        assert "green" not in text
        assert "blue" not in text
        assert found["k"] == 4
        assert "plan" not in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_tokens", 2_667_552_797),
        ("prompt_tokens", 2_667_552_797),
        ("created_at", 3_853_568_327),
        ("created", 4_155_550_132),
        ("fb_id", 31_153),
        ("lead_code", "green"),
        ("owner_number", 98_765),
        ("quality_score", 3_155_311_840),
    ],
)
def test_numbers_that_could_be_somebodys(key: str, value: Any) -> None:
    result = SANITIZER.sanitize(span(metadata={key: value}, tags=((key, str(value)),)), ())
    assert str(value) not in json.dumps(result.payload)
    assert result.quality_score is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt_tokens", 99_000_000),
        ("created_at", 1_795_415_160),
        ("ts", 1_795_415_160.84),
        ("rerank_model", "cross-encoder/ms-marco-MiniLM-L-6-v2"),
        ("fallback_model", "claude-3-haiku-20240307"),
        ("prompt_template", "support_v12"),
        ("latency", "350ms"),
        ("route", "/orders/:id/items"),
        ("timezone", "Europe/Paris"),
        ("error_code", "E_TIMEOUT"),
        ("config_hash", "sha256:d5f4b3b2e4b06ce6"),
        ("build", "build-20261123.4"),
        ("container_image", "ghcr.io/acme/rag:1.4.2"),
        ("pod_name", "checkout-7d9f8b6c5-x2x9z"),
        ("sdk", "langchain-core==0.3.1"),
        ("node", "__start__"),
        ("category", "returns & refunds"),
    ],
)
def test_ordinary_telemetry(key: str, value: Any) -> None:
    payload = payload_of(metadata={key: value, "run": {key: value}}, tags=((key, str(value)),))
    assert payload["metadata"] == {key: value, "run": {key: value}}
    if isinstance(value, str):
        assert payload["tags"] == {key: value}


PERSONAL_FIELDS = (
    ""
    "user.email user.name user.phone user.address user.ip client.ip session_id sessionId user.id usr.id usr.email "
    "usr.name user_id userId http.client_ip network.client.ip http.useragent http.url out.host host authorization "
    "cookie set-cookie x-api-key access_token api_key password email phone first_name lastName ssn card_number iban "
    "date_of_birth zip latitude gen_ai.conversation.id conversation_id thread_id submitter.id customer_id "
    "X-Forwarded-For useremail name username pii.kind"
).split()


@pytest.mark.parametrize("key", PERSONAL_FIELDS)
def test_personal_fields_are_stripped_dotted_nested_and_deep(key: str) -> None:
    for value in ("green", 42, EMAIL, ["green"], {"kind": "green"}):
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        for shape in (
            {key: value},
            {key.replace(".", "_"): value},
            nested,
            {"step": {"inner": nested}},
            {"items": [nested]},
        ):
            for place in ("metadata", "attributes"):
                text = json.dumps(payload_of(**{place: shape}).get(place))
                assert "green" not in text, shape
                assert "42" not in text, shape
                assert EMAIL not in text, shape


def test_keys_are_data_too() -> None:
    metadata = {
        EMAIL: 1,
        "maria": 2,
        "x" * 300: 3,
        "plain": 4,
        "4155550132": 5,
        "tempe\u200brature": 0.5,
        "temperature": 0.7,
    }
    result = SANITIZER.sanitize(span(metadata=metadata), ())
    assert result.payload["metadata"] == {
        "[key 1]": 1,
        "[key 2]": 2,
        "[key 3]": "[redacted:number]",
        "plain": 4,
        "[key 5]": 5,
        "temperature": 0.5,
        "[key 7]": 0.7,
    }
    assert result.redactions == {"key": 5, "unknown_value": 1}


def test_top_level_keys_that_are_not_named_are_counted_only() -> None:
    result = SANITIZER.sanitize(span(extra={"intent": "green", EMAIL: 1}), ())
    assert result.redactions == {"unknown_key": 2}
    assert "green" not in json.dumps(dict(result.payload))


# -- limits ---------------------------------------------------------------------------------------------------------------


def test_too_many_keys_redact_that_mapping_only() -> None:
    payload = payload_of(metadata={"wide": {f"k{n}": 1 for n in range(MAX_KEYS + 1)}, "flag": True})
    assert payload["metadata"] == {"wide": f"[redacted:object {MAX_KEYS + 1}]", "flag": True}


def test_too_deep_redacts_that_subtree_only() -> None:
    deep: Any = {"flag": True}
    for _ in range(5_000):
        deep = {"n": deep}
    payload = payload_of(metadata={"deep": deep, "flag": True})
    assert payload["metadata"]["flag"] is True
    assert "[redacted:object 1]" in json.dumps(payload["metadata"]["deep"])


def test_the_payload_is_bounded() -> None:
    fat = {f"group_{n}": {f"k{m}": "green" for m in range(190)} for n in range(60)}
    result = SANITIZER.sanitize(span(metadata=fat, attributes=fat, metrics={"input_tokens": 3}), ())
    assert len(canonical_json(result.payload)) <= MAX_PAYLOAD_BYTES
    assert result.payload["metrics"] == {"input_tokens": 3}
    assert result.redactions["limit"] >= 1


class Explosive(dict[str, Any]):
    """A mapping that breaks when it is read, and tells what it holds."""

    def items(self) -> Any:
        raise RuntimeError(EMAIL)


def test_what_breaks_costs_its_field_only() -> None:
    result = SANITIZER.sanitize(span(metadata={"bad": Explosive(x=1), "flag": True}, input=Explosive(x=1)), ())
    assert result.payload["metadata"] == {"flag": True}
    assert result.payload["input"] == "[redacted:error]"
    assert result.redactions["error"] >= 2


def test_signals_of_the_payload_are_found_again() -> None:
    raw = span(
        metadata={"llm_obs": {"quality_score": 0.31, "guardrails": {"failed": "true"}}, "toxicity_score": "0.9"},
        tags=(("llm_obs.evaluations.hallucination", "hallucination found"), ("http.status_code", "503")),
    )
    signals = find_signals(raw, Thresholds())
    assert SANITIZER.sanitize(raw, signals).signals == signals
