"""The stored payload of one failing span: a new document, built field by field from what the tables let pass.

Every text that people or models wrote is closed here, a placeholder with its kind and length, unless it is an explanation or
its field is allow-listed. Nothing is copied from the span but values that a rule accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from evalforge.core.privacy.conversation import keep_conversation, tool_definitions
from evalforge.core.privacy.explanations import keep_error
from evalforge.core.privacy.fields import DROPPED_TAG_PREFIXES, EXPLANATIONS, FIELDS, KINDS_BY_LAST_WORD
from evalforge.core.privacy.keys import (
    MAX_KEY_LENGTH,
    KeyClass,
    KeyVerdict,
    is_column,
    is_storable_key,
    normal_key,
    verdict_on,
)
from evalforge.core.privacy.marks import is_mark, placeholder
from evalforge.core.privacy.measures import epoch, score, small_number, time
from evalforge.core.privacy.modes import TextMode, path_of
from evalforge.core.privacy.rules import kept
from evalforge.core.privacy.software import technical
from evalforge.core.privacy.values import documented_label, evaluator_name, label, version, words
from evalforge.core.privacy.vocabulary import listed
from evalforge.core.privacy.walk import MAX_KEYS, Place, Tally, kept_mapping, measured
from evalforge.core.span import Evaluation, Json, Span

ERROR_MARK = "[redacted:error]"

_NOTHINGS: tuple[Json, ...] = ({}, (), [], "")


def build_payload(span: Span, head: Mapping[str, Any], evaluator_names: Mapping[str, str], tally: Tally) -> dict[str, Any]:
    """The payload: `head` (ids, names, times: already safe) and the span's sections, each only where the span has it.

    A section that fails becomes `ERROR_MARK`. Texts that are kept wait in `tally.texts` and `tally.opened`.
    """
    payload = {key: value for key, value in head.items() if value is not None}
    sections: tuple[tuple[str, Json, Callable[[], Any]], ...] = (
        ("metrics", span.metrics, lambda: kept_mapping(span.metrics, Place(numeric=True), tally)),
        ("evaluation", span.evaluations, lambda: evaluations(span.evaluations, evaluator_names, tally)),
        ("error", span.error, lambda: keep_error(payload, "error", span.error, tally)),
        ("input", span.input, lambda: keep_conversation(payload, "input", span.input, tally)),
        ("output", span.output, lambda: keep_conversation(payload, "output", span.output, tally)),
        ("tool_definitions", span.tool_definitions, lambda: tool_definitions(span.tool_definitions, tally)),
        ("tags", span.tags, lambda: tags(span.tags, tally)),
        ("metadata", span.metadata, lambda: kept_mapping(span.metadata, Place(field="metadata"), tally)),
        ("attributes", span.attributes, lambda: kept_mapping(span.attributes, Place(field="attributes"), tally)),
    )
    for section, value, build in tally.entered(sections, payload):
        if value is None or (not value and value in _NOTHINGS):
            continue
        try:
            built = build()
            if built is not None:
                payload[section] = built
        except Exception:  # noqa: BLE001 - whatever goes wrong in one section may cost that section only, and must not leak it
            payload[section] = ERROR_MARK
            tally.counts["error"] += 1
    if span.extra:
        _extra(payload, span.extra, tally)
    return payload


def _extra(payload: dict[str, Any], extra: Mapping[str, Json], tally: Tally) -> None:
    """Top-level fields that the export does not name: counted only, but for an allow-listed `prompt` or `response`."""
    for key, value in tally.entered(extra.items(), payload):
        mode = tally.policy.mode_of(key) if key in ("prompt", "response") else TextMode.CLOSED
        if mode is TextMode.CLOSED or key in payload:
            tally.counts["unknown_key"] += 1
        else:
            tally.allowed(payload, key, value, mode, key)


# -- evaluations and errors -----------------------------------------------------------------------------------------------

_VERDICT_FIELDS = frozenset({"value", "eval_metric_type", "assessment", "status"})


def evaluations(found: Sequence[Evaluation], names: Mapping[str, str], tally: Tally) -> dict[str, Any] | str:
    """Each evaluator's verdict by its name: value, assessment, type and status; the reasoning is an explanation."""
    if len(found) > MAX_KEYS:
        return tally.redacted(found, "limit")
    document: dict[str, Any] = {}
    for _, evaluation in tally.entered(enumerate(found), document):
        try:
            document[names[evaluation.name]] = _evaluation(evaluation, tally)
        except Exception:  # noqa: BLE001 - as above, for one evaluation
            tally.counts["error"] += 1
    return document


