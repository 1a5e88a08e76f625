"""Who a span belongs to: one hash per user, whatever the spelling; ids that may be stored."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.privacy import KeyRing, safe_trace_id, user_id_in
from evalforge.core.privacy.identity import is_no_id, safe_parent_id, safe_span_id
from evalforge.core.privacy.user_ids import normal_user_id
from tests.spans import span

NEW, OLD = b"new" * 16, b"old" * 16
RING = KeyRing((NEW, OLD))


def mac(key: bytes, message: bytes) -> str:
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def test_user_hash_is_the_documented_hmac() -> None:
    kid = mac(NEW, b"evalforge/kid")[:4]
    assert RING.user_hash("u-8841") == f"u{kid}_{mac(NEW, b'evalforge/user' + bytes(1) + b'u-8841')[:32]}"


def test_key_ids_are_newest_first() -> None:
    assert RING.key_ids == (mac(NEW, b"evalforge/kid")[:4], mac(OLD, b"evalforge/kid")[:4])


def test_an_empty_ring_hashes_nobody() -> None:
    assert KeyRing().user_hash("u-8841") is None
    assert KeyRing().candidate_hashes("u-8841") == frozenset()
    assert KeyRing().key_ids == ()


def test_a_ring_never_shows_its_keys() -> None:
    shown = repr(RING) + str(RING) + f"{RING!s}"
    assert "newnew" not in shown
    assert "oldold" not in shown
    assert RING.key_ids[0] in shown


def test_candidates_are_all_keys_and_the_lower_cased_spelling() -> None:
    candidates = RING.candidate_hashes("U-8841")
    assert len(candidates) == 4
    assert RING.user_hash("U-8841") in candidates
    assert RING.user_hash("u-8841") in candidates
    assert KeyRing((OLD,)).user_hash("U-8841") in candidates


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("u-8841", "u-8841"),
        ("  u-8841\n", "u-8841"),
        ("U-8841", "U-8841"),  # opaque ids keep their case
        ("Maria.Lopez@Example.com", "maria.lopez@example.com"),
        (8841, "8841"),
        (8841.0, "8841"),
        (18446744073709551615, "18446744073709551615"),
        ("e\u0301lise", "\u00e9lise"),  # NFC
        ("\ud800", "\ud800"),
        ("8841.0", "8841"),
        ("\uff18\uff18\uff14\uff11", "8841"),  # full-width digits
        ('"u-8841"', "u-8841"),
        ("u-88\u200b41\ufeff", "u-8841"),
        ("auth0%7C8841", "auth0|8841"),
        ("007", "007"),
        ("100%", "100%"),
        ("50%25", "50%"),
        ("%ff", "%ff"),  # no UTF-8
        ("O&#39;Brien", "O'Brien"),
    ],
)
def test_normal_form(raw: Any, normal: str) -> None:
    assert normal_user_id(raw) == normal
    assert RING.user_hash(raw) == RING.user_hash(normal)


@pytest.mark.parametrize(
    "raw",
    [
        "maria.lopez@example.com",
        "MARIA.LOPEZ@EXAMPLE.COM",
        " maria.lopez@example.com\n",
        "mailto:maria.lopez@example.com",
        "MAILTO:Maria.Lopez@example.com?subject=hi",
        "acct:maria.lopez@example.com",
        "maria.lopez%40example.com",
        "maria.lopez%2540example.com",
        "maria.lopez&#64;example.com",
        "maria.lopez@example.com.",
        "Maria Lopez <maria.lopez@example.com>",
        "<maria.lopez@example.com>",
        '"maria.lopez@example.com"',
        "\uff4daria.lopez\uff20example.com",
        "maria.lopez\u200b@example.com",
    ],
)
def test_every_spelling_of_an_address_gives_one_hash(raw: str) -> None:
    assert RING.user_hash(raw) == RING.user_hash("maria.lopez@example.com")


@pytest.mark.parametrize(
    "pair",
    [
        ("jos\u00e9@example.com", "JOSE\u0301@example.com"),
        ("maria@m\u00fcnchen.example", "maria@xn--mnchen-3ya.example"),
        ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
        ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}"),
        ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
        (18446744073709551615, "18446744073709551615"),
        (8841.0, " 8841 "),
    ],
)
def test_two_spellings_of_one_user_give_one_hash(pair: tuple[Any, Any]) -> None:
    assert RING.user_hash(pair[0]) == RING.user_hash(pair[1]) is not None


@pytest.mark.parametrize(
    "pair",
    [("aB1", "ab1"), ("007", "7"), ("u-1", "u_1"), ("maria@example.com", "maria@example.org"), ("u 1", "u1"), ("10", "1.0")],
)
def test_two_users_give_two_hashes(pair: tuple[str, str]) -> None:
    assert RING.user_hash(pair[0]) != RING.user_hash(pair[1])


@given(st.text(st.characters(exclude_categories=()), max_size=40) | st.integers() | st.floats())
def test_the_normal_form_is_its_own_normal_form(raw: Any) -> None:
    user_id = normal_user_id(raw)
    assert user_id is None or normal_user_id(user_id) in (user_id, None)


@pytest.mark.parametrize("unit", ["%25", "&amp;", '"', "a\u0301", "\u200b", "mailto:", "<", "%", "@", "{"])
def test_a_hostile_id_is_bounded(unit: str) -> None:
    assert normal_user_id(unit * 100_000) is None
    normal_user_id(unit * (1_000 // len(unit)))


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "  ",
        "x" * 1_001,
        "[redacted:text 12]",
        "[EMAIL_1]",
        "[object Object]",
        "<redacted>",
        "***",
        "{{user_id}}",
        "${USER_ID}",
        "(not set)",
        "00000000-0000-0000-0000-000000000000",
        "AnonymousUser",
        '"null"',
        "unknown",
        "Unknown",
        "null",
        "None",
        "undefined",
        "anonymous",
        "guest",
        "n/a",
        "-",
        0,
        "0",
        "-1",
        "true",
        None,
        True,
        False,
        float("nan"),
        float("inf"),
        {},
        [],
        ["u-8841"],
        {"id": "u"},
        b"u-8841",
        10**4000,
    ],
)
def test_nobody(raw: Any) -> None:
    assert normal_user_id(raw) is None
    assert RING.user_hash(raw) is None


PLACES: list[tuple[str, dict[str, Any]]] = [
    (f"{place} {key}", {place: {key: "u-8841"}})
    for place in ("metadata", "attributes", "extra")
    for key in (
        "user.id",
        "usr.id",
        "user_id",
        "userId",
        "usr_id",
        "usrId",
        "USER-ID",
        "enduser.id",
        "end_user_id",
        "endUserId",
    )
]
PLACES += [
    (f"{place} nested {branch}", {place: {branch: {"id": "u-8841"}}})
    for place in ("metadata", "attributes", "extra")
    for branch in ("user", "usr", "enduser", "end_user")
]
PLACES += [
    (f"tag {key}", {"tags": (("env", "prod"), (key, "u-8841"))})
    for key in ("user.id", "usr.id", "user_id", "usr_id", "User.Id", "enduser.id", "end_user_id", "userid")
]
PLACES += [
    (f"before it: {key}", {place: {key: "u-8841"}})
    for place in ("metadata", "attributes")
    for key in (
        "x-user-id",
        "app.user.id",
        "traceloop.association.properties.user_id",
        "langfuse.user.id",
        "gen_ai.user.id",
        "http.request.header.x-user-id",
        "currentUserId",
        "ai.telemetry.metadata.userId",
        "telemetry_metadata_userId",
        "braintrust.span.user_id",
        "logged_in_user_id",
    )
]
PLACES += [
    (f"wrapped {n}", {"metadata": wrapped})
    for n, wrapped in enumerate(
        [
            {"attributes": [{"key": "user.id", "value": "u-8841"}]},
            {"attributes": [{"key": "user.id", "value": {"stringValue": "u-8841"}}]},
            {"fields": [{"name": "plan", "value": "pro"}, {"name": "USER_ID", "value": 8841}]},
            {"pairs": [["plan", "pro"], ["user_id", "u-8841"]]},
            {"context": '{"usr": {"id": "u-8841"}}'},
            {"user": '{"id": 8841, "plan": "pro"}'},
            {"events": '[{"user_id": "u-8841"}]'},
            {"tags": ["env:prod", "user_id:u-8841"]},
            {"ddtags": "env:prod,usr.id:u-8841"},
            {"baggage": "plan=pro;user.id=u-8841"},
            {"http.url": "https://shop.example/cart?user_id=u-8841&x=1"},
            {"user_id": ["u-8841"]},
            {"user_id": {"value": 8841}},
            {"currentUser": {"id": "u-8841"}},
            {"user": {"_id": "u-8841"}},
            {"user": {"sub": "u-8841"}},
            {"endUser": {"userId": "u-8841"}},
            {"user\u200b_id": "u-8841"},
            {"\uff55ser_id": "u-8841"},
        ]
    )
]
PLACES += [
    ("tag user", {"tags": (("env", "prod"), ("user", "u-8841"))}),
    ("a metric", {"metrics": {"user_id": 8841.0}}),
    (
        "what ddtrace records of user=",
        {"attributes": {"openai": {"request": {"user": "x"}}, "openai.request.user": "u-8841"}},
    ),
    ("OpenAI's user=", {"metadata": {"user": "u-8841"}}),
    ("deep", {"metadata": {"context": {"request": {"user": {"id": "u-8841"}}}}}),
    ("in a list", {"metadata": {"events": [{"user_id": "u-8841"}]}}),
    ("number", {"metadata": {"user_id": 8841}}),
]


@pytest.mark.parametrize(("where", "fields"), PLACES, ids=[where for where, _ in PLACES])
def test_each_spelling_in_each_place(where: str, fields: dict[str, Any]) -> None:
    found = user_id_in(span(**fields))
    assert str(normal_user_id(found)).removeprefix("u-") == "8841"


@pytest.mark.parametrize(
    ("fields", "winner"),
    [
        ({"metadata": {"user_id": "exact"}, "tags": (("user.id", "lowered"),)}, "exact"),
        ({"metadata": {"user_id": "exact"}, "attributes": {"user.id": "other"}}, "exact"),
        ({"attributes": {"usr": {"id": "exact"}}, "tags": (("user.id", "lowered"),)}, "exact"),
        ({"metadata": {"usr.id": "second", "user.id": "first"}}, "first"),
        ({"metadata": {"user_id": "unknown", "usr_id": "real"}}, "real"),
        ({"metadata": {"user": "openai"}, "tags": (("usr.id", "tagged"),)}, "tagged"),
        ({"metadata": {"nested": {"user_id": "deep"}, "usr_id": "shallow"}}, "shallow"),
        ({"metadata": {"user_id": None}, "tags": (("user_id", ""),)}, None),
        ({"metadata": {"customer_id": "c-1"}}, None),
        ({"metadata": {"x_user_id": "beside"}, "tags": (("user.id", "exact"),)}, "exact"),
        ({"metadata": {"user": "bare", "app.user_id": "beside"}}, "beside"),
        ({"metadata": {"uid": "u-1"}}, "u-1"),
        ({"metadata": {"uid": "pod-1", "user_id": "u-1"}}, "u-1"),
        ({"metadata": {"k8s": {"uid": "pod-1"}}}, None),
        ({"metadata": {"assignee_user_id": "u-2"}}, None),
        ({"metadata": {"created_by_user_id": "u-2", "reply_to_user_id": "u-3", "ticket.owner.user_id": "u-4"}}, None),
        ({"metadata": {"mentioned_user_id": "u-2", "target_user_id": "u-3", "previous_user_id": "u-4"}}, None),
        ({"metadata": {"user_id_hash": "abc", "user_id_type": "uuid", "user_ids": ["a", "b"]}}, None),
        ({"attributes": {"db": {"user": "postgres"}}}, None),
        ({"metadata": {"user": {"name": "Maria"}}}, None),
    ],
)
def test_one_order_of_precedence(fields: dict[str, Any], winner: str | None) -> None:
    assert user_id_in(span(**fields)) == winner


def test_looking_for_a_user_is_bounded() -> None:
    deep: dict[str, Any] = {"user_id": "too deep"}
    for _ in range(5_000):
        deep = {"n": deep}
    assert user_id_in(span(metadata=deep)) is None
    assert user_id_in(span(metadata={f"k{n}": n for n in range(50_000)})) is None


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        ("6b03dc78000000003d53c950006270ff", "6b03dc78000000003d53c950006270ff"),
        ("6B03DC78", "6b03dc78"),
        ("9997924668816634474", "9997924668816634474"),
        ("340282366920938463463374607431768211455", "340282366920938463463374607431768211455"),
    ],
)
def test_plain_trace_ids(raw: str, stored: str) -> None:
    assert safe_trace_id(raw, RING) == (stored, True)


@pytest.mark.parametrize(
    "raw", ["maria.lopez@example.com", "6b03dc78-0000", "a" * 33, "1" * 40, "trace 1", "\ud800", "x" * 10**6]
)
def test_odd_trace_ids_become_keyed_digests(raw: str) -> None:
    stored, is_plain = safe_trace_id(raw, RING)
    assert not is_plain
    assert stored.startswith("t_")
    assert len(stored) == 34
    assert safe_trace_id(raw, KeyRing((OLD,)))[0] != stored
    assert safe_trace_id(raw, KeyRing())[0] == safe_trace_id(raw, KeyRing())[0] != stored
    assert safe_trace_id(stored, RING) == (stored, False)  # sanitizing twice changes nothing


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        ("18446744073709551615", "18446744073709551615"),
        ("0A1B2C3D4E5F6071", "0a1b2c3d4e5f6071"),
        ("undefined", None),
        ("0", None),
    ],
)
def test_parent_ids(raw: str, stored: str | None) -> None:
    assert safe_parent_id(raw, RING) == stored


def test_odd_span_ids_become_keyed_digests() -> None:
    stored = safe_span_id("span of maria", RING)
    assert stored.startswith("s_")
    assert len(stored) == 34
    assert safe_span_id(stored, RING) == stored
    assert safe_span_id("span of maria", KeyRing()) != stored
    assert stored[2:] != safe_trace_id("span of maria", RING)[0][2:]


@pytest.mark.parametrize("raw", [None, "", " ", "0", "undefined", "null", 5, [], {}])
def test_missing_ids(raw: Any) -> None:
    assert is_no_id(raw)
