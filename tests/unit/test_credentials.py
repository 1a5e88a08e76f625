"""Secrets: literals, references read over the real protocol, and every way in which that can fail told apart."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from evalforge import credentials, google_credentials
from evalforge.config import Settings
from evalforge.config.values import Secret
from evalforge.credentials import key_ring_of, resolve_datadog_keys, resolve_key_ring, resolve_review_webhook
from evalforge.errors import CredentialsError, SettingsError
from tests.secret_manager import SecretManagerServer

KEY = "0f3c9a7d5e1b48626a0d7c4e9b3f8152"
SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY"
OLD_SALT = "yA0sF1dC5gH3jN6bT9rW4lP7xM2qV8Zk"
NAME = "projects/p/secrets/s/versions/1"


@pytest.fixture
def manager() -> Iterator[SecretManagerServer]:
    with SecretManagerServer({NAME: KEY.encode()}) as server:
        yield server


def settings_for(manager: SecretManagerServer, *, api_key: str = NAME, salt: str | None = None) -> Settings:
    return Settings(
        datadog_api_key=Secret(api_key),
        datadog_app_key=Secret("literal-application-key"),
        pii_salt=None if salt is None else Secret(salt),
        secret_manager_endpoint=manager.endpoint,
    )


async def test_a_reference_becomes_its_value_and_a_literal_stays(manager: SecretManagerServer) -> None:
    keys = await resolve_datadog_keys(settings_for(manager))
    assert (keys.api_key, keys.app_key) == (KEY, "literal-application-key")
    assert manager.asked == [NAME]
    assert KEY not in repr(keys)
    assert "literal" not in repr(keys)


async def test_nobody_is_asked_for_literals(manager: SecretManagerServer) -> None:
    await resolve_datadog_keys(settings_for(manager, api_key="literal"))
    assert manager.asked == []


@pytest.mark.parametrize("stored", [KEY.encode() + b"\n", b"  " + KEY.encode() + b" \r\n"])
async def test_space_around_a_stored_key_does_not_count(manager: SecretManagerServer, stored: bytes) -> None:
    manager.answers[NAME] = stored
    assert (await resolve_datadog_keys(settings_for(manager))).api_key == KEY


REFUSALS = [
    (grpc.StatusCode.NOT_FOUND, "secret_not_found", "does not exist"),
    (grpc.StatusCode.PERMISSION_DENIED, "secret_denied", "secretAccessor"),
    (grpc.StatusCode.FAILED_PRECONDITION, "secret_disabled", "disabled or destroyed"),
    (grpc.StatusCode.UNAUTHENTICATED, "no_credentials", "refused the credentials"),
    (grpc.StatusCode.UNAVAILABLE, "secret_manager_unavailable", "not reachable"),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "secret_manager_unavailable", "within 5 s"),
    (grpc.StatusCode.INVALID_ARGUMENT, "secret_refused", "InvalidArgument"),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "secret_refused", "ResourceExhausted"),
    (grpc.StatusCode.INTERNAL, "secret_refused", "InternalServerError"),
    (b"\xff\xfe\xfd", "secret_unusable", "not text"),
    (b"   \n", "secret_unusable", "printable"),
    (b"with\x00nul", "secret_unusable", "printable"),
    ("clé".encode(), "secret_unusable", "printable"),
]


@pytest.mark.parametrize(("answer", "code", "words"), REFUSALS, ids=lambda value: str(value)[:40])
async def test_refusals_are_told_apart(
    manager: SecretManagerServer, answer: bytes | grpc.StatusCode, code: str, words: str
) -> None:
    manager.answers[NAME] = answer
    with pytest.raises(CredentialsError) as caught:
        await resolve_datadog_keys(settings_for(manager))
    assert caught.value.code == code
    assert words in caught.value.message
    assert caught.value.message.startswith("DATADOG_API_KEY: ")
    assert (caught.value.exit_code, caught.value.http_status) == (3, 503)


async def test_a_damaged_answer_is_not_used() -> None:
    with (
        SecretManagerServer({NAME: KEY.encode()}, damaged=frozenset({NAME})) as manager,
        pytest.raises(CredentialsError, match="checksum") as caught,
    ):
        await resolve_datadog_keys(settings_for(manager))
    assert caught.value.code == "secret_damaged"
    assert KEY not in str(caught.value)


async def test_a_silent_manager_is_not_waited_for(manager: SecretManagerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "SECRET_TIMEOUT_S", 0.2)
    manager.answers[NAME] = manager.never
    with pytest.raises(CredentialsError) as caught:
        await resolve_datadog_keys(settings_for(manager))
    assert caught.value.code == "secret_manager_unavailable"


async def test_nobody_listening_is_said(manager: SecretManagerServer) -> None:
    with SecretManagerServer({}) as gone:
        settings = settings_for(gone)
    with pytest.raises(CredentialsError) as caught:
        await resolve_datadog_keys(settings)
    assert caught.value.code == "secret_manager_unavailable"


async def test_without_google_credentials_the_error_says_how_to_get_them(
    manager: SecretManagerServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    settings = replace(settings_for(manager), secret_manager_endpoint=None)
    with pytest.raises(CredentialsError, match="gcloud auth application-default login") as caught:
        await resolve_datadog_keys(settings)
    assert caught.value.code == "no_credentials"


async def test_a_metadata_server_that_never_answers_is_not_waited_for(
    manager: SecretManagerServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "NO_GCE_CHECK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(google_credentials, "SEARCH_TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = "{}:{}".format(*silent.getsockname())
        monkeypatch.setenv("GCE_METADATA_IP", address)
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        with pytest.raises(CredentialsError) as caught:
            await resolve_datadog_keys(replace(settings_for(manager), secret_manager_endpoint=None))
    assert caught.value.code == "no_credentials"
    assert "NO_GCE_CHECK" not in os.environ, "on a Google machine, Firestore would no longer find the service account"


async def test_missing_keys_are_named_both() -> None:
    with pytest.raises(SettingsError) as caught:
        await resolve_datadog_keys(Settings())
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["DATADOG_API_KEY", "DATADOG_APP_KEY"]
    assert all("wants a key" in problem for problem in caught.value.problems)


async def test_both_references_are_read(manager: SecretManagerServer) -> None:
    other = NAME.replace("/s/", "/t/")
    manager.answers[other] = b"second"
    settings = replace(settings_for(manager), datadog_app_key=Secret(other))
    assert (await resolve_datadog_keys(settings)).app_key == "second"


# -- the salt --------------------------------------------------------------------------------------------------------------


async def test_no_salt_is_an_empty_ring() -> None:
    assert (await resolve_key_ring(Settings())).keys == ()


@pytest.mark.parametrize("text", [f"{SALT} {OLD_SALT}", f"{SALT}\n{OLD_SALT}\n", f"\t{SALT}   {OLD_SALT}"])
async def test_a_ring_is_read_from_secret_manager_newest_first(manager: SecretManagerServer, text: str) -> None:
    manager.answers[NAME] = text.encode()
    ring = await resolve_key_ring(settings_for(manager, api_key="literal", salt=NAME))
    assert ring.keys == (SALT.encode(), OLD_SALT.encode())
    assert SALT not in repr(ring)


@pytest.mark.parametrize(
    "text",
    [
        "short",
        "x" * 31,
        "a" * 40,
        "abababababababababababababababababab",
        "changeme" * 4,
        "evalforge-evalforge-evalforge-evalforge",
        "0123456789abcdefghij0123456789abcdef",
        f"{SALT} short",
        f"{SALT} {SALT}",
        "",
        "   ",
    ],
)
def test_a_salt_that_can_be_guessed_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        key_ring_of(text)
    assert "PII_SALT" in caught.value.message
    assert "secrets.token_urlsafe" in caught.value.message
    assert not text.strip() or text not in caught.value.message


async def test_nothing_secret_reaches_the_log(manager: SecretManagerServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await resolve_datadog_keys(settings_for(manager))
    assert KEY not in caplog.text


HOOK, HOOK_SECRET = "https://hooks.example.com/hush", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def webhook_settings(manager: SecretManagerServer, url: str, secret: str) -> Settings:
    return Settings(
        review_webhook_url=Secret(url), review_webhook_secret=Secret(secret), secret_manager_endpoint=manager.endpoint
    )


async def test_a_webhook_is_literal_or_read_from_secret_manager(manager: SecretManagerServer) -> None:
    assert await resolve_review_webhook(Settings()) is None
    literal = await resolve_review_webhook(webhook_settings(manager, HOOK, HOOK_SECRET))
    assert manager.asked == []
    other = NAME.replace("/1", "/2")
    manager.answers |= {NAME: HOOK.encode() + b"\n", other: f"{HOOK_SECRET}\n".encode()}
    assert await resolve_review_webhook(webhook_settings(manager, NAME, other)) == literal
    assert "hush" not in repr(literal)
    assert "whsec" not in repr(literal)
    manager.answers[other] = f"{HOOK_SECRET}\n{HOOK_SECRET}\n".encode()
    several = await resolve_review_webhook(webhook_settings(manager, NAME, other))
    assert several is not None
    assert several.secret == f"{HOOK_SECRET} {HOOK_SECRET}"


async def test_a_secret_that_holds_no_webhook_is_named_and_not_shown(manager: SecretManagerServer) -> None:
    manager.answers[NAME] = b"http://hooks.example.com/hush"
    with pytest.raises(SettingsError, match="REVIEW_WEBHOOK_URL") as caught:
        await resolve_review_webhook(webhook_settings(manager, NAME, HOOK_SECRET))
    assert "hush" not in caught.value.message
    manager.answers[NAME] = b"hush" * 10
    with pytest.raises(SettingsError, match="REVIEW_WEBHOOK_SECRET") as caught:
        await resolve_review_webhook(webhook_settings(manager, HOOK, NAME))
    assert "hush" not in caught.value.message
    with pytest.raises(SettingsError, match="REVIEW_WEBHOOK_SECRET: got nothing"):
        await resolve_review_webhook(Settings(review_webhook_url=Secret(HOOK)))