def _evaluation(evaluation: Evaluation, tally: Tally) -> dict[str, Any]:
    value = evaluation.value
    allows = tally.policy.names_fields
    entry: dict[str, Any] = {}
    if not (
        allows and isinstance(value, (str, Mapping, list)) and _allowed_in(entry, "value", value, evaluation.name, tally)
    ):
        entry["value"] = evaluation_value(value, tally, evaluation.name)
    for key, said in (
        ("eval_metric_type", evaluation.value_kind),
        ("assessment", evaluation.assessment),
        ("status", evaluation.status),
    ):
        if said is not None:
            entry[key] = words(said) or tally.redacted(said, "unknown_value")
    for key, part in tally.entered(evaluation.body.items(), entry):
        if key in _VERDICT_FIELDS:
            continue
        if allows and part is not None and isinstance(key, str) and _allowed_in(entry, key, part, evaluation.name, tally):
            continue
        if key == "reasoning" and part is not None:
            tally.explained(entry, key, part)
        elif key == "error" and part is not None:
            keep_error(entry, key, part, tally)
        else:
            tally.counts["unknown_key"] += 1
    return entry


def _allowed_in(entry: dict[str, Any], key: str, value: Json, evaluator: str, tally: Tally) -> bool:
    if len(key) > MAX_KEY_LENGTH or len(evaluator) > MAX_KEY_LENGTH:
        return False
    path = path_of("evaluation", normal_key(f"{evaluator}.{key}"[:MAX_KEY_LENGTH]))
    mode = tally.policy.mode_of(path)
    if mode is TextMode.CLOSED or not is_storable_key(key):
        return False
    tally.allowed(entry, key, value, mode, path)
    return True


def evaluation_value(value: Json, tally: Tally, evaluator: str = "") -> Any:
    """An evaluation's value: booleans, numbers below a million, labels; objects with such leaves; else a placeholder.

    Of an evaluator that is named after something personal (`user.plan`) only booleans, documented labels and scores.
    """
    if value is None or isinstance(value, bool):
        return value
    verdict = _personal_evaluator(evaluator)
    if isinstance(value, (Mapping, list, tuple)):
        if verdict is not None:
            return tally.redacted(value, verdict.key_class.value)
        if isinstance(value, Mapping):
            return kept_mapping(value, Place(verdicts=True), tally)
        return kept_mapping({"items": value}, Place(verdicts=True), tally)["items"]  # type: ignore[index]  # within every limit
    found = _scalar_verdict(value, verdict)
    return found if found is not None else tally.redacted(value, "unknown_value")


@lru_cache(maxsize=1024)
def _personal_evaluator(name: str) -> KeyVerdict | None:
    """The verdict on an evaluator's name that is the name of something personal, else None."""
    if len(name) > MAX_KEY_LENGTH:
        return None
    verdict = verdict_on(name)
    return None if verdict.key_class in (KeyClass.HARMLESS, KeyClass.TEXT) and not verdict.is_numbered else verdict


def _scalar_verdict(value: Json, verdict: KeyVerdict | None) -> Json:
    found: Json = score(value)
    if verdict is None:
        return found if found is not None else label(value)
    if isinstance(found, str):
        return None
    if found is None:
        return label(value) if verdict.normal.rpartition("_")[2] in _ASPECTS else documented_label(value)
    is_score = abs(found) <= _MAX_PERSONAL_SCORE and not verdict.names_one
    return found if is_score else measured(found, verdict)


_MAX_PERSONAL_SCORE = 100
_ASPECTS = listed(
    "tone goal goals frustration satisfaction sentiment quality extraction accuracy relevance relevancy completeness "
    "formality politeness helpfulness leak leaks leakage detection exposure handling verification resolution "
    "experience consistency compliance check correctness clarity disclosure mention redaction validity match mismatch "
    "engagement safety understanding recognition outcome success failure refusal toxicity style empathy coherence "
    "retention resolution intent effort progress"
)
"""What an evaluator judges: under such a name (`email_tone`, `session_goal`) a label says how something was done."""


# -- tags -----------------------------------------------------------------------------------------------------------------


def tags(pairs: Sequence[tuple[str, str]], tally: Tally) -> dict[str, str | list[str]]:
    """Tags as a map; a key that came with several values has them as a sorted list of distinct ones.

    Known keys keep what their rules accept. Others stay only under a harmless key and with an enum-like word, a small
    number, a boolean, a time or a version. Tags about users, sessions, clients and personal data are dropped whatever they
    say. Error messages are explanations.
    """
    document: dict[str, str | list[str]] = {}
    found: dict[str, set[str]] = {}
    texts: set[str] = set()
    for key, value in tally.entered(pairs[:MAX_KEYS], document):
        try:
            stored = _tag(key.strip(), value, document, texts, tally)
        except Exception:  # noqa: BLE001 - as above, for one tag
            tally.counts["error"] += 1
            continue
        if stored is None:
            continue
        stored_key, stored_value = stored
        if stored_key in texts:
            tally.counts["tag"] += 1
            continue
        known = document.get(stored_key)
        if known is None:
            document[stored_key] = stored_value
        elif known != stored_value or stored_key in found:
            distinct = found.setdefault(stored_key, {known} if isinstance(known, str) else set(known))
            distinct.add(stored_value)
    for key, distinct in found.items():
        document[key] = sorted(distinct)
    if len(pairs) > MAX_KEYS:
        tally.counts["limit"] += 1
    return document


