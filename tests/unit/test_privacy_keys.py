"""What a key says about its value: the table of classes, in all spellings."""

from __future__ import annotations

import pytest

from evalforge.core.privacy.keys import (
    SENSITIVE_RUNS,
    SENSITIVE_WORDS,
    KeyClass,
    is_metric_name,
    is_plain_chunk,
    is_storable_key,
    normal_key,
    verdict_below,
    verdict_on,
)
from evalforge.core.privacy.vocabulary import keys_of_languages

PASSING = {KeyClass.TEXT, KeyClass.HARMLESS}


@pytest.mark.parametrize(("cls", "words"), SENSITIVE_WORDS)
def test_each_word_row(cls: KeyClass, words: str) -> None:
    for word in words.split():
        assert verdict_on(word).key_class is cls, word
        assert verdict_on(f"x.{word.upper()}").key_class not in PASSING, word


@pytest.mark.parametrize(("cls", "run"), [(cls, run) for cls, runs in SENSITIVE_RUNS for run in runs.split("|")])
def test_each_run_row_in_every_writing(cls: KeyClass, run: str) -> None:
    words = run.split()
    camel = words[0] + "".join(word.title() for word in words[1:])
    for key in (
        ".".join(words),
        "_".join(words),
        "-".join(words),
        camel,
        camel[0].upper() + camel[1:],
        "_".join(words).upper(),
    ):
        assert verdict_on(key).key_class is cls, key


@pytest.mark.parametrize(
    ("key", "cls"),
    [
        ("user.email", KeyClass.CONTACT),
        ("user.name", KeyClass.USER_ATTRIBUTE),
        ("user.phone", KeyClass.CONTACT),
        ("user.address", KeyClass.CONTACT),
        ("user.ip", KeyClass.NETWORK),
        ("client.ip", KeyClass.NETWORK),
        ("network.client.ip", KeyClass.NETWORK),
        ("http.client_ip", KeyClass.NETWORK),
        ("session_id", KeyClass.SESSION),
        ("sessionId", KeyClass.SESSION),
        ("gen_ai.conversation.id", KeyClass.SESSION),
        ("http.request.headers.authorization", KeyClass.CREDENTIAL),
        ("http.request.headers.cookie", KeyClass.CREDENTIAL),
        ("Set-Cookie", KeyClass.CREDENTIAL),
        ("X-Api-Key", KeyClass.CREDENTIAL),
        ("access_token", KeyClass.CREDENTIAL),
        ("pii:email".replace(":", "."), KeyClass.PII),
        ("usr.email", KeyClass.CONTACT),
        ("usr.name", KeyClass.USER_ATTRIBUTE),
        ("user_handle", KeyClass.USER_ATTRIBUTE),
        ("http.useragent", KeyClass.NETWORK),
        ("user_agent", KeyClass.NETWORK),
        ("http.url", KeyClass.NETWORK),
        ("out.host", KeyClass.NETWORK),
        ("X-Forwarded-For", KeyClass.NETWORK),
        ("useremail", KeyClass.CONTACT),
        ("customerphonenumber", KeyClass.CONTACT),
        ("ｅｍａｉｌ", KeyClass.CONTACT),
        ("e\u200bmail", KeyClass.CONTACT),
        ("user_id", KeyClass.USER_ID),
        ("submitter.id", KeyClass.USER_ATTRIBUTE),
        ("input", KeyClass.TEXT),
        ("system_prompt", KeyClass.TEXT),
        ("error.message", KeyClass.TEXT),
        ("prompt.variables.name", KeyClass.TEXT),
    ],
)
def test_what_the_specification_and_the_wire_name(key: str, cls: KeyClass) -> None:
    assert verdict_on(key).key_class is cls


@pytest.mark.parametrize(
    "key",
    "max_tokens maxTokens input_tokens token_count total_tokens tokenizer time_to_first_token tokens_per_second tool_name "
    "model_name service_name index_name temperature top_p ab_test cache_hit is_error latency_ms microphone".split(),
)
def test_harmless_keys_pass(key: str) -> None:
    assert verdict_on(key).key_class is KeyClass.HARMLESS


@pytest.mark.parametrize(
    "key", ["session_count", "email_sent", "prompt_tokens", "response_time_ms", "phone_verified", "num_docs"]
)
def test_measures_under_personal_words(key: str) -> None:
    assert verdict_on(key).is_measure


@pytest.mark.parametrize("key", ["auth_method", "ip_version", "account_type", "prompt_version"])
def test_kinds_under_personal_words(key: str) -> None:
    assert verdict_on(key).is_kind


@pytest.mark.parametrize(
    "key", ["user.score", "usr.status", "pii_detected", "pii_count", "otp_length", "user.plan.gold.count"]
)
def test_what_is_never_a_measure(key: str) -> None:
    assert not verdict_on(key).is_measure
    assert not verdict_on(key).is_kind


@pytest.mark.parametrize("key", ["user.id", "user_id", "userId", "USER-ID", "user id"])
def test_one_normal_form(key: str) -> None:
    assert normal_key(key) == "user_id"


def test_huge_and_empty_keys() -> None:
    assert normal_key("k" * 10_000) == ""
    assert verdict_on("").key_class is KeyClass.HARMLESS
    assert verdict_on("☃").key_class is KeyClass.HARMLESS


