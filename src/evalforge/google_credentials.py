"""Google's default credentials, looked for without hanging; shared by the adapters of Secret Manager and Firestore."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import google.auth
from google.auth import exceptions as auth_errors

SEARCH_TIMEOUT_S = 4.0
"""How long to look: where no metadata server answers, Google's own search takes 12 s and more."""


async def default_credentials(scopes: Sequence[str]) -> tuple[Any, str | None]:
    """The credentials of this process and their project, wherever Google's libraries find them.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: there are none, or none were found within `SEARCH_TIMEOUT_S`.
    """
    # A daemon thread, because the search may hang on a metadata server that does not answer, and nobody should wait for
    # it, the interpreter's end included. Nothing is set in the environment to cut it short: on a Google machine the
    # metadata server is where the credentials are.
    loop = asyncio.get_running_loop()
    found: asyncio.Future[tuple[Any, str | None]] = loop.create_future()

    def tell(result: tuple[Any, str | None] | None, error: Exception | None) -> None:
        if found.done():
            return
        if error is not None:
            found.set_exception(error)
        elif result is not None:
            found.set_result(result)

    def search() -> None:
        result, failure = None, None
        try:
            result = google.auth.default(scopes=scopes)
        except auth_errors.GoogleAuthError as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=search, name="google-credentials", daemon=True).start()
    try:
        return await asyncio.wait_for(found, SEARCH_TIMEOUT_S)
    except TimeoutError as error:
        # the library gives it no types
        raise auth_errors.DefaultCredentialsError(  # type: ignore[no-untyped-call]
            f"none found within {SEARCH_TIMEOUT_S:g} s"
        ) from error
