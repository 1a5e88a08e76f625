"""`evalforge serve`: the HTTP service."""

from __future__ import annotations

import click


@click.command(name="serve", short_help="Serve the HTTP API: run-once, health, exports.")
@click.option("--host", metavar="ADDRESS", help="Loopback address to listen on, instead of HOST.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="NUMBER", help="Port to listen on, instead of PORT; 0 picks a free one."
)
def command(host: str | None, port: int | None) -> int:
    """Serve the HTTP API until told to stop.

    \b
    POST /ingestion/run-once   one run; the answer is its report
    POST /exports              deliver a package of captures to a declared destination
    GET  /exports              the packages that there are, and what became of them
    GET  /health               200 when every part is well, else 500
    GET  /metrics              what this process counted, for Prometheus
    GET  /livez                200 while the process answers
    GET  /openapi.json         the whole API

    Wrong settings do not end the process: /health says what is wrong with them.
    """
    from evalforge.service.app import serve

    return serve(host=host, port=port)
