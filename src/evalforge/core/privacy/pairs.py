"""Keys that stand as values: `{"name": "email", "value": ...}`, `["email", ...]`, a table's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalforge.core.privacy.keys import MAX_KEY_LENGTH, KeyClass, KeyVerdict, verdict_on
from evalforge.core.privacy.marks import is_mark
from evalforge.core.span import Json

NAMING_KEYS = frozenset(
    "name key field header attribute attr property prop label k id column col param parameter argument arg question title "
    "variable slot entity entity_type type kind tag fieldName field_name keyName Name Key Field".split()
)
"""Keys whose value may be the key of what stands beside it."""

VALUE_KEYS = frozenset("value val values v data text answer content string stringValue Value raw".split())
"""Keys under which the value of such a pair stands."""

_COLUMNS = ("columns", "headers", "header", "fields", "column_names", "fieldnames", "keys")
_MAX_PAIR = 8
_SENSITIVE = frozenset(KeyClass) - {KeyClass.TEXT, KeyClass.HARMLESS}


def pair_name(values: Mapping[Any, Json]) -> tuple[str, KeyVerdict] | None:
    """The naming key and the verdict on what it names, where a mapping is a pair that names something sensitive."""
    if len(values) > _MAX_PAIR or VALUE_KEYS.isdisjoint(values) or NAMING_KEYS.isdisjoint(values):
        return None
    for key, named in values.items():
        if type(named) is str and key in NAMING_KEYS:
            verdict = named_verdict(named)
            if verdict is not None:
                return key, verdict
    return None


def named_verdict(text: str) -> KeyVerdict | None:
    """The verdict on a text that is the name of a sensitive key, else None."""
    if len(text) > MAX_KEY_LENGTH or "[" in text:  # a placeholder names no key
        return None
    verdict = verdict_on(text)
    return verdict if verdict.key_class in _SENSITIVE and not verdict.is_measure else None


def is_personal_table(values: Mapping[Any, Json]) -> bool:
    """Whether a mapping lists the columns of a table and one of them is sensitive."""
    for key in _COLUMNS:
        columns = values.get(key)
        if type(columns) is list and any(type(column) is str and named_verdict(column) for column in columns[:200]):
            return True
    return False


def beside_names(values: Mapping[Any, Json]) -> frozenset[Any]:
    """The keys of the lists that stand beside a list of names, one of which is sensitive: lists as long as it, and rows.

    `{"names": ["step", "session_id"], "cells": ["plan", "s-1"]}` is a table whatever its parts are called.
    """
    lists = [key for key, value in values.items() if type(value) is list and value]
    if len(lists) < 2:
        return _NONE
    for names in lists:
        head = values[names]
        if len(head) > _MAX_COLUMNS or not all(type(one) is str and not is_mark(one) for one in head):
            continue
        if any(" " not in one and named_verdict(one) is not None for one in head):
            return frozenset(key for key in lists if key != names and _goes_with(values[key], len(head)))
    return _NONE


def _goes_with(values: Any, count: int) -> bool:
    first = values[0]
    return len(values) == count or isinstance(first, Mapping) or (isinstance(first, list) and len(first) == count)


_MAX_COLUMNS = 200


def after_names(values: Sequence[Json]) -> frozenset[int]:
    """The places in a list of scalars that come right after the name of a sensitive key, and are none themselves."""
    places = [
        at + 1
        for at, value in enumerate(values[:-1])
        if type(value) is str and len(value) <= 60 and " " not in value and named_verdict(value) is not None
    ]
    return frozenset(at for at in places if not _is_name_too(values, at)) if places else _NONE


def _is_name_too(values: Sequence[Json], at: int) -> bool:
    """Whether what stands there names something itself; not behind an option such as `--session-id`, which takes a value."""
    before, value = values[at - 1], values[at]
    return not str(before).startswith("-") and type(value) is str and named_verdict(value) is not None


_NONE: frozenset[int] = frozenset()
