"""`evalforge sandbox`: a local Datadog."""

from __future__ import annotations

import click

from evalforge.cli.screen import console, text
from evalforge.errors import SettingsError


@click.command(name="sandbox", short_help="Serve a local Datadog with sample failures.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8126, show_default=True, help="Port to listen on; 0 picks a free one."
)
@click.option("--empty", is_flag=True, help="Start without the sample traces.")
@click.option(
    "--seed", metavar="NUMBER", type=int, default=None, help="Of the sample traces; the same seed gives the same traces."
)
def command(port: int, empty: bool, seed: int | None) -> None:
    """Serve a local Datadog until interrupted: both search APIs, with sample traces of the last 24 hours.

    Its address is the first line on standard output. Any text will do as a key.
    """
    from evalforge.sandbox.samples import DEFAULT_SEED
    from evalforge.sandbox.server import serve

    told = console(err=True)
    told.print(text("Another terminal reaches it with:", "dim"))
    for line in _environment(port):
        told.print(text(f"  {line}"), soft_wrap=True)
    try:
        serve(port=port, samples=not empty, seed=DEFAULT_SEED if seed is None else seed)
    except OSError as error:
        raise SettingsError(f"--port: got {port}; wants a port that is free (error {error.errno})") from error


def _environment(port: int) -> list[str]:
    return [
        f"export DATADOG_API_URL=http://127.0.0.1:{port or 'PORT'}",
        "export DATADOG_API_KEY=any DATADOG_APP_KEY=any",
        "export CAPTURE_STORE=sqlite:///captures.sqlite3",
        "evalforge ingest",
    ]
