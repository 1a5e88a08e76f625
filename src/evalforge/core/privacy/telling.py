"""The sanitizer's rules in words, for people: why a leaf stays, and why it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from evalforge.core.privacy import marks, measures, values
from evalforge.core.privacy.fields import FIELDS
from evalforge.core.privacy.keys import KeyClass, normal_key, verdict_on
from evalforge.core.privacy.rules import RULE_OF, Kind
from evalforge.core.privacy.text.findings import MARK, TextKind
from evalforge.core.privacy.watching import KeyRule, Path
from evalforge.core.span import Json

KIND_WORDS: dict[Kind, str] = {
    Kind.NUMBER: "a number",
    Kind.AMOUNT: "a number",
    Kind.BOOLEAN: "a boolean",
    Kind.NAME: "a technical name",
    Kind.MODEL: "a model's name",
    Kind.ERROR_TYPE: "a class name",
    Kind.LABEL: "a label",
    Kind.WORDS: "vocabulary words",
    Kind.VERSION: "a version",
    Kind.CODE: "a commit or a digest",
    Kind.MACHINE_ID: "an id that a machine made",
    Kind.TRACE_CODE: "a trace or span id",
    Kind.TIME: "a time",
    Kind.LOCALE: "a language, country or currency code",
    Kind.EPOCH: "a time as a number",
    Kind.SCORE: "a score",
    Kind.RELEASE: "a build or release",
    Kind.POD: "a pod's name",
    Kind.IMAGE: "a container image",
    Kind.PACKAGE: "a library",
    Kind.ERROR_CODE: "an error code",
    Kind.IDENTIFIER: "vocabulary words",
    Kind.ZONE: "a time zone",
}
"""What the value rules accept, in words."""

TEXT_WORDS: dict[TextKind, str] = {
    TextKind.EMAIL: "e-mail address",
    TextKind.PHONE: "phone number",
    TextKind.CARD: "card number",
    TextKind.IBAN: "bank account",
    TextKind.ID: "national or account id",
    TextKind.IP: "IP address",
    TextKind.MAC: "hardware address",
    TextKind.URL: "URL",
    TextKind.WALLET: "wallet",
    TextKind.SECRET: "secret",
    TextKind.PATH: "path in a home folder",
    TextKind.GEO: "coordinates",
    TextKind.DATE: "date of birth",
    TextKind.PLATE: "licence plate",
    TextKind.PERSON: "person",
    TextKind.ADDRESS: "address",
    TextKind.USER: "user id",
    TextKind.SESSION: "session",
    TextKind.NUMBER: "long number",
    TextKind.CODE: "code",
    TextKind.WORD: "word that is in no vocabulary",
    TextKind.ENCODED: "text that could not be decoded",
}
"""What the kinds of placeholders stand for, in words."""

_CLASSES = {one.value for one in KeyClass} - {KeyClass.TEXT.value, KeyClass.HARMLESS.value}
_ALLOW = "not in PII_TEXT_ALLOWLIST"
_NOBODYS = "closed although PII_TEXT_ALLOWLIST may name it: no user is named, so nobody could find it for erasure"
_ONLY_NAMES = "of a tool's definition only the name is kept"
_REMOVED: dict[str, str] = {
    "tool_arguments": "tool arguments",
    "tool_result": "tool result",
    "document": "document",
    "text": "text",
}
_OTHER: dict[str, str] = {
    "unknown_value": "no value rule accepts it: neither number, time, nor vocabulary words",
    "unknown_key": "key {key} is no field of a payload: not copied",
    "tag": "tag {key} is unknown and its value is no plain word",
    "nonfinite": "no finite number",
    "limit": "a bound of depth, keys, items or size was reached",
    "error": "a rule broke on it, so it is removed",
    "echo": "repeats a value that stands under a sensitive key",
    "second_net": "the second net found something personal in the finished payload",
}
_LAST_STEPS = {name: _OTHER[name] for name in ("echo", "second_net", "limit")}
_HEAD: dict[str, str] = {
    "trace_id": "a plain trace id",
    "span_id": "a plain span id",
    "parent_id": "a plain span id",
    "apm_trace_id": "a plain trace id",
    "name": "a technical name",
    "span_kind": "a kind of span",
    "status": "a status",
    "ml_app": "a technical name",
    "service": "a technical name",
    "env": "a technical name",
    "model_name": "a model's name",
    "model_provider": "a provider's name",
    "start_ns": "a time",
    "duration": "a duration",
}
_BY_LAST_KEY: dict[str, str] = {
    "role": "a role",
    "name": "a technical name",
    "tool_id": "an id that a machine made",
    "tool_call_id": "an id that a machine made",
    "id": "an id that a machine made",
    "type": "a known type",
    "score": "a number",
    "value": "a number, a boolean or a label",
    "assessment": "vocabulary word",
    "eval_metric_type": "vocabulary word",
    "status": "vocabulary word",
    "code": "a small number",
    "isError": "a boolean",
    "is_error": "a boolean",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a decision: where its rule held (`at`), what was counted there, which key's rule stood, its texts."""

    path: Path
    at: Path
    before: Json = field(repr=False)
    after: Any
    is_hashed: bool
    kinds: list[str]
    last_steps: list[str]
    key_rule: KeyRule | None
    is_scrubbed: bool
    scrubbed_as: str | None
    is_open: bool
    is_key_replaced: bool
    is_nobodys: bool
    explanations: str
    user_hash: str | None


