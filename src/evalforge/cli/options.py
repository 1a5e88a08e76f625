"""Options that several commands share, and how times are written."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from evalforge.core.ports import Selection
from evalforge.core.review import checked_signature
from evalforge.core.signals import FailureType, Severity
from evalforge.errors import RequestError

T = TypeVar("T")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_AGO = re.compile(r"(\d{1,6})(m|h|d)", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}

SELECTION_OPTIONS = (
    click.option(
        "--type",
        "failure_type",
        metavar="TYPE",
        type=click.Choice([failure_type.value for failure_type in FailureType]),
        help=f"Only this failure type: {', '.join(failure_type.value for failure_type in FailureType)}.",
    ),
    click.option(
        "--severity",
        metavar="LEVEL",
        type=click.Choice([severity.label for severity in sorted(Severity, reverse=True)]),
        help="Only this severity: critical, high, medium.",
    ),
    click.option("--app", "ml_app", metavar="NAME", help="Only this LLM application."),
    click.option("--env", metavar="NAME", help="Only this environment."),
    click.option("--model", "model_name", metavar="NAME", help="Only this model."),
    click.option("--error", "error_type", metavar="TYPE", help="Only this type of error."),
    click.option("--signature", metavar="GROUP", help="Only this group, as `evalforge groups list --json` tells it."),
    click.option(
        "--since", metavar="TIME", help="Failures at or after this time: 24h, 7d, 2026-11-23 or 2026-11-23T06:00:00Z."
    ),
    click.option("--until", metavar="TIME", help="Failures before this time, written as for --since."),
)


def selection_options(command: Decorated) -> Decorated:
    """Adds the options that say which captures are meant."""
    for option in reversed(SELECTION_OPTIONS):
        command = option(command)
    return command


def selection_of(
    *,
    failure_type: str | None,
    severity: str | None,
    ml_app: str | None,
    env: str | None,
    model_name: str | None,
    error_type: str | None,
    signature: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
) -> Selection:
    """The selection that the options spell.

    Raises:
        RequestError: a time, or a signature, that is none.
    """
    now = datetime.now(UTC)
    return Selection(
        started_from=instant_of(since, "--since", now) if since else None,
        started_to=instant_of(until, "--until", now) if until else None,
        failure_type=failure_type,
        severity=severity,
        ml_app=ml_app,
        env=env,
        model_name=model_name,
        error_type=error_type,
        signatures=None if signature is None else (checked_signature(signature.strip()),),
        limit=limit,
    )


def instant_of(text: str, option: str, now: datetime) -> datetime:
    """The time that `text` spells: so long ago (`90m`, `24h`, `7d`), a date (its midnight in UTC), or ISO 8601 with a zone.

    Raises:
        RequestError: it spells none.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        instant = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        instant = None
    if instant is not None and instant.tzinfo is None and len(text.strip()) == len("2026-11-23"):
        instant = instant.replace(tzinfo=UTC)
    if instant is None or instant.tzinfo is None:
        raise RequestError(
            f"{option}: got {text[:80]!a}; wants 24h, 7d, a date such as 2026-11-23, or a time with its zone "
            "such as 2026-11-23T06:00:00Z",
            field=option,
        )
    return instant


def so_long_ago(text: str, option: str, now: datetime) -> datetime:
    """The time that a length spells: `90m`, `24h`, `7d` before now.

    Raises:
        RequestError: it spells none.
    """
    if _AGO.fullmatch(text.strip()) is None:
        raise RequestError(f"{option}: got {text[:80]!a}; wants a length such as 90m, 6h or 2d", field=option)
    return instant_of(text, option, now)


LONGEST_ID = 4_096


def id_of(given: str, option: str) -> str:
    """The id that an option gives; `-` reads it from standard input, hidden on a terminal, so that no history keeps it.

    Raises:
        RequestError: nothing is there, or more than one line or 4,096 characters; the message never quotes it.
    """
    if given != "-":
        found = given
    elif sys.stdin.isatty():
        found = click.prompt(option.lstrip("-").replace("-", " "), hide_input=True, err=True)
    else:
        found = sys.stdin.read(LONGEST_ID + 3).removesuffix("\n").removesuffix("\r")
    if not found.strip() or len(found) > LONGEST_ID or "\n" in found:
        raise RequestError(
            f"{option}: wants one id of 1 to {LONGEST_ID} characters, on one line; - reads it from standard input",
            field=option,
        )
    return found


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, in an event loop of its own."""
    return asyncio.run(work)
