"""What items of a search look like, told without a letter of them: forms of ids, units of times, types of fields. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

import orjson

from evalforge.core.findings import counted_words, type_of
from evalforge.core.privacy import structure_of
from evalforge.core.span import Json

_FORMS = (
    ("32 hex", re.compile(r"[0-9a-f]{32}")),
    ("decimal, 64 bits", re.compile(r"[0-9]{1,20}")),
    ("decimal, 128 bits", re.compile(r"[0-9]{21,39}")),
    ("undefined", re.compile(r"undefined")),
    ("UUID", re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")),
    ("empty", re.compile(r"")),
)
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{1,9}))?Z")
_UNITS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (0.0, "s"))
_COUNT = re.compile(r"\[\d+\]")
_NOT_SEEN = "absent"


def mapping(value: Json) -> Mapping[str, Json]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def attributes_of(items: Sequence[Json]) -> list[Mapping[str, Json]]:
    """The attributes of each item that has some."""
    return [found for item in items if (found := mapping(mapping(item).get("attributes")))]


def form_of(value: Json) -> str:
    """How an id is written: `32 hex`, `decimal, 64 bits`, `undefined`, …, `another text`, or its type."""
    if not isinstance(value, str):
        return _NOT_SEEN if value is None else type_of(value)
    return next((name for name, pattern in _FORMS if pattern.fullmatch(value)), "another text")


def forms_of(values: Iterable[Json]) -> dict[str, int]:
    """How often each form of an id occurs."""
    return counted_words(map(form_of, values))


def unit_of(value: Json) -> str:
    """The unit of a moment by its magnitude: `ns`, `us`, `ms`, `s`, `ISO 8601, N digits`; or its type."""
    if isinstance(value, str):
        iso = _ISO.fullmatch(value)
        return "another text" if iso is None else f"ISO 8601, {len(iso[1] or '')} digits"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _NOT_SEEN if value is None else type_of(value)
    return next((unit for least, unit in _UNITS if value > least), "not positive")


def epoch_s(value: Json) -> float | None:
    """The moment that `value` tells, in seconds since the Unix epoch, by its magnitude; None when it tells none."""
    unit = unit_of(value)
    if isinstance(value, str) and unit.startswith("ISO"):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    if isinstance(value, int | float) and unit in _SECONDS:
        seconds = float(value) * _SECONDS[unit]
        return seconds if seconds < _LAST_MOMENT_S else None
    return None


_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_LAST_MOMENT_S = 4e9


def order_of(moments: Sequence[float]) -> str:
    """`ascending`, `descending`, `mixed`; `one moment` where there are not two to compare."""
    pairs = list(pairwise(moments))
    up, down = any(a < b for a, b in pairs), any(a > b for a, b in pairs)
    if up and down:
        return "mixed"
    return "ascending" if up else "descending" if down else "one moment"


def cursor_form(cursor: Json) -> str:
    """What a cursor is made of, as far as it can be read: `base64 of JSON with after, values`."""
    if cursor is None:
        return "none"
    if not isinstance(cursor, str):
        return type_of(cursor)
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        inside = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        return f"text of {len(cursor)} characters, opaque"
    known = [key for key in ("after", "values", "version") if key in mapping(inside)]
    return f"base64 of JSON with {', '.join(known) or 'other keys'}, {len(cursor)} characters"


def tag_habits(tags: Iterable[Json]) -> dict[str, int]:
    """How tags are written: with a colon or without, an empty value, capitals in the value, no text at all."""
    return counted_words(habit for tag in tags for habit in _habits(tag))


def _habits(tag: Json) -> Iterable[str]:
    if not isinstance(tag, str):
        yield type_of(tag)
        return
    key, colon, value = tag.partition(":")
    yield "key:value" if colon else "without a colon"
    if colon and not value:
        yield "empty value"
    if value != value.lower():
        yield "capitals in a value"
    if "." in key:
        yield "dot in a key"


def field_types(trees: Iterable[Mapping[str, Json]]) -> dict[str, str]:
    """Every field whose name is known, by its path, with its types: `{"input.messages": "list", "duration": "float|int"}`.

    Others are counted: `metadata.[unknown keys]`. Lists say nothing of what is in them.
    """
    types: dict[str, set[str]] = {}
    for tree in trees:
        for path, kind in _leaves(structure_of(dict(tree)), ""):
            types.setdefault(path, set()).add(_COUNT.sub("", kind))
    return {path: "|".join(sorted(kinds)) for path, kinds in sorted(types.items())}


def _leaves(shape: Mapping[str, Json], above: str) -> Iterable[tuple[str, str]]:
    for key, kind in shape.items():
        if isinstance(kind, Mapping):
            yield from _leaves(kind, f"{above}{key}.")
        else:
            yield f"{above}{key}", kind if isinstance(kind, str) else "some"


def entries_of(tree: Mapping[str, Json], *path: str) -> list[Mapping[str, Json]]:
    """The objects in the list (or the values of the object) at `path`."""
    found: Json = tree
    for key in path:
        found = mapping(found).get(key)
    values = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return [value for value in values if isinstance(value, dict)]