def kept_rule(told: Told, key: str) -> str:
    """Why a leaf stays, or stays in part; `key` is its key as it may be shown."""
    rule = _kept(told)
    return f"{rule}; its key is replaced" if told.is_key_replaced else rule


def removed_rule(told: Told, key: str) -> str:
    """Why a leaf goes, as a placeholder, as a hash or altogether; `key` is the key at which it was decided."""
    if told.is_hashed:
        if told.path[0] in ("trace_id", "span_id", "parent_id", "apm_trace_id"):
            return "no plain id: a keyed digest of it"
        return f"the user's id: stored as {told.user_hash}"
    kind = told.kinds[0] if told.kinds else None
    if kind is None:
        return _unheard(told, key)
    below = ", with all below it" if len(told.at) < len(told.path) and isinstance(told.at[-1], str) else ""
    if kind in _CLASSES:
        return f"key `{key}` is {kind.upper()}: dropped{below}"
    if told.path[0] == "tool_definitions":
        return _ONLY_NAMES
    if kind in _REMOVED:
        return f"{_REMOVED[kind]} closed: {_why_closed(told, key)}"
    return _OTHER.get(kind, f"removed as {kind}").format(key=f"`{key}`") + below


def _why_closed(told: Told, key: str) -> str:
    if told.is_nobodys and told.path[0] != "error":
        return _NOBODYS
    if told.path[0] == "error" or key in ("reasoning", "message", "stack"):
        return "PII_EXPLANATIONS=closed" if told.explanations == "closed" else _ALLOW
    return _ALLOW


def _unheard(told: Told, key: str) -> str:
    if told.path[0] in _HEAD and len(told.path) == 1:
        return f"no value rule accepts it as {_HEAD[told.path[0]]}"
    if told.path[0] == "tool_definitions":
        return _ONLY_NAMES
    if told.last_steps:
        return "; or ".join(_LAST_STEPS[step] for step in told.last_steps)
    if told.is_scrubbed:
        return _scrubbed(told)
    return f"key `{key}` is no field of a payload: not copied"


