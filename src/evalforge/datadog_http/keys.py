"""The keys in use, as request headers; when Datadog refuses them they are read anew from where they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from evalforge.errors import CredentialsError

RenewKeys = Callable[[], Awaitable[tuple[str, str]]]
"""Reads the API key and the application key anew from where they are kept.

Raises:
    CredentialsError
"""

KeyHeaders = Mapping[str, str]


class Keys:
    """The two keys of one client; `headers` carries them.

    Refused keys are read anew once for all requests that they were refused to. Reading them once more would find the same,
    unless a search has succeeded since: then they had been good. That is told by search, because one search may be forbidden
    for ever while the other is not.

    Raises:
        CredentialsError: a key that cannot be a key: empty, or with characters that no header may hold.
    """

    def __init__(self, api_key: str, app_key: str, renew: RenewKeys | None = None) -> None:
        self.headers: KeyHeaders = _key_headers(api_key, app_key)
        self._renew = renew
        self._lock = asyncio.Lock()
        self._is_reread = False
        self._succeeded: set[str] = set()

    def succeeded(self, source: str) -> None:
        """A search was permitted."""
        self._succeeded.add(source)

    async def renewed(self, source: str, refused: KeyHeaders) -> bool:
        """Whether there are other keys now than those that were refused to this search.

        Raises:
            CredentialsError: they could not be read anew, or cannot be keys.
        """
        if self._renew is None:
            return False
        async with self._lock:
            if self.headers is not refused:
                return True
            if self._is_reread and source not in self._succeeded:
                return False
            self._is_reread = True
            self._succeeded.clear()
            fresh = _key_headers(*await self._renew())
            if fresh == refused:
                return False
            self.headers = fresh
            return True


def _key_headers(api_key: str, app_key: str) -> dict[str, str]:
    return {
        "DD-API-KEY": _header_safe(api_key, "DATADOG_API_KEY"),
        "DD-APPLICATION-KEY": _header_safe(app_key, "DATADOG_APP_KEY"),
    }


def _header_safe(key: str, setting: str) -> str:
    key = key.strip()
    if not key or not all("!" <= character <= "~" for character in key):
        raise CredentialsError(
            f"{setting} cannot be a key: it is empty or holds characters that keys do not have", code="malformed"
        )
    return key
