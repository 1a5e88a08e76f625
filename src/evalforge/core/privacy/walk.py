"""Goes through untrusted mappings and lists and builds new ones that hold only what the tables of fields let pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from evalforge.core.privacy.fields import BRANCHES, FIELDS
from evalforge.core.privacy.keys import MAX_KEY_LENGTH, KeyClass, KeyVerdict, is_column, is_storable_key, verdict_on
from evalforge.core.privacy.values import (
    Kind,
    boolean,
    kept,
    label,
    number,
    placeholder,
    score,
    small_number,
    time,
    version,
    words,
)
from evalforge.core.span import Json

MAX_DEPTH = 8
MAX_KEYS = 2_000
MAX_ITEMS = 200
MAX_NODES = 20_000

_DROPPED = frozenset(KeyClass) - {KeyClass.TEXT, KeyClass.HARMLESS}
_NUMBERS_PASS = frozenset({KeyClass.USER_ATTRIBUTE, KeyClass.SESSION, KeyClass.NETWORK, KeyClass.TEXT, KeyClass.HARMLESS})
_NAMING_KEYS = ("name", "key", "field", "header", "attribute", "property", "label")
_VALUE_KEYS = ("value", "val", "values")
_UNKNOWN = verdict_on("")
_NOTHING = object()


@dataclass(slots=True)
class Tally:
    """What was removed so far, by kind, and how many nodes were looked at.

    Kinds: the dropping classes of `KeyClass` (`user_id`, `user_attribute`, `session`, `credential`, `contact`, `network`,
    `identifier`, `pii`); closed `text`, `tool_arguments`, `tool_result`, `document`; `unknown_value`, `unknown_key` (a field
    that was not copied), `key` (a key that was replaced), `tag`, `nonfinite`, `limit`, `error`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    node_count: int = 0

    def redacted(self, value: Json, kind: str) -> str:
        """Counts one removal under `kind` and gives the placeholder."""
        self.counts[kind] += 1
        return placeholder(value)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the walk stands: the normal form of the keys above, how deep, and which rules hold here.

    `parent` is the key right above, as it came: `{"api": {"key": 1}}` holds an API key. `closed`: only known fields stay.
    `numeric`: every number stays that is no personal one (metrics). `verdicts`: leaves are parts of an evaluation's value,
    so labels stay.
    """

    path: str = ""
    parent: str = ""
    depth: int = 0
    closed: bool = False
    numeric: bool = False
    verdicts: bool = False


def kept_mapping(values: Mapping[str, Json], place: Place, tally: Tally) -> dict[str, Any] | str:
    """A new mapping of what may stay, or the placeholder of the whole where it is too deep or too large."""
    if place.depth > MAX_DEPTH or len(values) > MAX_KEYS:
        return tally.redacted(values, "limit")
    if _is_sensitive_pair(values):
        return tally.redacted(values, "unknown_value")
    document: dict[str, Any] = {}
    for key, value in values.items():
        tally.node_count += 1
        if tally.node_count > MAX_NODES:
            tally.counts["limit"] += 1
            break
        try:
            _keep_entry(document, key, value, place, tally)
        except Exception:  # noqa: BLE001 - whatever goes wrong with one entry may cost that entry only, and must not leak it
            tally.counts["error"] += 1
    return document


def _keep_entry(document: dict[str, Any], key: Json, value: Json, place: Place, tally: Tally) -> None:
    if not isinstance(key, str) or len(key) > MAX_KEY_LENGTH:
        _put(document, None, tally.redacted(value, "unknown_value"), tally)
        return
    verdict = verdict_on(key)
    normal = verdict.normal
    path = f"{place.path}_{normal}" if place.path else normal
    kinds = FIELDS.get(path) or (None if place.closed else FIELDS.get(normal))
    if place.parent:
        verdict = verdict_on(f"{place.parent}.{key}")
    if isinstance(value, Mapping):
        stored: Any = _kept_branch(value, verdict, _below(key, verdict, path, place), tally)
    elif isinstance(value, (list, tuple)):
        stored = _kept_items(value, verdict, kinds, _below(key, verdict, path, place), tally)
    else:
        stored = _kept_scalar(value, verdict, kinds, place, tally)
    if stored is _NOTHING:
        return
    _put(document, _key_to_store(key, normal, is_known=kinds is not None), stored, tally)


def _key_to_store(key: str, normal: str, *, is_known: bool) -> str | None:
    if is_known:
        return key if is_column(key) else normal
    return key if is_storable_key(key) else None


def _below(key: str, verdict: KeyVerdict, path: str, place: Place) -> Place:
    closed = place.closed or (verdict.key_class is not KeyClass.HARMLESS and path in BRANCHES)
    return Place(
        path=path if path in BRANCHES else "",
        parent=key if len(key) <= MAX_KEY_LENGTH // 2 else "",
        depth=place.depth + 1,
        closed=closed,
        numeric=place.numeric,
        verdicts=place.verdicts,
    )


def _put(document: dict[str, Any], key: str | None, stored: Any, tally: Tally) -> None:
    if key is None or key in document:
        tally.counts["key"] += 1
        key = next(mark for n in count(len(document) + 1) if (mark := f"[key {n}]") not in document)
    document[key] = stored


def _kept_branch(values: Mapping[str, Json], verdict: KeyVerdict, below: Place, tally: Tally) -> Any:
    if not below.path and verdict.key_class is not KeyClass.HARMLESS and not _passes_in(below, verdict):
        return _removed(values, verdict, tally)
    return kept_mapping(values, below, tally)


def _kept_items(
    values: list[Json] | tuple[Json, ...], verdict: KeyVerdict, kinds: tuple[Kind, ...] | None, place: Place, tally: Tally
) -> Any:
    if verdict.key_class in _DROPPED and not place.numeric:
        return _removed(values, verdict, tally)
    if verdict.key_class is KeyClass.TEXT and not place.path:
        return _removed(values, verdict, tally)
    if place.depth > MAX_DEPTH:
        return tally.redacted(values, "limit")
    if len(values) == 2 and isinstance(values[0], str) and _is_sensitive_name(values[0]):
        return tally.redacted(values, "unknown_value")
    items: list[Any] = []
    inner = replace(place, depth=place.depth + 1)
    for value in values[:MAX_ITEMS]:
        tally.node_count += 1
        if tally.node_count > MAX_NODES:
            break
        if isinstance(value, Mapping):
            items.append(kept_mapping(value, inner, tally))
        elif isinstance(value, (list, tuple)):
            items.append(_kept_items(value, verdict, kinds, inner, tally))
        else:
            stored = _kept_scalar(value, verdict, kinds, place, tally)
            if stored is not _NOTHING:
                items.append(stored)
    if len(values) > MAX_ITEMS or tally.node_count > MAX_NODES:
        items.append(tally.redacted(values, "limit"))
    return items


def _kept_scalar(value: Json, verdict: KeyVerdict, kinds: tuple[Kind, ...] | None, place: Place, tally: Tally) -> Any:
    if value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        tally.counts["nonfinite"] += 1
        return _NOTHING
    if kinds is not None:
        found = kept(value, kinds)
        if found is not None:
            return found
    if _passes_in(place, verdict):
        found = number(value) if place.numeric else score(value)
        if found is not None:
            return found
    if verdict.key_class is not KeyClass.HARMLESS:
        return _kept_sensitive(value, verdict, tally)
    if place.closed:
        return tally.redacted(value, "text")
    if verdict.is_kind and (found := version(value)) is not None:
        return found
    return kept_unknown(value, tally, is_measure=verdict.is_measure, takes_labels=place.verdicts)


def _passes_in(place: Place, verdict: KeyVerdict) -> bool:
    return (place.numeric or place.verdicts) and verdict.key_class in _NUMBERS_PASS


def _kept_sensitive(value: Json, verdict: KeyVerdict, tally: Tally) -> Any:
    if isinstance(value, bool) and verdict.key_class not in (KeyClass.USER_ID, KeyClass.PII):
        return value
    if verdict.is_measure and number(value) is not None:
        return value
    if verdict.is_kind:
        found = small_number(value) if verdict.key_class is not KeyClass.TEXT else None
        if found is None:
            found = words(value) or version(value)
        if found is not None:
            return found
    return _removed(value, verdict, tally)


def _removed(value: Json, verdict: KeyVerdict, tally: Tally) -> Any:
    stands = tally.redacted(value, verdict.key_class.value)
    return stands if verdict.key_class is KeyClass.TEXT else _NOTHING


def kept_unknown(value: Json, tally: Tally, *, is_measure: bool = False, takes_labels: bool = False) -> Any:
    """What stays of a scalar under an unknown key: a boolean, a small number, an ISO time, words; else its placeholder."""
    found: Json = boolean(value)
    if found is None:
        found = number(value) if is_measure else None
    if found is None:
        found = small_number(value)
    if found is None and isinstance(value, str):
        found = time(value) or (label(value) if takes_labels else words(value))
    return found if found is not None else tally.redacted(value, "unknown_value")


def _is_sensitive_pair(values: Mapping[str, Json]) -> bool:
    """Whether this is `{"name": "email", "value": ...}`, a personal field written as a pair."""
    if len(values) > 6 or not any(key in values for key in _VALUE_KEYS):
        return False
    return any(isinstance(values.get(key), str) and _is_sensitive_name(values[key]) for key in _NAMING_KEYS)


def _is_sensitive_name(text: str) -> bool:
    return len(text) <= MAX_KEY_LENGTH and verdict_on(text).key_class is not KeyClass.HARMLESS
