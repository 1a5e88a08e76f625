"""`evalforge exports`: which packages there are, what became of them, and those that failed once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from evalforge.cli.cards import facts_grid, section
from evalforge.cli.export import tell
from evalforge.cli.options import run_async
from evalforge.cli.screen import console, counted, full_moment, moment, print_json, text
from evalforge.config import Settings
from evalforge.exports import Written

DEFAULT_LIMIT = 20
_STYLE = {"delivered": "green", "pending": "cyan", "failed": "bold red", "abandoned": "bold red"}
_ABANDONED = "its process died; `evalforge exports retry` makes it again"


@click.group(name="exports", short_help="List packages, show one, or deliver one again.")
def command() -> None:
    """List the packages that exports made, show one, or deliver one again that has failed."""


@command.command(name="list")
@click.option(
    "--limit",
    metavar="NUMBER",
    type=click.IntRange(1, 1000),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="At most so many.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for other programs.")
def list_(limit: int, as_json: bool) -> None:
    """List packages, the latest first: when, which format, where to, how many, and what became of them."""
    found = run_async(_listed(Settings.from_environment(), limit))
    if as_json:
        for package in found:
            print_json(package, sort_keys=False)
    elif found:
        console().print(_table(found))
    else:
        console().print(text("No packages: nothing was exported yet; `evalforge export` does."))


async def _listed(settings: Settings, limit: int) -> list[dict[str, Any]]:
    from evalforge import bootstrap
    from evalforge.bootstrap import exports

    async with bootstrap.opened_store(settings) as store:
        return await exports.recent_packages(settings, store, limit=limit)


def _table(found: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("package", "format", "to"):
        table.add_column(heading, no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for package in found:
        table.add_row(
            text(package["id"], limit=40),  # it says when
            text(package["format"], limit=12),
            text(package["destination"], limit=12),
            text(f"{package['count']:,}"),
            _state(package),
        )
    return table


def _state(package: Mapping[str, Any]) -> Text:
    state = package["state"]
    return text(state, _STYLE.get(state, ""), limit=20)


@command.command()
@click.argument("package_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The whole record as one JSON object.")
def show(package_id: str, as_json: bool) -> None:
    """Show the package ID in full: what was selected, what became of it, and the digest of each file."""
    package = run_async(_shown(Settings.from_environment(), package_id.strip()))
    if as_json:
        print_json(package, indent=True, sort_keys=False)
    else:
        console().print(_view(package))


async def _shown(settings: Settings, package_id: str) -> dict[str, Any]:
    from evalforge import bootstrap
    from evalforge.bootstrap import exports

    async with bootstrap.opened_store(settings) as store:
        return await exports.one_package(settings, store, package_id)


def _view(package: Mapping[str, Any]) -> Group:
    selected = " · ".join(f"{name} {value}" for name, value in package["selection"].items())
    per_group, share, cut = package["per_group"], package["test_share"], package["capture_ids_are_cut"]
    named = counted(len(package["capture_ids"]), "capture") + (", the first of more" if cut else "")
    rows: list[tuple[str, Any]] = [
        ("package", text(package["id"], "bold", limit=80)),
        ("state", _state(package)),
        ("why", text(package["reason_text"], limit=200) if package["reason_text"] else None),
        ("", text(_ABANDONED, "yellow") if package["state"] == "abandoned" else None),
        ("format", text(package["format"], limit=40)),
        ("to", text(package["destination"], limit=40)),
        ("began", full_moment(package["created_at"])),
        (
            "attempts",
            f"{package['attempts']}, the last {moment(package['attempted_at'])}" if package["attempts"] > 1 else None,
        ),
        ("selected", text(selected or "everything", limit=400)),
        ("of a group", f"the newest {per_group}" if per_group else None),
        ("split", f"{share:g} to test with" if share else None),
        ("counts", text(" · ".join(f"{name} {count:,}" for name, count in package["counts"].items() if count))),
        ("named", named if package["capture_ids"] else None),
        ("erased", counted(package["erased_count"], "row") if package["erased_count"] else None),
        ("sha256", text(package["sha256"], limit=64)),
    ]
    parts: list[Any] = [facts_grid(rows)]
    if package["closed_texts"]:
        parts += [Text(), text(package["closed_texts"], "yellow")]
    if package["files"]:
        files = Table.grid(padding=(0, 2, 0, 0))
        for one in package["files"]:
            files.add_row(text(one["name"], limit=60), text(f"{one['size_bytes']:,} B"), text(one["sha256"][:16], "dim"))
        parts += [Text(), section("Files"), files]
    return Group(*parts)


@command.command()
@click.argument("package_id", metavar="ID")
def retry(package_id: str) -> None:
    """Deliver the package ID again, which has failed or whose process died: made anew, of the same captures.

    It says whether the bytes are others than those that were to be delivered first: captures may have changed, or gone.
    """
    written = run_async(_retried(Settings.from_environment(), package_id.strip()))
    tell(written, place=f"the destination {written.package.destination}")
    if written.differs is not None:
        console(err=True).print(text("The bytes are others than the first time." if written.differs else "The same bytes."))


async def _retried(settings: Settings, package_id: str) -> Written:
    from evalforge.bootstrap import exports

    return await exports.retry_once(settings, package_id)
