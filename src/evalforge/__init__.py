"""EvalForge ingestion: failures of LLM applications, from Datadog to your own store, without personal data."""

__version__ = "0.1.0"
