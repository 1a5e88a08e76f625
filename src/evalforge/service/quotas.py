"""What Datadog last told this process of its quotas: by its runs, and by the key check of its health probes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY_CHECK = "key_check"
"""The name of the key check's own quota, where Datadog tells one."""

_SHOWN = ("limit", "remaining", "period_s", "told_at", "resets_at")


class Quotas:
    """The newest telling of each search's quota; may be written and read by several threads.

    Nothing is asked for it, and nothing is known before the first run of this process.
    """

    def __init__(self) -> None:
        self._told: dict[str, dict[str, Any]] = {}

    def hear(self, name: str, told: Mapping[str, float | str]) -> None:
        """Keeps what was told of the quota of a search (a source's name) or of the key check, if anything was."""
        if told:
            self._told[name] = {key: told[key] for key in _SHOWN if key in told}

    def document(self) -> dict[str, dict[str, Any]]:
        """By name: limit, remaining, period_s, told_at and resets_at (ISO 8601, UTC), as far as they were told."""
        return {name: dict(told) for name, told in self._told.copy().items()}
