"""Where telemetry goes, as the settings say: nowhere, unless OTEL_EXPORTER_OTLP_ENDPOINT names a place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.metadata import version

from evalforge.config import Settings
from evalforge.credentials import resolve_otlp_headers
from evalforge.errors import CredentialsError, SettingsError
from evalforge.events import emit
from evalforge.telemetry.recorder import Recorder

EXTRA_MISSING = (
    "OTEL_EXPORTER_OTLP_ENDPOINT: the OpenTelemetry SDK is not installed; wants pip install 'evalforge-ingestion[otel]'"
)


def checked_telemetry(settings: Settings) -> Settings:
    """The settings, if what they say of telemetry can be done.

    Raises:
        SettingsError: telemetry is to be sent, and the extra `otel` is not installed.
    """
    if settings.otel_exporter_otlp_endpoint is not None and not has_sdk():
        raise SettingsError(EXTRA_MISSING)
    return settings


def has_sdk() -> bool:
    """Whether the extra `otel` is installed."""
    try:
        for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common"):
            import_module(name)
    except ModuleNotFoundError:
        return False
    return True


@asynccontextmanager
async def telemetry_sent(settings: Settings, recorder: Recorder, *, close_s: float = 3.0) -> AsyncIterator[Recorder]:
    """Sends what `recorder` is told within the block, if the settings say where to; at the end for `close_s` at most.

    Headers that cannot be read are a line in the log: no run fails of its telemetry.

    Raises:
        SettingsError: the extra `otel` is not installed.
    """
    endpoint = checked_telemetry(settings).otel_exporter_otlp_endpoint
    if endpoint is None:
        yield recorder
        return
    try:
        headers = await resolve_otlp_headers(settings)
    except (CredentialsError, SettingsError) as error:
        emit("telemetry.failed", signal="all", code=error.code)
        yield recorder
        return
    from evalforge.telemetry.otlp import Otlp, Target

    resource = dict(settings.otel_resource_attributes) | {"service.version": version("evalforge-ingestion")}
    if "OTEL_SERVICE_NAME" in settings.given or "service.name" not in resource:
        resource["service.name"] = settings.otel_service_name
    target = Target(
        endpoint,
        headers,
        timeout_s=settings.otel_exporter_otlp_timeout / 1000,
        interval_s=settings.otel_metric_export_interval / 1000,
        temporality=settings.otel_exporter_otlp_metrics_temporality_preference,
        resource=resource,
        metrics=settings.otel_metrics_exporter == "otlp",
        traces=settings.otel_traces_exporter == "otlp",
    )
    way = Otlp(target)
    recorder.add_way(way)
    try:
        yield recorder
    finally:
        recorder.remove_way(way)
        await asyncio.to_thread(way.close, close_s)
