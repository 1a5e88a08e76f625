"""A span event as the SDK sends it, mapped to what the export gives back.

On the left what is sent, on the right where the export has it:

    span_id, trace_id, parent_id, name, status, start_ns, duration   the same names
    tag ml_app                                 ml_app
    meta.span.kind, or meta.kind               span_kind
    meta.model_name, meta.model_provider       model_name, model_provider
    meta.input, meta.output                    input, output: messages, documents, and value, inferred where it is missing
    meta.metadata without its `_dd`, metrics   metadata, metrics
    meta.tool_definitions, meta.intent         tool_definitions, intent
    tags                                       tags, values in lower case (the store does that)
    meta.error, session_id                     nowhere, but queries find them
    prompt, span_links, config, collection_errors, agent_attribution, _dd   nowhere

`documents` are not in the export's documentation; they stay, for a reader should bear what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evalforge.sandbox.spans import Json, start_of_llm_obs

ROOT_PARENT_ID = "undefined"
DEFAULT_KIND = "llm"
"""The kind of a span that names none. Source: Datadog's own test agent."""

_COPIED_META = ("model_name", "model_provider", "tool_definitions", "intent")


def events_of(body: Json) -> Iterator[tuple[Json, Mapping[str, Json]]]:
    """Yield every span event of a body, with the envelope around it.

    A body is a list of envelopes or one envelope (`{"spans": […], "ml_app"?, "tags"?}`), or the documented HTTP API's
    `{"data": {"type": "span", "attributes": {"ml_app", "session_id"?, "tags"?, "spans"}}}`.
    """
    for envelope in body if isinstance(body, list) else [body]:
        if isinstance(envelope, dict) and isinstance(envelope.get("data"), dict):
            envelope = envelope["data"].get("attributes")
        spans = envelope.get("spans") if isinstance(envelope, dict) else None
        if isinstance(spans, list):
            yield from ((event, envelope) for event in spans)
        else:
            yield None, {}


def exported(event: Json, envelope: Mapping[str, Json], now_ns: int) -> Json | None:
    """Return the item that a search serves for a span event, with its `unexported` part; None if it is no span.

    `now_ns` is the start of a span that does not tell its own.
    """
    if not isinstance(event, dict) or not event.get("span_id"):
        return None
    meta = _mapping(event.get("meta"))
    parent_id = str(event.get("parent_id") or ROOT_PARENT_ID)
    tags = [*_tags(event.get("tags")), *_tags(envelope.get("tags"))]
    session_id = event.get("session_id") or envelope.get("session_id") or _tag(tags, "session_id")
    if session_id and _tag(tags, "session_id") is None:
        tags.append(f"session_id:{session_id}")
    attributes: dict[str, Json] = {
        "span_id": str(event["span_id"]),
        "trace_id": str(event.get("trace_id") or ""),
        "parent_id": parent_id if parent_id != "0" else ROOT_PARENT_ID,
        "name": event.get("name") or "",
        "status": event.get("status") or ("error" if event.get("error") or meta.get("error") else "ok"),
        "start_ns": event.get("start_ns") if start_of_llm_obs(event) is not None else now_ns,
        "duration": event.get("duration") or 0,
        "ml_app": _tag(tags, "ml_app") or event.get("ml_app") or envelope.get("ml_app") or "",
        "span_kind": _mapping(meta.get("span")).get("kind") or meta.get("kind") or DEFAULT_KIND,
        "tags": tags,
        "metadata": {key: value for key, value in _mapping(meta.get("metadata")).items() if key != "_dd"},
        "metrics": event["metrics"] if isinstance(event.get("metrics"), dict) else {},
    }
    attributes |= {key: meta[key] for key in _COPIED_META if meta.get(key)}
    for side in ("input", "output"):
        if (said := _said(meta.get(side))) is not None:
            attributes[side] = said
    unexported = {"error": meta.get("error"), "session_id": session_id}
    return {
        "id": attributes["span_id"],
        "type": "span",
        "attributes": attributes,
        "unexported": {key: value for key, value in unexported.items() if value},
    }


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _tags(tags: Json) -> Sequence[str]:
    """Return tags as a list of `key:value`; the SDK has them as a mapping inside a trace."""
    if isinstance(tags, dict):
        return sorted(f"{key}:{value}" for key, value in tags.items())
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else ()


def _tag(tags: Sequence[str], key: str) -> str | None:
    prefix = f"{key}:"
    return next((tag[len(prefix) :] for tag in tags if tag.startswith(prefix)), None)


def _said(side: Json) -> Json | None:
    """Return what the export has of an input or an output, None when that is nothing."""
    if isinstance(side, str):
        return {"value": side}
    if not isinstance(side, dict):
        return None
    said = {key: side[key] for key in ("messages", "value", "documents") if side.get(key) is not None}
    if "value" not in said and (value := _inferred(said.get("messages"))) is not None:
        said["value"] = value
    return said or None


def _inferred(messages: Json) -> str | None:
    """Return the last user message, or else all contents. Source: Datadog's LLM Observability HTTP API page."""
    if not isinstance(messages, list):
        return None
    spoken = [m for m in messages if isinstance(m, dict) and isinstance(m.get("content"), str)]
    from_users = [m["content"] for m in spoken if m.get("role") == "user"]
    if from_users:
        return str(from_users[-1])
    return "\n".join(m["content"] for m in spoken) if spoken else None
