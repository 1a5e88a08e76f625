"""What a dead letter may say of an item: its shape without a word of its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalforge.core.privacy.fields import FIELDS
from evalforge.core.privacy.keys import MAX_KEY_LENGTH, is_column, verdict_on
from evalforge.core.privacy.vocabulary import listed
from evalforge.core.span import Json

MAX_DEPTH = 4
MAX_KEYS = 60

_WIRE_KEYS = listed(
    "id type attributes data meta links page after trace_id span_id parent_id name status start_ns duration ml_app "
    "span_kind tags metadata metrics model_name model_provider input output evaluation tool_definitions intent "
    "messages value documents content role tool_calls tool_results arguments result tool_id assessment "
    "eval_metric_type reasoning error message stack custom start_timestamp end_timestamp env host ingestion_reason "
    "resource_hash resource_name retained_by service single_span http url useragent user usr session_id prompt "
    "response kind span llm_obs gen_ai timestamp tool_definition spans events"
)


def structure_of(item: Json) -> dict[str, Any]:
    """The shape of an untrusted item: each known key with the type of its value, to a depth of 4.

    Types are `str`, `int`, `float`, `bool`, `null`, `list[N]`, `other`; mappings are nested. Keys that are not known by name
    are counted under `[unknown keys]`, and so are those beyond 60 in one mapping. An item that is no mapping is
    `{"[item]": type}`.
    """
    if isinstance(item, Mapping):
        return _mapping(item, 1)
    return {"[item]": _type(item)}


def _mapping(values: Mapping[Any, Json], depth: int) -> dict[str, Any]:
    shape: dict[str, Any] = {}
    unknown_count = 0
    for key, value in values.items():
        if len(shape) >= MAX_KEYS or not _is_known(key) or key in shape:
            unknown_count += 1
        elif isinstance(value, Mapping) and depth < MAX_DEPTH:
            shape[key] = _mapping(value, depth + 1)
        else:
            shape[key] = _type(value)
    if unknown_count:
        shape["[unknown keys]"] = unknown_count
    return shape


def _is_known(key: Json) -> bool:
    if not isinstance(key, str) or len(key) > MAX_KEY_LENGTH or not is_column(key):
        return False
    return key in _WIRE_KEYS or verdict_on(key).normal in FIELDS


def _type(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__name__
    if isinstance(value, (list, tuple)):
        return f"list[{len(value)}]"
    return f"object[{len(value)}]" if isinstance(value, Mapping) else "other"
