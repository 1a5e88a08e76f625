"""What callers may ask for: request fields become the values of one run or one export, or a 422 that names the field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.requests import ClientDisconnect, Request

from evalforge.config import parsed_value
from evalforge.core.ports import Selection
from evalforge.core.review import checked_signature
from evalforge.core.signals import FailureType, Severity
from evalforge.errors import RequestError, SettingsError, TooLargeError
from evalforge.exports import FORMAT_NAMES, Shape

MAX_BODY_BYTES = 64 * 1024
DEFAULT_RUNS, MAX_RUNS = 20, 100
"""How many runs one answer lists."""

RUN_FIELDS = {
    "lookback": "TRACE_LOOKBACK_HOURS",
    "lookback_hours": "TRACE_LOOKBACK_HOURS",
    "traceLookbackHours": "TRACE_LOOKBACK_HOURS",
    "quality_threshold": "QUALITY_THRESHOLD",
    "qualityThreshold": "QUALITY_THRESHOLD",
    "since_last": "SINCE_LAST",
    "sinceLast": "SINCE_LAST",
    "dry_run": "dry_run",
    "dryRun": "dry_run",
}
"""The fields of a run request, each with the setting that it stands in for in this one run; a dry run has no setting."""


_NUMBERS = frozenset({"TRACE_LOOKBACK_HOURS", "QUALITY_THRESHOLD"})


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a caller wants of one run; None means as the settings say."""

    lookback_hours: float | None = None
    quality_threshold: float | None = None
    since_last: bool | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What a caller wants exported, and under which declared name it is to be written."""

    destination: str
    selection: Selection
    shape: Shape = field(default_factory=Shape)


async def read_fields(request: Request) -> list[tuple[str, Any]]:
    """Every field of the query and of a JSON body, in order and with repeats; the content type does not matter.

    Raises:
        RequestError: the body is neither empty nor a JSON object.
        TooLargeError: it has more than 64 KiB.
    """
    return [*request.query_params.multi_items(), *_body_fields(await read_raw_body(request))]


async def read_raw_body(request: Request) -> bytes:
    """The whole body.

    Raises:
        TooLargeError: it has more than 64 KiB.
        RequestError: the caller went away.
    """
    received = bytearray()
    try:
        async for chunk in request.stream():
            received += chunk
            if len(received) > MAX_BODY_BYTES:
                raise TooLargeError(f"the body has more than {MAX_BODY_BYTES} bytes")
    except ClientDisconnect as error:
        raise RequestError("the caller went away before the request was whole") from error
    return bytes(received)


def _body_fields(body: bytes, wants: str = "send a JSON object, or nothing") -> list[tuple[str, Any]]:
    if not body.strip():
        return []
    try:
        # Pairs, not a dict: a field that stands twice must not hide behind its last value.
        pairs = json.loads(body, object_pairs_hook=_Pairs, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON; {wants}") from error
    if not isinstance(pairs, _Pairs):
        raise RequestError(f"the body is not a JSON object; {wants}")
    return list(pairs)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written."""


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def run_request(fields: Iterable[tuple[str, Any]]) -> RunRequest:
    """The run that the fields ask for; null means not given, and equal repeats are one.

    Raises:
        RequestError: names the first field that is unknown, out of bounds, or at odds with another.
    """
    found: dict[str, tuple[str, Any]] = {}
    for name, value in fields:
        setting = RUN_FIELDS.get(name)
        if setting is None:
            raise _unknown(name, RUN_FIELDS)
        if value is not None:
            parse = _parsed_setting if setting in _NUMBERS else _truth
            _add(found, setting, name, parse(name, setting, value))
    values = {setting: value for setting, (_, value) in found.items()}
    return RunRequest(
        values.get("TRACE_LOOKBACK_HOURS"),
        values.get("QUALITY_THRESHOLD"),
        values.get("SINCE_LAST"),
        values.get("dry_run", False),
    )