_passed_tags: dict[tuple[str, str], str] = {}
"""Tags whose value is kept as it is, with the key to keep it under: the same ones stand on every span of a service."""
_MAX_PASSED_TAGS = 4_096


def _tag(key: str, value: str, document: dict[str, Any], texts: set[str], tally: Tally) -> tuple[str, str] | None:
    known = _passed_tags.get((key, value))
    if known is not None and not tally.policy.names_fields:
        return known, value
    found = _judged_tag(key, value, document, texts, tally)
    if found is not None and found[1] == value and not tally.policy.names_fields and not is_mark(value):
        if len(_passed_tags) >= _MAX_PASSED_TAGS:
            _passed_tags.clear()
        _passed_tags[key, value] = found[0]
    return found


def _judged_tag(key: str, value: str, document: dict[str, Any], texts: set[str], tally: Tally) -> tuple[str, str] | None:
    if len(key) > MAX_KEY_LENGTH:
        tally.counts["tag"] += 1
        return None
    verdict = verdict_on(key)
    normal = verdict.normal
    kinds = FIELDS.get(normal)
    if kinds is None and verdict.key_class is KeyClass.HARMLESS and is_storable_key(key):
        kinds = KINDS_BY_LAST_WORD.get(normal.rpartition("_")[2])
    if kinds is not None:
        known_key = key if is_column(key) else normal
        if value == "":
            return known_key, ""
        found = kept(value, kinds)
        if found is not None:
            return known_key, str(found)
    if normal in EXPLANATIONS and tally.explains and (text_key := key if is_column(key) else normal) not in document:
        texts.add(text_key)
        tally.explained(document, text_key, value)
        return None
    kind = verdict.key_class.value
    if normal.partition("_")[0] in DROPPED_TAG_PREFIXES:
        kind = kind if verdict.key_class is not KeyClass.HARMLESS else KeyClass.USER_ATTRIBUTE.value
        tally.counts[kind] += 1
        return None
    if tally.policy.names_fields and (mode := tally.policy.mode_of(path_of("tags", normal))) is not TextMode.CLOSED:
        stored_key = key if is_storable_key(key) else normal
        if (
            verdict.key_class in (KeyClass.TEXT, KeyClass.HARMLESS)
            and is_storable_key(stored_key)
            and stored_key not in document
        ):
            texts.add(stored_key)
            tally.allowed(document, stored_key, value, mode, path_of("tags", normal))
            return None
    is_open = verdict.key_class is KeyClass.HARMLESS or verdict.is_measure or verdict.is_kind
    if verdict.is_numbered and kinds is None:
        is_open = value.lower() in ("true", "false")
    if is_open and value != "" and (kinds is not None or is_storable_key(key)):
        found = small_number(value) or words(value) or version(value) or time(value) or technical(value)
        if found is not None:
            return (key if is_column(key) else normal), str(found)
    tally.counts[kind if verdict.key_class is not KeyClass.HARMLESS else "tag"] += 1
    return None


# -- head -----------------------------------------------------------------------------------------------------------------


def received_time(value: Json) -> Json:
    """A start or duration as it was received: a number, an epoch time in digits, or an ISO time; else None."""
    found: Json = epoch(value)
    return found if found is not None else time(value)


def safe_evaluator_names(found: Sequence[Evaluation], tally: Tally) -> dict[str, str]:
    """Each evaluator's raw name with the one that may be stored: itself, or `[evaluator 1]` and so on."""
    safe: dict[str, str] = {}
    removed = 0
    for evaluation in found:
        if evaluation.name in safe:
            continue
        stored = evaluator_name(evaluation.name)
        if stored is None:
            removed += 1
            tally.counts["key"] += 1
            stored = f"[evaluator {removed}]"
        safe[evaluation.name] = stored
    return safe


def observed_value(value: Json, place: str = "") -> Json:
    """What a signal saw in its place, as a scalar: a boolean, a number, a label; else a placeholder."""
    if value is None or isinstance(value, bool):
        return value
    head, _, evaluator = place.partition(".")
    found = _scalar_verdict(value, _personal_evaluator(evaluator) if head == "evaluation" else None)
    return found if found is not None else placeholder(value)
