"""Names and addresses in prose that are made of ordinary words, or stand beside them; and what looks like them and stays."""

from __future__ import annotations

import re

import pytest

from evalforge.core.privacy import KeyRing, Sanitizer, TextPolicy
from evalforge.core.privacy.text.scrubber import Scrubber
from evalforge.core.span import Evaluation
from tests.prose import lines
from tests.spans import span


def scrubbed(text: str) -> str:
    return Scrubber().scrub([text])[0]


def explained(reasoning: str, **metadata: str) -> str:
    made = Sanitizer(KeyRing((b"k" * 32,)), TextPolicy()).sanitize(
        span(metadata=metadata, evaluations=(Evaluation("check", 1, body={"reasoning": reasoning}),)), ()
    )
    text: str = made.payload["evaluation"]["check"]["reasoning"]
    return text


@pytest.mark.parametrize("line", [*lines("full_names"), *lines("whole_addresses")])
def test_no_word_of_a_name_or_an_address_is_left(line: str) -> None:
    text, _, words = line.partition(" ## ")
    result = scrubbed(text)
    left = [word for word in words.split() if re.search(rf"(?i)(?<![^\W_]){re.escape(word)}(?![^\W_])", result)]
    assert left == [], result
    assert scrubbed(result) == result


@pytest.mark.parametrize("text", lines("kept"))
def test_what_looks_like_a_name_or_an_address_and_is_none_stays(text: str) -> None:
    assert scrubbed(text) == text


@pytest.mark.parametrize("name", ["reasoning", "chats", "errors"])
def test_harmless_words_are_kept(name: str) -> None:
    word = re.compile(r"[^\W\d_]+")
    texts = lines(name)
    known = sum(len(word.findall(text)) for text in texts)
    kept = sum(len(word.findall(re.sub(r"\[[A-Z]+_\d+\]", " ", scrubbed(text)))) for text in texts)
    assert kept / known >= 0.99


ONE_PERSON: list[tuple[dict[str, str], str, str]] = [
    ({"recipient": "Yılmaz, Ayşe"}, "Ayşe Yılmaz called", "[PERSON_1] called"),
    ({"recipient": "Okonkwo, Ngozi"}, "Ngozi Okonkwo called", "[PERSON_1] called"),
    ({"customer_name": "Ji-hoon Kang"}, "Ji-hoon wants a refund", "[PERSON_1] wants a refund"),
    ({}, "Ayşe Yılmaz called, then ayse yilmaz left", "[PERSON_1] called, then [PERSON_1] left"),
    (
        {"customer_name": "Grace Hill"},
        "it told Grace Hill and grace to wait by the hill",
        "it told [PERSON_1] and [PERSON_1] to wait by the hill",
    ),
    (
        {"customer_name": "Mark Stone"},
        "please mark the stone: Mark Stone agreed, then mark said yes, set in stone",
        "please mark the stone: [PERSON_1] agreed, then [PERSON_1] said yes, set in stone",
    ),
]


@pytest.mark.parametrize(("metadata", "said", "stored"), ONE_PERSON)
def test_one_person_has_one_placeholder(metadata: dict[str, str], said: str, stored: str) -> None:
    assert explained(said, **metadata) == stored


@pytest.mark.parametrize("label", ["Steuer-ID 86095742719", "henkilötunnus 131052-308T", "Aadhaar 2341 2341 2346"])
def test_the_label_of_an_identity_number_is_nobody(label: str) -> None:
    assert scrubbed(f"The answer repeats the {label}.") == f"The answer repeats the {label.split(' ')[0]} [ID_1]."
