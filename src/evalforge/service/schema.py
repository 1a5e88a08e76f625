"""What /openapi.json says of requests and answers. The parsers in `requests` decide; a test holds the two together."""

from __future__ import annotations

from typing import Any

from evalforge.core.signals import FailureType, Severity
from evalforge.exports import FORMAT_NAMES
from evalforge.service.problems import PROBLEM_TYPE
from evalforge.service.requests import DEFAULT_RUNS, MAX_RUNS

_HOURS = {"type": "number", "minimum": 1, "maximum": 360, "nullable": True}
_SCORE = {"type": "number", "minimum": 0, "maximum": 1, "nullable": True}
_TRUTH = {"type": "boolean", "nullable": True}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
_TIME = {"type": "string", "format": "date-time"}

UNREADABLE = "the settings are wrong, or the store does not answer"

RUN_PROPERTIES: dict[str, dict[str, Any]] = {
    "lookback": {**_HOURS, "description": "hours to look back, instead of TRACE_LOOKBACK_HOURS"},
    "lookback_hours": {**_HOURS, "description": "the same as lookback"},
    "traceLookbackHours": {**_HOURS, "description": "the same as lookback"},
    "quality_threshold": {
        **_SCORE,
        "description": "a quality score below it is a failure, instead of QUALITY_THRESHOLD (not of APPLICATION_THRESHOLDS)",
    },
    "qualityThreshold": {**_SCORE, "description": "the same as quality_threshold"},
    "since_last": {
        **_TRUTH,
        "description": "read what is new since the last such run, and what may have arrived late, instead of SINCE_LAST",
    },
    "sinceLast": {**_TRUTH, "description": "the same as since_last"},
    "dry_run": {**_TRUTH, "description": "read and judge everything, and write nothing"},
    "dryRun": {**_TRUTH, "description": "the same as dry_run"},
}

SELECTION_PROPERTIES: dict[str, dict[str, Any]] = {
    "started_from": {**_TIME, "description": "failures that began at or after this time"},
    "started_to": {**_TIME, "description": "failures that began before this time"},
    "failure_type": {"type": "string", "enum": [failure_type.value for failure_type in FailureType]},
    "severity": {"type": "string", "enum": [severity.label for severity in sorted(Severity, reverse=True)]},
    "ml_app": {**_TEXT, "description": "the LLM application"},
    "env": {**_TEXT, "description": "the environment"},
    "model_name": {**_TEXT, "description": "the model"},
    "error_type": {**_TEXT, "description": "the type of the error"},
    "signature": {"type": "string", "pattern": "^s[0-9]{1,3}_[0-9a-f]{32}$", "description": "the group"},
}
"""The conditions that captures are selected by."""

EXPORT_PROPERTIES: dict[str, dict[str, Any]] = {
    "destination": {**_TEXT, "description": "a name that EXPORT_DESTINATIONS declares"},
    **SELECTION_PROPERTIES,
    "limit": {"type": "integer", "minimum": 1, "description": "at most this many, the latest"},
    "format": {"type": "string", "enum": list(FORMAT_NAMES), "default": FORMAT_NAMES[0], "description": "what is made"},
    "per_group": {"type": "integer", "minimum": 1, "nullable": True, "description": "only the newest so many of a group"},
    "test_share": {
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "exclusiveMaximum": True,
        "nullable": True,
        "description": "a test set of about this share of the groups, and a train set of the others",
    },
}

_ID = {"minLength": 1, "maxLength": 4096}

ERASE_PROPERTIES: dict[str, dict[str, Any]] = {
    "user_id": {
        "oneOf": [{"type": "string", **_ID}, {"type": "integer"}],
        "nullable": True,
        "description": "the person's id as the applications send it",
    },
    "trace_id": {"type": "string", **_ID, "nullable": True, "description": "or the id of one trace"},
    "actor": {**_TEXT, "nullable": True, "description": "who asks, for the record; service if not given"},
}


def _body(properties: dict[str, dict[str, Any]], required: list[str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    if required:
        schema["required"] = required
    return {
        "requestBody": {"required": bool(required), "content": {"application/json": {"schema": schema}}},
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "schema": {k: v for k, v in entry.items() if k != "description"},
            }
            for name, entry in properties.items()
        ],
    }


