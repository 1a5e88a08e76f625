"""Ends with 0 when the service of this container answers, else with 1: what HEALTHCHECK runs. No package is imported.

It asks `/livez` on PORT, as the service itself would read it: whether the process answers, not whether Datadog does. An
engine that restarts a container because somebody else is down makes it worse; `/health` is for people and alerts.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping

ANSWER_TIMEOUT_S = 4.0
"""Less than HEALTHCHECK's own, so that the engine shows our reason and not only that time was up."""

_EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104  # compared with, not listened on


def address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Where the service of this container can be asked: its HOST, or loopback where that means every address; and its PORT.

    Raises:
        ValueError: PORT is none that can be asked; 0 is a free one that only the service knows.
    """
    host = environment.get("HOST", "").strip().strip("[]")
    port = int(environment.get("PORT", "").strip() or "8000")
    if not 0 < port < 65536:
        raise ValueError(f"PORT {port} cannot be asked")
    return "127.0.0.1" if host in _EVERYWHERE else host, port


def problem(environment: Mapping[str, str]) -> str | None:
    """Why the service is not alive, in one line; None when it is."""
    try:
        connection = http.client.HTTPConnection(*address(environment), timeout=ANSWER_TIMEOUT_S)
        try:
            # A loopback name is answered whatever PUBLIC_HOSTS says.
            connection.request("GET", "/livez", headers={"Host": "localhost"})
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"no answer: {type(error).__name__}"
    return None if status == 200 else f"status {status}"


def main() -> int:
    """Says why not, if so, and gives the exit code."""
    if found := problem(os.environ):
        print(found, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