@pytest.mark.parametrize(
    "key", ["ab_test", "p95_ms", "queue_time_ms", "kb_id", "langgraph_step", "retrievalScore", "zendesk_priority", "[key 3]"]
)
def test_keys_that_may_be_stored(key: str) -> None:
    assert is_storable_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "maria",
        "maria.lopez",
        "MariaLopez",
        "maria_lopez",
        "priya",
        "mlopez",
        "u-8841",
        "4155550132",
        "maria@example.com",
        "a b",
        "k" * 42,
        "1st",
        "",
        "naïve",
        "xK9vQ2mZ7p",
        "7f3a9c2e11",
        "AKIAIOSFODNN7EXAMPLE",
        "key\n",
        "QxZvKpWm",
        "[key 12345]",
    ],
)
def test_keys_that_may_not(key: str) -> None:
    assert not is_storable_key(key)


@pytest.mark.parametrize("chunk", ["createChatCompletion", "acme", "k8s", "bm25", "v2", "GPT4o", "20240718", "refundbot"])
def test_what_developers_write(chunk: str) -> None:
    assert is_plain_chunk(chunk)


@pytest.mark.parametrize("chunk", ["Maria", "lopez", "marialopez", "MariaLopez2", "123456", "a1b2c3", "xkqvzwt", "Zq8XvR2m"])
def test_what_they_do_not(chunk: str) -> None:
    assert not is_plain_chunk(chunk)


@pytest.mark.parametrize(
    "key",
    [
        *"meta.user.plan request.user_tier app_user_plan ctx_user.plan user.locale custom.user.segment".split(),
        *"pii.category meta.pii.type request.pii.level pin_type otp_method marital_status religion_category".split(),
    ],
)
def test_no_kind_opens_what_a_users_or_a_personal_key_names(key: str) -> None:
    assert verdict_on(key).key_class not in PASSING
    assert not verdict_on(key).is_kind
    assert not verdict_on(key).is_measure


@pytest.mark.parametrize("key", ["user_count", "active_user_count", "num_users", "user_wait_ms", "request.user_count"])
def test_what_is_counted_of_users(key: str) -> None:
    assert verdict_on(key).is_measure


@pytest.mark.parametrize("key", ["user.name.sess_ab.count", "user.plan.gold.count", "session_id.main.count", "user.7.count"])
def test_a_value_in_a_key_is_not_counted(key: str) -> None:
    assert not verdict_on(key).is_measure


@pytest.mark.parametrize(("key", "under"), [("num_docs", "run"), ("max_context", "config"), ("num_messages", "rag")])
def test_a_measure_is_one_wherever_it_stands(key: str, under: str) -> None:
    assert verdict_below(under, key).is_measure


@pytest.mark.parametrize(("cls", "entries"), keys_of_languages())
def test_each_word_of_another_language(cls: str, entries: tuple[str, ...]) -> None:
    assert KeyClass(cls) not in PASSING
    for entry in entries:
        key = entry.rstrip("*")
        for spelling in (key, key.upper(), key.replace("_", "."), key.title().replace("_", ""), f"x_{key}"):
            assert verdict_on(spelling).key_class not in PASSING, spelling
        if entry.endswith("*"):
            assert verdict_on(f"kund{key}wert").key_class not in PASSING, entry


@pytest.mark.parametrize("key", ["contraseña", "hasło", "straße", "fødselsdato", "código_postal", "prénom"])
def test_letters_with_accents(key: str) -> None:
    assert verdict_on(key).key_class not in PASSING


@pytest.mark.parametrize(
    "key",
    "usertier userplan usersession sessiontoken connectionstring databaseurl latlng macaddress patientid employeeid "
    "langgraphthreadid visitorid sessionkey shippingaddress".split(),
)
def test_words_run_together(key: str) -> None:
    for spelling in (key, key.upper(), f"x_{key}"):
        assert verdict_on(spelling).key_class not in PASSING


@pytest.mark.parametrize(
    "key",
    "pgvector llamaindex checkpointer clickhouse crewai openinference postgresql sidecar passthrough cardinality "
    "personalization traceloop mailgun telemetry vectorstore".split(),
)
def test_words_that_only_look_so(key: str) -> None:
    assert verdict_on(key).key_class is KeyClass.HARMLESS


@pytest.mark.parametrize(
    "key", "fb_id google_id my_google_id apple_idField installation_id order_number kunden_id discordid uid fan_code".split()
)
def test_one_record_of_many(key: str) -> None:
    assert verdict_on(key).is_numbered or verdict_on(key).key_class not in PASSING


@pytest.mark.parametrize(
    "key",
    "status_code error_code trace_id kb_id step_id line_number run.id cache_key product_id language_code traceid".split(),
)
def test_a_machines_number(key: str) -> None:
    assert verdict_on(key).key_class is KeyClass.HARMLESS
    assert not verdict_on(key).is_numbered


@pytest.mark.parametrize("key", ["my metric", "accuracy@5", "recall@10", "latency / step"])
def test_names_of_metrics(key: str) -> None:
    assert is_metric_name(key)
    assert not is_storable_key(key)


@pytest.mark.parametrize(
    "key", ["maria lopez", "maria@example.com", "a b c d e f g h", "call 4155550132", "12 elm", "quellmalz 3"]
)
def test_what_is_no_name_of_a_metric(key: str) -> None:
    assert not is_metric_name(key)


@pytest.mark.parametrize("key", ["sess_wutiju26207", "user_ab1234", "cust-xy98765", "hits.69.151.230.215"])
def test_session_shaped_keys(key: str) -> None:
    assert not is_storable_key(key)
