"""Echoes: values under sensitive keys, found again in texts and in what is kept beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.privacy.echoes import NO_ECHOES, Echoes
from evalforge.core.privacy.gathering import MAX_VALUES
from evalforge.core.privacy.text.findings import TextKind
from evalforge.core.privacy.text.letters import folded_form
from evalforge.core.span import Evaluation
from tests.spans import span

RING = KeyRing((b"k" * 32,))


def found(text: str, **fields: Any) -> list[tuple[str, TextKind]]:
    findings = Echoes.of(span(**fields)).find(text)
    return [(text[finding.start : finding.end], finding.kind) for finding in findings]


NAME = "Kwame Okafor"
CARRIERS: dict[str, dict[str, Any]] = {
    "tag": {"tags": (("user.name", NAME),)},
    "metadata": {"metadata": {"customer_name": NAME}},
    "camel case": {"metadata": {"customerName": NAME}},
    "nested": {"metadata": {"ticket": {"customer": {"name": NAME}}}},
    "below a sensitive key": {"metadata": {"customer": {"full": {"name": NAME}}}},
    "a role": {"metadata": {"customer": NAME}},
    "list": {"metadata": {"patients": [NAME]}},
    "attributes": {"attributes": {"usr": {"name": NAME}}},
    "top level": {"extra": {"user_name": NAME}},
    "pair": {"metadata": {"fields": [{"name": "full_name", "value": NAME}]}},
    "pair list": {"metadata": {"fields": [["full_name", NAME]]}},
    "JSON in a string": {"input": {"value": json.dumps({"user": {"full_name": NAME}})}},
    "JSON in JSON": {"output": {"value": json.dumps({"body": json.dumps({"fullName": NAME})})}},
    "tool arguments": {"input": {"messages": [{"tool_calls": [{"name": "look_up", "arguments": {"full_name": NAME}}]}]}},
    "tool result": {"input": {"messages": [{"tool_results": [{"result": json.dumps({"holder_name": NAME})}]}]}},
    "prompt variables": {"input": {"prompt": {"variables": {"customer_name": NAME}}}},
    "lines of a prompt": {"input": {"messages": [{"content": f"Facts.\n- Customer name: {NAME}\nPlan: gold"}]}},
    "pairs of a prompt": {"input": {"value": f'level=info customer_name="{NAME}" plan=gold'}},
    "query string": {"input": {"value": "GET /x?customer_name=Kwame+Okafor&page=2"}},
    "evaluation": {"evaluations": (Evaluation("check", body={"submitter": {"name": NAME}}),)},
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_name_is_found_again_wherever_it_stood(carrier: str) -> None:
    text = "The answer told kwame okafor that Okafor is late; OKAFOR's order, Kwame-Okafor."
    places = found(text, **CARRIERS[carrier])
    assert [place for place, _ in places] == ["kwame okafor", "Okafor", "OKAFOR", "Kwame-Okafor"]
    assert {kind for _, kind in places} == {TextKind.PERSON}


@pytest.mark.parametrize(
    ("key", "value", "text", "place", "kind"),
    [
        ("email", "Jane.Roe@Example.com", "mail to jane.roe@example.com now", "jane.roe@example.com", TextKind.EMAIL),
        ("user_id", "u-8841", "for u-8841 today", "u-8841", TextKind.USER),
        ("user_id", 884123, "for 884123 today", "884123", TextKind.USER),
        ("user_id", 884123.0, "for 884123 today", "884123", TextKind.USER),
        ("session_id", "sess-4f2a", "in sess-4f2a it", "sess-4f2a", TextKind.SESSION),
        ("password", "hunter2!x", "uses hunter2!x as", "hunter2!x", TextKind.SECRET),
        ("city", "Zielona Góra", "lives in zielona gora,", "zielona gora", TextKind.ADDRESS),
        ("address", "12 Elm Street, Springvale", "to Springvale soon", "Springvale", TextKind.ADDRESS),
        ("address", "12 Elm Street, Springvale", "at 12 Elm Street soon", "12 Elm Street", TextKind.ADDRESS),
        ("full_name", "José García", "told Jose Garcia so", "Jose Garcia", TextKind.PERSON),
        ("full_name", "王小明", "我叫王小明。", "王小明", TextKind.PERSON),
        ("zip", "94107", "near 94107 there", "94107", TextKind.ADDRESS),
    ],
)
def test_values_by_kind(key: str, value: Any, text: str, place: str, kind: TextKind) -> None:
    assert found(text, metadata={key: value}) == [(place, kind)]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("user_id", 12, "12 items"),
        ("user_tier", "premium", "a premium plan"),
        ("name", "search", "the search failed"),
        ("contact_method", "email", "sent by email"),
        ("city", "Reading", "while reading the policy"),
        ("first_name", "Will", "it will fail"),
        ("first_name", "Grace", "a grace period"),
        ("user_message", "where is my refund", "where is my refund"),
        ("email_sent", True, "True"),
        ("user_name", "Al", "also all"),
        ("phone", "[redacted:text 12]", "redacted text 12"),
        ("phone", "[PHONE_1]", "PHONE 1"),
        ("note", "Okafor", "Okafor"),
    ],
)
def test_what_is_no_echo(key: str, value: Any, text: str) -> None:
    assert found(text, metadata={key: value}) == []


@pytest.mark.parametrize(("key", "value"), [("city", "Reading"), ("first_name", "Will"), ("first_name", "Grace")])
def test_ordinary_words_are_names_with_a_capital(key: str, value: str) -> None:
    assert [place for place, _ in found(f"It said {value} twice.", metadata={key: value})] == [value]


def test_one_person_has_one_identity() -> None:
    echoes = Echoes.of(span(metadata={"full_name": "Okafor, Kwame", "first_name": "Kwame", "email": "k.okafor@example.com"}))
    identities = {finding.identity for finding in echoes.find("Kwame and Okafor and Kwame Okafor")}
    assert len(identities) == 1
    assert echoes.names == {"kwame", "okafor"}


def test_two_people_of_one_family_stay_two() -> None:
    echoes = Echoes.of(span(metadata={"patients": ["Kwame Okafor", "Ngozi Okafor"]}))
    by_place = {finding.start: finding.identity for finding in echoes.find("Kwame; then Ngozi; then Okafor")}
    assert len(set(by_place.values())) == 3


def test_echoes_of_several_spans_are_joined_and_bounded() -> None:
    some = [Echoes.of(span(metadata={"user_name": f"kwxz{n}a"})) for n in range(5)]
    joined = NO_ECHOES.joined(some)
    assert len(joined.find("kwxz0a kwxz4a kwxz9a")) == 2
    many = Echoes.of(span(metadata={"user_names": [f"kwxz{n}a" for n in range(2 * MAX_VALUES)]}))
    assert repr(many.joined(some)) == f"Echoes({MAX_VALUES} values)"
    assert "kwxz" not in repr(many)


def test_many_values_and_a_long_text_take_one_scan() -> None:
    echoes = Echoes.of(span(metadata={"user_names": [f"Kwame Okafor{n}" for n in range(MAX_VALUES)]}))
    assert len(echoes.find("Kwame Okafor7 " * 20_000)) == 20_000
    assert echoes.find("kwame " * 3 + "x " * 100_000)[0].end == 5


AMONG: dict[str, tuple[str, str, str, bool]] = {
    "no word of it": ("email", "kwame.okafor@example.com", "It was late.", False),
    "the domain only": ("email", "kwame.okafor@example.com", "An example.com page.", False),
    "a name in it": ("email", "kwame.okafor@example.com", "So Kwame said.", True),
    "its letters run together": ("user_name", "Kwame Okafor", "kwameokafor was late", True),
    "a part of an address": ("address", "12 Elm Street, Springfield", "He lives in Springfield.", True),
    "the mark of an id": ("user_id", "u-8841", "What u got.", False),
    "the number of an id": ("user_id", "u-8841", "It is 8841.", True),
    "an id as it is": ("user_id", "u-8841", "It is U 8841.", True),
    "the last digits of a card": ("card_number", "4111 1111 1111 1234", "The one ending in 1234.", True),
    "another way to write an address": ("login", "kwame at okafor dot org", "So Kwame said.", True),
    "an encoded address": ("login", "kwame%40okafor.org", "So Kwame said.", True),
    "a spelled name": ("login", "k-w-a-m-e", "It was k here.", True),
    "accents": ("user_name", "Bj\u00f6rn", "bjorn was late", True),
}


@pytest.mark.parametrize("case", AMONG)
def test_values_are_looked_for_where_they_may_be_told(case: str) -> None:
    key, value, text, kept = AMONG[case]
    echoes = Echoes.of(span(metadata={key: value}))
    assert echoes
    among = echoes.among(text)
    assert bool(among) is kept
    assert among.find(text) == echoes.find(text)


def test_values_among_a_text_find_what_all_do() -> None:
    text = "Kwame (kwame.okafor@example.com, u-8841) lives in Springfield; Ngozi does not."
    values = {
        "email": "kwame.okafor@example.com",
        "user_id": "u-8841",
        "plan": "gold",
        "patients": ["Ngozi Eze", "Jo\x00Ngozi"],
    }
    echoes = Echoes.of(span(metadata=values))
    among = echoes.among(text)
    assert len(echoes.find(text)) == 4
    assert among.find(text) == echoes.find(text)
    assert among.person("kwame") == echoes.person("kwame") == "kwame okafor"


def test_hostile_spans_give_echoes_all_the_same() -> None:
    deep: Any = {"user_name": "Okafor"}
    for _ in range(5_000):
        deep = {"n": deep}
    wide = {f"user_{n}": f"v{n}" for n in range(50_000)}
    echoes = Echoes.of(
        span(metadata={"user_name": NAME, "huge_user": 10**400, "deep": deep, "odd": "\ud800"}, attributes=wide)
    )
    assert [finding.kind for finding in echoes.find(NAME)] == [TextKind.PERSON]


@pytest.mark.parametrize("text", ["İstanbul ǅ ß ﬁ", "á́ö", "\ud800x", "ABC"])
def test_folding_keeps_every_place(text: str) -> None:
    assert len(folded_form(text)) == len(text)


# -- in what is kept besides texts ----------------------------------------------------------------------------------------


def payload_of(**fields: Any) -> dict[str, Any]:
    return dict(Sanitizer(RING).sanitize(span(**fields), ()).payload)


def test_what_a_sensitive_key_said_goes_from_names_tags_and_words() -> None:
    payload = payload_of(
        metadata={"customer_name": "Flexton Brizard", "account": {"number": 884_123}, "mood": "brizard", "order_ref": 12},
        name="ask brizard bot",
        tags=(("team", "brizard"), ("env", "prod"), ("shard", "88412")),
        evaluations=(Evaluation("check", "brizard", "categorical", None, None, {}),),
        tool_definitions=[{"name": "brizard_lookup"}],
    )
    assert "brizard" not in json.dumps(payload).lower()
    assert payload["tags"]["env"] == "prod"
    assert payload["metadata"]["order_ref"] == 12


def test_ids_and_metrics_are_no_echoes() -> None:
    payload = payload_of(
        span_id="88412399",
        metadata={"user_id": 88412399, "temperature": 0.5},
        metrics={"cost": 88412399},
        received_start=88412399,
    )
    assert payload["span_id"] == "88412399"
    assert payload["metrics"] == {"cost": 88412399}
    assert payload["start_ns"] == 88412399


def test_a_number_that_repeats_a_users_id_goes() -> None:
    result = Sanitizer(RING).sanitize(span(metadata={"user_id": 88412, "order": 88412, "queue": 88413}), ())
    assert result.payload["metadata"] == {"order": "[redacted:number]", "queue": 88413}
    assert result.redactions["echo"] == 1


def test_vague_attributes_are_looked_for_in_texts_only() -> None:
    assert payload_of(metadata={"user_company": "fabrikom"}, name="fabrikom_lookup")["name"] == "fabrikom_lookup"
