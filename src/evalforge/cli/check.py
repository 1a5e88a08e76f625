"""`evalforge check`: is everything there that a run needs? Green or red, line by line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalforge.cli.options import run_async
from evalforge.cli.screen import console, print_json, text
from evalforge.config import SETTINGS, Settings
from evalforge.errors import CredentialsError, SettingsError
from evalforge.probes import Probe, ProbeResult, probe_all

PERMISSIONS = {
    "llm_obs": "the application key needs the scope llm_observability_read",
    "apm": "the application key needs the scope apm_read; or leave apm out of DATADOG_SOURCES",
}


@click.command(name="check", short_help="Check settings, keys, permissions and the store.")
@click.option("--json", "as_json", is_flag=True, help="The results as JSON.")
def command(as_json: bool) -> int:
    """Check every setting, both keys, the salt, each permission by a real search for one span, and the store.

    No span is kept and no capture is touched. The exit code is that of the first line that is red, 0 when all are green.
    """
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
    from evalforge.service.health import probe_parts

    # A check answers now: what a run would wait out is told instead.
    hasty = replace(settings, retry_budget_s=0.0)
    parts, searches = await asyncio.gather(
        probe_parts(hasty), probe_all([_search(hasty, source) for source in settings.datadog_sources])
    )
    return [*parts[:3], *searches, *parts[3:], *_folders(settings)]


def _search(settings: Settings, source: str) -> Probe:
    async def ask() -> str:
        from evalforge import bootstrap
        from evalforge.credentials import resolve_datadog_keys

        try:
            keys = await resolve_datadog_keys(settings)
        except (SettingsError, CredentialsError) as error:
            raise CredentialsError("not asked: there are no keys to ask with", code="not_asked") from error
        async with bootstrap.opened_client(settings, keys) as client:
            await client.probe(source)
        return "may search spans"

    return Probe(f"search {source}", ask, PERMISSIONS.get(source))


def _folders(settings: Settings) -> list[ProbeResult]:
    """Whether the folders of EXPORT_DESTINATIONS can be written; one that is not there yet is made when it is used."""
    results = []
    for name, folder in settings.export_destinations:
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
        # Advice on how to get well is for the ill; what a missing setting would give is worth a line in any case.
        if result.hint is not None and result.code != "not_asked" and (not result.ok or result.part == "salt"):
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
