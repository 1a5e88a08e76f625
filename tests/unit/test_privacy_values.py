"""Value rules: what each keeps, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from evalforge.core.privacy import measures, software, values
from evalforge.core.privacy.marks import placeholder
from evalforge.core.privacy.rules import RULE_OF, Kind
from evalforge.core.privacy.vocabulary import is_known_words, is_name, is_word

PERSONAL = (
    "maria lopez|Maria Lopez|maria.lopez@example.com|+1 415-555-0132|4155550132|4111 1111 1111 1111|u-8841|12 Elm St|"
    "Elm Street|10.0.0.1|2001:db8::1|00:1B:44:11:3A:B7|DE89370400440532013000|078-05-1120|1984-02-11|MARIA|mlopez|"
    "maria_lopez|priya|Kwame|xK9vQ2mZ7p|hunter2|AKIAIOSFODNN7EXAMPLE|QxZvKpWm|37.7749,-122.4194|rose hill|user8841|"
    "O'Brien|Müller|eyJhbGciOiJIUzI1NiJ9"
).split("|")

KEPT: list[tuple[Kind, str]] = [
    (
        Kind.NAME,
        "handle_ticket|POST /chat|OpenAI.createChatCompletion|GET /api/v1/orders/{order_id}|ChatOpenAI|RunnableSequence",
    ),
    (
        Kind.NAME,
        "support-bot|us-east-1|eu-west-3a|cl100k_base|invoke_agent travel_planner|tool: search_web|step 3|acme-shop",
    ),
    (Kind.MODEL, "gpt-4o-mini|gpt-4o-mini-2024-07-18|claude-sonnet-4@20250514|anthropic.claude-3-haiku-20240307-v1:0"),
    (
        Kind.MODEL,
        "meta-llama/Llama-3.1-70B-Instruct|text-embedding-ada-002|Qwen/Qwen2.5-72B-Instruct|llama3.2:3b|o1-preview",
    ),
    (Kind.ERROR_TYPE, "ValueError|builtins.ValueError|openai.RateLimitError|java.lang.NullPointerException|ERR_BAD_REQUEST"),
    (
        Kind.LABEL,
        "hallucination found|no hallucination|Jailbreak Attack|Self Harm|partially_correct|off-topic|A|B+|N/A|1/5|4 stars",
    ),
    (Kind.WORDS, "chat|premium|tool_calls|us-east-1|en-US|gpt-4o|kb-v3|blue|east|json_schema|B|A/B"),
    (Kind.VERSION, "4.16.0|2026.1|v2|1.0.0.dev3|2.0.0-rc1|1.2.3+abc1234|1"),
    (Kind.CODE, "9fceb02d0ae598e95dc970b74767f19372d61af8|9fceb02|6b03dc78-0000-4000-8000-3d53c9500062"),
    (
        Kind.MACHINE_ID,
        "call_1|call_A1b2|call_abc123XYZ789|toolu_01A09q90qw90lq917835lq9|chatcmpl-9aBcD1|req_011CSHoEeqs5C35K2UUqR7Fy",
    ),
    (Kind.TRACE_CODE, "6b03dc78000000003d53c950006270ff|2622305684663452078"),
    (Kind.TIME, "2026-11-23T06:26:00.813Z|2026-11-23 06:26:00|2026-11-23|2026-11-23T06:26:00+01:00"),
    (Kind.LOCALE, "en|en-US|pt_BR|USD"),
    (Kind.RELEASE, "20261123.4|main-cad9c1d2|r-1042|build-20261123.4|release-42|build-7|main-2026.11|rc-2"),
    (Kind.POD, "checkout-7d9f8b6c5-x2x9z|rag-worker-0|llm-gateway-5c9d7f9b8b-qk4zt"),
    (Kind.IMAGE, "ghcr.io/acme/rag:1.4.2|rag-worker:sha-9fceb02|docker.io/library/python:3.11-preview"),
    (Kind.PACKAGE, "openai-python/1.51.0|langchain-core==0.3.1|@anthropic-ai/sdk|openai"),
    (Kind.ERROR_CODE, "E_TIMEOUT|ERR-1042|E1001|HTTP_503|err_bad_request"),
    (Kind.IDENTIFIER, "support_v12|rag-answer|summarize.v2"),
    (Kind.ZONE, "Europe/Paris|america/new_york|UTC"),
    (Kind.CODE, "sha256:d5f4b3b2e4b06ce6"),
    (Kind.ERROR_TYPE, "*errors.errorString|&net.OpError"),
    (Kind.MACHINE_ID, "functions.get_weather:0|chatcmpl-tool-90c39377fcce71a91b66d9ef81411511|dpl-42"),
    (
        Kind.WORDS,
        "__start__|returns & refunds|f-string|RecursiveCharacterTextSplitter|vectorstoreretriever|SEV2|l2|docx|ECONNRESET",
    ),
    (Kind.LOCALE, "zh-Hans"),
    (Kind.NAME, "kb_en_2026|/v1/chat/completions|/orders/:id/items"),
    (Kind.BOOLEAN, "true|False"),
    (Kind.NUMBER, "0|12345|-0.5|99.5"),
]
KEPT_ROWS = [(kind, text) for kind, texts in KEPT for text in texts.split("|")]


@pytest.mark.parametrize(("kind", "text"), KEPT_ROWS, ids=[f"{kind}:{text}" for kind, text in KEPT_ROWS])
def test_kept_as_received(kind: Kind, text: str) -> None:
    assert RULE_OF[kind](text) == text


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.TRACE_CODE}))
def test_no_rule_keeps_anything_personal(kind: Kind) -> None:
    assert [text for text in PERSONAL if RULE_OF[kind](text) is not None] == []


@pytest.mark.parametrize("kind", sorted(Kind))
def test_nonsense_is_refused_by_every_rule(kind: Kind) -> None:
    nonsense: list[Any] = [None, {}, [], object(), "", "\ud800", "\x00", "a\nb", "x" * 100_000, float("nan"), 10**400]
    assert [value for value in nonsense if RULE_OF[kind](value) is not None] == []


@pytest.mark.parametrize(
    ("raw", "masked"),
    [
        ("checkout-service-7d9f8b2c11", "checkout-service-[redacted]"),
        ("GET /users/maria/orders", "GET /users/[redacted]/orders"),
        ("chat with grace about billing", "chat with [redacted] about billing"),
        ("chat with [redacted] about billing", "chat with [redacted] about billing"),
    ],
)
def test_names_lose_only_what_is_personal(raw: str, masked: str) -> None:
    assert values.name(raw) == masked


def test_customers_parts_of_a_fine_tuned_model_are_masked() -> None:
    assert (
        values.model("ft:gpt-4o-mini-2024-07-18:acme:maria:7p4lURelQQ")
        == "ft:gpt-4o-mini-2024-07-18:acme:[redacted]:[redacted]"
    )


@pytest.mark.parametrize(
    "text", ["quality_score", "helpfulness-check", "is_helpful", "G-Eval", "ragas.faithfulness", "tone of voice"]
)
def test_evaluator_names(text: str) -> None:
    assert values.evaluator_name(text) == text


@pytest.mark.parametrize("text", ["", "-x", "check maria", "a" * 201, "x@y", "näme", "is it\nok", "Zq8XvR2m1L", *PERSONAL])
def test_personal_evaluator_names_are_refused_whole(text: str) -> None:
    assert values.evaluator_name(text) is None


@pytest.mark.parametrize(
    ("value", "mark"),
    [
        ("héllo", "[redacted:text 5]"),
        ("", "[redacted:text 0]"),
        (4155550132, "[redacted:number]"),
        (True, "[redacted:number]"),
        ({"a": 1}, "[redacted:object 1]"),
        ([1, 2], "[redacted:list 2]"),
        (object(), "[redacted:value]"),
        ("[redacted:text 5]", "[redacted:text 5]"),
        ("[redacted:text 5] maria", "[redacted:text 23]"),
    ],
)
def test_placeholders(value: Any, mark: str) -> None:
    assert placeholder(value) == mark


@pytest.mark.parametrize("value", [4155550132, -100_000, 10**30, 1e5, float("inf")])
def test_large_numbers_are_not_small(value: Any) -> None:
    assert measures.small_number(value) is None


@pytest.mark.parametrize("value", [0, -1, 99_999, 0.25, "42", "0.5"])
def test_small_numbers(value: Any) -> None:
    assert measures.small_number(value) == value


@pytest.mark.parametrize("word", ["refund", "green", "openai", "east", "kubernetes", "hallucination", "claude"])
def test_words(word: str) -> None:
    assert is_word(word)
    assert not is_name(word)


@pytest.mark.parametrize("word", ["maria", "lopez", "grace", "mark", "will", "priya", "kwame", "okafor", "smith", "wei"])
def test_names_are_no_words(word: str) -> None:
    assert not is_word(word)


@pytest.mark.parametrize(
    "text",
    [
        "where is my refund",
        "",
        "12",
        "refund 8841",
        "order a-1009",
        "for A0A0A0A0",
        "for 12 34 56",
        "elm street",
        "Big House",
        "t-77",
    ],
)
def test_what_is_no_enum_value(text: str) -> None:
    assert values.words(text) is None


@pytest.mark.parametrize(
    ("text", "max_words", "is_known"),
    [
        ("two words", 1, False),
        ("two words", 2, True),
        ("camelCaseWords", 3, True),
        ("blue", 0, False),
        ("a" * 1000, 4, False),
    ],
)
def test_known_words_are_counted(text: str, max_words: int, is_known: bool) -> None:
    assert is_known_words(text, max_words) is is_known


@pytest.mark.parametrize(
    "text",
    "350ms|1.2s|30s|24h|7d|PT1M30S|00:00:12|87%|50%|2.4MB|512KB|$0.0021|2026Q4|2026-W07|*/5 * * * *|q4_k_m|int8|fp16|"
    "c++|C#|.docx|###|</s>|120 req/s|15 tokens/s".split("|"),
)
def test_what_software_says_of_itself(text: str) -> None:
    assert software.technical(text) == text
    assert software.technical(text.lower()) == text.lower()


@pytest.mark.parametrize(
    "text", ["", "415550132ms", "4155550132", "maria", ".maria", "10.0.0.1", "12 elm", "28 39 226 85 1", *PERSONAL]
)
def test_what_people_are_is_nothing_technical(text: str) -> None:
    assert software.technical(text) is None


@pytest.mark.parametrize(
    "text", ["415-555-0132", "415.555.0132", "build-4155550132", "maria-7", "10.1.2.3", "12345678", "078-05-1120"]
)
def test_no_number_of_a_person_is_a_release(text: str) -> None:
    assert software.release(text) is None


@pytest.mark.parametrize(
    "text", ["sess_qahowe51363", "lookup_sess_peweru37217", "28 dot 39 dot 226 dot 85", "2-0-0-1-:-d-b-8-:-1", "user:ab1234"]
)
def test_sessions_and_spelled_out_addresses_are_no_names(text: str) -> None:
    assert values.name(text) is None
    assert values.model(text) is None


@pytest.mark.parametrize("text", ["rosebakerhill", "marialopezgarcia", "Lausanne/Vidy", "Europe/Springfield"])
def test_run_together_words_and_places_that_are_no_words(text: str) -> None:
    assert values.words(text) is None
    assert software.zone(text) is None


@pytest.mark.parametrize("number", [1_420_070_400, 1_795_415_160.84, 1_795_415_160_844, 1_795_415_160_844_000_000, 12.5, 0])
def test_epochs_of_this_time(number: float) -> None:
    assert measures.epoch_of_this_time(number) == number


@pytest.mark.parametrize("number", [4_155_550_132, 3_232_235_777, 829_794_669, 1_000_000_000, 10**30, float("nan"), True])
def test_numbers_that_are_no_time(number: float) -> None:
    assert measures.epoch_of_this_time(number) is None
