"""Datadog as a source: LLM Observability's spans and APM's, by their two search APIs."""

from evalforge.sources.datadog.client import DatadogClient
from evalforge.sources.datadog.reading import DatadogSource

__all__ = ["DatadogClient", "DatadogSource"]
