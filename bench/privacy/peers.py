"""Other tools on the same spans. Each is given the raw item and gives it back as it would keep it; keys stay as they are.

They are configured as generously as their documentation allows without a model; `configuration` says how.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

Redact = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool: `load` gives its function from a raw item to a redacted one; `package` is its distribution."""

    name: str
    package: str
    configuration: str
    load: Callable[[], Redact]

    @property
    def title(self) -> str:
        """Name and installed version."""
        return f"{self.name} {version(self.package)}"


def each_text(value: Any, redact: Callable[[str], str]) -> Any:
    """The same structure with every string leaf redacted."""
    if isinstance(value, Mapping):
        return {key: each_text(part, redact) for key, part in value.items()}
    if isinstance(value, list):
        return [each_text(part, redact) for part in value]
    return redact(value) if isinstance(value, str) and value else value


def _presidio() -> Redact:
    for name in ("presidio-analyzer", "tldextract", "filelock"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    analyzer_package = import_module("presidio_analyzer")
    engine_module = import_module("presidio_analyzer.nlp_engine")
    spacy = import_module("spacy")
    tldextract = import_module("tldextract.tldextract")
    setattr(tldextract, "TLD_EXTRACTOR", tldextract.TLDExtract(suffix_list_urls=()))  # noqa: B010 - it would ask the network for the suffix list

    class BlankEngine(engine_module.SpacyNlpEngine):  # type: ignore[misc, name-defined]  # the base comes at run time
        """spaCy without a model: tokens only, for the words around a pattern."""

        def __init__(self) -> None:
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}

    registry = analyzer_package.RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    registry.remove_recognizer("SpacyRecognizer")
    analyzer = analyzer_package.AnalyzerEngine(registry=registry, nlp_engine=BlankEngine(), supported_languages=["en"])

    def redact(text: str) -> str:
        for found in sorted(analyzer.analyze(text, language="en"), key=lambda one: one.start, reverse=True):
            text = f"{text[: found.start]}<{found.entity_type}>{text[found.end :]}"
        return text

    return lambda item: each_text(item, redact)


def _scrubadub() -> Redact:
    scrubber = import_module("scrubadub").Scrubber()

    def redact(text: str) -> str:
        cleaned: str = scrubber.clean(text)
        return cleaned

    return lambda item: each_text(item, redact)


_RELAY_RULES = "@ip @imei @mac @uuid @email @iban @creditcard @pemkey @urlauth @usssn @userpath @password @bearer".split()


def _relay() -> Redact:
    processing = import_module("sentry_relay.processing")
    settings = {
        "scrubData": True,
        "scrubDefaults": True,
        "scrubIpAddresses": True,
        "sensitiveFields": [],
        "excludeFields": [],
    }
    config: dict[str, Any] = processing.convert_datascrubbing_config(settings)
    applications = dict(config.get("applications", {}))
    applications["$string"] = [*applications.get("$string", []), *_RELAY_RULES]
    config = config | {"applications": applications}

    def redact(item: Mapping[str, Any]) -> Any:
        kept = processing.pii_strip_event(config, {"extra": {"span": dict(item)}})
        return kept["extra"]["span"]

    return redact


PEERS = (
    Peer(
        "Presidio analyzer",
        "presidio_analyzer",
        "every predefined English recognizer, blank spaCy, each string leaf analysed, hits replaced by their entity",
        _presidio,
    ),
    Peer(
        "Sentry Relay",
        "sentry-relay",
        "its default data scrubbing and all thirteen built-in rules on every string; the span under `extra`",
        _relay,
    ),
    Peer("scrubadub", "scrubadub", "default detectors, each string leaf cleaned", _scrubadub),
)


def payload_of(item: Any) -> dict[str, Any]:
    """A raw or redacted item in the shape of our payload, so that what survived is looked for in the same places."""
    attributes = dict(item["attributes"])
    tags: dict[str, Any] = {}
    for tag in attributes.get("tags") or ():
        key, _, value = str(tag).partition(":")
        tags[key] = value
    custom = attributes.pop("custom", None)
    payload = attributes | {"tags": tags}
    if isinstance(custom, Mapping):
        payload["attributes"] = custom
    return payload
