"""Who may come in: keys by their digests, Google's tokens claim by claim, and nobody by mistake."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import Response

from evalforge.config import Settings
from evalforge.core.callers import KEY, Caller, Role, key_row_text, parse_accounts, parse_key_rows
from evalforge.errors import SettingsError
from evalforge.service import auth, oidc
from evalforge.service.access import Open, Routes, routes_without_door
from evalforge.service.app import create_app
from evalforge.service.auth import UNNAMED, Callers, Refused
from evalforge.service.envelope import SECURITY_HEADERS, request_id_of
from evalforge.service.limits import Throttle
from evalforge.service.oidc import SigningKeys, TokenRefusedError, Tokens
from tests.id_tokens import ACCOUNT, AUDIENCE, Certificates, Signer, certificate_server

KEY_A, KEY_B, KEY_C = (f"evf_{letter * 43}" for letter in "ABC")
ROWS = ",".join(
    (key_row_text("ci", [Role.RUN], KEY_A), key_row_text("ci", [Role.RUN], KEY_B), key_row_text("dpo", [Role.ERASE], KEY_C))
)
NOW = 1_795_000_000.0


def callers_of(**environment: str) -> Callers:
    return Callers(Settings.of_callers(environment))


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


# -- rows -----------------------------------------------------------------------------------------------------------------


def test_a_row_holds_a_digest_and_no_key() -> None:
    row = key_row_text("ci", [Role.RUN, Role.READ], KEY_A)
    assert row == f"ci=run+read:{hashlib.sha256(KEY_A.encode()).hexdigest()}"
    (parsed,) = parse_key_rows(row)
    assert parsed.caller == Caller("ci", frozenset({Role.RUN, Role.READ}))
    assert row.partition(":")[2] not in repr(parsed)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (f"ci=run:{KEY_A}", "a key, not its digest"),
        (f"ci=run:{'0' * 63}", "no digest"),
        (f"ci=run:{'0' * 64},ci=read:{'1' * 64}", "other roles"),
        (f"ci=run:{'0' * 64},x=read:{'0' * 64}", "same key"),
        (f"ci:{'0' * 64}", "lacks its ="),
        (f"ci=admin:{'0' * 64}", "roles are run, read, review, erase"),
        (f"ci=:{'0' * 64}", "roles are"),
        (f"\x1b[2J=run:{'0' * 64}", "a name has"),
        (",".join(f"c{number}=run:{number:064x}" for number in range(101)), "more than 100"),
    ],
)
def test_rows_that_are_wrong_are_named_by_number_and_not_repeated(rows: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_key_rows(rows)
    assert KEY_A not in str(caught.value)
    with pytest.raises(SettingsError) as told:
        Settings.from_environment({"SERVICE_API_KEYS": rows})
    assert KEY_A not in told.value.message
    assert told.value.message.isprintable()


@pytest.mark.parametrize("account", ["a@b.com", "A@x.iam.gserviceaccount.com", "a@gserviceaccount.com.evil.com", "", "x="])
def test_only_service_accounts_are_accounts(account: str) -> None:
    with pytest.raises(ValueError, match="row 1"):
        parse_accounts(f"{account}=run" if account else "=run")


# -- keys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (bearer(KEY_A), "ci"),
        (bearer(KEY_B), "ci"),
        ({"x-api-key": KEY_C}, "dpo"),
        ({"authorization": f"bEaReR   {KEY_A}"}, "ci"),
        ({}, "no_credential"),
        (bearer("evf_" + "D" * 43), "unknown_key"),
        (bearer(KEY_A.lower()), "unknown_key"),
        (bearer(KEY_A + "A"), "unknown_key"),
        ({"x-api-key": KEY_A[:-1]}, "malformed"),
        ({"x-api-key": ""}, "malformed"),
        ({"authorization": f"Basic {KEY_A}"}, "malformed"),
        ({"authorization": "Bearer"}, "malformed"),
        (bearer(KEY_A) | {"x-api-key": KEY_A}, "two_credentials"),
        (bearer("evf_" + "A" * 5000), "too_long"),
        (bearer("eyJhbGciOiJub25lIn0.e30."), "unknown_credential"),
    ],
)
@pytest.mark.parametrize("server", ["127.0.0.1", "10.0.0.1", None])
async def test_a_key_lets_its_holder_in_and_nothing_else_does(
    headers: dict[str, str], found: str, server: str | None
) -> None:
    outcome = await callers_of(SERVICE_API_KEYS=ROWS).identify(Headers(headers), server)
    assert (outcome.reason if isinstance(outcome, Refused) else outcome.name) == found


async def test_every_digest_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def counted(left: bytes, right: bytes) -> bool:
        compared.append(left)
        return compare(left, right)

    monkeypatch.setattr("hmac.compare_digest", counted)
    for key in (KEY_A, KEY_C, "evf_" + "D" * 43):
        compared.clear()
        await callers_of(SERVICE_API_KEYS=ROWS).identify(Headers(bearer(key)), None)
        assert len(compared) == 3, "to the end, whichever fits"


@pytest.mark.parametrize(
    ("environment", "server", "found", "may_be_public"),
    [
        ({}, "127.0.0.1", UNNAMED, False),
        ({}, "::1", UNNAMED, False),
        ({}, None, UNNAMED, False),
        ({}, "10.0.0.1", Refused("not_loopback"), False),
        ({"SERVICE_CALLERS_CHECKED_BY": "platform"}, "10.0.0.1", UNNAMED, True),
        ({"SERVICE_CALLERS_CHECKED_BY": "platform", "SERVICE_API_KEYS": ROWS}, "127.0.0.1", Refused("no_credential"), True),
    ],
)
async def test_without_callers_only_loopback_is_let_in_or_what_a_platform_lets_through(
    environment: dict[str, str], server: str | None, found: Any, may_be_public: bool
) -> None:
    callers = callers_of(**environment)
    assert await callers.identify(Headers({}), server) == found
    assert callers.may_be_public is may_be_public


async def test_wrong_settings_of_callers_let_nobody_in() -> None:
    callers = Callers(None)
    assert await callers.identify(Headers(bearer(KEY_A)), "127.0.0.1") == Refused("misconfigured")
    assert callers.kinds == ["nobody"]


# -- tokens ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer("key-1")


@pytest.fixture
def certificates(signer: Signer) -> Iterator[Certificates]:
    with certificate_server() as served:
        served.publish(signer)
        yield served


def tokens_of(certificates: Certificates, **options: Any) -> Tokens:
    (account,) = parse_accounts(f"{ACCOUNT}=run")
    return Tokens(AUDIENCE, {ACCOUNT: account}, SigningKeys(certificates.url, **options))


async def refusal_of(tokens: Tokens, token: str) -> str:
    with pytest.raises(TokenRefusedError) as caught:
        await tokens.caller_of(token)
    return caught.value.reason


async def test_a_good_token_lets_its_account_in_and_its_keys_are_fetched_once(
    certificates: Certificates, signer: Signer
) -> None:
    tokens, now = tokens_of(certificates), time.time()
    for issuer in ("https://accounts.google.com", "accounts.google.com"):
        assert (await tokens.caller_of(signer.token(now, iss=issuer))).name == ACCOUNT
    assert (await tokens.caller_of(signer.token(now + 50))).name == ACCOUNT, "clocks may differ by a minute"
    assert (await tokens.caller_of(signer.token(now - 3650))).name == ACCOUNT
    assert certificates.asked == 1


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "https://other.example.com"}, "wrong_audience"),
        ({"aud": [AUDIENCE]}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"iss": "https://evil.com"}, "wrong_issuer"),
        ({"iss": "https://accounts.google.com.evil.com"}, "wrong_issuer"),
        ({"email": "other@my-project.iam.gserviceaccount.com"}, "unknown_account"),
        ({"email": ACCOUNT.upper()}, "unknown_account"),
        ({"email": [ACCOUNT]}, "unknown_account"),
        ({"email": None}, "unknown_account"),
        ({"email_verified": False}, "email_not_verified"),
        ({"email_verified": "true"}, "email_not_verified"),
        ({"email_verified": None}, "email_not_verified"),
        ({"iat": -7200, "exp": -3600}, "expired"),
        ({"iat": 300, "exp": 3000}, "not_yet_valid"),
        ({"nbf": 300}, "not_yet_valid"),
        ({"exp": 10 * 86400}, "wrong_lifetime"),
        ({"exp": None}, "wrong_lifetime"),
        ({"iat": None}, "wrong_lifetime"),
        ({"exp": "soon"}, "wrong_lifetime"),
        ({"iat": True}, "wrong_lifetime"),
    ],
    ids=lambda part: ascii(part)[:50],
)
async def test_a_token_that_is_not_for_us_is_refused_before_any_key_is_fetched(
    certificates: Certificates, signer: Signer, claims: dict[str, Any], reason: str
) -> None:
    now = int(time.time())
    told: dict[str, Any] = {name: now + one if type(one) is int else one for name, one in claims.items()}  # from now on
    assert await refusal_of(tokens_of(certificates), signer.token(now, **told)) == reason
    assert certificates.asked == 0


def crafted(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"x") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_signatures_algorithms_and_shapes_that_are_wrong_are_refused(
    certificates: Certificates, signer: Signer
) -> None:
    tokens, now = tokens_of(certificates), time.time()
    good = signer.token(now)
    head, claims, signature = good.split(".")
    told = json.loads(base64.urlsafe_b64decode(claims + "=="))
    secret = signer.public_pem.encode()
    hs256 = {"alg": "HS256", "kid": "key-1", "typ": "JWT"}
    unsigned = crafted(hs256, told).rpartition(".")[0]
    forged = base64.urlsafe_b64encode(hmac.digest(secret, unsigned.encode(), "sha256")).rstrip(b"=").decode()
    for token, reason in (
        (f"{head}.{claims}.{signature[:-6]}AAAAAA", "bad_signature"),
        (Signer("key-1").token(now), "bad_signature"),
        (f"{unsigned}.{forged}", "wrong_algorithm"),
        (crafted({"alg": "none", "kid": "key-1"}, told), "wrong_algorithm"),
        (crafted({"alg": "RS256", "kid": "key-1", "crit": ["x"]}, told), "wrong_algorithm"),
        (crafted({"alg": "RS256"}, told), "unknown_signing_key"),
        (crafted({"alg": "RS256", "kid": "../key-1"}, told), "unknown_signing_key"),
        (f"{head}.{claims}", "malformed"),
        (f"{head}.{claims}.", "malformed"),
        (f"{head}..{signature}", "malformed"),
        ("a.b.c", "malformed"),
        (crafted({"alg": "RS256", "kid": "key-1"}, told).replace(".", ".."), "malformed"),
    ):
        assert await refusal_of(tokens, token) == reason, token
    assert certificates.asked == 1


async def test_keys_are_asked_for_again_when_they_may_have_changed_and_not_for_every_stranger(
    certificates: Certificates, signer: Signer
) -> None:
    clock = [NOW]
    keys = SigningKeys(certificates.url, now=lambda: clock[0])
    assert await keys.get("key-1") == signer.public_pem
    for _ in range(5):
        assert await keys.get("key-2") is None
    assert certificates.asked == 1, "an unknown id asks again after a minute at the soonest"
    second = Signer("key-2")
    certificates.publish(signer, second)
    clock[0] += oidc.REFETCH_S
    assert await keys.get("key-2") == second.public_pem
    assert certificates.asked == 2
    clock[0] += 3601
    certificates.status = 500
    assert await keys.get("key-1") == signer.public_pem, "a failing server does not matter while there are keys"
    clock[0] += oidc.MAX_STALE_S
    with pytest.raises(TokenRefusedError) as caught:
        await keys.get("key-1")
    assert (caught.value.reason, caught.value.is_ours) == ("no_signing_keys", True)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((500, b"{}"), (302, b""), (200, b"<html>"), (200, b"[]"), (200, b'{"k": 1}'), (200, b'{"k": "no pem"}')),
        *((200, b"[" * 60_000), (200, b" " * (oidc.MAX_KEYS_BYTES + 1))),
    ],
    ids=lambda part: ascii(part)[:20],
)
async def test_a_server_without_keys_leaves_tokens_unchecked_and_says_so(
    certificates: Certificates, signer: Signer, status: int, body: bytes
) -> None:
    certificates.status, certificates.body = status, body
    with pytest.raises(TokenRefusedError) as caught:
        await tokens_of(certificates).caller_of(signer.token(time.time()))
    assert caught.value.is_ours


# -- routes ---------------------------------------------------------------------------------------------------------------

ROLES = {
    "POST /ingestion/run-once": Role.RUN,
    "GET /ingestion/runs": Role.READ,
    "GET /ingestion/runs/{run_id}": Role.READ,
    "GET /captures": Role.READ,
    "GET /captures/{trace_id}": Role.READ,
    "GET /groups": Role.READ,
    "GET /groups/{signature}": Role.READ,
    "PATCH /groups/{signature}": Role.REVIEW,
    "GET /stats": Role.READ,
    "POST /exports": Role.REVIEW,
    "GET /exports": Role.READ,
    "GET /exports/{package_id}": Role.READ,
    "POST /privacy/erase": Role.ERASE,
    "GET /metrics": Role.METRICS,
    "GET /health": Open.ANYONE,
    "GET /livez": Open.UNASKED,
}


def test_every_route_says_whom_it_lets_in() -> None:
    app = create_app({})
    assert routes_without_door(app.routes) == []
    told = {
        f"{method.upper()} {path}": operation["x-lets-in"]
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }
    assert told == {route: str(lets_in) for route, lets_in in ROLES.items()}


def test_a_route_that_asks_nobody_is_seen() -> None:
    app, routes = FastAPI(openapi_url=None, docs_url=None, redoc_url=None), Routes()

    @app.get("/open")
    async def forgotten() -> Response:
        return Response()

    with pytest.raises(TypeError, match="/open"):
        routes.add_to(app)


@pytest.mark.parametrize("given", ["abc.1-2", "A" * 64])
def test_a_harmless_request_id_is_kept(given: str) -> None:
    assert request_id_of(Headers({"x-request-id": given})) == given


@pytest.mark.parametrize("given", ["", "a b", "A" * 65, KEY_A, "\x1b[2J", "-x", "é"])
def test_another_request_id_is_replaced(given: str) -> None:
    assert KEY.search(given) is None or given == KEY_A
    assert request_id_of(Headers(raw=[(b"x-request-id", given.encode("utf-8"))])) != given


def test_many_refusals_are_one_line_a_minute_with_their_number() -> None:
    clock = [0.0]
    throttle = Throttle(now=lambda: clock[0])
    assert [throttle.due("a"), throttle.due("a"), throttle.due("b"), throttle.due("a")] == [1, None, 1, None]
    clock[0] = 60.0
    assert throttle.due("a") == 3


def test_security_headers_forbid_what_this_service_never_needs() -> None:
    assert SECURITY_HEADERS["Content-Security-Policy"].startswith("default-src 'none'")
    assert SECURITY_HEADERS["Cache-Control"] == "no-store"


def test_nothing_of_a_credential_can_be_printed() -> None:
    stream = io.StringIO()
    logging.getLogger("x").addHandler(logging.StreamHandler(stream))
    for thing in (parse_key_rows(ROWS), auth.Presented(KEY_A), Settings.of_callers({"SERVICE_API_KEYS": ROWS})):
        assert KEY_A not in repr(thing)
        assert hashlib.sha256(KEY_A.encode()).hexdigest() not in repr(thing)
        assert repr(hashlib.sha256(KEY_A.encode()).digest())[2:10] not in repr(thing)
    shown = Settings.of_callers({"SERVICE_API_KEYS": ROWS}).shown()["SERVICE_API_KEYS"]
    assert shown == "set, 3 key(s) of ci, dpo"
