"""Values of any JSON shape that are kept with their texts: scrubbed leaf by leaf, or open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import orjson

from evalforge.core.privacy.fields import FIELDS, ROLES
from evalforge.core.privacy.keys import (
    MAX_KEY_LENGTH,
    KeyClass,
    KeyVerdict,
    is_column,
    is_sensitive_column,
    is_storable_key,
    verdict_on,
)
from evalforge.core.privacy.marks import placeholder
from evalforge.core.privacy.measures import SMALL_NUMBER, number
from evalforge.core.privacy.pairs import VALUE_KEYS, after_names, named_verdict, pair_name
from evalforge.core.privacy.rules import kept
from evalforge.core.privacy.texts import KeptTexts, bounded
from evalforge.core.privacy.values import machine_id, name, words
from evalforge.core.span import Json

MAX_DEPTH = 12
MAX_ITEMS = 200
MAX_KEYS = 2_000
MAX_NODES = 20_000
MAX_JSON_LENGTH = 256 * 1024
MAX_OPEN_DEPTH = 20

KEY_MARK = "[key 1]"
"""What is stored in place of a key that may not be."""

_SENSITIVE = frozenset(KeyClass) - {KeyClass.TEXT, KeyClass.HARMLESS}


@dataclass(slots=True)
class _Walk:
    """One tree: where its texts wait, and how much of the budget is used."""

    texts: KeptTexts
    node_count: int = 0


@lru_cache(maxsize=8192)
def _verdicts(above: str, key: str) -> tuple[KeyVerdict, KeyVerdict | None, str]:
    """The verdict on a key; the same where it is sensitive, else None; and what stands above the keys below it."""
    verdict = verdict_on(f"{above}.{key}"[:MAX_KEY_LENGTH]) if above else verdict_on(key)
    if verdict.key_class in _SENSITIVE and not verdict.is_text:
        return verdict, verdict, above or key[: MAX_KEY_LENGTH // 2]
    return verdict, None, key if len(key) <= MAX_KEY_LENGTH // 2 else ""


def keep_scrubbed(container: Any, key: Any, value: Json, texts: KeptTexts, verdict: KeyVerdict | None = None) -> None:
    """Puts the scrubbed value into `container[key]`: the same shape, every string scrubbed.

    Values of sensitive keys become the placeholder of their kind; booleans, nothing and small numbers stay, long numbers go;
    a string that holds a JSON object or list still does. `verdict` is that of a sensitive key above, if any.
    """
    _keep(container, key, value, verdict, "", 0, _Walk(texts))


def keep_scrubbed_entry(document: dict[str, Any], key: Any, value: Json, texts: KeptTexts) -> None:
    """Puts one entry of a mapping into `document`, as `keep_scrubbed` would with the mapping as a whole."""
    _fill(document, {key: value}, None, "", 0, _Walk(texts))


def _keep(container: Any, key: Any, value: Json, verdict: KeyVerdict | None, above: str, depth: int, walk: _Walk) -> None:
    kind = type(value)
    if value is None:
        container[key] = None
    elif kind is str:
        if verdict is not None:
            walk.texts.sensitive(container, key, value, verdict)
        else:
            _keep_text(container, key, value, depth, walk)
    elif kind is bool:
        if verdict is not None and (above == KEY_MARK or verdict.key_class in (KeyClass.USER_ID, KeyClass.PII)):
            walk.texts.sensitive(container, key, value, verdict)
        else:
            container[key] = value
    elif kind is dict or isinstance(value, Mapping):
        container[key] = _mapping(value, verdict, above, depth + 1, walk)
    elif kind is list or kind is tuple:
        container[key] = _items(value, verdict, above, depth + 1, walk)
    elif kind is int or kind is float:
        _keep_number(container, key, value, verdict, walk)
    else:
        container[key] = placeholder(value)
        walk.texts.redactions["unknown_value"] += 1


def _keep_text(container: Any, key: Any, text: str, depth: int, walk: _Walk) -> None:
    if text[:1] in ("{", "[") and text[-1] in "}]\n " and len(text) <= MAX_JSON_LENGTH and depth < MAX_DEPTH:
        try:
            parsed = orjson.loads(text)
        except ValueError:
            pass
        else:
            if type(parsed) is dict or (type(parsed) is list and parsed):
                _keep(container, key, parsed, None, "", depth + 1, walk)
                walk.texts.encode(container, key)
                return
    walk.texts.text(container, key, text)


def _keep_number(container: Any, key: Any, value: float, verdict: KeyVerdict | None, walk: _Walk) -> None:
    if type(value) is float and not math.isfinite(value):
        container[key] = placeholder(value)
        walk.texts.redactions["nonfinite"] += 1
    elif verdict is not None:
        if verdict.is_measure and number(value) is not None:
            container[key] = value
        else:
            walk.texts.sensitive(container, key, value, verdict)
    elif -SMALL_NUMBER < value < SMALL_NUMBER:
        container[key] = value
    else:
        walk.texts.number(container, key, value)


def _mapping(values: Mapping[Any, Json], verdict: KeyVerdict | None, above: str, depth: int, walk: _Walk) -> Any:
    if depth > MAX_DEPTH or len(values) > MAX_KEYS:
        walk.texts.redactions["limit"] += 1
        return placeholder(values)
    document: dict[str, Any] = {}
    _fill(document, values, verdict, above, depth, walk)
    return document


def _fill(
    document: dict[str, Any], values: Mapping[Any, Json], verdict: KeyVerdict | None, above: str, depth: int, walk: _Walk
) -> None:
    named = pair_name(values) if len(values) > 1 else None
    for key, value in walk.texts.entered(values.items(), document):
        walk.node_count += 1
        if walk.node_count > MAX_NODES:
            walk.texts.redactions["limit"] += 1
            break
        stored_key = _stored_key(key, document, walk)
        try:
            if type(key) is not str or len(key) > MAX_KEY_LENGTH:
                document[stored_key] = placeholder(value)
                walk.texts.redactions["unknown_value"] += 1
            elif named is not None and key == named[0] and is_storable_key(value):
                document[stored_key] = value
            elif named is not None and key in VALUE_KEYS:
                _keep(document, stored_key, value, named[1], "", depth, walk)
            else:
                _keep_entry(document, stored_key, key, value, verdict, above, depth, walk)
        except Exception:  # noqa: BLE001 - whatever goes wrong with one entry may cost that entry only, and must not leak it
            document[stored_key] = "[redacted:error]"
            walk.texts.redactions["error"] += 1


def _keep_entry(
    document: dict[str, Any],
    stored_key: str,
    key: str,
    value: Json,
    inherited: KeyVerdict | None,
    above: str,
    depth: int,
    walk: _Walk,
) -> None:
    if inherited is not None and above == KEY_MARK:
        _keep(document, stored_key, value, inherited, above, depth, walk)
        return
    verdict, sensitive, below = _verdicts(above, key)
    if stored_key != key:
        if sensitive is not None and not (sensitive.is_measure or sensitive.is_kind):
            # Nobody could judge by its mark what stands below a key that is not stored: all of it is what the key says.
            _keep(document, stored_key, value, sensitive, KEY_MARK, depth, walk)
            return
        verdict, sensitive, below = _verdicts(above, KEY_MARK)  # a key that is not stored means no more than its mark
    is_scalar = not isinstance(value, (Mapping, list, tuple))
    if is_scalar and value is not None:
        found = _known(key, verdict, sensitive, value)
        if found is not None:
            document[stored_key] = found
            return
    _keep(document, stored_key, value, sensitive or inherited, below, depth, walk)


def _known(key: str, verdict: KeyVerdict, sensitive: KeyVerdict | None, value: Json) -> Json:
    """What a value rule keeps of a scalar under a known key: roles, names of tools, ids that machines made, measures."""
    if key == "role":
        return value if isinstance(value, str) and value.lower() in ROLES else None
    if key == "name":  # of a tool, if written like one
        return value if isinstance(value, str) and "_" in value and words(value) == value else None
    if sensitive is None:
        kinds = FIELDS.get(verdict.normal)
        if kinds is not None:
            found = kept(value, kinds)
            return found if found == value else None
        if verdict.is_measure:
            return number(value)
    elif sensitive.is_kind and isinstance(value, str):
        return words(value)
    return None


def _items(
    values: list[Json] | tuple[Json, ...], verdict: KeyVerdict | None, above: str, depth: int, walk: _Walk
) -> list[Any] | str:
    if depth > MAX_DEPTH:
        walk.texts.redactions["limit"] += 1
        return placeholder(values)
    items: list[Any] = [None] * min(len(values), MAX_ITEMS)
    named = after_names(values) if verdict is None else frozenset()
    for at, value in walk.texts.entered(enumerate(values[:MAX_ITEMS]), items):
        walk.node_count += 1
        if walk.node_count > MAX_NODES:
            del items[at:]
            break
        try:
            said = named_verdict(values[at - 1]) if at in named else verdict
            if at + 1 in named and is_storable_key(value):
                items[at] = value
            else:
                _keep(items, at, value, said, above, depth, walk)
        except Exception:  # noqa: BLE001 - as above, for one item
            items[at] = "[redacted:error]"
            walk.texts.redactions["error"] += 1
    if len(items) < len(values):
        walk.texts.redactions["limit"] += 1
        items.append(placeholder(values))
    return items


def _stored_key(key: Any, document: dict[str, Any], walk: _Walk) -> str:
    if type(key) is str and len(key) <= MAX_KEY_LENGTH and key not in document:
        if is_storable_key(key):
            return key
        if is_sensitive_column(key) or (is_column(key) and verdict_on(key).normal in FIELDS):
            return key
    walk.texts.redactions["key"] += 1
    return next(mark for n in count(len(document) + 1) if (mark := f"[key {n}]") not in document)


# -- open -----------------------------------------------------------------------------------------------------------------


def open_value(value: Json, depth: int = 0) -> Any:
    """A copy of a value as it is, bounded: long texts are cut with a mark, deep or long containers become placeholders."""
    kind = type(value)
    if kind is str:
        return bounded(value)
    if value is None or kind is bool or kind is int:
        return value if kind is not int or value.bit_length() <= 4096 else placeholder(value)
    if kind is float:
        return value if math.isfinite(value) else placeholder(value)
    if isinstance(value, Mapping):
        if depth >= MAX_OPEN_DEPTH or len(value) > MAX_KEYS:
            return placeholder(value)
        return {key: open_value(inner, depth + 1) for key, inner in value.items() if isinstance(key, str)}
    if isinstance(value, (list, tuple)):
        if depth >= MAX_OPEN_DEPTH:
            return placeholder(value)
        items = [open_value(inner, depth + 1) for inner in value[:MAX_ITEMS]]
        return items if len(value) <= MAX_ITEMS else [*items, placeholder(value)]
    return placeholder(value)


# -- what tools and messages hold -----------------------------------------------------------------------------------------


def tool_name(value: Json) -> str | None:
    """A tool's name, `""` included."""
    return "" if value == "" else name(value)


def call_id(value: Json) -> str | None:
    """A call's id, `""` included."""
    return "" if value == "" else machine_id(value)
