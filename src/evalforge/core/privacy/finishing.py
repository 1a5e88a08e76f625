"""The last steps of a payload: what the trace's own values tell, the texts, the bounds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from evalforge.core.canonical import canonical_json
from evalforge.core.privacy.echoes import NO_ECHOES, Echoes
from evalforge.core.privacy.marks import is_mark, placeholder
from evalforge.core.privacy.net import second_net
from evalforge.core.privacy.text.findings import TextKind, is_text_mark
from evalforge.core.privacy.walk import Tally

MAX_PAYLOAD_BYTES = 256 * 1024
OPEN_TEXT = "open_text"
"""The payload's list of the fields, as canonical paths, whose text was kept as it is on purpose: the second net reads it."""

_SECTIONS_BY_WORTH = (
    "attributes",
    "metadata",
    "response",
    "prompt",
    "output",
    "input",
    "tool_definitions",
    "tags",
    "metrics",
    "evaluation",
    "error",
)
_NO_ECHO_IN = frozenset({"trace_id", "span_id", "parent_id", "start_ns", "duration", "status", "span_kind", "metrics"})
_SHAPED = frozenset({"trace_id", "span_id", "parent_id", "start_ns", "duration"})
"""Fields whose rule lets one fixed shape through: digits and digests that would only look like something else."""

_LONG_NUMBER = 10_000


def finished(payload: dict[str, Any], echoes: Echoes, tally: Tally) -> tuple[dict[str, Any], bytes]:
    """The payload as it may be stored, and its canonical JSON; changes it in place.

    Values of sensitive keys that are repeated in a kept name, tag or word are removed; texts are scrubbed and put in place;
    of a payload beyond `MAX_PAYLOAD_BYTES` the least useful sections are replaced by their placeholder until it fits.
    """
    told = {section: value for section, value in payload.items() if section not in _NO_ECHO_IN}
    repeated = echoes.occurring_in(canonical_json(told)) if echoes else NO_ECHOES
    if repeated:
        payload.update({section: _without_echoes(value, repeated, tally) for section, value in told.items()})
    if tally.texts:
        tally.texts.put_in_place()
    tally.counts.update(tally.texts.redactions)
    if hits := _second_net(payload):
        tally.counts["second_net"] += hits
    for container, key, value in tally.opened:
        container[key] = value
    written = canonical_json(payload)
    if len(written) > MAX_PAYLOAD_BYTES:
        written = _cut(payload, tally)
    if tally.opened:
        payload[OPEN_TEXT] = sorted(tally.open_paths)
        written = canonical_json(payload)
    return payload, written


def _second_net(payload: dict[str, Any]) -> int:
    """How many leaks the net closed in the payload."""
    looked_at = {key: value for key, value in payload.items() if key not in _SHAPED}
    cleaned, hits = second_net(looked_at)
    if hits:
        payload.update({key: _written_back(value, cleaned[key]) for key, value in looked_at.items()})
    return sum(hits.values())


def _written_back(value: Any, cleaned: Any) -> Any:
    """What the net left of a value, in the containers that the value has: places in them wait for texts that stay open."""
    if type(value) is dict and isinstance(cleaned, Mapping):
        entries = [
            (key, _written_back(inner, new)) for inner, (key, new) in zip(value.values(), cleaned.items(), strict=True)
        ]
        value.clear()
        value.update(entries)
        return value
    if type(value) is list and type(cleaned) is list:
        value[:] = map(_written_back, value, cleaned)
        return value
    return cleaned


def _cut(payload: dict[str, Any], tally: Tally) -> bytes:
    written = canonical_json(payload)
    for section in _SECTIONS_BY_WORTH:
        if len(written) <= MAX_PAYLOAD_BYTES:
            break
        if section in payload:
            payload[section] = tally.redacted(payload[section], "limit")
            written = canonical_json(payload)
    return written


def _without_echoes(value: Any, echoes: Echoes, tally: Tally) -> Any:
    """The value; changed in place where it is a container, its placeholder where it repeats what a sensitive key said."""
    if isinstance(value, str):
        return _echo_mark(value, value, echoes, tally)
    if type(value) is int and (value >= _LONG_NUMBER or value <= -_LONG_NUMBER):
        return _echo_mark(value, str(value), echoes, tally) if value.bit_length() <= 64 else value
    if isinstance(value, dict):
        for key, inner in list(value.items()):
            kept = _without_echoes(inner, echoes, tally)
            if _repeats(key, echoes):
                tally.counts["echo"] += 1
                del value[key]
                key = next(mark for n in count(len(value) + 1) if (mark := f"[key {n}]") not in value)
            value[key] = kept
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            value[at] = _without_echoes(inner, echoes, tally)
    return value


def _echo_mark(value: Any, text: str, echoes: Echoes, tally: Tally) -> Any:
    if not text or is_mark(text) or is_text_mark(text) or not _repeats(text, echoes):
        return value
    tally.counts["echo"] += 1
    return placeholder(value)


def _repeats(text: str, echoes: Echoes) -> bool:
    # What a vague key said (`user.plan`) is looked for in texts only: there it is about this user.
    return any(finding.kind is not TextKind.WORD for finding in echoes.find(text))