def problem_answers(table: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """The answers that are problems, by status, with what each means."""
    return {status: {"description": text, "content": {PROBLEM_TYPE: {}}} for status, text in table.items()}


SECURITY_SCHEMES: dict[str, dict[str, Any]] = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "a key of SERVICE_API_KEYS"},
    "Bearer": {"type": "http", "scheme": "bearer", "description": "a key of SERVICE_API_KEYS, or a Google ID token"},
}
"""The credentials that callers may show; none is needed on loopback while the settings name no callers."""

ANY_ANSWERS = problem_answers(
    {
        400: "this is no HTTP request that is understood",
        414: "the address has more than 4 KiB",
        421: "the Host header names another host",
        431: "there are more than 64 headers, or 16 KiB of them",
    }
)
CALLER_ANSWERS = problem_answers(
    {401: "no caller: an API key or a Google ID token is needed", 503: "too much is going on, or callers cannot be checked"}
)
ROLE_ANSWERS = problem_answers({403: "the caller has not the role that this needs"})
BODY_ANSWERS = problem_answers(
    {403: "the caller has not the role that this needs, or a page of another origin asked", 413: "the body has over 64 KiB"}
)
"""What many routes may answer: every one, those that need a caller, a role, and those that take a body."""

RUN_ONCE = _body(RUN_PROPERTIES, [])
RUN_ONCE["parameters"].append(
    {
        "name": "Prefer",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "respond-async: answer 202 as soon as the run has begun",
    }
)
RUN_ONCE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the run report"},
    202: {"description": "the run has begun; Location says where its state and report can be read"},
    **problem_answers(
        {
            409: "a run is going on: holder and since say whose",
            422: "a field is unknown, out of bounds or contradictory",
            429: "Datadog's quota is used up; Retry-After, and the report of what was stored",
            502: "Datadog refused or is down, and the report of what was stored",
            503: "the settings are wrong, a secret cannot be read, or the store does not answer",
        }
    ),
}
_RUN_ID = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 80}}
RUN = {"parameters": [_RUN_ID]}
RUN_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "what ran, when, by whom, its state, and its report once it has ended"},
    **problem_answers({404: "no such run, or it is older than 30 days", 503: UNREADABLE}),
}
METRICS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the series, each by its name and labels", "content": {"text/plain": {}}},
    **problem_answers({503: "the extra otel is not installed"}),
}
RUNS = {
    "parameters": [
        {
            "name": "limit",
            "in": "query",
            "required": False,
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_RUNS, "default": DEFAULT_RUNS},
        }
    ]
}
RUNS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the runs that began last, the latest first, without their reports"},
    **problem_answers({422: "the limit is no number from 1 to 100, or a field is unknown", 503: UNREADABLE}),
}
EXPORT = _body(EXPORT_PROPERTIES, ["destination"])
EXPORT_ANSWERS: dict[int | str, dict[str, Any]] = {
    201: {"description": "the record of the package; closed_texts says what was left out because its texts are closed"},
    **problem_answers(
        {
            404: "no such destination is declared",
            422: "a field is unknown or wrong, or nothing that is selected can be an example",
            502: "the bucket or webhook refused, or is down: the package is recorded as failed",
            503: "the settings are wrong, the folder cannot be written, or the store does not answer",
        }
    ),
}
EXPORTS = {"parameters": [{**RUNS["parameters"][0], "description": "rows"}]}
EXPORTS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the latest packages, without the ids of their captures"},
    **problem_answers({422: "the limit is no number from 1 to 100, or a field is unknown", 503: UNREADABLE}),
}
EXPORTED = {
    "parameters": [{"name": "package_id", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 80}}]
}
EXPORTED_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the package: what was selected, its state, its files, and the ids of its captures"},
    **problem_answers({404: "no such package", 503: UNREADABLE}),
}
ERASE = {name: part for name, part in _body(ERASE_PROPERTIES, []).items() if name == "requestBody"}
ERASE["requestBody"]["required"] = True
ERASE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "counts of what was erased, and tasks for a person"},
    **problem_answers(
        {
            422: "not exactly one id, an id that names nobody, an unknown field, or an id in the URL",
            503: "the settings are wrong, PII_SALT lacks a key, or the store does not answer: send it again",
        }
    ),
}
HEALTH_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "every part is well; quota is what Datadog last told this process's runs of theirs"},
    500: {"description": "a part is not: part, code and detail say which and why"},
}