def runs_limit(fields: Iterable[tuple[str, Any]]) -> int:
    """How many runs, or packages, a caller wants listed.

    Raises:
        RequestError: names a field that is unknown, wrong, or given twice.
    """
    found: dict[str, tuple[str, Any]] = {}
    for name, value in fields:
        if name != "limit":
            raise _unknown(name, {"limit": None})
        _add(found, name, name, _limit(name, value))
    limit: int = found.get("limit", ("", DEFAULT_RUNS))[1]
    if limit > MAX_RUNS:
        raise RequestError(f"limit: got {limit}; wants a whole number from 1 to {MAX_RUNS}", field="limit")
    return limit


def export_request(fields: Iterable[tuple[str, Any]]) -> ExportRequest:
    """The export that the fields ask for: a declared destination's name, and what to select.

    Raises:
        RequestError: names the first field that is unknown, missing, wrong, or at odds with another.
    """
    values = parsed_fields(fields, _EXPORT_FIELDS)
    destination = values.pop("destination", None)
    if destination is None:
        raise RequestError("destination is missing; wants a name that EXPORT_DESTINATIONS declares", field="destination")
    shape = Shape(**{name: values.pop(name) for name in ("format", "per_group", "test_share") if name in values})
    signature = values.pop("signature", None)
    return ExportRequest(destination, Selection(**values, signatures=None if signature is None else (signature,)), shape)


ERASE_FIELDS = ("user_id", "trace_id", "actor")
"""The fields of an erasure request: exactly one of the first two, and who asks."""


_LONGEST = {"user_id": 4_096, "trace_id": 4_096, "actor": 200}
_ERASE_WANTS = {
    "user_id": "a text of 1 to 4096 characters, or a whole number of at most 256 bits",
    "trace_id": "a text of 1 to 4096 characters",
    "actor": "a printable text of 1 to 200 characters",
}


@dataclass(frozen=True, slots=True)
class EraseRequest:
    """Whom or what a caller wants erased: exactly one of the ids is set. Printing it shows neither."""

    user_id: str | int | None = field(default=None, repr=False)
    trace_id: str | None = field(default=None, repr=False)
    actor: str | None = None


async def read_body_fields(request: Request) -> list[tuple[str, Any]]:
    """Every field of a JSON body; a query is refused, since URLs are logged on the way.

    Raises:
        RequestError: there is a query, or the body is neither empty nor a JSON object.
        TooLargeError: it has more than 64 KiB.
    """
    if request.url.query:
        raise RequestError("the query must be empty: send the id in a JSON body, since URLs are logged on the way")
    return _body_fields(await read_raw_body(request), wants="send a JSON object")


def erase_request(fields: Iterable[tuple[str, Any]]) -> EraseRequest:
    """The erasure that the fields ask for; null means not given. No message quotes what was sent.

    Raises:
        RequestError: names the field that is unknown, missing, wrong, or given twice.
    """
    found: dict[str, Any] = {}
    for name, value in fields:
        if name not in ERASE_FIELDS:
            raise RequestError(f"a field is unknown; known are {', '.join(ERASE_FIELDS)}")
        if value is None:
            continue
        if name in found:
            raise RequestError(f"{name} is given twice; send it once", field=name)
        if name == "user_id" and isinstance(value, int) and not isinstance(value, bool):
            is_good = value.bit_length() <= 256
        else:
            is_good = isinstance(value, str) and 0 < len(value.strip()) <= len(value) <= _LONGEST[name]
            is_good = is_good and (name != "actor" or value.isprintable())
        if not is_good:
            raise RequestError(f"{name}: wants {_ERASE_WANTS[name]}", field=name)
        found[name] = value
    if ("user_id" in found) == ("trace_id" in found):
        raise RequestError("wants exactly one of user_id and trace_id", field="user_id")
    return EraseRequest(**found)


def _add(found: dict[str, tuple[str, Any]], meaning: str, name: str, value: Any) -> None:
    if meaning in found and found[meaning][1] != value:
        other = found[meaning][0]
        also = f"{other} and {name} mean the same and differ" if other != name else f"{name} is given twice and differs"
        raise RequestError(f"{also}; send one of them", field=name)
    found.setdefault(meaning, (name, value))


def _unknown(name: str, known: Mapping[str, Any]) -> RequestError:
    return RequestError(f"unknown field {_quoted(name)}; known are {', '.join(known)}", field=name[:80])


