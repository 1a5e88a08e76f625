"""What commands that look through a whole store tell while they do, and where to go on after whatever ended them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import click

from evalforge.cli.screen import console, safe


class Followed(Protocol):
    """A report that is filled while a store is looked through."""

    @property
    def position(self) -> str | None:
        """The last document that was looked at, `collection/key`."""
        ...


_R = TypeVar("_R", bound=Followed)


@contextmanager
def following(watching: bool, seen_of: Callable[[_R], str]) -> Iterator[Callable[[_R], None] | None]:
    """A line on the terminal that follows the report, with what `seen_of` says of it; None where nobody is `watching`."""
    if not watching:
        yield None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[seen]}", markup=False, style="dim"),
    )
    with Progress(*columns, console=console(err=True), transient=True) as bars:
        task = bars.add_task("looking", total=None, seen="")

        def follow(report: _R) -> None:
            bars.update(task, description=safe((report.position or "").partition("/")[0], 20), seen=seen_of(report))

        yield follow


def tell_how_to_go_on(command: str, position: str | None) -> None:
    """Tells on standard error how to go on from a position, if there is one; `command` is all but the position."""
    if position is not None:
        click.echo(f"evalforge: to go on from here: evalforge {command} --after {position}", err=True)


def singular(collection: str) -> str:
    """What one document of a collection is called."""
    return collection.replace("_", " ").removesuffix("s")
