"""Secrets: a literal, or a Secret Manager version name, becomes the value itself.

The official client is used, and imported only when a setting is a reference. Values never appear in an error or a log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from evalforge.config import SETTINGS, Settings
from evalforge.config.values import Secret, salt_problem
from evalforge.core.otlp import parse_headers
from evalforge.core.privacy import KeyRing
from evalforge.core.webhooks import signing_keys, validated_webhook_url
from evalforge.errors import CredentialsError, SettingsError

SECRET_TIMEOUT_S = 5.0
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_UNAVAILABLE = "secret_manager_unavailable"
_SEVERAL = frozenset({"PII_SALT", "REVIEW_WEBHOOK_SECRET", "EXPORT_WEBHOOK_SECRET"})
"""The settings that may hold several keys."""
# How gRPC reports that the credentials themselves failed while a call was being made.
_PLUGIN_FAILED = "metadata from plugin"


@dataclass(frozen=True, slots=True)
class DatadogKeys:
    """The two keys of one Datadog organisation; repr hides both."""

    api_key: str = field(repr=False)
    app_key: str = field(repr=False)


async def resolve_datadog_keys(settings: Settings) -> DatadogKeys:
    """Both Datadog keys, read from Secret Manager where the settings hold references.

    Raises:
        SettingsError: a key is not set.
        CredentialsError: Secret Manager did not give one; `code` says why.
    """
    wanted = {"DATADOG_API_KEY": settings.datadog_api_key, "DATADOG_APP_KEY": settings.datadog_app_key}
    missing = [name for name, secret in wanted.items() if secret is None]
    if missing:
        raise SettingsError([f"{name}: got nothing; wants {_wants(name)}" for name in missing])
    api_key, app_key = await asyncio.gather(
        *(_value(name, secret, settings) for name, secret in wanted.items() if secret is not None)
    )
    return DatadogKeys(api_key, app_key)


def datadog_keys_may_change(settings: Settings) -> bool:
    """Whether reading the Datadog keys anew may give others: one of them is a reference to no fixed version.

    A version with a number never changes; `latest`, and an alias, may point elsewhere later.
    Source: https://cloud.google.com/secret-manager/docs/assign-alias-to-secret-version
    """
    secrets = (settings.datadog_api_key, settings.datadog_app_key)
    return any(
        secret is not None and secret.is_reference and not secret.reveal().rpartition("/")[2].isdigit() for secret in secrets
    )


async def resolve_key_ring(settings: Settings) -> KeyRing:
    """The ring of hashing keys that PII_SALT holds, newest first; an empty ring when it is unset.

    Raises:
        SettingsError: a key is short or well known.
        CredentialsError: Secret Manager did not give it.
    """
    if settings.pii_salt is None:
        return KeyRing(())
    return key_ring_of(await _value("PII_SALT", settings.pii_salt, settings))


async def resolve_export_secret(settings: Settings) -> str:
    """The secret, or several, that exports to webhooks are signed with.

    Raises:
        SettingsError: it is not set, or its secret holds no such thing.
        CredentialsError: Secret Manager did not give it.
    """
    name, secret = "EXPORT_WEBHOOK_SECRET", settings.export_webhook_secret
    if secret is None:
        raise SettingsError(f"{name}: got nothing; wants {_wants(name)}")
    text = await _value(name, secret, settings)
    try:
        signing_keys(text)
    except ValueError as wrong:
        raise SettingsError(f"{name}: what its secret holds does not fit ({wrong}); wants {_wants(name)}") from None
    return text


def key_ring_of(text: str) -> KeyRing:
    """The ring that a PII_SALT value spells.

    Raises:
        SettingsError: a key is shorter than 32 bytes, can be guessed, or stands twice.
    """
    problem = salt_problem(text)
    if problem is not None:
        raise SettingsError(f"PII_SALT: got {problem}; wants {_wants('PII_SALT')}")
    return KeyRing(tuple(part.encode() for part in text.split()))


@dataclass(frozen=True, slots=True)
class WebhookAccess:
    """Where events are posted, and what they are signed with; repr hides both, since such URLs often hold a secret."""

    url: str = field(repr=False)
    secret: str = field(repr=False)


async def resolve_review_webhook(settings: Settings) -> WebhookAccess | None:
    """The webhook of the settings, read from Secret Manager where they hold references; None when there is none.

    Raises:
        SettingsError: one of the two is not set, or a secret holds no such thing.
        CredentialsError: Secret Manager did not give one.
    """
    url, secret = settings.review_webhook_url, settings.review_webhook_secret
    if url is None and secret is None:
        return None
    wanted = {"REVIEW_WEBHOOK_URL": url, "REVIEW_WEBHOOK_SECRET": secret}
    missing = [name for name, value in wanted.items() if value is None]
    if missing:
        raise SettingsError([f"{name}: got nothing; wants {_wants(name)}" for name in missing])
    found = await asyncio.gather(*(_value(name, value, settings) for name, value in wanted.items() if value is not None))
    access = WebhookAccess(*found)
    for name, check, text in zip(wanted, (validated_webhook_url, signing_keys), found, strict=True):
        try:
            check(text)
        except ValueError as wrong:
            raise SettingsError(f"{name}: what its secret holds does not fit ({wrong}); wants {_wants(name)}") from None
    return access


async def resolve_otlp_headers(settings: Settings) -> dict[str, str]:
    """The headers that telemetry is sent with; none where none are set.

    Raises:
        SettingsError: the secret holds no such thing.
        CredentialsError: Secret Manager did not give it.
    """
    name, secret = "OTEL_EXPORTER_OTLP_HEADERS", settings.otel_exporter_otlp_headers
    if secret is None:
        return {}
    try:
        return parse_headers(await _value(name, secret, settings))
    except ValueError as wrong:
        raise SettingsError(f"{name}: what its secret holds does not fit ({wrong}); wants {_wants(name)}") from None


def _wants(name: str) -> str:
    return next(setting.wants for setting in SETTINGS if setting.name == name)


async def _value(name: str, secret: Secret, settings: Settings) -> str:
    if not secret.is_reference:
        return secret.reveal()
    value = await _secret_manager_value(name, secret.reveal(), settings.secret_manager_endpoint)
    # People store several keys one a line; any space between them counts as one.
    text = " ".join(value.split()) if name in _SEVERAL else value.strip()
    if not text or any(ord(character) < 32 or ord(character) > 126 for character in text):
        raise CredentialsError(f"{name}: the secret holds no printable ASCII text", code="secret_unusable")
    return text


async def _secret_manager_value(name: str, reference: str, endpoint: str | None) -> str:
    import google_crc32c

    async with _translated(name, reference):
        client = await _client(endpoint)
        try:
            async with asyncio.timeout(SECRET_TIMEOUT_S):
                answer = await client.access_secret_version(
                    request={"name": reference}, timeout=SECRET_TIMEOUT_S, retry=None
                )
        finally:
            await client.transport.close()
    data: bytes = answer.payload.data
    if int(answer.payload.data_crc32c) != google_crc32c.value(data):
        raise CredentialsError(
            f"{name}: {reference} arrived damaged (its checksum differs); try again", code="secret_damaged"
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CredentialsError(f"{name}: {reference} is not text", code="secret_unusable") from None


async def _client(endpoint: str | None) -> Any:
    from google.cloud.secretmanager_v1 import SecretManagerServiceAsyncClient
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
        SecretManagerServiceGrpcAsyncIOTransport,
    )

    if endpoint is None:
        from evalforge.google_credentials import default_credentials

        credentials, _ = await default_credentials(SCOPES)
        return SecretManagerServiceAsyncClient(credentials=credentials)
    import grpc

    channel = grpc.aio.insecure_channel(endpoint)
    return SecretManagerServiceAsyncClient(transport=SecretManagerServiceGrpcAsyncIOTransport(channel=channel))


@asynccontextmanager
async def _translated(name: str, reference: str) -> AsyncIterator[None]:
    """The one place where Secret Manager's errors become ours."""
    from google.api_core import exceptions as google_errors
    from google.auth import exceptions as auth_errors

    try:
        yield
    except google_errors.NotFound as error:
        raise CredentialsError(
            f"{name}: {reference} does not exist; check project, secret and version", code="secret_not_found"
        ) from error
    except google_errors.PermissionDenied as error:
        raise CredentialsError(
            f"{name}: access to {reference} is denied; grant roles/secretmanager.secretAccessor on this secret",
            code="secret_denied",
        ) from error
    except google_errors.FailedPrecondition as error:
        raise CredentialsError(
            f"{name}: {reference} is disabled or destroyed; enable it or name another version", code="secret_disabled"
        ) from error
    except auth_errors.GoogleAuthError as error:
        raise CredentialsError(
            f"{name}: there are no Google credentials to read {reference} with; run "
            "`gcloud auth application-default login`, or set the literal key",
            code="no_credentials",
        ) from error
    except google_errors.Unauthenticated as error:
        raise CredentialsError(f"{name}: Google refused the credentials for {reference}", code="no_credentials") from error
    except google_errors.ServiceUnavailable as error:
        if _PLUGIN_FAILED in str(error):
            raise CredentialsError(
                f"{name}: the Google credentials for {reference} could not be refreshed; run "
                "`gcloud auth application-default login` again",
                code="no_credentials",
            ) from error
        raise CredentialsError(f"{name}: Secret Manager is not reachable for {reference}", code=_UNAVAILABLE) from error
    except (google_errors.DeadlineExceeded, TimeoutError) as error:
        raise CredentialsError(
            f"{name}: Secret Manager did not give {reference} within {SECRET_TIMEOUT_S:g} s", code=_UNAVAILABLE
        ) from error
    except google_errors.GoogleAPIError as error:
        raise CredentialsError(
            f"{name}: Secret Manager refused {reference} ({type(error).__name__})", code="secret_refused"
        ) from error