def _parsed_setting(name: str, setting: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RequestError(f"{name}: got {_kind(value)}; wants a number", field=name)
    try:
        return parsed_value(setting, str(value))
    except (SettingsError, ValueError) as error:  # ValueError: an integer with too many digits to print
        wants = str(error).partition("; wants ")[2] or "a number"
        raise RequestError(f"{name}: got {_quoted(value)}; wants {wants}", field=name) from error


def _truth(name: str, _setting: str, value: Any) -> bool:
    truth = {True: True, False: False, "true": True, "false": False}.get(value) if isinstance(value, bool | str) else None
    if truth is None:
        raise RequestError(f"{name}: got {_quoted(value)}; wants true or false", field=name)
    return truth


def _text(name: str, value: Any) -> str:
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= 200
        or any(0xD800 <= ord(character) < 0xE000 for character in value)
    ):
        raise RequestError(f"{name}: got {_quoted(value)}; wants a text of 1 to 200 characters", field=name)
    return value


def _one_of(allowed: Iterable[str]) -> Callable[[str, Any], str]:
    names = tuple(allowed)

    def parse(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise RequestError(f"{name}: got {_quoted(value)}; wants one of {', '.join(names)}", field=name)
        return value

    return parse


def _time(name: str, value: Any) -> datetime:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise RequestError(
            f"{name}: got {_quoted(value)}; wants an ISO 8601 time with a zone, such as 2026-11-23T06:00:00Z", field=name
        )
    return instant


def _limit(name: str, value: Any) -> int:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) > 0):
        raise RequestError(f"{name}: got {_quoted(value)}; wants a whole number from 1 to 999999999", field=name)
    return int(text)


def _share(name: str, value: Any) -> float:
    text = str(value) if isinstance(value, float | str) else ""
    if _SHARE.fullmatch(text) is None or not 0 < float(text) < 1:
        raise RequestError(f"{name}: got {_quoted(value)}; wants a number between 0 and 1, such as 0.2", field=name)
    return float(text)


_SHARE = re.compile(r"0?\.\d{1,20}", re.ASCII)


def _signature(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{name}: wants a text", field=name)
    return checked_signature(value)


SELECTION_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "started_from": _time,
    "started_to": _time,
    "failure_type": _one_of(failure_type.value for failure_type in FailureType),
    "severity": _one_of(severity.label for severity in sorted(Severity, reverse=True)),
    "ml_app": _text,
    "env": _text,
    "model_name": _text,
    "error_type": _text,
    "signature": _signature,
}
"""What reads each condition that captures are selected by."""

_EXPORT_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "destination": _text,
    **SELECTION_PARSERS,
    "limit": _limit,
    "format": _one_of(FORMAT_NAMES),
    "per_group": _limit,
    "test_share": _share,
}


def parsed_fields(
    fields: Iterable[tuple[str, Any]], parsers: Mapping[str, Callable[[str, Any], Any]], *, more: str = ""
) -> dict[str, Any]:
    """The value of each field that is given; null means not given, and equal repeats are one.

    Raises:
        RequestError: names the first field that is unknown (and says `more`), wrong, or at odds with another.
    """
    found: dict[str, tuple[str, Any]] = {}
    for name, value in fields:
        parse = parsers.get(name)
        if parse is None:
            raise RequestError(f"unknown field {_quoted(name)}; known are {', '.join(parsers)}{more}", field=name[:80])
        if value is not None:
            _add(found, name, name, parse(name, value))
    return {name: value for name, (_, value) in found.items()}


EXPORT_FIELDS = tuple(_EXPORT_FIELDS)
"""The fields of an export request: the destination's name, the conditions of the selection, then the shape."""


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", list: "a list", _Pairs: "an object", str: "a text"}
    return kinds.get(type(value), "a number")


def _quoted(value: Any) -> str:
    """What a caller sent, short and harmless to print."""
    if isinstance(value, str):
        return ascii(value[:80])
    if isinstance(value, bool | list):
        return _kind(value)
    try:
        return str(value)[:80]
    except ValueError:
        return "a very large number"
