"""`evalforge sandbox`: a local Datadog."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from evalforge.cli.screen import console, text
from evalforge.errors import SettingsError

if TYPE_CHECKING:
    from evalforge.sandbox.state import Sandbox

T = TypeVar("T")


@click.command(name="sandbox", short_help="Serve a local Datadog with sample failures.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8126, show_default=True, help="Port to listen on; 0 picks a free one."
)
@click.option("--host", metavar="NAME", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--allow-remote", is_flag=True, help="Serve on a host that is not loopback; it asks nobody for a password.")
@click.option("--empty", is_flag=True, help="Start without the sample traces.")
@click.option(
    "--seed",
    metavar="NUMBER",
    type=int,
    default=None,
    help="Of the sample traces and of the trouble; the same seed gives the same.",
)
@click.option(
    "--trouble",
    metavar="KIND[=RATE]",
    multiple=True,
    help="Searches go wrong, RATE of them (0 to 1): a status such as 503, 503-html or 429; html, truncated, cut, reset, "
    "partial, bad_cursor, no_index. May be repeated.",
)
@click.option("--latency", metavar="SECONDS", type=click.FloatRange(0, 3600), help="Every search waits so long.")
@click.option(
    "--rate-limit",
    metavar="SOURCE=LIMIT/SECONDS",
    multiple=True,
    help="Requests in a period, such as apm=300/3600 (the default), llm_obs=10/60 or datasets=10/60. May be repeated.",
)
@click.option(
    "--late-evaluations",
    metavar="MINUTES",
    type=click.FloatRange(0, 100_000),
    help="Evaluations and feedback stay unseen so long after they arrive; those of the samples too.",
)
@click.option(
    "--permission",
    metavar="NAME",
    multiple=True,
    help="All that an application key may do, instead of llm_observability_read and apm_read: one of them, "
    "llm_observability_write (datasets and annotation queues) or monitors_read. May be repeated.",
)
def command(
    port: int,
    host: str,
    allow_remote: bool,
    empty: bool,
    seed: int | None,
    trouble: tuple[str, ...],
    latency: float | None,
    rate_limit: tuple[str, ...],
    late_evaluations: float | None,
    permission: tuple[str, ...],
) -> None:
    """Serve a local Datadog until interrupted: its intake, so that your application can send to it, and both search APIs.

    It starts with sample traces of the last 24 hours. Its address is the first line on standard output, and shows what
    arrived. Any text will do as a key. Everything is in memory.
    """
    from evalforge.sandbox.samples import DEFAULT_SEED
    from evalforge.sandbox.server import serve
    from evalforge.sandbox.state import known_permission

    sandbox = _troubled(trouble, latency, rate_limit, late_evaluations, DEFAULT_SEED if seed is None else seed)
    if permission:
        sandbox.permissions = frozenset(_read(known_permission, "--permission", name) for name in permission)
    told = console(err=True)
    for title, lines in _environment(port):
        told.print(text(title, "dim"))
        for line in lines:
            told.print(text(f"  {line}"), soft_wrap=True)
    try:
        serve(
            host,
            port,
            samples=not empty,
            seed=sandbox.trouble.seed,
            allow_remote=allow_remote,
            sandbox=sandbox,
        )
    except ValueError as error:
        raise SettingsError(f"--host: got {host[:80]!a}; {error}; --allow-remote permits it") from error
    except OSError as error:
        raise SettingsError(f"--port: got {port}; wants a port that is free (error {error.errno})") from error


def _troubled(
    trouble: tuple[str, ...],
    latency_s: float | None,
    rate_limits: tuple[str, ...],
    late_minutes: float | None,
    seed: int,
) -> Sandbox:
    """A sandbox with the trouble that the options ask for.

    Raises:
        SettingsError: an option says what cannot be read.
    """
    from evalforge.sandbox.limits import spelled_limit
    from evalforge.sandbox.state import Sandbox
    from evalforge.sandbox.trouble import Fault, spelled_fault

    sandbox = Sandbox(limits=dict(_read(spelled_limit, "--rate-limit", word) for word in rate_limits))
    sandbox.trouble.reseed(seed)
    sandbox.trouble.faults = [_read(spelled_fault, "--trouble", word) for word in trouble]
    if latency_s:
        sandbox.trouble.faults.insert(0, Fault("slow", times=None, latency_s=latency_s))
    sandbox.store.evaluation_delay_s = (late_minutes or 0) * 60
    return sandbox


def _read(read: Callable[[str], T], option: str, word: str) -> T:
    try:
        return read(word)
    except ValueError as error:
        raise SettingsError(f"{option}: got {word[:80]!a}; {error}") from None


def _environment(port: int) -> list[tuple[str, list[str]]]:
    url = f"http://127.0.0.1:{port or 'PORT'}"
    return [
        (
            "An application with ddtrace sends to it with:",
            [f"export DD_TRACE_AGENT_URL={url}", "export DD_LLMOBS_ENABLED=1 DD_LLMOBS_ML_APP=my-app"],
        ),
        (
            "Another terminal reads its failures with:",
            [
                f"export DATADOG_API_URL={url} DATADOG_API_KEY=any DATADOG_APP_KEY=any",
                "export CAPTURE_STORE=sqlite:///captures.sqlite3",
                "evalforge ingest",
            ],
        ),
    ]