def _kept(told: Told) -> str:
    before = told.before
    if told.is_open:
        return "kept as it is: in PII_TEXT_OPEN"
    if told.is_scrubbed:
        return _scrubbed(told)
    if len(told.path) == 1 and told.path[0] in _HEAD:
        masked = "" if before == told.after or not isinstance(told.after, str) else "; what is none is masked"
        return f"{_HEAD[told.path[0]]}{masked}"
    if before is None:
        return "null"
    if isinstance(before, str) and marks.is_mark(before):
        return "a placeholder already"
    if told.path[0] == "tags":
        return _of_tag(told)
    if told.key_rule is not None:
        found = _by_key(told.key_rule, before)
        if found is not None:
            return found
    last = next((one for one in reversed(told.path) if isinstance(one, str)), "")
    if before in ("", [], {}, ()):
        return "empty"
    if told.path[0] == "error" and last in ("type", "kind", "class"):
        return "a class name"
    return _BY_LAST_KEY.get(last) or _by_value(before, is_measure=False) or "accepted by its value rule"


def _scrubbed(told: Told) -> str:
    after = told.after if isinstance(told.after, str) else ""
    said = {mark[0]: TextKind[mark["kind"]] for mark in MARK.finditer(after)}
    if isinstance(told.before, str):
        said = {mark: kind for mark, kind in said.items() if mark not in told.before}
    if said:
        shown = [f"{TEXT_WORDS[kind]} → {mark}" for mark, kind in list(said.items())[:6]]
        more = f" and {len(said) - 6} more" if len(said) > 6 else ""
        return ", ".join(shown) + more
    if told.scrubbed_as not in (None, "text"):
        return f"{str(told.scrubbed_as).replace('_', ' ')}: replaced"
    if marks.is_mark(after):
        return "text closed: beyond the bound of kept texts, or unreadable"
    return "text scrubbed: brought into plain form" if told.before != told.after else "text scrubbed: nothing personal found"


def _of_tag(told: Told) -> str:
    key = told.path[1][0] if isinstance(told.path[1], tuple) else told.path[1]
    kinds = FIELDS.get(normal_key(key.strip())) if isinstance(key, str) else None
    if told.before == "":
        return "empty"
    accepted = _accepted(told.before, kinds) if kinds else None
    if accepted is not None:
        return f"known tag: {accepted}"
    verdict = verdict_on(key.strip()[:200]) if isinstance(key, str) else None
    return _by_value(told.before, is_measure=bool(verdict and verdict.is_measure)) or "a version, or a plain word"


def _by_key(rule: KeyRule, value: Json) -> str | None:
    """The first rule, in the sanitizer's own order, that accepts the value."""
    if rule.kinds is not None:
        accepted = _accepted(value, rule.kinds)
        if accepted is not None:
            return f"known field: {accepted}"
    verdict = rule.verdict
    if rule.is_numeric and measures.number(value) is not None:
        return "a number in metrics"
    if rule.has_verdicts and measures.score(value) is not None:
        return "a number in an evaluation"
    if verdict.key_class is not KeyClass.HARMLESS:
        if isinstance(value, bool):
            return "a boolean says nothing personal"
        if verdict.is_measure:
            return "a measure, whatever it measures"
        return "a kind, in vocabulary words" if verdict.is_kind else None
    if verdict.is_kind and values.version(value) is not None:
        return "a version"
    return _by_value(value, is_measure=verdict.is_measure)


def _by_value(value: Json, *, is_measure: bool) -> str | None:
    if measures.boolean(value) is not None:
        return "a boolean"
    if measures.small_number(value) is not None:
        return f"a number below {measures.SMALL_NUMBER:,}"
    if is_measure and measures.number(value) is not None:
        return "a number under a key that names a measure"
    if measures.time(value) is not None:
        return "an ISO time"
    if values.words(value) is not None or values.label(value) is not None:
        return "vocabulary word" if isinstance(value, str) and value.isalpha() else "vocabulary words"
    return None


def _accepted(value: Json, kinds: tuple[Kind, ...]) -> str | None:
    return next((KIND_WORDS[kind] for kind in kinds if RULE_OF[kind](value) is not None), None)
