"""`evalforge check`: is everything there that a run needs? Green or red, line by line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalforge.cli.options import run_async
from evalforge.cli.screen import console, print_json, text
from evalforge.config import SETTINGS, Settings
from evalforge.errors import CredentialsError, EvalForgeError, SettingsError, SourceRefusedError
from evalforge.probes import Probe, ProbeResult, probe

if TYPE_CHECKING:
    from evalforge.core.ports import Store
    from evalforge.sources.datadog import DatadogClient
    from evalforge.sources.datadog.permissions import Permission


@click.command(name="check", short_help="Check settings, keys, permissions and the store.")
@click.option("--json", "as_json", is_flag=True, help="The results as JSON.")
@click.option("--live", is_flag=True, help="Look closer, and report what a real Datadog and Firestore do: for an issue.")
def command(as_json: bool, live: bool) -> int:
    """Check every setting, both keys, the salt, each permission of the application key, and the store.

    Each permission is tried by a real search for one span; no span is kept and no capture is touched. One more question
    finds a key that may do more than it needs, which is a warning. The exit code is that of the first line that is red, 0
    when all are green.

    With --live something else is done: some 14 requests to Datadog and 30 reads of Firestore, which change nothing, compare
    what both do with what we could only assume. The report holds no key, text, id or name; the exit code is 0 whatever was
    found.
    """
    if live:
        from evalforge.cli.live import look_and_tell

        return look_and_tell(as_json)
    settings, results = _checked()
    if as_json:
        print_json(
            {
                "ok": all(result.ok for result in results),
                "settings": settings.shown() if settings is not None else None,
                "checks": [_document(result) for result in results],
            },
            indent=True,
            sort_keys=False,
        )
    else:
        _print(console(), settings, results)
    return next((result.exit_code or 1 for result in results if not result.ok), 0)


def _document(result: ProbeResult) -> dict[str, Any]:
    return {"part": result.part, "ok": result.ok, "message": result.message, "code": result.code, "hint": result.hint}


def _checked() -> tuple[Settings | None, list[ProbeResult]]:
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        return None, [
            ProbeResult(problem.partition(":")[0], False, problem.partition(": ")[2], error.code, None, error.exit_code)
            for problem in error.problems
        ]
    return settings, run_async(_probed(settings))


async def _probed(settings: Settings) -> list[ProbeResult]:
    from evalforge.runs import NOTHING_FETCHED, NOTHING_FETCHED_TEXT, fetches_nothing
    from evalforge.service.health import probe_parts

    # A check answers now: what a run would wait out is told instead.
    hasty = replace(settings, retry_budget_s=0.0)
    idle = False

    async def look(store: Store) -> None:
        nonlocal idle
        idle = await fetches_nothing(store, datetime.now(UTC))

    parts, permissions = await asyncio.gather(probe_parts(hasty, look=look), _permissions(hasty))
    runs = [ProbeResult("runs", True, "nothing fetched lately", NOTHING_FETCHED, NOTHING_FETCHED_TEXT)] if idle else []
    return [*parts[:3], *permissions, *parts[3:], *runs, *_folders(settings)]


async def _permissions(settings: Settings) -> list[ProbeResult]:
    """One line for each permission that these settings need, and one that says whether there are too many."""
    from evalforge.sources.datadog.permissions import PERMISSIONS

    searched = {*settings.datadog_sources, *(("apm",) if settings.datadog_enrich_from_apm else ())}
    needed = [permission for permission in PERMISSIONS if permission.source in searched]
    *results, least = await asyncio.gather(
        *(_permission(settings, one) for one in needed), _least_privilege(settings, needed)
    )
    # Nothing can be said of a key that is refused everything.
    return [*results, least] if any(result.ok for result in results) else results


async def _permission(settings: Settings, permission: Permission) -> ProbeResult:
    async def ask() -> str:
        try:
            async with _opened_client(settings) as client:
                await client.probe(permission.source)
        except SourceRefusedError as refused:
            if refused.status not in (401, 403):
                raise
            raise SourceRefusedError(
                f"{permission.opens} is refused ({refused.status}): the application key lacks this permission, or a key is "
                "not good at this site",
                status=refused.status,
            ) from refused
        return f"{permission.opens} is allowed"

    hint = f"grant {permission.name} to the owner of the application key and, if the key is scoped, to the key"
    if not permission.is_required:
        hint += f", or leave {permission.source} out of DATADOG_SOURCES"
        hint += " and turn DATADOG_ENRICH_FROM_APM off" if settings.datadog_enrich_from_apm else ""
    result = await probe(Probe(f"permission {permission.name}", ask, f"{hint}; without it {permission.without}"))
    return replace(result, hint=None) if result.ok else result


async def _least_privilege(settings: Settings, needed: list[Permission]) -> ProbeResult:
    from evalforge.sources.datadog.permissions import SURPLUS

    has_surplus: bool | None = None

    async def ask() -> str:
        nonlocal has_surplus
        try:
            async with _opened_client(settings) as client:
                has_surplus = await client.may_do_more()
        except EvalForgeError as error:
            return f"could not be told ({error.code})"
        if has_surplus is None:
            return "could not be told"
        return f"{SURPLUS}, which nothing here needs, is " + ("allowed" if has_surplus else "refused, as it should be")

    result = await probe(Probe("least privilege", ask))
    scopes = " and ".join(permission.name for permission in needed)
    hint = f"scope the application key to {scopes}: it may do more than it needs"
    return replace(result, hint=hint) if has_surplus else result


@asynccontextmanager
async def _opened_client(settings: Settings) -> AsyncIterator[DatadogClient]:
    from evalforge import bootstrap
    from evalforge.credentials import resolve_datadog_keys

    try:
        keys = await resolve_datadog_keys(settings)
    except (SettingsError, CredentialsError) as error:
        raise CredentialsError("not asked: there are no keys to ask with", code="not_asked") from error
    async with bootstrap.opened_client(settings, keys) as client:
        yield client


def _folders(settings: Settings) -> list[ProbeResult]:
    """Whether the folders of EXPORT_DESTINATIONS can be written; one that is not there yet is made when it is used."""
    results = []
    for name, folder in settings.export_folders.items():
        nearest = os.path.abspath(folder)
        while not os.path.exists(nearest):
            nearest = os.path.dirname(nearest)
        ok = os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)
        message = "can be written" if ok else "cannot be written by this process"
        results.append(ProbeResult(f"export {name}", ok, message, None if ok else "not_writable", None, 0 if ok else 2))
    return results


def _print(out: Console, settings: Settings | None, results: Iterable[ProbeResult]) -> None:
    if settings is not None:
        out.print(text("Settings", "bold"))
        out.print(_settings_grid(settings))
        out.print()
    out.print(text("Parts" if settings is not None else "Settings that are wrong", "bold"))
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    red = 0
    for result in results:
        message = Text("\n").join(text(line, "" if result.ok else "red") for line in result.message.splitlines())
        grid.add_row(_mark(result.ok), text(result.part), message)
        if result.hint is not None and result.code != "not_asked":
            grid.add_row("", "", text(result.hint, "yellow"))
        red += not result.ok
    out.print(grid)
    out.print()
    out.print(
        text("All green.", "bold green")
        if not red
        else text(f"{red} of these {'is' if red == 1 else 'are'} red.", "bold red")
    )


def _mark(ok: bool) -> Any:
    return text("✓", "bold green") if ok else text("✗", "bold red")


def _settings_grid(settings: Settings) -> Table:
    shown = settings.shown()
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for setting in SETTINGS:
        given = setting.name in settings.given
        style = "" if given else "dim"
        grid.add_row(
            _mark(True), text(setting.name, style), text(shown[setting.name] + ("" if given else " (default)"), style)
        )
    return grid
